"""The tags that say how a text is spoken, and what each of them means.

A tag is a name, and a level from 1 to 5 where it compares (`快速2`, `fast 2`).
One spelling is written, that of Step-Audio's release where it has one; many are
read. Tags of one axis exclude each other: none is fast and slow at once.

Whose choice a tag is: *released*, as the prompt of Step-Audio-TTS-3B lists it;
*paper*, as arXiv 2502.11946 (5.1.1) says that it exists, five levels of each
comparing tag; *ours*, where neither has it.
"""

import dataclasses
import difflib
import re
from typing import Iterable, Iterator
import unicodedata

from step_audio_jax import errors

LEVELS = 5  # of a comparing tag
NORMAL = '正常'  # takes back all tags before it; no tag of a style
_NORMAL = frozenset((NORMAL, '普通', 'normal', 'neutral'))
# In the order in which tags are written. What is sung stands first: the release
# looks for it in the first bracket alone. Then the order of its demonstration,
# then what is ours.
KINDS = (
  'song',
  'emotion',
  'language',
  'dialect',
  'speed',
  'pitch',
  'volume',
  'style',
  'pause',
)
_AXES = {'dialect': 'language'}  # of what is no axis of its own
_QUOTES = '"\'“”‘’「」『』`'
_LEVELLED = re.compile(r'(.*?)[\s_-]*(?:level|级|-)?\s*(\d+)(?:\s*级)?')
_BELOW = re.compile(r'(.*\S)\s+[-−]\s*(\d+)')  # `fast -1`, not `fast-1`
# How alike two spellings are that may be meant for each other. A Chinese name
# has two or three characters.
_ALIKE, _ALIKE_WIDE = 0.8, 0.6


@dataclasses.dataclass(frozen=True)
class Name:
  """A tag without its level.

  Attributes:
    name: As it is written.
    english: As it is told to people; may be written, too.
    kind: Of `KINDS`.
    also: More spellings that are read.
    compares: Whether it has levels.
    released: Levels that the release lists; (0,) of a name without levels.
    in_paper: Whether the paper has it.
    sign: −1 of the lower end of an axis.
  """

  name: str
  english: str
  kind: str
  also: tuple[str, ...] = ()
  compares: bool = False
  released: tuple[int, ...] = ()
  in_paper: bool = False
  sign: int = 1

  @property
  def axis(self) -> str:
    """What it says something about; at most one tag of a style does."""
    return _AXES.get(self.kind, self.kind)

  @property
  def usual(self) -> int:
    """The level of who says none: the highest that is released, else 2."""
    return max(self.released, default=2) if self.compares else 0

  @property
  def spellings(self) -> tuple[str, ...]:
    """All that is read as it, without level."""
    return (self.name, self.english, *self.also)


