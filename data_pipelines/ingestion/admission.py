"""Which items of a reader become lines of a manifest.

Every format passes through here, so that a corpus obeys the same rules
wherever it came from: an id, a text that is one, times inside the recording,
a recording whose sound is whole.
"""

import dataclasses
import functools
import io
import json
import math
import os
import pathlib
from typing import Any, Mapping, MutableMapping, NamedTuple

from data_pipelines import splits
from data_pipelines.readers.common import base
from data_pipelines.readers.common import channels
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs

TRANSCRIPT_BYTES = 10**6
DOCUMENT_BYTES = 16 * 10**6  # of plain text
MEAN = (
  'lines hear the mean of several channels; `channel` in a line, or --channel, '
  'names one.'
)
FORGIVEN_SECONDS = 0.01  # times are rounded by who writes them
CODEC_SECONDS = 0.1  # what lossy codecs add at both ends, and some count
_WORDS_FORGIVEN_SECONDS = 0.1  # alignments have frames of 10 to 80 ms
split_of = splits.split_of
_IMAGES = ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM')


@dataclasses.dataclass(frozen=True)
class Rules:
  """What is filled in where a corpus says nothing, and what is believed.

  Attributes:
    language: Of items that name none.
    dev: Share of items without a split that go to dev; `test` likewise.
    test: As `dev`.
    trust_durations: Do not open a recording whose duration is stated.
    sample_rate: Of recordings that are not opened and state none, Hz.
    untranscribed: Keep speech without a transcript.
    channel: Which channel is heard of recordings of several whose line names
      none, from 0; None is the mean.
    all_channels: The mean of all, whatever a line names.
    held_out_speakers: Their lines go to the split of unseen voices, whatever
      split they name.
  """

  language: str = 'en'
  dev: float = 0.05
  test: float = 0.05
  trust_durations: bool = False
  sample_rate: int = audio_io.SAMPLE_RATE
  untranscribed: bool = False
  channel: int | None = None
  all_channels: bool = False
  held_out_speakers: tuple[str, ...] = ()

  def __post_init__(self):
    if not (0 <= self.dev and 0 <= self.test and self.dev + self.test < 1):
      raise errors.UserError(
        f'--dev, --test: found {self.dev}, {self.test}, expected shares below '
        '1 together.'
      )
    if self.sample_rate < 1:
      raise errors.UserError(
        f'--sample_rate: found {self.sample_rate}, expected Hz.'
      )


def _split(fields: Mapping[str, Any], rules: Rules) -> str:
  if fields.get('speaker') in rules.held_out_speakers:
    return manifest.UNSEEN_VOICE
  return fields.get('split') or split_of(
    fields.get('part_of') or fields['id'], rules.dev, rules.test
  )


def admit(
  item: base.Item,
  rules: Rules,
  notes: MutableMapping[str, int] | None = None,
  told: list[str] | None = None,
) -> manifest.Utterance:
  """Item → line of a manifest.

  Args:
    item: What a reader found.
    rules: What is kept.
    notes: Counts what is kept and yet worth telling, by the sentence.
    told: Takes what is odd about this recording though it is kept: clauses.

  Raises:
    UserError: It cannot be used; the sentence is the reason.
  """
  fields = item.fields
  name = fields.get('id')
  if not isinstance(name, str):
    raise errors.UserError(f'id: found {name!r}, expected a string.')
  kind = fields.get('kind') or 'speech'
  text = _text(item, kind, rules)
  offset = _seconds('offset', fields.get('offset')) or 0.0
  duration = _seconds('duration', fields.get('duration'))
  rate, channel = 0, None
  no_audio = item.audio is None and 'audio' not in item.may_lack
  if kind == 'speech' and no_audio:
    raise errors.UserError('audio: missing, expected a recording.')
  for content, called in (
    (item.audio, item.audio_name),
    (item.image, item.image_name),
  ):
    if isinstance(content, bytes):
      lfs.refuse(content, called)
  if item.audio is not None:
    choice = _Choice.from_fields(fields, rules)
    if _is_trusted(rules, duration, choice):
      rate = fields.get('sample_rate') or rules.sample_rate
      channel = choice.named
    else:
      header = examine(item)
      if told is not None:
        told += header.notes
        told += _disagreement(fields, header.seconds, duration)
      rate = header.sample_rate
      duration = _extent(item, header, offset, duration)
      channel = choice.among(header.channels, item.audio_name)
      if header.channels > 1 and not isinstance(channel, int):
        _hear(item, offset, duration, channel, rate)
        if notes is not None:
          notes[MEAN] = notes.get(MEAN, 0) + 1
  if item.image is not None:
    check_image(item)
  utterance = manifest.Utterance(
    id=name,
    kind=kind,
    split=_split(fields, rules),
    text=text,
    language=_language(fields.get('language')) or rules.language,
    audio=None if item.audio is None else f'audio/{item.audio_name}',
    offset=round(offset, 6),
    duration=round(duration or 0.0, 6),
    sample_rate=rate,
    channel=channel,
    speaker=fields.get('speaker'),
    words=fields.get('words'),
    image=None if item.image is None else f'images/{item.image_name}',
    turns=fields.get('turns'),
    marked=fields.get('marked'),
    chosen=fields.get('chosen'),
    rejected=fields.get('rejected'),
    margin=fields.get('margin') or 0.0,
    category=fields.get('category'),
  )
  if utterance.words:
    end = utterance.words[-1][2]
    if end > utterance.duration + _WORDS_FORGIVEN_SECONDS:
      raise errors.UserError(
        f'words: the last one ends at {end:g} s, expected at most '
        f'{utterance.duration:g} s.'
      )
  _check_encodable(utterance)
  return utterance


