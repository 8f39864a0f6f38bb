"""Continuous batching against one request after the other, and transformers.

    python benchmarks/dialogue/engine.py --size=100M --requests=16

A Llama of `small_llama.py`, float32, greedy, on CPU: requests with prompts of 8
to 128 ids that each want 64 new ones. `together`: all are given to an engine
(`generation.batching`) at once. `alone`: the same engine is given each when the
one before has ended. The peer (requirements/parity.txt) is
`transformers.generate`, one request after the other, as a server without
batching does. The ids of all sides must be equal. Rounds alternate; figures are
medians of new ids a second. Prints one JSON line.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import threading
import time

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks import small_llama  # noqa: E402

NEW, FIRST = 64, 70


def prompts(count: int, vocab: int, number: int) -> list[list[int]]:
  """Ragged prompts of a round."""
  rng = np.random.default_rng(number)
  lengths = np.exp(rng.uniform(np.log(8), np.log(129), count)).astype(int)
  return [rng.integers(FIRST, vocab, int(n)).tolist() for n in lengths]


class Ours:
  """The engine, with a slot for each request."""

  def __init__(self, size: str, folder: pathlib.Path, slots: int):
    """Builds and warms up."""
    import jax
    import jax.numpy as jnp

    from step_audio_jax.generation import restore
    from step_audio_jax.generation.batching import engine

    model, vocabulary = small_llama.ours(size)
    variables = jax.jit(model.init)(
      jax.random.key(0), jnp.zeros((1, 8), jnp.int32)
    )
    variables = small_llama.scaled(_unboxed(variables))
    small_llama.write(model.config.transformer, variables, folder)
    self._engine = engine.Engine(
      restore.unroll_layers(model),
      variables,
      vocabulary,
      engine.Settings(slots=slots, places=256, kept_bytes=0),
    )
    began = time.monotonic()
    self._engine.warm_up()
    self.warm_seconds = time.monotonic() - began

  def request(self, ids):
    """One that wants `NEW` ids, whatever they are."""
    from step_audio_jax.generation import grammar
    from step_audio_jax.generation.batching import engine

    return engine.Request(ids, NEW, (), state=grammar.State.FREE)

  def together(self, asked):
    """All at once."""
    found = [[] for _ in asked]
    over = [threading.Event() for _ in asked]
    for ids, out, end in zip(asked, found, over, strict=True):
      self._engine.submit(
        self.request(ids), out.extend, lambda *_, end=end: end.set()
      )
    for end in over:
      end.wait()
    return found

  def alone(self, asked):
    """One after the other."""
    return [self._engine.run(self.request(ids)) for ids in asked]

  def close(self) -> None:
    """Ends the engine."""
    self._engine.close()


def _unboxed(variables):
  from flax import linen as nn

  return nn.meta.unbox(variables)


def peer(folder: pathlib.Path, threads: int):
  """(prompts) → new ids of each, by `transformers.generate`."""
  import torch

  model = small_llama.peer(folder, threads)

  def answer(asked):
    found = []
    for ids in asked:
      with torch.inference_mode():
        made = model.generate(
          torch.tensor([ids]),
          max_new_tokens=NEW,
          min_new_tokens=NEW,
          do_sample=False,
          eos_token_id=None,
          pad_token_id=0,
        )
      found.append(made[0, len(ids) :].tolist())
    return found

  return answer


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--size', default='100M', choices=small_llama.SIZES)
  parser.add_argument('--requests', type=int, default=16)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--threads', type=int, default=2)
  parser.add_argument('--no_peer', action='store_true', help='no torch needed')
  arguments = parser.parse_args()
  vocab = small_llama.SIZES[arguments.size]['vocab_size']
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    ours = Ours(arguments.size, folder, arguments.requests)
    sides = {'together': ours.together, 'alone': ours.alone}
    if not arguments.no_peer and side_by_side.has_peer():
      sides['peer'] = peer(folder, arguments.threads)
    speeds = {side: [] for side in sides}
    for number in range(arguments.rounds):
      asked = prompts(arguments.requests, vocab, number)
      given = {}
      for side, answer in sides.items():
        began = time.monotonic()
        given[side] = answer(asked)
        took = time.monotonic() - began
        speeds[side].append(NEW * len(asked) / took)
      equal = [one == given['together'] for one in given.values()]
      if not all(equal):
        raise SystemExit('the sides do not give the same ids.')
    ours.close()
  medians = {side: statistics.median(one) for side, one in speeds.items()}
  ratios = {
    side: round(
      statistics.median(
        a / b for a, b in zip(speeds['together'], speeds[side], strict=True)
      ),
      2,
    )
    for side in sides
    if side != 'together'
  }
  print(
    json.dumps(
      {
        'benchmark': 'continuous_batching',
        'size': arguments.size,
        'requests': arguments.requests,
        'ids_per_second': {k: round(v, 1) for k, v in medians.items()},
        'times_as_fast_as': ratios,
        'must': {'alone': 4.0, 'peer': 3.0},
        'warm_up_seconds': round(ours.warm_seconds, 1),
        'machine': side_by_side.machine(arguments.threads),
        'versions': side_by_side.versions(),
      }
    )
  )


if __name__ == '__main__':
  main()
