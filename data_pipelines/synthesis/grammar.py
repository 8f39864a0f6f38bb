"""The quickstart's small language: a few words of English and of Mandarin.

Sentences are short, lower case and without punctuation, so that a model of a
million parameters can learn to hear and to say them within minutes. They are
correct, and English words are those that a recogniser which expects anything
still tells apart when the sound is blurred: "this" becomes "the", "shoe"
"shoot", "wants" "once", "sees" "is", and "a" is lost.
"""

import dataclasses
from typing import Callable, TypeVar

import numpy as np

from step_audio_jax import errors

Drawn = TypeVar('Drawn')
_VAIN = 1000  # draws that give nothing new, before it is given up


@dataclasses.dataclass(frozen=True)
class Grammar:
  """Word classes and the patterns that put them in order.

  Attributes:
    language: `en` or `zh`.
    joint: What stands between words in the written text.
    classes: Words by the name of their class.
    patterns: Sequences of class names with their weights.
  """

  language: str
  joint: str
  classes: dict[str, tuple[str, ...]]
  patterns: tuple[tuple[tuple[str, ...], float], ...]

  @property
  def words(self) -> list[str]:
    """All words, each once."""
    return sorted({word for words in self.classes.values() for word in words})

  @property
  def size(self) -> int:
    """How many sentences there are at most."""
    return sum(
      int(np.prod([len(self.classes[name]) for name in pattern]))
      for pattern, _ in self.patterns
    )

  def draw(self, rng: np.random.Generator) -> tuple[str, ...]:
    """One sentence as its words."""
    weights = np.array([weight for _, weight in self.patterns])
    place = rng.choice(len(weights), p=weights / weights.sum())
    return tuple(
      self.classes[name][rng.integers(len(self.classes[name]))]
      for name in self.patterns[place][0]
    )

  def draw_unique(
    self, rng: np.random.Generator, count: int, exclude: set[str] = frozenset()
  ) -> list[tuple[str, ...]]:
    """`count` different sentences, none of them written as one of `exclude`.

    Raises:
      UserError: The grammar has not that many.
    """
    seen = set(exclude)
    if count + len(seen) > 0.7 * self.size:
      raise errors.UserError(
        f'{self.language}: {count} sentences beside {len(seen)} others are '
        f'too many for a grammar of {self.size}; ask for fewer.'
      )
    return unique(lambda: self.draw(rng), self.joint.join, count, seen)


def unique(
  draw: Callable[[], Drawn],
  written: Callable[[Drawn], str],
  count: int,
  seen: set[str],
) -> list[Drawn]:
  """`count` things that are written differently.

  Args:
    draw: Draws one.
    written: How it is written.
    count: How many.
    seen: What none of them may be written as; all of them are added to it.

  Raises:
    UserError: Nothing new was drawn for long.
  """
  found, vain = [], 0
  while len(found) < count:
    one = draw()
    text = written(one)
    if text in seen:
      vain += 1
      if vain > _VAIN:
        raise errors.UserError(
          f'{count} different ones like {text!r} are too many beside '
          f'{len(seen) - len(found)} others; ask for fewer.'
        )
      continue
    vain = 0
    seen.add(text)
    found.append(one)
  return found


ENGLISH = Grammar(
  language='en',
  joint=' ',
  classes={
    'determiner': ('the', 'my', 'your', 'that'),
    'adjective': ('big', 'red', 'old', 'green', 'blue', 'little'),
    'who': ('cat', 'bird', 'horse', 'man', 'woman', 'boy', 'girl', 'brother'),
    'verb': (
      'has',
      'likes',
      'loves',
      'opens',
      'finds',
      'takes',
      'holds',
      'brings',
    ),
    'thing': (
      'cup',
      'book',
      'box',
      'door',
      'chair',
      'clock',
      'table',
      'window',
    ),
    'adverb': ('now', 'today'),
  },  # fmt: skip
  patterns=(
    (('determiner', 'who', 'verb', 'determiner', 'thing'), 0.6),
    (
      ('determiner', 'who', 'verb', 'determiner', 'adjective', 'thing'),
      0.15,
    ),
    (
      ('determiner', 'adjective', 'who', 'verb', 'determiner', 'thing'),
      0.1,
    ),
    (
      ('determiner', 'who', 'verb', 'determiner', 'thing', 'adverb'),
      0.15,
    ),
  ),
)

MANDARIN = Grammar(
  language='zh',
  joint='',
  classes={
    'time': ('今天', '现在'),
    'who': ('小猫', '老师', '妈妈', '朋友', '孩子', '我'),
    'verb': ('喜欢', '看见', '有', '买', '吃'),
    'adjective': ('红', '大', '白', '新'),
    'thing': ('苹果', '花', '书', '水', '茶', '鱼', '门'),
  },
  patterns=(
    (('who', 'verb', 'thing'), 0.1),
    (('who', 'verb', 'adjective', 'thing'), 0.5),
    (('time', 'who', 'verb', 'thing'), 0.2),
    (('time', 'who', 'verb', 'adjective', 'thing'), 0.2),
  ),
)

GRAMMARS = {grammar.language: grammar for grammar in (ENGLISH, MANDARIN)}
