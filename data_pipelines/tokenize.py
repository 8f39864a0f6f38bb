"""`tokenize`: the audio of a corpus → dual speech codes.

The work is cut into shards of utterances, and a shard is a pure function of
its utterances and the tokenizer (`tokenize_shard`). The local executor runs
the shards one after the other, and Beam maps the same function on any runner.
A finished shard is recognised by its digest and not made again.

    OUTPUT/codes-00000-of-00004.array_record   {linguistic, semantic} uint16
    OUTPUT/quarantine.jsonl                    what was left out, and why
    OUTPUT/stats.json                          counts; written last
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any, Callable, Mapping, Protocol, Sequence

from absl import flags
import numpy as np

from data_pipelines import records
from step_audio_jax import cli
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest
from step_audio_jax import progress
from step_audio_jax import vocabulary
from step_audio_jax.audio import io as audio_io

VERSION = 1  # part of every digest; raise it when the output changes
LONGEST_SECONDS = 60.0


class Tokenizer(Protocol):
  """What `step_audio_jax.tokenizers.dual.DualTokenizer` offers."""

  def encode_batch(
    self, waves: Sequence[np.ndarray]
  ) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """float32 (S,) at 16 kHz each → (linguistic (n,), semantic (m,)) each."""


@dataclasses.dataclass(frozen=True)
class Shard:
  """The work of one shard.

  Attributes:
    corpus: Corpus folder.
    output: Folder of the codes.
    number: Which shard; `count` of them in all.
    count: Number of shards.
    utterances: The utterances of this shard.
    tokenizer: Folder of the tokenizer.
    digest: Of everything that decides what the shard holds.
    batch_size: Utterances per call of the tokenizer.
    longest: Longer audio is put in quarantine, seconds.
  """

  corpus: str
  output: str
  number: int
  count: int
  utterances: tuple[manifest.Utterance, ...]
  tokenizer: str
  digest: str
  batch_size: int
  longest: float

  @property
  def path(self) -> pathlib.Path:
    name = records.shard_name(manifest.CODES_STEM, self.number, self.count)
    return pathlib.Path(self.output) / name

  @property
  def receipt(self) -> pathlib.Path:
    """Says what the shard was made from; written after it."""
    return self.path.with_suffix('.json')

  def is_done(self) -> bool:
    """Whether the shard on disk is the one that would be made."""
    return (
      self.path.exists()
      and self.receipt.exists()
      and files.read_json(self.receipt).get('digest') == self.digest
    )


def tokenizer_digest(folder: str | os.PathLike) -> str:
  """Digest of a tokenizer folder: of `dual.json`, which seals the rest.

  Raises:
    UserError: The folder holds no tokenizer.
  """
  path = pathlib.Path(folder) / 'dual.json'
  if not path.is_file():
    raise errors.UserError(
      f'{path}: no such file; expected the folder of a trained tokenizer.'
    )
  return records.sha256(path)


def plan(
  corpus: str | os.PathLike,
  output: str | os.PathLike,
  tokenizer: str | os.PathLike,
  *,
  shard_size: int = 500,
  batch_size: int = 64,
  longest: float = LONGEST_SECONDS,
) -> list[Shard]:
  """Cuts a corpus into shards.

  Raises:
    UserError: The corpus or the tokenizer is not there, or has no speech.
  """
  corpus = pathlib.Path(corpus)
  utterances = manifest.read(corpus, kind='speech')
  if not utterances:
    raise errors.UserError(f'{manifest.path_of(corpus)}: no speech in it.')
  seal = tokenizer_digest(tokenizer)
  count = -(-len(utterances) // shard_size)
  shards = []
  for number in range(count):
    part = tuple(utterances[number * shard_size : (number + 1) * shard_size])
    told = [VERSION, seal, longest, count]
    for utterance in part:
      told.append([utterance.to_json(), _file_state(corpus, utterance)])
    shards.append(
      Shard(
        corpus=str(corpus),
        output=str(output),
        number=number,
        count=count,
        utterances=part,
        tokenizer=str(tokenizer),
        digest=hashlib.sha256(json.dumps(told).encode()).hexdigest(),
        batch_size=batch_size,
        longest=longest,
      )
    )
  return shards


def _file_state(corpus, utterance) -> list[int] | None:
  try:
    state = utterance.audio_path(corpus).stat()
  except (OSError, errors.UserError):
    return None
  return [state.st_size, state.st_mtime_ns]


def tokenize_shard(
  shard: Shard,
  tokenizer: Tokenizer,
  on_progress: Callable[[int], Any] = lambda count: None,
) -> dict[str, Any]:
  """Makes one shard and its receipt; returns the receipt."""
  waves, quarantine = {}, []
  for utterance in shard.utterances:
    try:
      waves[utterance.id] = _read(shard, utterance)
    except errors.UserError as error:
      quarantine.append(_reason(utterance, error))
      on_progress(1)
  by_id = {u.id: u for u in shard.utterances}
  names = sorted(waves, key=lambda name: (len(waves[name]), name))
  codes = {}
  for start in range(0, len(names), shard.batch_size):
    batch = names[start : start + shard.batch_size]
    pairs = _encode(tokenizer, [waves[name] for name in batch])
    for name, pair in zip(batch, pairs):
      try:
        codes[name] = _checked(pair)
      except errors.UserError as error:
        quarantine.append(_reason(by_id[name], error))
    on_progress(len(batch))
  kept = [u for u in shard.utterances if u.id in codes]
  records.write_shard(
    shard.path,
    (
      records.pack(
        {'linguistic': codes[u.id][0], 'semantic': codes[u.id][1]},
        {'id': u.id},
      )
      for u in kept
    ),
  )
  receipt = {
    'digest': shard.digest,
    'read': len(shard.utterances),
    'kept': len(kept),
    'quarantined': sorted(quarantine, key=lambda item: item['id']),
    'seconds': round(sum(u.duration for u in kept), 3),
    'linguistic': sum(len(codes[u.id][0]) for u in kept),
    'semantic': sum(len(codes[u.id][1]) for u in kept),
  }
  files.write_json(shard.receipt, receipt)
  return receipt


def _read(shard: Shard, utterance: manifest.Utterance) -> np.ndarray:
  path = utterance.audio_path(shard.corpus)
  if utterance.duration > shard.longest:
    raise errors.UserError(
      f'{path}: {utterance.duration:.2f} s of audio, expected at most '
      f'{shard.longest:g} s.'
    )
  wave, rate = audio_io.read_audio(
    path,
    offset=utterance.offset,
    duration=utterance.duration,
  )
  if len(wave) < (utterance.duration - 0.1) * rate:
    raise errors.UserError(
      f'{path}: {len(wave) / rate:.2f} s of audio from {utterance.offset:g} s '
      f'on, expected {utterance.duration:.2f} s as the manifest says.'
    )
  if len(wave) < vocabulary.GROUP_SECONDS * rate:
    raise errors.UserError(
      f'{path}: {len(wave) / rate:.3f} s of audio, expected at least '
      f'{vocabulary.GROUP_SECONDS} s.'
    )
  return wave


def _encode(tokenizer, waves):
  """Encodes a batch; if that fails, each wave alone, to find the culprit."""
  try:
    return list(tokenizer.encode_batch(waves))
  except errors.UserError:
    pairs = []
    for wave in waves:
      try:
        pairs += list(tokenizer.encode_batch([wave]))
      except errors.UserError as error:
        pairs.append(error)
    return pairs


def _checked(pair) -> tuple[np.ndarray, np.ndarray]:
  if isinstance(pair, errors.UserError):
    raise pair
  table = vocabulary.Vocabulary()
  ids = table.interleave(*pair)  # checks that codes are inside their books
  if not len(ids):
    raise errors.UserError('the audio is shorter than one group of codes.')
  return tuple(np.asarray(codes, np.uint16) for codes in pair)


def _reason(utterance: manifest.Utterance, error: Exception) -> dict[str, Any]:
  return {
    'id': utterance.id,
    'file': utterance.audio,
    'reason': str(error),
  }


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
    What `stats.json` says: read = kept + quarantined, codes, seconds.

  Raises:
    UserError: No corpus, no tokenizer, or nothing at all could be kept.
  """
  load = load or _load_dual
  shards = plan(corpus, output, tokenizer, **settings)
  output = pathlib.Path(output)
  left = [shard for shard in shards if not shard.is_done()]
  if left:
    # From here on the folder is not what its stats.json says.
    (output / 'stats.json').unlink(missing_ok=True)
    if runner == 'local':
      _run_here(shards, left, load)
    else:
      from data_pipelines import beam

      beam.map_shards(
        functools.partial(_tokenize_in_worker, load=load),
        left,
        runner=runner,
        options=beam_options,
      )
  return _finish(output, shards, tokenizer, len(left))


