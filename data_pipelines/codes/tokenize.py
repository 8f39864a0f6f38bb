"""`tokenize`: the audio of a corpus → dual speech codes.

The work is cut into shards of utterances (`codes.shards`). The local executor
runs the shards one after the other, and Beam maps the same function on any
runner. A finished shard is recognised by its digest and not made again; of an
unfinished one the batches in its journal are kept.

    OUTPUT/codes-00000-of-00004.array_record   {linguistic, semantic} uint16
    OUTPUT/codes-00000-of-00004.json           its receipt
    OUTPUT/codes-00003-of-00004.journal        finished batches of a shard
    OUTPUT/quarantine.jsonl                    what was left out, and why
    OUTPUT/stats.json                          counts and speed; written last
"""

import contextlib
import functools
import json
import os
import threading
import time
from typing import Any, Callable, Mapping, Sequence

from absl import flags

from data_pipelines import beam
from data_pipelines import records
from data_pipelines.codes import shards as code_shards
from data_pipelines.codes.encoding import Progress
from data_pipelines.codes.encoding import Tokenizer
from data_pipelines.codes.shards import Shard
from step_audio_jax import errors
from step_audio_jax import memory
from step_audio_jax import progress
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import seal as seal_lib

VERSION = 2  # part of every digest; raise it when the output changes
LONGEST_SECONDS = 86400.0
BATCH_SECONDS = 1920.0
_POLL_SECONDS = 2.0


