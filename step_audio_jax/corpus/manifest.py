"""The one manifest: what a corpus is, one JSON object a line.

A corpus is a folder that holds `manifest.jsonl` and the files it names:

    {"id": "a1", "kind": "speech", "split": "train", "audio": "wav/a1.wav",
     "offset": 0.0, "duration": 1.52, "sample_rate": 16000,
     "text": "the red cat sees a dog", "language": "en", "speaker": "m1",
     "words": [["the", 0.05, 0.14], …]}

Speech needs `audio`, `duration` and `sample_rate`; text needs `text`; an
image with a caption needs `image` and `text`; a chat needs `turns`, and a
preference `chosen` and `rejected` behind them, or one of both. `"channel": 0`
is the first channel of the recording alone. Paths are relative to the
manifest's folder and cannot leave it. Times are seconds from the start of the
utterance. `audio: null` is allowed for speech (a transcript whose audio is
missing); jobs that need the audio put such a line in quarantine.

The tokenised form of a corpus lies beside it (`speech_codes`).
"""

import dataclasses
import functools
import math
import operator
import os
import pathlib
import re
from typing import Any, Collection, Iterable, Iterator, Mapping

from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.audio import channels
from step_audio_jax.chats import own
from step_audio_jax.chats import preferences
from step_audio_jax.storage import files
from step_audio_jax.styles import markup

NAME = 'manifest.jsonl'
STAMP = 'corpus.json'  # beside it, of a corpus that `synthesize` finished
KINDS = ('speech', 'text', 'image_text', 'chat', 'preference')
MOST_MARGIN = 1e15  # rows hold float32, and sums of them stay finite
UNSEEN_VOICE = 'test_unseen_voice'  # split of voices that training never hears


