r"""A train step of small Llamas on CPU: ours against transformers and torch.

    python benchmarks/training/train_step.py --size=25M
    python benchmarks/training/train_step.py --size=100M
    python benchmarks/training/train_step.py --size=25M --packed

One step is forward, backward, clipping of the global gradient norm and AdamW,
all float32. Ours is the Trainer's own step; the peer is `LlamaForCausalLM`
(SDPA attention) with torch's fused AdamW. Both start from the same weights and
see the same rows; the first losses must agree to 1e-4. Each side has its own
process on the same cores; they take turns of several steps each, as training
is continuous (the first step after an idle second is up to a fifth slower), and
the ratio is the median over pairs of peer seconds / our seconds. Rows are full
and causal; with --packed they hold ragged documents, which both sides keep
apart by position. Needs requirements/parity.txt; prints one JSON line.
"""

import argparse
import json
import pathlib
import sys
import tempfile
from typing import Any, Callable

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks import small_llama  # noqa: E402

# Size → (rows, row length).
ROWS = {'25M': (4, 512), '100M': (2, 512), 'tiny': (2, 64)}
BATCHES = 4
AGREE = 1e-4


def rows(
  number: int, size: str, packed: bool, shape: tuple[int, int]
) -> dict[str, np.ndarray]:
  """The batch of a step, int32 (B, T); a function of its number."""
  from step_audio_jax.training.feeds import feed

  B, T = shape
  rng = np.random.default_rng(number % BATCHES)
  vocab = small_llama.SIZES[size]['vocab_size']
  tokens = rng.integers(1, vocab, (B, T), dtype=np.int32)
  segment_ids = np.ones((B, T), np.int32)
  if packed:
    for row in segment_ids:
      ends = np.cumsum(1 + rng.geometric(1 / (T // 4), size=T))
      row[:] = 1 + np.searchsorted(ends, np.arange(T), side='right')
  return {
    'tokens': tokens,
    'segment_ids': segment_ids,
    'positions': feed.positions(segment_ids),
    'loss_weights': np.ones((B, T), np.float32),
  }


class Feed:
  """The rows above, for the Trainer."""

  def __init__(self, size: str, packed: bool, shape: tuple[int, int]):
    self.batch_size, self.length = shape
    self._of = size, packed, shape

  def batch(self, step: int, start: int = 0, stop: int | None = None):
    found = rows(step, *self._of)
    return {name: array[start:stop] for name, array in found.items()}


def trainer(model: Any, vocabulary: Any, feed: Any) -> Any:
  """The library's Trainer on the first device."""
  import jax

  from step_audio_jax import memory
  from step_audio_jax.parallel import mesh as mesh_lib
  from step_audio_jax.training import loop
  from step_audio_jax.training import optimizers
  from step_audio_jax.training.objectives import objectives

  memory.keep_freed()  # as the `train` door does
  beta1, beta2 = small_llama.BETAS
  return loop.Trainer(
    objective=objectives.NextToken(model, vocabulary),
    feed=feed,
    optimizer=optimizers.OptimizerConfig(
      learning_rate=small_llama.LEARNING_RATE,
      beta1=beta1,
      beta2=beta2,
      weight_decay=small_llama.WEIGHT_DECAY,
      clip=small_llama.CLIP,
    ),
    config=loop.LoopConfig(steps=1_000_000, spikes=None),
    mesh=mesh_lib.MeshConfig().build(jax.devices()[:1]),
  )


def turns(step: Callable[[int], float], steps: int) -> Callable[..., Any]:
  """A handler: turn `number`, `steps` steps one after the other → losses."""

  def turn(number: int) -> list[float]:
    return [step(number * steps + offset) for offset in range(steps)]

  return side_by_side.timed(turn)


def one_step(found: Any, state: Any, number: int) -> tuple[Any, float]:
  """(variables and optimizer after a step of the Trainer, its loss)."""
  import jax

  with jax.set_mesh(found.mesh):
    *state, metrics = found.step(*state, found.device_batch(number))
    total, weight = jax.block_until_ready(metrics['loss'])
  return state, float(total) / float(weight)


class Ours:
  """The Trainer's compiled step."""

  def __init__(self, feed: Any, size: str, folder: pathlib.Path):
    import jax

    model, vocabulary = small_llama.ours(size, remat=small_llama.REMAT)
    self._trainer = trainer(model, vocabulary, feed)
    with jax.set_mesh(self._trainer.mesh):
      variables = self._trainer.fresh_variables()
      small_llama.write(model.config.transformer, variables, folder)
      self._state = variables, self._trainer.optimizer_state(variables)

  def step(self, number: int) -> float:
    """One step; its loss."""
    self._state, loss = one_step(self._trainer, self._state, number)
    return loss


class Peer:
  """transformers and torch."""

  def __init__(self, feed: Any, folder: pathlib.Path, threads: int):
    import torch

    self._torch = torch
    self._feed = feed
    self._model = small_llama.peer(folder, threads).train()
    self._optimizer = small_llama.peer_optimizer(self._model)

  def step(self, number: int) -> float:
    """One step; its loss."""
    torch = self._torch
    batch = self._feed.batch(number)
    segments = batch['segment_ids']
    first = np.ones(segments.shape, bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    packed = bool((segments != 1).any())
    labels = np.where(first, -100, batch['tokens']).astype(np.int64)
    logits = self._model(
      input_ids=torch.from_numpy(batch['tokens'].astype(np.int64)),
      position_ids=torch.from_numpy(batch['positions'].astype(np.int64)),
      attention_mask=self._mask(segments) if packed else None,
      use_cache=False,
    ).logits
    loss = torch.nn.functional.cross_entropy(
      logits[:, :-1].flatten(0, 1), torch.from_numpy(labels[:, 1:]).flatten()
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self._model.parameters(), small_llama.CLIP)
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)
    return loss.item()

  def _mask(self, segments):
    """Causal inside segments, additive (B, 1, T, T)."""
    torch = self._torch
    ids = torch.from_numpy(segments)
    T = ids.shape[1]
    seen = (ids[:, None, :, None] == ids[:, None, None, :]) & torch.ones(
      T, T, dtype=torch.bool
    ).tril()
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo().min)


def agreement(answers: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
  """First losses, their difference, and the largest difference of all steps.

  Raises:
    SystemExit: The first losses differ by more than 1e-4.
  """
  losses = {
    side: np.ravel([a['value'] for a in given]).tolist()
    for side, given in answers.items()
  }
  found = {f'{side}_first_loss': values[0] for side, values in losses.items()}
  if 'peer' in losses:
    apart = np.abs(np.subtract(losses['ours'], losses['peer']))
    found['first_losses_differ_by'] = float(apart[0])
    found['losses_differ_by_at_most'] = float(apart.max())
    if not apart[0] <= AGREE:
      raise SystemExit(
        f'the first losses are {losses["ours"][0]} and {losses["peer"][0]}, '
        f'expected to agree to {AGREE}: the sides do not compute the same.'
      )
  return found


def main() -> None:
  parser = side_by_side.parser(__doc__)
  parser.add_argument('--size', choices=('25M', '100M'), default='25M')
  parser.add_argument('--batch', type=int, help='rows of a step')
  parser.add_argument('--length', type=int, help='tokens of a row')
  parser.add_argument(
    '--turn', type=int, default=4, help='steps a turn of one side'
  )
  parser.add_argument('--packed', action='store_true', help='ragged documents')
  arguments = parser.parse_args()
  size = 'tiny' if arguments.tiny else arguments.size
  shape = (
    arguments.batch or ROWS[size][0],
    arguments.length or ROWS[size][1],
  )
  feed = Feed(size, arguments.packed, shape)
  if arguments.side:
    side = (
      Ours(feed, size, arguments.folder)
      if arguments.side == 'ours'
      else Peer(feed, arguments.folder, arguments.threads)
    )
    side_by_side.serve({'step': turns(side.step, arguments.turn)})
    return
  _compare(arguments, size, shape)


def _compare(arguments: argparse.Namespace, size: str, shape) -> None:
  with tempfile.TemporaryDirectory() as folder:
    workers = side_by_side.workers(arguments, pathlib.Path(folder))
    answers = side_by_side.interleaved(
      workers, 'step', arguments.rounds, warm=1
    )
    for worker in workers.values():
      worker.close()
  model, _ = small_llama.ours(size)
  config = model.config.transformer
  flops = shape[0] * shape[1] * config.flops_per_token(shape[1])
  result = {
    'benchmark': 'train_step',
    'size': size,
    'parameters': config.parameters,
    'rows': shape[0],
    'row_length': shape[1],
    'packed': arguments.packed,
    'model_gflops_per_step': round(flops / 1e9, 1),
    **agreement(answers),
    'steps_per_turn': arguments.turn,
    **side_by_side.compared(answers, warm=1),
    'must': 1.0,
    'machine': side_by_side.machine(arguments.threads),
    'versions': side_by_side.versions(),
  }
  print(json.dumps(result))


if __name__ == '__main__':
  main()