NAMES = (
  Name('RAP', 'rap', 'song', ('说唱', '說唱'), released=(0,), in_paper=True),
  Name(
    *('哼唱', 'humming', 'song'),
    ('singing', '唱歌', '唱'),
    released=(0,),
    in_paper=True,
  ),
  Name(
    *('高兴', 'happy', 'emotion', ('开心', '高興', '快乐')),
    *(True, (1, 2), True),
  ),
  Name(
    *('生气', 'angry', 'emotion', ('愤怒', '生氣')),
    *(True, (1, 2), True),
  ),
  Name(
    *('悲伤', 'sad', 'emotion', ('难过', '伤心', '悲傷')),
    *(True, (1,), True),
  ),
  Name(
    *('撒娇', 'cute', 'emotion', ('coquettish', 'cute voice', '撒嬌', '可爱')),
    *(True, (1,), True),
  ),
  Name('惊讶', 'surprised', 'emotion', ('吃惊', '驚訝'), True),
  Name('害怕', 'afraid', 'emotion', ('fearful', '恐惧'), True),
  Name(
    *('中文', 'chinese', 'language', ('mandarin', '普通话', '国语', '汉语')),
    released=(0,),
  ),
  Name('英文', 'english', 'language', ('英语', '英語'), released=(0,)),
  Name(
    *('韩语', 'korean', 'language', ('韩文', '韓語')),
    released=(0,),
    in_paper=True,
  ),
  Name(
    *('日语', 'japanese', 'language', ('日文', '日語')),
    released=(0,),
    in_paper=True,
  ),
  Name(
    *('四川话', 'sichuanese', 'dialect', ('sichuan', '四川話')),
    released=(0,),
    in_paper=True,
  ),
  Name(
    *('粤语', 'cantonese', 'dialect', ('广东话', '广州话', '粵語', '廣東話')),
    released=(0,),
    in_paper=True,
  ),
  Name(
    *('快速', 'fast', 'speed', ('快', '快语速')),
    *(True, (1, 2), True),
  ),
  Name(
    *('慢速', 'slow', 'speed', ('慢', '慢语速')),
    *(True, (1, 2), True),
    sign=-1,
  ),
  Name('高音', 'high pitch', 'pitch', ('pitch up', '高音调'), True),
  Name('低音', 'low pitch', 'pitch', ('pitch down', '低音调'), True, sign=-1),
  Name('大声', 'loud', 'volume', ('大聲', '高音量'), True),
  Name('小声', 'quiet', 'volume', ('小聲', '轻声', '低音量'), True, sign=-1),
  Name('耳语', 'whisper', 'style', ('whispering', '悄悄话', '耳語')),
  Name('播音', 'newsreader', 'style', ('news', '新闻')),
  Name('讲故事', 'storytelling', 'style', ('story', '講故事')),
  Name('停顿', 'pause', 'pause', ('暂停', '停頓'), True),
)


def _plain(text: str) -> str:
  """A spelling as it is compared: width, case, quotes and spaces aside."""
  text = unicodedata.normalize('NFKC', text).casefold().strip()
  return ' '.join(text.strip(_QUOTES).replace('_', ' ').split())


_BY_NAME = {name.name: name for name in NAMES}
_BY_SPELLING = {
  _plain(spelling): name for name in NAMES for spelling in name.spellings
}


@dataclasses.dataclass(frozen=True)
class Tag:
  """One tag.

  Attributes:
    name: As `Name.name` writes it.
    level: 1 … 5 of a comparing tag, else 0.
  """

  name: str
  level: int = 0

  def __post_init__(self):
    if self.name not in _BY_NAME:
      raise unknown(self.name)
    entry = self.entry
    if entry.compares and not 1 <= self.level <= LEVELS:
      raise errors.UserError(
        f'tag: found ({entry.english} {self.level}), expected a level from 1 '
        f'to {LEVELS}.'
      )
    if not entry.compares and self.level:
      raise _no_levels(entry, self.level)

  @property
  def entry(self) -> Name:
    """What is known of its name."""
    return _BY_NAME[self.name]

  @property
  def axis(self) -> str:
    """`Name.axis`."""
    return self.entry.axis

  @property
  def source(self) -> str:
    """Whose choice it is: 'released', 'paper' or 'ours'."""
    if self.level in self.entry.released:
      return 'released'
    return 'paper' if self.entry.in_paper else 'ours'

  @property
  def english(self) -> str:
    """As it is told to people."""
    return f'{self.entry.english} {self.level or ""}'.strip()

  def __str__(self) -> str:
    return f'{self.name}{self.level or ""}'


