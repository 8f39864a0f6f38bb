"""Instructions that a program can verify: the 25 types of IFEval.

    followed(answer, 'length_constraints:number_words',
             {'num_words': 100, 'relation': 'at least'})

Zhou et al., arXiv 2311.07911. Names and arguments are those of its data, so
that its files (and VoiceBench's subset) are read as they are; the checks are
ours. What they do otherwise: a keyword is a text, not a regular expression;
sentences, words in capitals and languages are told by our own rules, and where
no language can be told there is no verdict; an argument that is missing gives
none either, where the original draws one by chance.

Loose is the original's: an instruction is also followed if it is without the
first line, the last line, both, or without asterisks.
"""

from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.judges import verdicts
from step_audio_jax.evaluation.judges.instructions import content
from step_audio_jax.evaluation.judges.instructions import form

CHECKS = {**content.CHECKS, **form.CHECKS}
UNKNOWN, NO_ARGUMENT = 'unknown_instruction', 'no_argument'

Verdict = verdicts.Verdict


def followed(
  answer: str, name: str, arguments: Mapping[str, Any], loose: bool = False
) -> Verdict:
  """Whether an answer follows one instruction.

  Args:
    answer: What was said.
    name: Of the type, `keywords:existence`.
    arguments: Of the instruction; those that are null are none.
    loose: Whether a form of the answer without its frame will do.

  Returns:
    1 or 0; or why it cannot be told.
  """
  if not answer.strip():
    return Verdict(0.0, verdicts.NO_ANSWER)
  if name not in CHECKS:
    return Verdict(None, UNKNOWN)
  given = {key: one for key, one in arguments.items() if one is not None}
  kind = ''
  for text in _forms(answer) if loose else [answer]:
    if not text.strip():
      continue
    try:
      if CHECKS[name](text, given):
        return Verdict(1.0)
    except content.UnknownLanguageError:
      kind = kind or content.UNKNOWN_LANGUAGE
    except (KeyError, TypeError, AttributeError, ValueError):
      return Verdict(None, NO_ARGUMENT)
  return Verdict(None, kind) if kind else Verdict(0.0)


def verdict(row: Mapping[str, Any], loose: bool = False) -> Verdict:
  """Whether all instructions of a row are followed.

  Args:
    row: With `answer` and `instructions`, (name, arguments) each.
    loose: As `followed`.

  Raises:
    UserError: The row has no instructions.
  """
  each = verdicts_of(row, loose)
  if any(one.value == 0 for one in each):  # whatever the others are
    kind = verdicts.NO_ANSWER if each[0].kind == verdicts.NO_ANSWER else ''
    return Verdict(0.0, kind)
  for one in each:
    if one.value is None:
      return one
  return Verdict(1.0)


def verdicts_of(row: Mapping[str, Any], loose: bool = False) -> list[Verdict]:
  """A verdict on each instruction of a row; arguments as `verdict`."""
  found = row.get('instructions')
  if not found:
    raise errors.UserError(
      f'row {row.get("id")!r:.60}: instructions: found none, expected (name, '
      'arguments) each.'
    )
  said = verdicts.answer(row)
  return [followed(said, name, given or {}, loose) for name, given in found]


def rates(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
  """IFEval's four figures, as `verdicts.rates` of each.

  Returns:
    `prompt_strict` and `prompt_loose`, of rows with all instructions followed;
    `instruction_strict` and `instruction_loose`, of instructions.
  """
  found = {}
  for way, loose in (('strict', False), ('loose', True)):
    found[f'prompt_{way}'] = verdicts.rates([verdict(r, loose) for r in rows])
    found[f'instruction_{way}'] = verdicts.rates(
      [one for row in rows for one in verdicts_of(row, loose)]
    )
  return found


def _forms(answer: str) -> list[str]:
  lines = answer.split('\n')
  some = [lines, lines[1:], lines[:-1], lines[1:-1]]
  texts = [answer, *('\n'.join(one).strip() for one in some[1:])]
  return texts + [text.replace('*', '') for text in texts]
