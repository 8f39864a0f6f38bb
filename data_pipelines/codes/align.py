"""`align`: word times for a corpus that has none.

The CTC head of a trained linguistic encoder says which frames (60 ms) spell
which letter of the transcript; a word begins with its first letter and ends
with its last. What interleaving needs are the borders between words, good to a
group of 120 ms.

    python -m data_pipelines align --corpus=data/mine --run=runs/…/linguistic

The manifest gets `words`; utterances that have them already are left alone.
What cannot be aligned stays without, and `CORPUS/unaligned.jsonl` says why.

Beam maps the same work over workers; each leaves the times of its share in
`CORPUS/.align`, until all of them stand.
"""

import dataclasses
import functools
import itertools
import os
import sys
import threading
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

from absl import flags
import jax
import numpy as np

from data_pipelines import beam
from data_pipelines import words as words_lib
from data_pipelines.codes import shares as share_lib
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio import io as audio_io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.training import forced_alignment
from step_audio_jax.tokenizers.training import labels as labels_lib
from step_audio_jax.tokenizers.training import objectives
from step_audio_jax.training.checkpoints import checkpoints

FRAME_SECONDS = 0.06
_RATE = audio_io.SAMPLE_RATE
_SECOND = 2 * _RATE  # waveforms are filled up to whole multiples of this
LEFT = 'unaligned.jsonl'
_VERSION = 1  # part of every digest; raise it when times change

Words = tuple[tuple[str, float, float], ...]