def _load_dual(folder: str) -> Tokenizer:
  from step_audio_jax.tokenizers import dual

  return dual.DualTokenizer.load(folder)


def _run_here(shards, left, load) -> None:
  tokenizer = load(left[0].tokenizer)
  total = sum(len(shard.utterances) for shard in shards)
  done = total - sum(len(shard.utterances) for shard in left)
  with progress.bar(
    label='tokenize', total=total, initial=done, unit='utt'
  ) as bar:
    for shard in left:
      tokenize_shard(shard, tokenizer, bar.update)


@functools.lru_cache(maxsize=1)
def _kept_tokenizer(load, folder):
  return load(folder)


def _tokenize_in_worker(shard: Shard, load) -> int:
  """What a Beam worker does with a shard; it loads the tokenizer once."""
  if not shard.is_done():
    tokenize_shard(shard, _kept_tokenizer(load, shard.tokenizer))
  return shard.number


def _finish(output, shards, tokenizer, made) -> dict[str, Any]:
  receipts = [files.read_json(shard.receipt) for shard in shards]
  quarantine = [item for r in receipts for item in r['quarantined']]
  expected = {shard.path.name for shard in shards}
  for path in records.shards_of(output, manifest.CODES_STEM):
    if path.name not in expected:  # of an earlier cut into shards
      path.unlink()
      path.with_suffix('.json').unlink(missing_ok=True)
  files.write_jsonl(output / 'quarantine.jsonl', quarantine)
  stats = {
    key: sum(receipt[key] for receipt in receipts)
    for key in ('read', 'kept', 'seconds', 'linguistic', 'semantic')
  }
  stats |= {
    'quarantined': len(quarantine),
    'shards': len(shards),
    'seconds': round(stats['seconds'], 3),
    'corpus': shards[0].corpus,
    'tokenizer': str(tokenizer),
    'tokenizer_sha256': tokenizer_digest(tokenizer),
    'digest': hashlib.sha256(
      ''.join(shard.digest for shard in shards).encode()
    ).hexdigest(),
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
    'longest', LONGEST_SECONDS, 'Longest audio, seconds.', flag_values=fv
  )
  flags.DEFINE_string(
    'runner',
    'local',
    '`local`, or a Beam runner: DirectRunner, FlinkRunner, SparkRunner, …',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'beam_option', [], 'An option for Beam, as a flag.', flag_values=fv
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  settings = dict(
    shard_size=fv.shard_size, batch_size=fv.batch_size, longest=fv.longest
  )
  if fv.dry_run:
    shards = plan(fv.corpus, fv.output, fv.tokenizer, **settings)
    left = sum(not shard.is_done() for shard in shards)
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
    f'{stats["quarantined"]} in quarantine'
  )
  return stats


DOOR = cli.Door(
  summary="""Turns the audio of a corpus into dual speech codes.

    python -m data_pipelines tokenize --corpus=data/quickstart/speech \\
      --tokenizer=runs/quickstart/tokenizer --output=data/quickstart/codes

Audio that cannot be used is listed in OUTPUT/quarantine.jsonl.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
