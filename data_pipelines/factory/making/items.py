"""What is to be said by whom: texts and the voices that are there.

Who says a text, how fast, and with which seed follows from the recipe's seed
and the item's id, whatever else is made. Nothing is written here.
"""

import dataclasses
import os
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import line as line_lib
from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.factory.making import grades as grades_lib
from data_pipelines.factory.texts import source as source_lib
from data_pipelines.factory.texts import writing
from data_pipelines.synthesis import plan
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.audio.augmentation import chain as chain_lib
from step_audio_jax.storage import digests
from step_audio_jax.styles import markup

# What stands before the gates.
TEXT, WRITER = source_lib.GATES
LEAK, VOICE = 'leak', 'voice'
EDIT = 'edit'  # and behind them, of groups
TRAIN = source_lib.TRAIN


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How speech is made of texts.

  Attributes:
    seed: With an item's id it decides everything.
    times: How often each text is said, each time drawn anew.
    rates: Lowest and highest; 1 is the voice's own.
    chain: What the speech goes through.
    gates: What it must pass behind that.
    leaks: What counts as a leak of a test split.
    grades: Levels that each text is also said at.
    writers: Who writes more texts than those that are given.
  """

  seed: int = 0
  times: int = 1
  rates: tuple[float, float] = (0.9, 1.1)
  chain: chain_lib.Chain = chain_lib.Chain()
  gates: line_lib.Gates = line_lib.Gates()
  leaks: held_out_lib.Rules = held_out_lib.Rules()
  grades: grades_lib.Grades = grades_lib.Grades()
  writers: tuple[writing.Writer, ...] = ()

  def __post_init__(self):
    errors.at_least_one('making', self, ('times',))
    writing.check_names(self.writers)
    if type(self.seed) is not int or self.seed < 0:
      raise errors.UserError(
        f'making: seed: found {self.seed!r}, expected a whole number from 0 on.'
      )
    if len(self.rates) != 2 or not 0.5 <= self.rates[0] <= self.rates[1] <= 2:
      raise errors.UserError(
        f'making: rates: found {self.rates!r}, expected (lowest, highest) from '
        '0.5 to 2.'
      )

  @property
  def settings(self) -> dict[str, Any]:
    """What decides its speech, JSON-able."""
    written = {one.name: one.settings for one in self.writers}
    return {
      'seed': self.seed,
      'times': self.times,
      'rates': list(self.rates),
      'chain': {
        'seed': self.chain.seed,
        'steps': [_described_step(step) for step in self.chain.steps],
      },
      'gates': [_described(gate) for gate in self.gates.gates],
      'stop_early': self.gates.stop_early,
      'leaks': dataclasses.asdict(self.leaks),
      **({'grades': dataclasses.asdict(self.grades)} if self.grades else {}),
      **({'writers': written} if written else {}),
    }


@dataclasses.dataclass(frozen=True)
class Item:
  """One text that one voice is to say.

  Attributes:
    line: How it is said.
    text: As the manifest has it.
    source: Id of the line that the text is of, or was made of.
    writer: Who wrote it, a name of `Planned.writers`; '' of corpora.
    answer: Digest of what was asked and answered; '' of corpora.
    group: Id of the neutral one of its group; '' where there are no groups.
    marked: The text with tags of how it is said; '' of a neutral one.
    place: Character before which pauses of the group are; 0 where it has none.
  """

  line: plan.Line
  text: str
  source: str
  writer: str = ''
  answer: str = ''
  group: str = ''
  marked: str = ''
  place: int = 0

  @property
  def spans(self) -> tuple[markup.Span, ...]:
    """What is said, in its style."""
    return (
      markup.parse(self.marked) if self.marked else (markup.Span(self.text),)
    )

  def to_json(self) -> dict[str, Any]:
    """All that decides it."""
    told = dataclasses.asdict(self)
    left_out = () if self.writer else ('writer', 'answer')
    if not self.group:
      left_out = (*left_out, 'group', 'place')
      left_out = (*left_out, *(() if self.marked else ('marked',)))
    for name in left_out:
      del told[name]
    return told


@dataclasses.dataclass(frozen=True)
class Planned:
  """What a job is to make.

  Attributes:
    items: In the manifest's order.
    refused: Lines of the quarantine, of what is not even said.
    is_checked: Whether the items were held against test splits.
    writers: Who wrote texts, JSON-able, by name.
  """

  items: list[Item]
  refused: list[dict[str, Any]]
  is_checked: bool = False
  writers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def plan_items(
  texts: source_lib.Source | Sequence[str | os.PathLike],
  recipe: Recipe,
  voices: Sequence[voice_lib.Voice],
  held_out: held_out_lib.HeldOut | None = None,
  most: int | None = None,
) -> Planned:
  """Who says which text.

  Args:
    texts: A source of them; or corpora, whose texts of `train` are said.
    recipe: How.
    voices: Who; speakers that are held out for tests say nothing.
    held_out: What nothing may be made of.
    most: So many texts of corpora at most.

  Raises:
    UserError: As of `Source.read`; there is no text, or an id is in two.
  """
  if not hasattr(texts, 'read'):
    texts = source_lib.Corpora(texts, most)
  cast = [one for one in speakers.cast(voices) if not one.held_out]
  items, refused, seen = [], [], set()
  for text in texts.read():
    if text.id in seen:
      raise errors.UserError(
        f'--texts: id {text.id!r} occurs twice; name corpora whose ids differ.'
      )
    seen.add(text.id)
    if isinstance(text, source_lib.Refused):
      refused.append(refusal(text.id, text.gate, text.outcome, text.reason))
      continue
    speaks = [one for one in cast if text.language in one.languages]
    if text.language not in espeak.USUAL_RATES or not speaks:
      reason = f'language: no voice here speaks {text.language!r}.'
      refused.append(refusal(text.id, VOICE, base.UNMEASURED, reason))
      continue
    for time in range(recipe.times):
      name = text.id if recipe.times == 1 else f'{text.id}.{time}'
      items.append(_drawn(name, text, recipe, speaks))
  writers = texts.writers()
  if not seen:
    raise errors.UserError(f'--texts: no text of {TRAIN!r} in {texts.name()}.')
  if held_out is None:
    items = _graded(items, recipe.grades, refused)
    return Planned(items, refused, writers=writers)
  lines = [
    held_out_lib.Line(item.line.id, item.text, item.line.voice)
    for item in items
  ]
  kept = []
  for item, leak in zip(items, held_out.find(lines)):
    if leak is None:
      kept.append(item)
    else:
      refused.append(refusal(leak.id, LEAK, base.FAILED, leak.sentence()))
  kept = _graded(kept, recipe.grades, refused)
  return Planned(kept, refused, is_checked=True, writers=writers)


def refusal(name: str, gate: str, outcome: str, reason: str) -> dict[str, Any]:
  """A line of the quarantine, of what never came before the gates."""
  verdict = base.Verdict(gate, outcome, None, reason)
  return line_lib.Report(name, (verdict,)).quarantine()


def _drawn(name, text, recipe, speaks) -> Item:
  rng = np.random.default_rng([recipe.seed, digests.number(name)])
  speaker = speaks[int(rng.integers(len(speaks)))]
  rate = float(rng.uniform(*recipe.rates))
  spaceless = languages.is_spaceless(text.language, text.text)
  line = plan.Line(
    id=name,
    split=TRAIN,
    language=text.language,
    words=(text.text,) if spaceless else tuple(text.text.split()),
    voice=speaker.name,
    rate=round(rate * espeak.USUAL_RATES[text.language]),
    pitch=50,
    seed=int(rng.integers(2**31 - 2)),
  )
  return Item(
    *(line, text.text, text.source, text.writer, text.answer),
    marked=text.marked,
  )


def _graded(items, grades, refused) -> list[Item]:
  """Each item with all its levels behind it; tells what cannot be said."""
  if not grades:
    return items
  names, found = {item.line.id for item in items}, []
  for item in items:
    if item.marked:  # it has a style of its own
      found.append(item)
      continue
    group, place = item.line.id, _place(item)
    item = dataclasses.replace(item, group=group, place=place)
    found.append(item)
    for axis, level in grades.levels():
      name = grades_lib.name_of(group, axis, level)
      if name in names:
        raise errors.UserError(
          f'--texts: id {name!r} is that of a level of {group!r}, too; name '
          'corpora whose ids differ.'
        )
      if axis == 'pause' and not place:
        reason = 'pause: found no second word, expected spaces between words.'
        refused.append(refusal(name, VOICE, base.UNMEASURED, reason))
        continue
      marked = grades_lib.marked(item.text, axis, level, place)
      line = dataclasses.replace(item.line, id=name)
      found.append(dataclasses.replace(item, line=line, marked=marked))
  return found


def _place(item: Item) -> int:
  """The character that a word behind the first begins with, drawn; else 0."""
  words = item.line.words
  if len(words) < 2:
    return 0
  rng = np.random.default_rng([item.line.seed, 1])
  return len(' '.join(words[: int(rng.integers(1, len(words)))])) + 1


def _described_step(step: chain_lib.Step) -> dict[str, Any]:
  found = {'probability': step.probability, **step.operation.to_json()}
  pool = getattr(step.operation, 'pool', None)
  if pool is not None:  # which recordings are drawn follows from all names
    found['pool_names'] = digests.of_value(list(pool.names()))
  return found


def _described(gate: base.Gate) -> dict[str, Any]:
  found: dict[str, Any] = {'gate': type(gate).__name__}
  for field in dataclasses.fields(gate):
    value = getattr(gate, field.name)
    found[field.name] = _identity(value) if callable(value) else value
  return found


def _identity(function: Callable[..., Any]) -> Mapping[str, Any] | str:
  """What a recogniser says of itself; of a plain function its name."""
  told = getattr(function, 'identity', None)
  if told is not None:
    return told
  kind = function if hasattr(function, '__qualname__') else type(function)
  return f'{kind.__module__}.{kind.__qualname__}'