class Aligner:
  """A trained linguistic encoder with its CTC head.

  Attributes:
    labels: What the head spells.
  """

  def __init__(self, objective: objectives.LinguisticCTC, variables):
    """Keeps `variables` ('params' and 'cmvn') of the objective."""
    self.labels = objective.labels
    self._variables = {k: variables[k] for k in ('params', 'cmvn')}
    self._objective = objective

  @functools.cached_property
  def _log_probs(self):
    objective = self._objective

    @jax.jit
    def run(variables, wave_BS, samples_B):
      batch = {'wave': wave_BS, 'samples': samples_B}
      x_BTD, counts_B, _ = objective.inputs(variables, batch, count=False)
      params = {'params': variables['params']}
      _, logits_BTL = objective.model.apply(params, x_BTD, counts_B)
      return jax.nn.log_softmax(logits_BTL), counts_B

    return run

  def words(
    self, waves: Sequence[np.ndarray], texts: Sequence[str], rows: int
  ) -> list[Words | str]:
    """Times of the words of each text, or why there are none.

    Args:
      waves: 16 kHz samples.
      texts: What is said in each.
      rows: Compiled batch size; at least as many as there are waves.
    """
    found: list[Any] = [None] * len(waves)
    plans = {}
    for row, text in enumerate(texts):
      try:
        plans[row] = self._plan(text)
      except errors.UserError as error:
        found[row] = str(error)
    longest = max(map(len, waves))
    wave_BS = np.zeros((rows, -(-longest // _SECOND) * _SECOND), np.float32)
    samples_B = np.zeros(rows, np.int32)
    for row, wave in enumerate(waves):
      wave_BS[row, : len(wave)], samples_B[row] = wave, len(wave)
    log_probs_BTL, counts_B = map(
      np.asarray, self._log_probs(self._variables, wave_BS, samples_B)
    )
    for row, (words, letters, ids) in plans.items():
      try:
        (path,) = forced_alignment.align(
          log_probs_BTL[row : row + 1], counts_B[row : row + 1], [ids]
        )
      except errors.UserError as error:
        found[row] = str(error)
        continue
      times = forced_alignment.word_times(path.spans_N2, letters, FRAME_SECONDS)
      end = len(waves[row]) / _RATE
      found[row] = tuple(
        (word, min(a, end), min(b, end)) for word, (a, b) in zip(words, times)
      )
    return found

  def _plan(self, text: str):
    """(words, letters of each, ids of all)."""
    places = words_lib.spans(text)
    words = [text[start:stop] for start, stop in places]
    ids = self.labels.encode(text)
    letters = [len(labels_lib.spelling(word)) for word in words]
    if not ids:
      raise errors.UserError('text: nothing of it is spelt.')
    return words, letters, ids


def load(run: str | os.PathLike, step: int | None = None) -> Aligner:
  """The aligner of a training run.

  Args:
    run: Run directory of the linguistic encoder, or of its centroids.
    step: Of which checkpoint; None is the newest.

  Raises:
    UserError: It is none, or has no checkpoint.
  """
  config = checkpoints.run_config(run)
  if config.get('tokenizer') != 'linguistic' or 'labels' not in config:
    raise errors.UserError(
      f'{files.path(run) / "config.json"}: found a run of '
      f'{config.get("tokenizer", "another model")}, expected one of the '
      'linguistic tokenizer.'
    )
  variables, _ = checkpoints.load_variables(run, step)
  objective = objectives.LinguisticCTC(
    paraformer.ParaformerConfig(**config['model']),
    labels_lib.Labels(tuple(config['labels'])),
  )
  return Aligner(objective, variables)


def align(
  corpus: str | os.PathLike,
  aligner: Aligner,
  *,
  batch_size: int = 8,
  max_seconds: float = 60.0,
  overwrite: bool = False,
) -> dict[str, int]:
  """Adds word times to a corpus.

  Args:
    corpus: Its folder.
    aligner: Finds them.
    batch_size: Utterances at a time, of like length.
    max_seconds: Longer utterances are left without.
    overwrite: Also where there are word times already.

  Returns:
    read, aligned, had_words, left.
  """

  def find(waiting):
    with _bar(len(waiting)) as bar:
      return _times(corpus, aligner, waiting, batch_size, bar.update)

  return _align(corpus, find, max_seconds, overwrite)


def align_elsewhere(
  corpus: str | os.PathLike,
  run: str | os.PathLike,
  *,
  runner: str,
  beam_options: Sequence[str] = (),
  load: Callable[[str, int], Aligner] = load,
  batch_size: int = 8,
  max_seconds: float = 60.0,
  overwrite: bool = False,
) -> dict[str, int]:
  """As `align`, with the workers of a Beam runner.

  Args:
    corpus: Its folder.
    run: Whose encoder finds the times.
    runner: Such as `DirectRunner`.
    beam_options: More options for Beam, as flags.
    load: Makes an aligner of a run and its step; picklable.
    batch_size: As `align`.
    max_seconds: As `align`.
    overwrite: As `align`.
  """
  step, identity = _identity(run)

  def find(waiting):
    found = share_lib.shares_of(
      corpus, run, step, waiting, batch_size, told=[_VERSION, identity]
    )
    with _bar(len(waiting)) as bar:
      return share_lib.find(
        found,
        functools.partial(_times_in_worker, load=load),
        bar.update,
        runner=runner,
        beam_options=beam_options,
      )

  result = _align(corpus, find, max_seconds, overwrite)
  files.remove_tree(files.path(corpus) / share_lib.FOLDER)
  return result


_LOADING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _load_once(load, run, step):
  return load(run, step)


def _times_in_worker(share: share_lib.Share, load):
  """What a Beam worker finds for a share; it loads the encoder once."""
  with _LOADING:  # a worker may have several threads
    aligner = _load_once(load, share.run, share.step)
  return _times(
    share.corpus, aligner, share.utterances, share.batch_size, lambda n: None
  )


def _align(corpus, find, max_seconds, overwrite) -> dict[str, int]:
  """Writes what `find` finds for the utterances that it is given."""
  utterances = manifest.read(corpus)
  wanted = [u for u in utterances if _wanted(u, overwrite)]
  left = {}
  for utterance in wanted:
    if utterance.duration > max_seconds:
      left[utterance.id] = (
        f'duration: {utterance.duration} s, expected at most {max_seconds} s.'
      )
  waiting = sorted(
    (u for u in wanted if u.id not in left), key=lambda u: u.duration
  )
  words, reasons = find(waiting)
  left |= reasons
  manifest.write(
    corpus,
    [
      dataclasses.replace(u, words=words[u.id]) if u.id in words else u
      for u in utterances
    ],
  )
  files.write_jsonl(
    files.path(corpus) / LEFT,
    [{'id': name, 'reason': reason} for name, reason in left.items()],
  )
  had = sum(bool(u.words) for u in utterances if u.kind == 'speech')
  return {
    'read': sum(u.kind == 'speech' for u in utterances),
    'aligned': len(words),
    'had_words': had - (len(wanted) - sum(not u.words for u in wanted)),
    'left': len(left),
  }


def _times(corpus, aligner, utterances, batch_size, on_progress):
  """(id → words, id → why there are none), batch by batch."""
  words, left = {}, {}
  reads = files.ahead(corpus, functools.partial(_read, corpus), utterances)
  for part in _parts(zip(utterances, reads), batch_size):
    heard = []
    for utterance, wave in part:
      if isinstance(wave, str):
        left[utterance.id] = wave
      else:
        heard.append((utterance, wave))
    if heard:
      texts = [utterance.text for utterance, _ in heard]
      waves = [wave for _, wave in heard]
      for (utterance, _), found in zip(
        heard, aligner.words(waves, texts, batch_size)
      ):
        if isinstance(found, str):
          left[utterance.id] = found
        else:
          words[utterance.id] = found
    on_progress(len(part))
  return words, left


def _bar(total: int):
  return progress.bar(total=total, label='align', unit='utt')


def _identity(run) -> tuple[int, str]:
  """The newest step of a run, and a digest of what it trains."""
  step = checkpoints.all_steps(run)[-1]
  return step, digests.of_value(checkpoints.run_config(run))


def _wanted(utterance: manifest.Utterance, overwrite: bool) -> bool:
  said = utterance.audio is not None and bool(utterance.text)
  return (
    utterance.kind == 'speech' and said and (overwrite or not utterance.words)
  )


def _parts(items: Iterable, size: int) -> Iterator[Sequence]:
  items = iter(items)
  while part := list(itertools.islice(items, size)):
    yield part


def _read(corpus, utterance: manifest.Utterance) -> np.ndarray | str:
  """Its samples, or why there are none."""
  try:
    return _samples(utterance, corpus)
  except errors.UserError as error:
    files.raise_outage(error)
    return str(error)


def _samples(utterance: manifest.Utterance, corpus) -> np.ndarray:
  return audio_io.read_audio(
    utterance.audio_path(corpus),
    sample_rate=_RATE,
    audible=True,
    **utterance.part(),
  )[0]


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'corpus', None, 'Corpus folder; its manifest gets the words.',
    flag_values=fv,
  )  # fmt: skip
  flags.DEFINE_string(
    'run', None, 'Run directory of a linguistic encoder.', flag_values=fv
  )
  flags.mark_flags_as_required(['corpus', 'run'], flag_values=fv)
  flags.DEFINE_integer('batch_size', 8, 'Utterances at a time.', flag_values=fv)
  flags.DEFINE_float(
    'max_seconds', 60.0, 'Longer utterances are left.', flag_values=fv
  )
  flags.DEFINE_bool(
    'overwrite', False, 'Replace word times that are there.', flag_values=fv
  )
  beam.define_flags(fv)


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  if fv.batch_size < 1:
    raise errors.UserError(
      f'--batch_size: found {fv.batch_size}, expected at least 1.'
    )
  corpus = manifest.path_of(fv.corpus).parent
  files.check_writable(manifest.path_of(fv.corpus), '--corpus')
  if fv.dry_run:
    found = manifest.read(corpus)
    count = sum(_wanted(u, fv.overwrite) for u in found)
    print(f'would align {count} utterances of {corpus}')
    return {'dry_run': True, 'utterances': count}
  settings = dict(
    batch_size=fv.batch_size,
    max_seconds=fv.max_seconds,
    overwrite=fv.overwrite,
  )
  if fv.runner == 'local':
    result = align(corpus, load(fv.run), **settings)
  else:
    result = align_elsewhere(
      corpus,
      fv.run,
      runner=fv.runner,
      beam_options=fv.beam_option,
      **settings,
    )
  print(
    f'{corpus}: {result["aligned"]} aligned, {result["had_words"]} had word '
    f'times, {result["left"]} left ({corpus / LEFT})'
  )
  others = sum(not _spells(u) for u in manifest.read(corpus, kind='speech'))
  if others:
    print(
      f'note: the words of {others} utterances are not those of their text, '
      'which may have changed since; --overwrite aligns every utterance again.',
      file=sys.stderr,
    )
  return result


def _spells(utterance: manifest.Utterance) -> bool:
  """Whether the words, if there are any, have the letters of the text."""
  if not utterance.words or not utterance.text:
    return True
  said = ''.join(word for word, _, _ in utterance.words)
  letters = (
    [c for c in text.casefold() if c.isalnum()]
    for text in (said, utterance.text)
  )
  return next(letters) == next(letters)


DOOR = cli.Door(
  summary="""Finds word times with a trained linguistic encoder.

    python -m data_pipelines align --corpus=data/mine \\
      --run=runs/quickstart/tokenizer_runs/centroids

Interleaving by words needs them. Many workers share the corpus with --runner,
docs/engines.md.
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('beam_option',),
)