def is_trusted(item: base.Item, rules: Rules) -> bool:
  """Whether a recording is not opened at all; raises as `admit`."""
  duration = _seconds('duration', item.fields.get('duration'))
  choice = _Choice.from_fields(item.fields, rules)
  return _is_trusted(rules, duration, choice)


def _is_trusted(rules, duration, choice) -> bool:
  return rules.trust_durations and duration is not None and choice.is_made()


def _language(value: Any) -> str | None:
  """A language as a corpus names it; white space and null name none."""
  if value is not None and not isinstance(value, str):
    raise errors.UserError(f'language: found {value!r}, expected a string.')
  return (value or '').strip() or None


def _text(item, kind, rules):
  text = item.fields.get('text')
  if kind in ('chat', 'preference'):
    return None
  if not isinstance(text, str) or not text.strip():
    silent = text is None or isinstance(text, str)
    may_lack = rules.untranscribed or 'text' in item.may_lack
    if kind == 'speech' and may_lack and silent:
      return None
    what = f'what is said in {item.audio_name}' if kind == 'speech' else 'some'
    raise errors.UserError(f'text: missing, expected {what}.')
  limit = DOCUMENT_BYTES if kind == 'text' else TRANSCRIPT_BYTES
  # No character takes more than four bytes: short texts need no counting.
  if 4 * len(text) > limit:
    size = len(text.encode('utf-8', 'surrogatepass'))
    if size > limit:
      raise errors.UserError(
        f'text: {size} bytes, expected at most {limit} of a '
        f'{"document" if kind == "text" else "transcript"}.'
      )
  return text.strip() if kind == 'text' else ' '.join(text.split())


def _seconds(field: str, value: Any) -> float | None:
  if value is None:
    return None
  try:
    seconds = float(value)
  except (TypeError, ValueError, OverflowError) as error:
    raise errors.UserError(
      f'{field}: found {value!r}, expected seconds.'
    ) from error
  if not (math.isfinite(seconds) and seconds >= 0):
    raise errors.UserError(f'{field}: found {seconds}, expected seconds >= 0.')
  return seconds


class _Choice(NamedTuple):
  """Which channel a line is to be heard on.

  Attributes:
    named: What the line names: the recording must have it.
    side: What is meant where a recording has several: one with a single
      channel was taken apart before, or never had more.
  """

  named: channels.Channel = None
  side: channels.Channel = None

  @classmethod
  def from_fields(cls, fields: Mapping[str, Any], rules: Rules) -> '_Choice':
    if rules.all_channels:
      return cls()
    side = channels.parse(fields.get('side'), 'side')
    return cls(
      channels.parse(fields.get('channel')),
      rules.channel if side is None else side,
    )

  def is_made(self) -> bool:
    """Whether it needs no look at the recording."""
    return self.named is not None or self.side is None

  def among(self, count: int, name: str) -> channels.Channel:
    """The channel of a recording that has `count` of them."""
    channel = self.named
    if channel is None and count > 1:
      channel = self.side
    numbers = channel if isinstance(channel, tuple) else (channel,)
    for one in () if channel is None else numbers:
      if one >= count:
        raise errors.UserError(
          f'channel: found {one}, but {name} has {count}, counted from 0.'
        )
    return channel


