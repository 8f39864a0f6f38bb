"""More prompts than rows: rows that are never idle while prompts wait.

The first prompts begin together. As rows end, prompts that wait take their
places, some at a time; when none waits, the batch shrinks with the rows that
are left. Prompts come in order of length, and the ring is as long as the rows
that are in it need by now, not as they may come to need: a turn reads all of
it, and few answers are as long as they may be.
"""

import collections
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np

from step_audio_jax.generation import rows as rows_lib

_FEWEST = 8  # rows; a batch shrinks to no fewer
_SHARE = 8  # one row of so many is free when prompts join
_STEP = 64  # places by which a ring grows, at least
_ROOM = 16  # places of a ring that are free when it is made


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
  lengths: Sequence[int],
  begin: Callable[..., tuple[Any, rows_lib.Joining]],
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
    lengths: Ids of each prompt without its last.
    begin: (numbers, A, places) → the cache of their prompts in A rows and at
      least so many places, and `Joining`; rows that are too many are the first
      prompt again.
    grammar: As `decode.generate_outputs`.
    sampler: The same.
    batch_size: B, rows.
    longest: Ids of an answer at most.
  """
  waiting = collections.deque(order)
  together = max(1, batch_size // _SHARE)
  held: list[int | None] = [waiting.popleft() for _ in range(batch_size)]
  parts: dict[int, list] = {n: [] for n in held}
  # Places that each row has filled.
  filled = {n: lengths[n] for n in held}
  cache, joined = begin(held, batch_size, _ring(max(filled.values())))
  rows = rows_lib.begun(cache, joined, sampler.repetition.reach)
  while filled:
    half = len(held) // 2
    if waiting:
      free = min(together, len(waiting))
    elif half >= _FEWEST:
      free = len(held) - half
    else:
      free = len(held)
    room = _places(rows) - max(filled.values())
    rows, *given = rows_lib.turns(
      model,
      laid,
      rows,
      grammar,
      sampler,
      None,
      np.int32(min(room, longest)),
      np.int32(free),
      N=longest,
    )
    ids_BN, logprobs_BN, counts_B, stopped_B = map(np.asarray, given)
    live_B = np.asarray(rows.live_B)
    for row, number in enumerate(held):
      if number is None:
        continue
      count = counts_B[row]
      filled[number] += int(count)
      parts[number].append((ids_BN[row, :count], logprobs_BN[row, :count]))
      if not live_B[row]:
        held[row] = None
        del filled[number]
        whole = zip(*parts.pop(number), strict=True)
        tokens, logprobs = map(np.concatenate, whole)
        yield Ended(number, tokens, logprobs, bool(stopped_B[row]))
    empty = [row for row, number in enumerate(held) if number is None]
    joining = []
    if len(empty) >= min(together, len(waiting)):
      for _ in range(min(together, len(waiting))):
        joining.append(waiting.popleft())
    filled |= {n: lengths[n] for n in joining}
    chosen = list(range(len(held)))
    if not waiting and not joining and len(filled) <= half >= _FEWEST:
      going = [row for row, number in enumerate(held) if number is not None]
      chosen = (going + empty)[:half]
    least = 0
    if joining:
      cache, joined = begin(joining, together, 0)
      least = cache['positions'].shape[1]
    most = max(filled.values(), default=0)
    rows = _fitting(model, rows, chosen, most, least)
    held = [held[row] for row in chosen]
    if joining:
      # A prompt that is there twice goes twice into one place.
      into = empty[: len(joining)]
      into += [into[0]] * (together - len(joining))
      rows = rows_lib.join(model, rows, cache, joined, np.asarray(into))
      for row, number in zip(into, joining):
        held[row], parts[number] = number, []


def _ring(filled: int) -> int:
  """Places of a ring in which the longest row has filled so many."""
  found = _STEP
  while found < filled + _ROOM:
    found += max(_STEP, found // 4 // _STEP * _STEP)
  return found


def _places(rows: rows_lib.Rows) -> int:
  return rows.cache['positions'].shape[1]


def _fitting(model, rows, chosen, filled: int, least: int) -> rows_lib.Rows:
  """The chosen rows, in a ring that neither is too short nor far too long.

  Args:
    model: As in `run`.
    rows: All rows.
    chosen: Which of them are kept.
    filled: Places that the longest of them has filled.
    least: Places of the ring at least.
  """
  W, wanted = _places(rows), max(_ring(filled), least)
  enough = max(filled + 1, least) <= W <= _ring(wanted)
  if len(chosen) == len(rows.live_B) and enough:
    return rows
  return rows_lib.resized(model, rows, np.asarray(chosen), W=wanted)
