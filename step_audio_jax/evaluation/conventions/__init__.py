"""Scoring conventions by name, and scoring under them.

    from step_audio_jax.evaluation import conventions

    scored = conventions.score('qwen2audio', rows)
    both = conventions.score_all(['wenet', 'kimi'], rows, processes=2)

Rows are (id, reference, hypothesis, language). docs/conventions.md says what
each convention does; the published tools' own output is in tests/golden.
"""

import difflib
from typing import Iterable, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.conventions import audio_llm
from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import leaderboard
from step_audio_jax.evaluation.conventions import plain
from step_audio_jax.evaluation.conventions import recognisers
from step_audio_jax.evaluation.conventions import scorer
from step_audio_jax.evaluation.conventions import synthesis

Convention = base.Convention
Row = base.Row
Scored = base.Scored
Utterance = scorer.Utterance

CONVENTIONS: dict[str, Convention] = {
  convention.name: convention
  for module in (plain, audio_llm, recognisers, leaderboard, synthesis)
  for convention in module.CONVENTIONS
}


def find(name: str) -> Convention:
  """The convention of that name.

  Raises:
    UserError: There is none.
  """
  if name in CONVENTIONS:
    return CONVENTIONS[name]
  near = difflib.get_close_matches(str(name), CONVENTIONS, 1)
  hint = f' (did you mean {near[0]!r}?)' if near else ''
  raise errors.UserError(
    f'convention: found {name!r}{hint}, expected one of '
    f'{", ".join(CONVENTIONS)}.'
  )


def score(
  convention: str | Convention,
  rows: Iterable[Utterance],
  processes: int = 1,
) -> Scored:
  """Utterances under one convention.

  Args:
    convention: Or its name.
    rows: (id, reference, hypothesis, language) of each. A reference or a
      hypothesis that is not there is None; its row is excluded and counted.
    processes: See `score_all`.

  Raises:
    UserError: No convention has that name, or a library is not installed.
  """
  (scored,) = score_all([convention], rows, processes).values()
  return scored


def score_all(
  chosen: Sequence[str | Convention],
  rows: Iterable[Utterance],
  processes: int = 1,
) -> dict[str, Scored]:
  """The same utterances under several conventions.

  Args:
    chosen: Conventions or their names; each once.
    rows: As in `score`.
    processes: More than one share the work, each starting anew: a script that
      calls this needs `if __name__ == '__main__'`.

  Returns:
    Name → what `score` gives.
  """
  found = [find(one) if isinstance(one, str) else one for one in chosen]
  found = list({convention.name: convention for convention in found}.values())
  return scorer.score(found, rows, processes)