@dataclasses.dataclass(frozen=True)
class Style:
  """Tags that hold together.

  Attributes:
    tags: At most one of an axis, in the order of `KINDS`, none of them a pause;
      they may be given in any order.
  """

  tags: tuple[Tag, ...] = ()

  def __post_init__(self):
    held: dict[str, Tag] = {}
    for tag in self.tags:
      if tag.axis == 'pause':
        raise errors.UserError(
          f'style: found ({tag.english}), expected pauses at their places in '
          'the text.'
        )
      other = held.setdefault(tag.axis, tag)
      if other != tag:
        raise contradiction(other, tag)
    ordered = sorted(held.values(), key=lambda tag: KINDS.index(tag.entry.kind))
    object.__setattr__(self, 'tags', tuple(ordered))

  def __bool__(self) -> bool:
    return bool(self.tags)

  def of(self, axis: str) -> Tag | None:
    """The tag of an axis, if there is one."""
    return next((tag for tag in self.tags if tag.axis == axis), None)

  def level(self, axis: str) -> int:
    """The level of an axis, below 0 at its lower end; 0 where none is said."""
    tag = self.of(axis)
    return tag.level * tag.entry.sign if tag else 0

  def changed(self, tags: Iterable[Tag]) -> 'Style':
    """Other tags in place of those of their axes; the rest stays."""
    new = Style(tuple(tags))
    axes = {tag.axis for tag in new.tags}
    kept = tuple(tag for tag in self.tags if tag.axis not in axes)
    return Style((*kept, *new.tags))

  def __str__(self) -> str:
    """The one spelling, `(高兴1)(快速2)`; '' of no tags."""
    return ''.join(f'({tag})' for tag in self.tags)

  @property
  def english(self) -> str:
    """As it is told to people."""
    return ''.join(f'({tag.english})' for tag in self.tags)


def _no_levels(entry: Name, level: int) -> errors.UserError:
  return errors.UserError(
    f'tag: found ({entry.english} {level}), expected ({entry.english}): it has '
    'no levels.'
  )


def contradiction(one: Tag, other: Tag) -> errors.UserError:
  """What is told of two tags of one axis."""
  return errors.UserError(
    f'tags: found ({one.english}) with ({other.english}), expected one of '
    f'them: both say the {one.axis}.'
  )


def split(text: str) -> tuple[str, int | None]:
  """A name and the level behind it, None where there is none.

  `fast 2`, `fast2`, `Fast-2`, `fast level 2`, `快速２`, `快速2级`, `"快速2"`.
  """
  text = _plain(text)
  if match := _BELOW.fullmatch(text):
    return match[1], -int(match[2][:9])
  match = _LEVELLED.fullmatch(text)
  if match and match[1]:
    # A number of more digits is no level that anybody means.
    return match[1].strip(), int(match[2][:9])
  return text, None


def is_normal(text: str) -> bool:
  """Whether a text takes back the tags before it."""
  return _plain(text) in _NORMAL


def find(text: str) -> Tag | None:
  """The tag that a text names, brackets aside; None where it names none.

  A comparing tag without a level has its `Name.usual`.

  Raises:
    UserError: It names one, with a level that it does not have.
  """
  whole = _BY_SPELLING.get(_plain(text))
  if whole is not None:
    return Tag(whole.name, whole.usual)
  spelling, level = split(text)
  entry = _BY_SPELLING.get(spelling)
  if entry is None or level is None:
    return None
  if not level and not entry.compares:  # `Tag` takes 0 for none
    raise _no_levels(entry, 0)
  return Tag(entry.name, level)


def nearest(text: str, alike: float | None = None) -> str | None:
  """The tag that is most like a text, as it would be written; None if none is.

  Args:
    text: A name with or without a level.
    alike: How alike at least, 0 to 1; by default by the script of the name.
  """
  spelling, level = split(text)
  if alike is None:
    alike = _ALIKE if spelling.isascii() else _ALIKE_WIDE
  close = difflib.get_close_matches(
    spelling, sorted(_BY_SPELLING), n=1, cutoff=alike
  )
  if not close:
    return None
  entry = _BY_SPELLING[close[0]]
  told = entry.english if spelling.isascii() else entry.name
  if not entry.compares:
    return told
  level = min(max(level or entry.usual, 1), LEVELS)
  return f'{told} {level}' if told.isascii() else f'{told}{level}'


def unknown(text: str) -> errors.UserError:
  """What is told of a tag that does not exist."""
  near = nearest(text, 0.5)
  if near:
    return errors.UserError(
      f'tag: found ({text[:40]}), which does not exist; expected one such as '
      f'({near}), the nearest.'
    )
  known = ', '.join(name.english for name in NAMES)
  return errors.UserError(
    f'tag: found ({text[:40]}), which does not exist; expected one of {known}.'
  )


def every() -> Iterator[Tag]:
  """All tags there are, level by level."""
  for name in NAMES:
    for level in range(1, LEVELS + 1) if name.compares else (0,):
      yield Tag(name.name, level)
