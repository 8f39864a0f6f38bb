"""Greedy decoding with a key/value cache on CPU, against transformers.

    python benchmarks/training/decode.py --batch=1
    python benchmarks/training/decode.py --batch=8

The 25M Llama of `train_step.py`, float32: prompts of 128 ids, 256 new ones, the
same weights and prompts on both sides, and the ids must be equal to the last
one. Ours is `generation.decode.generate`, the peer `model.generate` with its
default cache. A measurement is one whole call, prefill included; calls
alternate, and the ratio is the median over pairs of peer seconds / our seconds.
Needs requirements/parity.txt; prints one JSON line.
"""

import argparse
import json
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks import small_llama  # noqa: E402

SHAPES = {'25M': (128, 256), 'tiny': (8, 12)}


def prompts(number: int, size: str, batch: int) -> np.ndarray:
  """Ids (batch, prompt length) of a round."""
  vocab = small_llama.SIZES[size]['vocab_size']
  rng = np.random.default_rng(number)
  return rng.integers(70, vocab, (batch, SHAPES[size][0]))


class Ours:
  """Our compiled prefill and decoding loop."""

  def __init__(self, size: str, batch: int, folder: pathlib.Path):
    from flax import linen as nn
    import jax
    import jax.numpy as jnp

    from step_audio_jax import memory
    from step_audio_jax.generation import grammar

    memory.keep_freed()  # as the doors do
    self._size, self._batch = size, batch
    self._model, vocabulary = small_llama.ours(size)
    variables = jax.jit(self._model.init)(
      jax.random.key(0), jnp.ones((1, 4), jnp.int32)
    )
    self._variables = small_llama.scaled(nn.meta.unbox(variables))
    small_llama.write(self._model.config.transformer, self._variables, folder)
    self._grammar = grammar.build(vocabulary)

  def generate(self, number: int) -> list[list[int]]:
    """New ids of each row."""
    from step_audio_jax.generation import decode

    new = SHAPES[self._size][1]
    found = decode.generate(
      self._model,
      self._variables,
      prompts(number, self._size, self._batch).tolist(),
      max_new_tokens=new,
      grammar=self._grammar,
      stop_ids=(),
      shapes=decode.Shapes(batch_size=self._batch),
    )
    return [row.tolist() for row in found]


class Peer:
  """transformers.generate."""

  def __init__(self, size: str, batch: int, folder: pathlib.Path, threads: int):
    self._size, self._batch = size, batch
    self._model = small_llama.peer(folder, threads).eval()

  def generate(self, number: int) -> list[list[int]]:
    """New ids of each row."""
    import torch

    length, new = SHAPES[self._size]
    ids = torch.from_numpy(prompts(number, self._size, self._batch))
    with torch.inference_mode():
      found = self._model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
      )
    return found[:, length:].tolist()


def agreement(answers: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
  """Whether every id of every round is equal.

  Raises:
    SystemExit: One is not.
  """
  ours = [a['value'] for a in answers['ours']]
  found = {'distinct_ids': len({i for rows in ours for r in rows for i in r})}
  if 'peer' in answers:
    theirs = [a['value'] for a in answers['peer']]
    equal = float(np.mean(np.asarray(ours) == np.asarray(theirs)))
    found['equal_ids'] = equal
    if equal < 1:
      raise SystemExit(
        f'{equal:.1%} of the ids are equal, expected all: the sides do not '
        'compute the same.'
      )
  return found


def measured(
  arguments: argparse.Namespace,
  size: str,
  ours: type[Ours],
  peer: type[Peer],
) -> dict[str, list[dict[str, Any]]] | None:
  """Answers of both sides, by turns; None in the child that plays a side."""
  if arguments.side:
    side = (
      ours(size, arguments.batch, arguments.folder)
      if arguments.side == 'ours'
      else peer(size, arguments.batch, arguments.folder, arguments.threads)
    )
    side_by_side.serve({'generate': side_by_side.timed(side.generate)})
    return None
  with tempfile.TemporaryDirectory() as folder:
    workers = side_by_side.workers(arguments, pathlib.Path(folder))
    answers = side_by_side.interleaved(workers, 'generate', arguments.rounds)
    for worker in workers.values():
      worker.close()
  return answers


def main() -> None:
  parser = side_by_side.parser(__doc__)
  parser.add_argument('--batch', type=int, default=1, help='rows at a time')
  arguments = parser.parse_args()
  size = 'tiny' if arguments.tiny else '25M'
  answers = measured(arguments, size, Ours, Peer)
  if answers is None:
    return
  result = {
    'benchmark': 'decode',
    'size': size,
    'batch': arguments.batch,
    'prompt': SHAPES[size][0],
    'new_ids': SHAPES[size][1],
    **agreement(answers),
    **side_by_side.compared(answers),
    'must': 2.0,
    'machine': side_by_side.machine(arguments.threads),
    'versions': side_by_side.versions(),
  }
  for side in answers:
    seconds = result[f'{side}_seconds']['median']
    rate = arguments.batch * SHAPES[size][1] / seconds
    result[f'{side}_ids_per_second'] = round(rate, 1)
  print(json.dumps(result))


if __name__ == '__main__':
  main()
