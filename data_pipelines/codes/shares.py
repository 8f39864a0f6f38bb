"""Shares of a corpus whose word times workers find elsewhere.

A share is some whole batches of `align`. What a worker finds of it lies in
`CORPUS/.align` until all of them stand and the manifest gets the times; after
a kill, shares that stand are not made again.
"""

import dataclasses
import functools
import os
from typing import Any, Callable, Sequence

from data_pipelines import beam
from data_pipelines.codes import shards
from step_audio_jax import progress
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

FOLDER = '.align'
BATCHES = 32  # of a share
_POLL_SECONDS = 2.0

# (id → words, id → why there are none)
Found = tuple[dict[str, Any], dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Share:
  """What a worker is given; picklable.

  Attributes:
    corpus: Corpus folder.
    run: Whose encoder finds the times.
    step: Of which checkpoint.
    number: Which share; `count` of them in all.
    count: Number of shares.
    utterances: Whole batches.
    batch_size: Of each but the last.
    digest: Of everything that decides the times.
  """

  corpus: str
  run: str
  step: int
  number: int
  count: int
  utterances: tuple[manifest.Utterance, ...]
  batch_size: int
  digest: str

  @property
  def path(self) -> files.AnyPath:
    """What was found: {digest, words, left}."""
    name = f'{self.number:05d}-of-{self.count:05d}.json'
    return files.path(self.corpus) / FOLDER / name

  def is_done(self) -> bool:
    return (
      files.exists(self.path)
      and files.read_json(self.path).get('digest') == self.digest
    )


def shares_of(
  corpus: str | os.PathLike,
  run: str | os.PathLike,
  step: int,
  utterances: Sequence[manifest.Utterance],
  batch_size: int,
  told: Sequence[Any],
) -> list[Share]:
  """Cuts utterances into shares.

  Args:
    corpus: Corpus folder.
    run: Whose encoder finds the times.
    step: Of which checkpoint.
    utterances: In the order of their batches.
    batch_size: Utterances at a time.
    told: What else decides the times; JSON-able.
  """
  size = BATCHES * batch_size
  parts = [
    utterances[start : start + size]
    for start in range(0, len(utterances), size)
  ]
  states = iter(shards.file_states(corpus, utterances))
  shares = []
  for number, part in enumerate(parts):
    decides = [*told, step, batch_size]
    decides += [[one.to_json(), next(states)] for one in part]
    shares.append(
      Share(
        corpus=str(corpus),
        run=str(run),
        step=step,
        number=number,
        count=len(parts),
        utterances=tuple(part),
        batch_size=batch_size,
        digest=digests.of_value(decides),
      )
    )
  return shares


def find(
  shares: Sequence[Share],
  times: Callable[[Share], Found],
  on_progress: Callable[[int], Any],
  *,
  runner: str,
  beam_options: Sequence[str] = (),
) -> Found:
  """Has workers find the times of all shares that do not stand yet.

  Args:
    shares: Of one corpus.
    times: What a worker does; picklable.
    on_progress: Told how many more utterances are done.
    runner: A Beam runner such as `DirectRunner`.
    beam_options: More options for Beam, as flags.
  """
  left = []
  for share in shares:
    if share.is_done():
      on_progress(len(share.utterances))
    else:
      left.append(share)
  waiting = list(left)

  def look():
    for share in [share for share in waiting if share.is_done()]:
      on_progress(len(share.utterances))
      waiting.remove(share)

  if left:
    with progress.watching(look, _POLL_SECONDS):
      beam.map_shards(
        functools.partial(_make, times=times),
        left,
        output=left[0].path.parent,
        runner=runner,
        options=beam_options,
      )
    look()
  words, reasons = {}, {}
  for share in shares:
    told = files.read_json(share.path)
    words |= {k: tuple(map(tuple, v)) for k, v in told['words'].items()}
    reasons |= told['left']
  return words, reasons


def _make(share: Share, times) -> None:
  if not share.is_done():
    words, left = times(share)
    told = {'digest': share.digest, 'words': words, 'left': left}
    files.write_json(share.path, told)
