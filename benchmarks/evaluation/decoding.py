"""Answers to ragged prompts, as evaluations decode them, against transformers.

    python benchmarks/evaluation/decoding.py --batch=32

The 25M Llama of `small_llama.py`, float32, greedy, on CPU: 96 prompts of 8 to
256 ids, answers that end by themselves after any number of ids up to 128, in
batches of `--batch`. The peer is what evaluations with `model.generate` do:
prompts in the order of the set, each batch padded on the left to its longest,
its default cache. Ours is `generation.decode` as `evaluation.benchmarks.asking`
calls it: in order of length, a prompt in the place of each that ends. The ids
of every answer must be equal. Sides alternate; the ratio is the median over
pairs of peer seconds / our seconds. Needs requirements/parity.txt; prints one
JSON line.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks import small_llama  # noqa: E402
from benchmarks.training import decode as even  # noqa: E402

# Prompts, their longest, ids of an answer at most.
SHAPES = {'25M': (96, 256, 128), 'tiny': (6, 12, 8)}
SHORTEST, FIRST = 8, 70
ENDS = 64  # one id of so many ends an answer


def prompts(number: int, size: str) -> list[list[int]]:
  """Ragged prompts of a round: lengths even in their logarithms."""
  count, longest, _ = SHAPES[size]
  vocab = small_llama.SIZES[size]['vocab_size']
  rng = np.random.default_rng(number)
  lengths = np.exp(rng.uniform(np.log(SHORTEST), np.log(longest + 1), count))
  return [rng.integers(FIRST, vocab, int(n)).tolist() for n in lengths]


def ends(size: str) -> list[int]:
  """Ids that end an answer."""
  return list(range(FIRST, small_llama.SIZES[size]['vocab_size'], ENDS))


class Ours(even.Ours):
  """Our compiled prefill and decoding loop."""

  def generate(self, number: int) -> list[list[int]]:
    """New ids of each answer, without what ended it."""
    from step_audio_jax.generation import decode

    outputs = decode.generate(
      self._model,
      self._variables,
      prompts(number, self._size),
      max_new_tokens=SHAPES[self._size][-1],
      grammar=self._grammar,
      stop_ids=ends(self._size),
      shapes=decode.Shapes(batch_size=self._batch),
    )
    return [ids.tolist() for ids in outputs]


class Peer(even.Peer):
  """transformers.generate, batch by batch."""

  def generate(self, number: int) -> list[list[int]]:
    """New ids of each answer, without what ended it."""
    import torch

    new, batch = SHAPES[self._size][-1], self._batch
    asked, stops = prompts(number, self._size), ends(self._size)
    found = []
    for start in range(0, len(asked), batch):
      rows = asked[start : start + batch]
      longest = max(map(len, rows))
      ids = torch.tensor([[0] * (longest - len(r)) + r for r in rows])
      mask = torch.tensor(
        [[0] * (longest - len(r)) + [1] * len(r) for r in rows]
      )
      with torch.inference_mode():
        made = self._model.generate(
          ids,
          attention_mask=mask,
          max_new_tokens=new,
          do_sample=False,
          eos_token_id=stops,
          pad_token_id=stops[0],
        )
      found += [_ended(row, stops) for row in made[:, longest:].tolist()]
    return found


def _ended(row: list[int], stops: list[int]) -> list[int]:
  """Ids in front of the first that ends an answer."""
  ending = set(stops)
  place = next((n for n, one in enumerate(row) if one in ending), len(row))
  return row[:place]


def agreement(answers: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
  """Whether every answer of every round is equal, and how long they are.

  Raises:
    SystemExit: One is not.
  """
  ours = [row for a in answers['ours'] for row in a['value']]
  lengths = [len(row) for row in ours]
  found = {
    'answer_ids': {
      'mean': round(float(np.mean(lengths)), 1),
      'longest': max(lengths),
    }
  }
  if 'peer' in answers:
    theirs = [row for a in answers['peer'] for row in a['value']]
    same = float(np.mean([a == b for a, b in zip(ours, theirs, strict=True)]))
    found['equal_answers'] = same
    if same < 1:
      raise SystemExit(
        f'{same:.1%} of the answers are equal, expected all: the sides do not '
        'compute the same.'
      )
  return found


def main() -> None:
  parser = side_by_side.parser(__doc__)
  parser.add_argument('--batch', type=int, default=32, help='rows at a time')
  arguments = parser.parse_args()
  size, batch = 'tiny' if arguments.tiny else '25M', arguments.batch
  count, longest, new = SHAPES[size]
  answers = even.measured(arguments, size, Ours, Peer)
  if answers is None:
    return
  print(
    json.dumps(
      {
        'benchmark': 'ragged_decoding',
        'size': size,
        'prompts': count,
        'longest_prompt': longest,
        'longest_answer': new,
        'batch': batch,
        **agreement(answers),
        **side_by_side.compared(answers),
        'must': 3.0,
        'machine': side_by_side.machine(arguments.threads),
        'versions': side_by_side.versions(),
      }
    )
  )


if __name__ == '__main__':
  main()
