"""Multiple choice that is answered in words: placed by seed, parsed strictly.

    accuracy          share that chooses the right option; what cannot be parsed
                      is wrong
    accuracy_parsed   of those that could be parsed
    unparsed          share that could not; nothing is guessed
    accuracy/CATEGORY of each category

A letter counts alone, in front of its own text or behind words that say so, an
option's text alone or behind such words (`judges.options`). Log-likelihoods of
continuations are another way: `choices`.
"""

import dataclasses
from typing import Any, ClassVar, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import answered
from step_audio_jax.evaluation.benchmarks.answers import questions
from step_audio_jax.evaluation.judges import options as reader
from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import placement
from step_audio_jax.evaluation.judges import rules
from step_audio_jax.evaluation.judges import verdicts
from step_audio_jax.evaluation.metrics import quiz

Item = benchmark.Item

ASKED = {
  'en': 'Answer with the letter of the right option, and nothing else.',
  'zh': '只回答正确选项的字母。',
}
_SHORT = 3  # letters
_PROSE = verdicts.Verdict(None, parsing.PROSE)
_NUMBERS = (
  'zero one two three four five six seven eight nine ten eleven twelve '
  'thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty'
).split()


@dataclasses.dataclass(frozen=True)
class Options(answered.Answered):
  """Base of questions whose options are shown.

  Attributes:
    seed: Of the places of options; None leaves them as they were published.
    prompt: Of a judge that looks at answers as well; '' is none.
    votes: Of the judge; 0 is its own number.
  """

  seed: int | None = 0
  prompt: str = ''
  votes: int = 0

  rule: ClassVar[str] = 'a letter or an option, strictly'

  def item(
    self,
    id: str,
    speech: chats_lib.Speech,
    question: str,
    options: Sequence[str],
    right: str,
    language: str = 'en',
    **about: Any,
  ) -> Item:
    """A question about a recording, its options in the order of the seed.

    Args:
      id: Of the item.
      speech: What is heard.
      question: In writing.
      options: As they were published.
      right: Text of the right one, or its letter.
      language: Of the question.
      **about: Further fields.

    Raises:
      UserError: There are too few options, two are the same, or none is right.
    """
    if not isinstance(options, (list, tuple)) or len(options) < 2:
      raise errors.UserError('choices: missing, expected a list of options.')
    texts = [str(one).strip() for one in options]
    placed = placement.place(id, texts, _place_of(texts, right), self.seed)
    told = ASKED.get(language, ASKED['en'])
    return benchmark.heard(
      id,
      speech,
      placed.options[placement.LETTERS.index(placed.letter)],
      language=language,
      instruction=f'{question}\n{placed.text}\n{told}',
      question=question,
      **{**about, **placed.about},
    )

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base."""
    rows = questions.rows_of(items, said)
    groups = answered.categories(items)
    found = [
      self.verdict(item, {**dict(item.about), **row})
      for item, row in zip(items, rows, strict=True)
    ]
    ruled = answered.by_rule('accuracy', found, self.rule, groups)
    if not self.prompt:
      return ruled
    judged = answered.judged(means, self.prompt, rows, self.votes)
    if isinstance(judged, str):
      lacks = answered.lacking(len(rows), judged, 'judge')
      return answered.joined(ruled, lacks)
    return answered.joined(ruled, answered.by_judge('judge', judged, groups))

  def verdict(self, item: Item, row: dict[str, Any]) -> verdicts.Verdict:
    """Of one answer."""
    del item
    return rules.option(row)


def _place_of(options: Sequence[str], right: str) -> int:
  """Place of the right option, by its text or its letter."""
  folded = [one.casefold() for one in options]
  if right.strip().casefold() in folded:
    return folded.index(right.strip().casefold())
  letter = right.strip('()[]. \n').upper()
  if len(letter) == 1 and letter in placement.LETTERS[: len(options)]:
    return placement.LETTERS.index(letter)
  raise errors.UserError('answer: found none of the choices, expected one.')


@dataclasses.dataclass(frozen=True)
class Spoken(Options):
  """Base of questions whose options are heard, not shown.

  Items have `options` in `about`: letters (with `texts`), words such as yes and
  no, or none, where a number is counted. What is right is the reference. A word
  also counts as the first one of an answer.
  """

  rule: ClassVar[str] = 'a letter, a word or a number, strictly'

  def verdict(self, item: Item, row: dict[str, Any]) -> verdicts.Verdict:
    """Of one answer."""
    names = list(item.about['options'])
    if not names:
      return rules.number(row, normalise=_digits)
    said = row['answer']
    if not said.strip():
      return verdicts.Verdict(0.0, verdicts.NO_ANSWER)
    right = [one.casefold() for one in names].index(
      item.references[0].casefold()
    )
    if all(len(one) == 1 for one in names):
      texts = item.about.get('texts') or [''] * len(names)
      found = reader.chosen(said, texts)
    else:
      found = _word(said, names)
    if found.value is None:
      return found
    return verdicts.Verdict(float(found.value == right))


def _word(said: str, names: Sequence[str]) -> verdicts.Verdict:
  """Place of the word that an answer is, begins with or alone speaks of.

  Short ones, such as `no`, are in too many sentences to be looked for there.
  """
  words, told = [one.casefold() for one in names], quiz.words(said)
  if told and told[0] in words:
    return verdicts.Verdict(float(words.index(told[0])))
  named = {word for word in words if word in told}
  found = reader.chosen(said, words) if named else _PROSE
  if found.value is not None or found.kind == parsing.CONTRADICTORY:
    return found
  long = [word for word in named if len(word) > _SHORT]
  if len(long) > 1:
    return verdicts.Verdict(None, parsing.CONTRADICTORY)
  return verdicts.Verdict(float(words.index(long[0]))) if long else _PROSE


def _digits(text: str) -> str:
  """Numbers up to twenty as digits."""
  return ' '.join(
    str(_NUMBERS.index(bare)) if bare in _NUMBERS else word
    for word in text.split()
    if (bare := word.strip('.,!?;:*').casefold()) is not None
  )