def plan(
  corpus: str | os.PathLike,
  output: str | os.PathLike,
  tokenizer: str | os.PathLike,
  *,
  shard_size: int = 500,
  batch_size: int = 64,
  batch_seconds: float = BATCH_SECONDS,
  longest: float = LONGEST_SECONDS,
) -> list[Shard]:
  """Cuts a corpus into shards.

  Raises:
    UserError: The corpus or the tokenizer is not there, or has no speech.
  """
  corpus = files.path(corpus)
  utterances = manifest.read(corpus, kind='speech')
  if not utterances:
    raise errors.UserError(f'{manifest.path_of(corpus)}: no speech in it.')
  seal = seal_lib.identity(tokenizer)['sha256']
  count = -(-len(utterances) // shard_size)
  states = iter(code_shards.file_states(corpus, utterances))
  shards = []
  for number in range(count):
    part = tuple(utterances[number * shard_size : (number + 1) * shard_size])
    told = [VERSION, seal, longest, count]
    for utterance in part:
      told.append([utterance.to_json(), next(states)])
    shards.append(
      Shard(
        corpus=str(corpus),
        output=str(output),
        number=number,
        count=count,
        utterances=part,
        tokenizer=str(tokenizer),
        seal=seal,
        digest=digests.of_bytes(json.dumps(told).encode()),
        batch_size=batch_size,
        batch_seconds=batch_seconds,
        longest=longest,
      )
    )
  return shards


def tokenize(
  corpus: str | os.PathLike,
  output: str | os.PathLike,
  tokenizer: str | os.PathLike,
  *,
  load: Callable[[str], Tokenizer] | None = None,
  runner: str = 'local',
  beam_options: Sequence[str] = (),
  **settings,
) -> dict[str, Any]:
  """Tokenises the speech of a corpus; what is done already is kept.

  Args:
    corpus: Corpus folder.
    output: Folder of the codes.
    tokenizer: Folder of the tokenizer.
    load: Makes a tokenizer from its folder; picklable where Beam is used.
    runner: `local`, or a Beam runner such as `DirectRunner`.
    beam_options: More options for Beam, as flags.
    **settings: As `plan`.

  Returns:
    What `stats.json` says: read = kept + quarantined, codes, seconds of
    audio, and the seconds that workers spent on them; their quotient is
    `real_time_factor` (0.01 is a hundred times real time).

  Raises:
    UserError: No corpus, no tokenizer, or nothing at all could be kept.
  """
  load = load or _load_dual
  output = files.check_writable(output, '--output', folder=True)
  shards = plan(corpus, output, tokenizer, **settings)
  left = _unfinished(output, shards)
  if left:
    # From here on the folder is not what its stats.json says.
    files.remove(output / 'stats.json')
    if runner == 'local':
      _run_here(shards, left, load)
    else:
      with _watched(shards, left):
        beam.map_shards(
          functools.partial(_tokenize_in_worker, load=load),
          left,
          output=output,
          runner=runner,
          options=beam_options,
        )
  return _finish(output, shards, tokenizer, len(left))


def _unfinished(output: files.AnyPath, shards: list[Shard]) -> list[Shard]:
  done = files.ahead(output, Shard.is_done, shards)
  return [shard for shard, is_done in zip(shards, done) if not is_done]


def _load_dual(folder: str) -> Tokenizer:
  from step_audio_jax.tokenizers.speech import dual

  memory.keep_freed()  # batches of one shape ask for the same memory again
  return dual.DualTokenizer.load(folder)


class _Meter:
  """A bar over seconds of audio: times real time, and the time left."""

  def __init__(self, shards, left):
    self._total = sum(len(shard.utterances) for shard in shards)
    self._done = self._total - sum(len(shard.utterances) for shard in left)
    self._lost, self._new, self._begin = 0, 0.0, time.monotonic()
    seconds = sum(shard.seconds for shard in shards)
    self._seconds = seconds - sum(shard.seconds for shard in left)
    self._bar = progress.bar(
      label='tokenize',
      total=round(seconds),
      initial=round(self._seconds),
      unit=' s of audio',
    )

  def __enter__(self):
    self._bar.__enter__()
    return self

  def __exit__(self, *error):
    self._bar.__exit__(*error)

  def add(self, more: Progress, new: bool = True) -> None:
    """Counts progress; only what is `new` counts for the speed."""
    self._done += more.utterances
    self._lost += more.lost
    self._seconds += more.seconds
    self._new += more.seconds if new else 0.0
    speed = self._new / max(time.monotonic() - self._begin, 1e-3)
    self._bar.set_postfix_str(
      f'{speed:.1f} x real time, {self._done} of {self._total} utterances, '
      f'{self._lost} in quarantine',
      refresh=False,
    )
    self._bar.update(round(self._seconds) - self._bar.n)


def _run_here(shards, left, load) -> None:
  tokenizer = load(left[0].tokenizer)
  code_shards.check_same(left[0], tokenizer)
  with _Meter(shards, left) as meter:
    for shard in left:
      code_shards.tokenize_shard(shard, tokenizer, meter.add)


@contextlib.contextmanager
def _watched(shards, left):
  """Shows what workers elsewhere do, by what they leave in the output."""
  with _Meter(shards, left) as meter:
    # Shards that do not stand yet, and how far each is.
    waiting = [(shard, code_shards.progress_of(shard)) for shard in left]
    for _, progress_before in waiting:
      meter.add(progress_before, new=False)

    def look():
      for place in reversed(range(len(waiting))):
        shard, before = waiting[place]
        now = code_shards.progress_of(shard)
        if now.utterances > before.utterances:
          meter.add(Progress(*(b - a for a, b in zip(before, now))))
          waiting[place] = shard, now
        if now.utterances == len(shard.utterances):
          del waiting[place]

    with progress.watching(look, _POLL_SECONDS):
      yield
    look()


_LOADING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _load_once(load, folder):
  return load(folder)


def _tokenize_in_worker(shard: Shard, load) -> int:
  """What a Beam worker does with a shard; it loads the tokenizer once."""
  if not shard.is_done():
    with _LOADING:  # a worker may have several threads
      tokenizer = _load_once(load, shard.tokenizer)
    code_shards.check_same(shard, tokenizer)
    code_shards.tokenize_shard(shard, tokenizer)
  return shard.number


def _finish(output, shards, tokenizer, made) -> dict[str, Any]:
  paths = [shard.receipt for shard in shards]
  receipts = list(files.ahead(output, files.read_json, paths))
  quarantine = [item for r in receipts for item in r['quarantined']]
  expected = {shard.path.name for shard in shards}
  for path in records.shards_of(output, speech_codes.STEM):
    if path.name not in expected:  # of an earlier cut into shards
      files.remove(path)
      files.remove(path.with_suffix('.json'))
  stem = speech_codes.STEM
  for pattern in (f'{stem}-*.journal', f'.{stem}-*.tmp'):  # of killed workers
    for path in files.glob(output, pattern):
      files.remove(path)
  files.write_jsonl(output / 'quarantine.jsonl', quarantine)
  stats = {
    key: sum(receipt.get(key, 0) for receipt in receipts)
    for key in (
      *('read', 'kept', 'seconds', 'linguistic', 'semantic'),
      'worker_seconds',
    )
  }
  stats |= {
    'quarantined': len(quarantine),
    'shards': len(shards),
    'seconds': round(stats['seconds'], 3),
    'worker_seconds': round(stats['worker_seconds'], 3),
    'real_time_factor': round(
      stats['worker_seconds'] / max(stats['seconds'], 1e-3), 6
    ),
    'corpus': shards[0].corpus,
    'tokenizer': str(tokenizer),
    'tokenizer_sha256': shards[0].seal,
    'digest': digests.of_bytes(
      ''.join(shard.digest for shard in shards).encode()
    ),
  }
  if not stats['kept']:
    first = quarantine[0]
    raise errors.UserError(
      f'{output}/quarantine.jsonl: none of {stats["read"]} utterances could '
      f'be tokenised; the first, {first["id"]}: {first["reason"]}'
    )
  files.write_json(output / 'stats.json', stats)
  return {**stats, 'shards_made': made}


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string('corpus', None, 'Corpus folder.', flag_values=fv)
  flags.DEFINE_string('tokenizer', None, 'Tokenizer folder.', flag_values=fv)
  flags.DEFINE_string('output', None, 'Folder for codes.', flag_values=fv)
  flags.mark_flags_as_required(
    ['corpus', 'tokenizer', 'output'], flag_values=fv
  )
  flags.DEFINE_integer(
    'shard_size', 500, 'Utterances per shard.', lower_bound=1, flag_values=fv
  )
  flags.DEFINE_integer(
    'batch_size', 64, 'Utterances per batch.', lower_bound=1, flag_values=fv
  )
  flags.DEFINE_float(
    'batch_seconds',
    BATCH_SECONDS,
    'Audio per batch, seconds.',
    lower_bound=1.0,
    flag_values=fv,
  )
  flags.DEFINE_float(
    'longest', LONGEST_SECONDS, 'Longest audio, seconds.', flag_values=fv
  )
  beam.define_flags(fv)


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  settings = dict(
    shard_size=fv.shard_size,
    batch_size=fv.batch_size,
    batch_seconds=fv.batch_seconds,
    longest=fv.longest,
  )
  if fv.dry_run:
    shards = plan(fv.corpus, fv.output, fv.tokenizer, **settings)
    left = len(_unfinished(files.path(fv.output), shards))
    total = sum(len(shard.utterances) for shard in shards)
    print(f'would make {left} of {len(shards)} shards, {total} utterances')
    return {'dry_run': True, 'shards': len(shards), 'left': left}
  stats = tokenize(
    fv.corpus,
    fv.output,
    fv.tokenizer,
    runner=fv.runner,
    beam_options=fv.beam_option,
    **settings,
  )
  print(
    f'{fv.output}: {stats["read"]} utterances read, {stats["kept"]} kept, '
    f'{stats["quarantined"]} in quarantine; a worker runs at '
    f'{1 / max(stats["real_time_factor"], 1e-6):.1f} x real time'
  )
  return stats


DOOR = cli.Door(
  summary="""Turns the audio of a corpus into dual speech codes.

    python -m data_pipelines tokenize --corpus=data/quickstart/speech \\
      --tokenizer=runs/quickstart/tokenizer --output=data/quickstart/codes

Audio that cannot be used is listed in OUTPUT/quarantine.jsonl. After a kill,
the same command continues: finished batches are not encoded again.
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('beam_option',),
)
