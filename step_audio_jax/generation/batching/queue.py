"""More prompts than rows: rows that are never idle while prompts wait.

The first prompts begin together. As rows end, prompts that wait take their
places, some at a time; when none waits, the batch shrinks with the rows that
are left. Prompts come in order of length, and the ring is as long as the rows
that are in it need: a turn reads all of it.
"""

import collections
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np

from step_audio_jax.generation.batching import rows as rows_lib

_FEWEST = 8  # rows; a batch shrinks to no fewer
_SHARE = 8  # one row of so many is free when prompts join


class Ended(NamedTuple):
  """What one prompt gave.

  Attributes:
    number: Which prompt.
    tokens: New ids, int32 (n,).
    logprobs: Of each, float32 (n,).
    stopped: Whether a stop id ended it.
  """

  number: int
  tokens: np.ndarray
  logprobs: np.ndarray
  stopped: bool


def can_join(model: Any) -> bool:
  """Whether rows of a model can come and go."""
  return hasattr(model, 'move_cache')


def run(
  model: Any,
  laid: Any,
  order: Sequence[int],
  begin: Callable[..., tuple[Any, rows_lib.Joining]],
  places: Callable[[Sequence[int]], int],
  grammar: Any,
  sampler: Any,
  *,
  batch_size: int,
  longest: int,
) -> Iterator[Ended]:
  """Decodes prompts; each comes out as soon as it has ended.

  Args:
    model: Flax module with the API of `models.language.speech_text`.
    laid: Its variables for decoding.
    order: Numbers of all prompts as they are to begin, more than B.
    begin: (numbers, A, places) → the cache of their prompts in A rows and so
      many places, no more than they need by default, and `Joining`; rows that
      are too many are the first prompt again.
    places: Of a ring in which so many prompts can end.
    grammar: As `decode.generate_outputs`.
    sampler: The same.
    batch_size: B, rows.
    longest: Ids of an answer at most.
  """
  waiting = collections.deque(order)
  together = max(1, batch_size // _SHARE)
  held: list[int | None] = [waiting.popleft() for _ in range(batch_size)]
  found: dict[int, list] = {n: [] for n in held}
  cache, joined = begin(held, batch_size, places(held))
  rows = rows_lib.begun(cache, joined, sampler.repetition.reach)
  needed = {n: places([n]) for n in held}
  while True:
    if waiting:
      free = min(together, len(waiting))
    else:
      half = len(held) // 2
      free = len(held) - half if half >= _FEWEST else len(held)
    rows, *given = rows_lib.turns(
      model,
      laid,
      rows,
      grammar,
      sampler,
      None,
      np.int32(longest),
      np.int32(free),
      N=longest,
    )
    ids_BN, logprobs_BN, counts_B, stopped_B = map(np.asarray, given)
    live_B = np.asarray(rows.live_B)
    for row, number in enumerate(held):
      if number is None:
        continue
      count = counts_B[row]
      found[number].append((ids_BN[row, :count], logprobs_BN[row, :count]))
      if not live_B[row]:
        held[row] = None
        del needed[number]
        tokens, logprobs = map(
          np.concatenate, zip(*found.pop(number), strict=True)
        )
        yield Ended(number, tokens, logprobs, bool(stopped_B[row]))
    if not waiting and not live_B.any():
      return
    empty = [row for row, number in enumerate(held) if number is None]
    if waiting:
      count = min(together, len(waiting))
      joining = [waiting.popleft() for _ in range(count)]
      needed |= {n: places([n]) for n in joining}
      W = rows.cache['positions'].shape[1]
      wanted = max(max(needed.values()), places(joining))
      if wanted > W:
        rows = rows_lib.resized(model, rows, np.arange(len(held)), W=wanted)
      cache, joined = begin(joining, together)
      # A prompt that is there twice goes twice into one place.
      into = empty[:count] + [empty[0]] * (together - count)
      rows = rows_lib.join(model, rows, cache, joined, np.asarray(into))
      for row, number in zip(into, joining):
        held[row], found[number] = number, []
    elif len(held) - len(empty) <= len(held) // 2 >= _FEWEST:
      going = [row for row, number in enumerate(held) if number is not None]
      chosen = (going + empty)[: len(held) // 2]
      W = rows.cache['positions'].shape[1]
      rows = rows_lib.resized(model, rows, np.asarray(chosen), W=W)
      held = [held[row] for row in chosen]
