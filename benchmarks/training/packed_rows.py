r"""Documents of uneven length: packed rows against padded batches, on CPU.

    python benchmarks/training/packed_rows.py

The same documents, 180 tokens long in the mean (log-normal, sigma 1, at most
the row length of 2048), train the same 25M Llama on both sides, float32. Ours
are rows of 2048 tokens made by `data_pipelines.rows.packing`, two a step. The
peer (`LlamaForCausalLM`, torch's fused AdamW) takes them in the order they come
and pads, under two conventions:

  longest   each batch to its longest document, unsorted, as many documents as
            keep batch x longest within the tokens of our step: what a padding
            collator does;
  row       every document to 2048 tokens, two a batch: what a tokenizer's
            `padding='max_length'` does.

A measurement is one pass over all documents. Passes alternate; a ratio is peer
seconds / our seconds of a pair, thus of useful tokens a second. The headline
`ratio` is against `longest`, the stronger peer. Needs requirements/parity.txt;
prints one JSON line.
"""

import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
from typing import Any, Iterator

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks import small_llama  # noqa: E402
from benchmarks.training import train_step  # noqa: E402

MEAN, SIGMA = 180, 1.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one pass consists of.

  Attributes:
    size: Key of `small_llama.SIZES`.
    length: Tokens of our row.
    rows: Rows of our step.
    steps: Our steps a pass.
    mean: Mean length of a document.
  """

  size: str
  length: int
  rows: int
  steps: int
  mean: int

  @property
  def tokens(self) -> int:
    """Places of one of our steps."""
    return self.rows * self.length

  def documents(self) -> list[np.ndarray]:
    """Ragged documents that fill nearly the places of all our steps.

    Their lengths are evenly spread quantiles of the distribution, shuffled, so
    that few documents have its mean and its tail.
    """
    rng = np.random.default_rng(0)
    vocab = small_llama.SIZES[self.size]['vocab_size']
    count = int(0.98 * self.steps * self.tokens / self.mean)
    normal = statistics.NormalDist(0, SIGMA)
    shares = np.exp([normal.inv_cdf((n + 0.5) / count) for n in range(count)])
    lengths = np.clip(shares * self.mean / shares.mean(), 4, self.length)
    rng.shuffle(lengths)
    return [
      rng.integers(1, vocab, int(length), dtype=np.int32) for length in lengths
    ]

  def packed(self) -> list[Any]:
    """Rows of all documents."""
    from data_pipelines.rows import packing
    from step_audio_jax import documents as documents_lib

    documents = [
      documents_lib.Document(str(n), ids, np.ones(len(ids), np.float32))
      for n, ids in enumerate(self.documents())
    ]
    return list(packing.pack(documents, self.length))

  def padded(self, convention: str) -> Iterator[list[np.ndarray]]:
    """Batches of documents, in the order they come."""
    batch: list[np.ndarray] = []
    for ids in self.documents():
      longest = max(len(ids), *(len(other) for other in batch), 0)
      if convention == 'row':
        longest = self.length
      if batch and longest * (len(batch) + 1) > self.tokens:
        yield batch
        batch = []
      batch.append(ids)
    yield batch


class Feed:
  """Our packed rows, for the Trainer."""

  def __init__(self, plan: Plan):
    self.batch_size, self.length = plan.rows, plan.length
    self._rows = plan.packed()
    empty = np.zeros(plan.length, np.int32)
    while len(self._rows) % plan.rows:
      self._rows.append(
        dataclasses.replace(
          self._rows[-1],
          tokens=empty,
          segment_ids=empty,
          loss_weights=empty.astype(np.float32),
        )
      )
    self.steps = len(self._rows) // plan.rows

  def batch(self, step: int, start: int = 0, stop: int | None = None):
    from step_audio_jax.training.feeds import feed

    first = step % self.steps * self.batch_size
    rows = self._rows[first : first + self.batch_size][start:stop]
    found = {
      name: np.stack([getattr(row, name) for row in rows])
      for name in ('tokens', 'segment_ids', 'loss_weights')
    }
    found['positions'] = feed.positions(found['segment_ids'])
    return found


class Ours(train_step.Ours):
  """All packed rows once."""

  def __init__(self, plan: Plan, folder: pathlib.Path):
    self._feed = Feed(plan)
    super().__init__(self._feed, plan.size, folder)

  def run(self, number: int) -> int:
    """One pass; its steps."""
    del number
    for step in range(self._feed.steps):
      self.step(step)
    return self._feed.steps


class Peer:
  """All documents once, padded."""

  def __init__(self, plan: Plan, folder: pathlib.Path, threads: int):
    self._plan = plan
    self._model = small_llama.peer(folder, threads).train()
    self._optimizer = small_llama.peer_optimizer(self._model)

  def longest(self, number: int) -> int:
    """One pass, each batch padded to its longest document."""
    del number
    return self._run('longest')

  def row(self, number: int) -> int:
    """One pass, every document padded to our row length."""
    del number
    return self._run('row')

  def _run(self, convention: str) -> int:
    steps = 0
    for batch in self._plan.padded(convention):
      self._step(batch, self._plan.length if convention == 'row' else 0)
      steps += 1
    return steps

  def _step(self, batch, length) -> None:
    import torch

    length = length or max(map(len, batch))
    ids = torch.zeros((len(batch), length), dtype=torch.int64)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for n, document in enumerate(batch):
      ids[n, : len(document)] = torch.from_numpy(document)
      labels[n, : len(document)] = torch.from_numpy(document)
      mask[n, : len(document)] = 1
    loss = self._model(
      input_ids=ids, attention_mask=mask, labels=labels, use_cache=False
    ).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self._model.parameters(), small_llama.CLIP)
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)


def main() -> None:
  parser = side_by_side.parser(__doc__)
  parser.set_defaults(rounds=5)
  parser.add_argument(
    '--steps', type=int, default=2, help='our steps in one pass'
  )
  parser.add_argument(
    '--row_rounds',
    type=int,
    default=1,
    help='pairs measured against padding to the row length',
  )
  arguments = parser.parse_args()
  plan = (
    Plan('tiny', 128, 2, arguments.steps, 16)
    if arguments.tiny
    else Plan('25M', 2048, 2, arguments.steps, MEAN)
  )
  if arguments.side == 'ours':
    timed = side_by_side.timed(Ours(plan, arguments.folder).run)
    side_by_side.serve({'longest': timed, 'row': timed})
    return
  if arguments.side == 'peer':
    peer = Peer(plan, arguments.folder, arguments.threads)
    side_by_side.serve(
      {
        'longest': side_by_side.timed(peer.longest),
        'row': side_by_side.timed(peer.row),
      }
    )
    return
  with tempfile.TemporaryDirectory() as folder:
    workers = side_by_side.workers(arguments, pathlib.Path(folder))
    answers = side_by_side.interleaved(
      workers, 'longest', arguments.rounds, warm=1
    )
    row = None
    if 'peer' in workers and arguments.row_rounds:
      given = side_by_side.interleaved(
        workers, 'row', arguments.row_rounds, warm=0
      )
      row = side_by_side.compared(given, warm=0)
    for worker in workers.values():
      worker.close()
  print(json.dumps(_result(plan, answers, row, arguments.threads)))


def _result(plan: Plan, answers, row, threads: int) -> dict[str, Any]:
  lengths = [len(ids) for ids in plan.documents()]
  useful = sum(lengths)

  def fill(convention):
    return useful / sum(
      len(batch)
      * (plan.length if convention == 'row' else max(map(len, batch)))
      for batch in plan.padded(convention)
    )

  result = {
    'benchmark': 'packed_rows',
    'size': plan.size,
    'documents': len(lengths),
    'mean_length': round(useful / len(lengths), 1),
    'longest': max(lengths),
    'row_length': plan.length,
    'tokens_per_step': plan.tokens,
    'our_fill': round(useful / (answers['ours'][0]['value'] * plan.tokens), 4),
    'peer_fill_longest': round(fill('longest'), 4),
    'peer_fill_row': round(fill('row'), 4),
    **side_by_side.compared(answers, warm=1),
    'must': 3.0,
  }
  for side in answers:
    seconds = result[f'{side}_seconds']['median']
    result[f'{side}_useful_tokens_per_second'] = round(useful / seconds, 1)
  if row is not None:
    result['ratio_row'] = row['ratio']
    result['peer_row_seconds'] = row['peer_seconds']
  return result | {
    'machine': side_by_side.machine(threads),
    'versions': side_by_side.versions(),
  }


if __name__ == '__main__':
  main()