@dataclasses.dataclass(frozen=True)
class Utterance:
  """One line of a manifest.

  Attributes:
    id: Unique within the corpus.
    kind: Of `KINDS`.
    split: `train`, `dev`, `test` or any other name.
    text: Transcript, caption or plain text; None where there is none.
    language: BCP 47 language subtag such as `en` or `zh`; other spellings
      become it (`languages.normalise`).
    audio: Path of the audio file relative to the corpus folder, or None.
    offset: Where the utterance starts in the file, seconds.
    duration: Its length, seconds; 0 where there is no audio.
    sample_rate: Of the file, Hz; 0 where there is no audio.
    channel: Which channel of the file is heard, from 0; the mean of several;
      None for all that there are.
    speaker: Who speaks, if known.
    words: (word, start, end) with seconds from the utterance's start.
    image: Path of the image relative to the corpus folder, or None.
    turns: Of a chat, as `chats.own` has them: {'role', 'text'} or {'role',
      'speech'}, what was written or the id of the utterance of this corpus
      that was spoken; or both, and calls and schemas of tools. Of a preference,
      what is answered (`chats.preferences`).
    marked: The text with tags that say how it is spoken; other spellings of
      them become the one (`markup.write`). None where nothing is known.
    chosen: Of a preference, the better answer: one turn of the assistant.
      Without the other it is one that is wanted.
    rejected: The other answer. Without the first it is one that is not wanted.
    margin: How much better at least, in the units of a reward.
    category: Of what kind it is, a word; None where nobody says.
  """

  id: str
  kind: str = 'speech'
  split: str = 'train'
  text: str | None = None
  language: str = 'en'
  audio: str | None = None
  offset: float = 0.0
  duration: float = 0.0
  sample_rate: int = 0
  channel: int | tuple[int, ...] | None = None
  speaker: str | None = None
  words: tuple[tuple[str, float, float], ...] | None = None
  image: str | None = None
  turns: tuple[Mapping[str, Any], ...] | None = None
  marked: str | None = None
  chosen: Mapping[str, Any] | None = None
  rejected: Mapping[str, Any] | None = None
  margin: float = 0.0
  category: str | None = None

  def __post_init__(self):
    wrong = _wrong_field(tuple(map(type, _values(self))))
    if wrong is not None:
      raise errors.UserError(
        f'{wrong}: found {getattr(self, wrong)!r}, expected '
        f'{errors.kinds(_TYPES[wrong])}.'
      )
    for field in ('id', 'split', 'language'):
      if not getattr(self, field).strip():
        raise errors.UserError(f'{field}: found an empty string.')
    if self.kind not in KINDS:
      raise errors.UserError(
        f'kind: found {self.kind!r}, expected one of {", ".join(KINDS)}.'
      )
    for field in ('offset', 'duration'):
      value = getattr(self, field)
      if not 0 <= value < math.inf:  # nor is it NaN
        raise errors.UserError(
          f'{field}: found {value}, expected seconds >= 0.'
        )
    for field in ('audio', 'image'):
      _check_relative(field, getattr(self, field))
    if self.audio is not None and not (self.duration and self.sample_rate > 0):
      raise errors.UserError(
        f'duration, sample_rate: found {self.duration}, {self.sample_rate}, '
        'expected both to be positive where there is audio.'
      )
    if self.kind in ('text', 'image_text') and self.text is None:
      raise errors.UserError(f'text: missing, expected it in {self.kind}.')
    if self.kind == 'image_text' and self.image is None:
      raise errors.UserError('image: missing, expected a path in image_text.')
    object.__setattr__(self, 'language', languages.normalise(self.language))
    object.__setattr__(self, 'channel', channels.check(self.channel))
    object.__setattr__(self, 'words', _checked_words(self.words))
    for field, value in _checked_turns(self).items():
      object.__setattr__(self, field, value)
    object.__setattr__(self, 'marked', _checked_marks(self.marked, self.text))

  @property
  def all_turns(self) -> tuple[Mapping[str, Any], ...]:
    """Turns, with both answers of a preference behind them; () without any."""
    answers = (self.chosen, self.rejected)
    return (*(self.turns or ()), *(one for one in answers if one))

  def audio_path(self, root: str | os.PathLike) -> pathlib.Path:
    """The audio file of this utterance in the corpus folder `root`.

    Raises:
      UserError: There is no audio, or a link leads out of the corpus folder.
    """
    return _resolve(root, 'audio', self.id, self.audio)

  def part(
    self, start: float = 0.0, seconds: float | None = None
  ) -> dict[str, Any]:
    """What `audio.io` is told to read of the file: arguments by name.

    Args:
      start: Of a part of the utterance, seconds behind its start.
      seconds: Of the part; None, or more than is left, reads to the
        utterance's end.
    """
    rest = self.duration - start
    return {
      'offset': self.offset + start,
      'duration': rest if seconds is None else min(seconds, rest),
      'channel': self.channel,
    }

  def image_path(self, root: str | os.PathLike) -> pathlib.Path:
    """The image file; raises as `audio_path` does."""
    return _resolve(root, 'image', self.id, self.image)

  def to_json(self) -> dict[str, Any]:
    """The line's JSON object; what is absent or zero is left out."""
    value = {}
    for name, item in zip(_TYPES, _values(self)):
      if name == 'audio' and self.kind == 'speech':
        value['audio'] = item
      elif item or name in ('text', 'channel') and item is not None:
        value[name] = item
    return value

  @classmethod
  def from_json(cls, value: Any) -> 'Utterance':
    """The inverse of `to_json`.

    Raises:
      UserError: A field is unknown, missing or wrong.
    """
    if not isinstance(value, Mapping):
      raise errors.UserError(
        f'found {type(value).__name__}, expected a JSON object.'
      )
    unknown = sorted(set(value) - _FIELDS)
    if unknown:
      raise errors.UserError(
        f'{unknown[0]}: unknown field, expected {", ".join(sorted(_FIELDS))}.'
      )
    if 'id' not in value:
      raise errors.UserError('id: missing.')
    given = {k: v for k, v in value.items() if v is not None or k == 'id'}
    for field in ('offset', 'duration', 'margin'):
      if type(given.get(field)) is int:
        given[field] = float(given[field])
    return cls(**given)