def _extent(item, header, offset, stated):
  """The duration of an item, checked against its recording."""
  length = header.seconds
  if offset >= length:
    raise errors.UserError(
      f'{item.audio_name}: offset {offset} s lies outside the recording of '
      f'{length:.3f} s.'
    )
  if stated is None:
    return length - offset
  forgiven = CODEC_SECONDS if header.is_lossy else FORGIVEN_SECONDS
  if stated > length - offset + forgiven:
    raise errors.UserError(
      f'duration: {stated:g} s from {offset:g} s on, but {item.audio_name} has '
      f'only {length - offset:.3f} s there.'
    )
  return min(stated, length - offset)


def _disagreement(fields, length, stated) -> list[str]:
  """What a corpus says wrongly of the length of a whole recording."""
  if stated is None or fields.get('offset') is not None:
    return []
  if length - stated <= CODEC_SECONDS:
    return []
  return [
    f'the corpus states {stated:g} s and no offset, the recording has '
    f'{length:.3f} s: its beginning is taken'
  ]


def _hear(item, offset, duration, channel, rate):
  """Reads a part of several channels through, as whoever uses it will."""
  audio_io.find_peak(
    item.audio,
    offset=offset,
    duration=duration,
    channel=channel,
    sample_rate=rate,
    name=item.audio_name,
    audible=True,
  )


@functools.lru_cache(maxsize=1024)
def _remembered(path: str, changed: tuple[int, ...]) -> audio_io.Sound:
  del changed  # a part of the key: the file may be another one by now
  return audio_io.examine(path)


def examine(item: base.Item) -> audio_io.Sound:
  """`audio_io.examine`, once for the parts of a recording."""
  if isinstance(item.audio, bytes):
    return audio_io.examine(item.audio, name=item.where)
  path = os.fspath(item.audio)
  if isinstance(item.audio, files.Address):
    return _remembered(path, ())  # asking for its state takes as long
  try:
    state = files.state(path)
  except OSError:
    return audio_io.examine(path)  # says what is wrong
  return _remembered(path, (state.changed, state.size))


def check_image(item: base.Item) -> None:
  """Raises UserError where an image cannot be opened; looks once."""
  if isinstance(item.image, files.Address):
    _seen_image(item.image, item.image_name)
  else:
    _check_image(item.image, item.image_name)


@functools.lru_cache(maxsize=1024)
def _seen_image(image: files.Address, name: str) -> None:
  _check_image(image, name)


def _check_image(image: pathlib.Path | bytes, name: str) -> None:
  import PIL.Image

  try:
    raw = io.BytesIO(image) if isinstance(image, bytes) else None
    with raw or files.open_read(image) as source:
      with PIL.Image.open(source, formats=_IMAGES):
        pass
  except FileNotFoundError as error:
    raise errors.UserError(f'{name}: no such file.') from error
  # A damaged header makes Pillow raise nearly anything.
  except Exception as error:
    raise errors.UserError(f'{name}: not readable as an image.') from error


def _check_encodable(utterance: manifest.Utterance) -> None:
  """JSON may hold halves of surrogate pairs, which no file can.

  Some of them stand for bytes that a reader could not decode.
  """
  u = utterance
  whole = (
    *(u.id, u.text, u.split, u.language, u.speaker, u.audio, u.image),
    u.category,
  )
  words = [word[0] for word in u.words] if u.words else ()
  told = u.all_turns
  turns = [json.dumps(told, ensure_ascii=False)] if told else ()
  try:
    ''.join(filter(None, (*whole, *words, *turns))).encode()
  except UnicodeEncodeError as error:
    found = error.object[error.start]
    byte = '\udc80' <= found <= '\udcff'
    raise errors.UserError(
      f'found {found!a}, {"not UTF-8" if byte else "half of a character"}.'
    ) from error