_TYPES = {
  'id': (str,),
  'kind': (str,),
  'split': (str,),
  'text': (str, type(None)),
  'language': (str,),
  'audio': (str, type(None)),
  'offset': (float,),
  'duration': (float,),
  'sample_rate': (int,),
  'channel': (int, list, tuple, type(None)),
  'speaker': (str, type(None)),
  'words': (list, tuple, type(None)),
  'image': (str, type(None)),
  'turns': (list, tuple, type(None)),
  'marked': (str, type(None)),
  'chosen': (Mapping, type(None)),
  'rejected': (Mapping, type(None)),
  'margin': (float,),
  'category': (str, type(None)),
}
_FIELDS = set(_TYPES)
_values = operator.attrgetter(*_TYPES)


@functools.lru_cache(maxsize=256)  # the lines of a corpus are of few kinds
def _wrong_field(types: tuple[type, ...]) -> str | None:
  """The first field that cannot have a value of its type, of all in order."""
  for (field, expected), found in zip(_TYPES.items(), types):
    if found is bool or not issubclass(found, expected):
      return field
  return None


def _checked_turns(line: Utterance) -> dict[str, Any]:
  """Turns, and the answers of a preference, as they are kept."""
  kind = line.kind
  if kind not in ('chat', 'preference'):
    if line.turns:
      raise errors.UserError(f'turns: found some in {kind}, expected a chat.')
  elif not line.turns:
    raise errors.UserError(f'turns: missing, expected them in a {kind}.')
  if kind == 'preference':
    return _checked_preference(line)
  if line.chosen or line.rejected or line.margin or line.category:
    names = (*preferences.ANSWERS, 'margin', 'category')
    field = next(name for name in names if getattr(line, name))
    raise errors.UserError(
      f'{field}: found one in {kind}, expected it in a preference alone.'
    )
  return {'turns': own.checked(line.turns) if line.turns else None}


def _checked_preference(line: Utterance) -> dict[str, Any]:
  alone = line.chosen is None or line.rejected is None
  if alone and line.margin:
    raise errors.UserError(
      f'margin: found {line.margin}, expected it between two answers.'
    )
  if not 0 <= line.margin < MOST_MARGIN:  # nor is it NaN
    raise errors.UserError(
      f'margin: found {line.margin}, expected a number >= 0 and below '
      f'{MOST_MARGIN:g}.'
    )
  if not re.fullmatch(r'[\w.-]+', line.category or 'none'):
    raise errors.UserError(
      f'category: found {line.category!r}, expected a word of letters, digits, '
      '"_", "." and "-".'
    )
  turns, answers = preferences.checked(line.turns, line.chosen, line.rejected)
  return {'turns': turns, **answers, 'category': line.category or None}


def _checked_marks(marked: str | None, text: str | None) -> str | None:
  if not marked:
    return None
  spans = markup.parse(marked)
  if markup.plain(spans).strip() != (text or '').strip():
    raise errors.UserError(
      f'marked: found {marked[:60]!r}, expected the text '
      f'{(text or "")[:60]!r} with tags in it.'
    )
  return markup.write(spans)


def path_of(corpus: str | os.PathLike) -> pathlib.Path:
  """The manifest of a corpus, given its folder or the file itself."""
  path = files.path(corpus)
  return path / NAME if files.is_dir(path) or not path.suffix else path


def read(
  corpus: str | os.PathLike,
  *,
  splits: Collection[str] | None = None,
  kind: str | None = None,
) -> list[Utterance]:
  """Reads and checks a manifest.

  Args:
    corpus: The corpus folder, or its manifest.
    splits: Only these splits; None for all.
    kind: Only this kind; None for all.

  Returns:
    The utterances in the file's order.

  Raises:
    UserError: The file is missing, a line is wrong, an id occurs twice, or a
      split of `splits` does not occur at all.
  """
  if isinstance(splits, str):
    splits = (splits,)
  utterances, seen, found = [], set(), set()
  for number, utterance in enumerate(stream(corpus), start=1):
    if utterance.id in seen:
      raise errors.UserError(
        f'{path_of(corpus)}: item {number}: id {utterance.id!r} occurs twice.'
      )
    seen.add(utterance.id)
    found.add(utterance.split)
    if (splits is None or utterance.split in splits) and kind in (
      None,
      utterance.kind,
    ):
      utterances.append(utterance)
  absent = sorted(set(splits or ()) - found)
  if absent:
    known = ', '.join(sorted(found)) or 'none'
    raise errors.UserError(
      f'{path_of(corpus)}: no split {absent[0]!r}; it has {known}.'
    )
  return utterances


def stream(
  corpus: str | os.PathLike, *, kind: str | None = None
) -> Iterator[Utterance]:
  """The lines of a manifest one by one, in constant memory.

  Each line is checked by itself; whether an id occurs twice is `read`'s to
  find.

  Raises:
    UserError: The file is missing or a line is wrong.
  """
  path = path_of(corpus)
  for number, value in enumerate(files.read_jsonl(path), start=1):
    try:
      utterance = Utterance.from_json(value)
    except errors.UserError as error:
      name = value.get('id') if isinstance(value, Mapping) else None
      raise errors.UserError(f'{path}: item {number} ({name}): {error}') from (
        error
      )
    if kind in (None, utterance.kind):
      yield utterance


def write(corpus: str | os.PathLike, utterances: Iterable[Utterance]) -> int:
  """Writes a manifest atomically; returns the number of lines.

  Raises:
    UserError: An id occurs twice.
  """
  seen = set()

  def lines() -> Iterator[dict[str, Any]]:
    for utterance in utterances:
      if utterance.id in seen:
        raise errors.UserError(
          f'{path_of(corpus)}: id {utterance.id!r} occurs twice.'
        )
      seen.add(utterance.id)
      yield utterance.to_json()

  return files.write_jsonl(path_of(corpus), lines())


def _check_relative(field: str, path: str | None) -> None:
  if path is None:
    return
  if '\\' in path:
    raise errors.UserError(
      f'{field}: found {path!r}, a path with backslashes, expected one inside '
      'the corpus folder, with slashes.'
    )
  bad = '..' in path.split('/') or '\0' in path
  if not path or path.startswith(('/', '~')) or bad:
    raise errors.UserError(
      f'{field}: found {path!r}, expected a path inside the corpus folder, '
      "relative to it and without '..'."
    )


def _checked_words(words: Any) -> tuple[tuple[str, float, float], ...] | None:
  if words is None:
    return None
  checked, previous = [], 0.0
  for word in words:
    good = isinstance(word, (list, tuple)) and len(word) == 3
    name, start, end = word if good else (None, None, None)
    if not (
      isinstance(name, str)
      and type(start) in (int, float)
      and type(end) in (int, float)
      and previous - 1e-6 <= start <= end < math.inf  # and none is NaN
    ):
      raise errors.UserError(
        f'words: found {word!r}, expected [word, start, end] with seconds in '
        'rising order.'
      )
    previous = start
    checked.append((name, float(start), float(end)))
  return tuple(checked)


def _resolve(
  root: str | os.PathLike, field: str, name: str, path: str | None
) -> pathlib.Path:
  if path is None:
    raise errors.UserError(f'{root}: {name}: {field} is null.')
  root = files.path(root)
  whole = files.resolve(root / path)
  if not whole.is_relative_to(files.resolve(root)):
    raise errors.UserError(
      f'{root}: {name}: {field} {path!r} leads out of the corpus folder.'
    )
  return whole
