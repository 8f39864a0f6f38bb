"""Lhotse's cuts as utterances: what is said in a part of a recording.

A supervision becomes an utterance, its `word` alignment the word times; a cut
without supervisions is an utterance without a transcript. Where recordings
are, in files or in a tar, is the caller's to say.
"""

import dataclasses
import functools
import pathlib
from typing import Any, Callable, Iterator, Mapping

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns
from step_audio_jax import errors

# A recording, its name, which of its channels are heard (None: all), and where
# it begins in what the cut is of, seconds; None means with the cut.
Audio = tuple[
  pathlib.Path | bytes, str, int | tuple[int, ...] | None, float | None
]


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of a recording with what is said in it.

  Attributes:
    start: Seconds into the recording.
    supervisions: As Lhotse writes them; times from the part's start.
    channels: Of the recording, in the order of its samples.
    id: Of the cut.
    duration: Seconds.
  """

  start: float
  supervisions: tuple[Mapping[str, Any], ...]
  channels: tuple[int, ...]
  id: str | None
  duration: float

  def channels_of(self, supervision: Mapping[str, Any]) -> tuple[int, ...]:
    """The channels that are spoken on; where it names none, all."""
    if len(self.channels) == 1:
      return self.channels
    return named_channels(supervision.get('channel')) or self.channels


Find = Callable[[Part, tuple[int, ...]], Audio]


def named_channels(channel: Any) -> tuple[int, ...]:
  """The channels that a supervision names: a number, or a list of them."""
  found = channel if isinstance(channel, list) else [channel]
  whole = all(type(one) is int for one in found)
  return tuple(dict.fromkeys(found)) if whole else ()


def cut_items(
  cut: Mapping[str, Any],
  where: str,
  line: int,
  find: Find,
) -> Iterator[base.Item | base.Rejected]:
  """The utterances of one cut.

  Args:
    cut: As Lhotse writes it.
    where: For messages.
    line: Of the cut.
    find: Where its recording is.
  """
  part = base.reject_on_error(where, part_of, cut, id=cut.get('id'), line=line)
  if isinstance(part, base.Rejected):
    yield part
    return

  @functools.cache
  def audio_of(channels):
    *audio, begin = find(part, channels)
    return *audio, part.start if begin is None else begin

  def item(supervision):
    audio = audio_of(part.channels_of(supervision))
    return item_of(part.start, supervision, where, line, audio)

  def whole():
    content, name, channel, begin = audio_of(part.channels)
    fields = {
      'id': part.id,
      'offset': round(part.start - begin, 6),
      'duration': part.duration,
      'channel': channel,
    }
    return base.Item(where, fields, content, name, line=line)

  if not part.supervisions:
    yield base.reject_on_error(where, whole, id=part.id, line=line)
  for supervision in part.supervisions:
    yield base.reject_on_error(
      where, item, supervision, id=supervision.get('id'), line=line
    )


def part_of(cut: Mapping[str, Any]) -> Part:
  """Checks a cut.

  Raises:
    UserError: It is mixed, padded or has a wrong field.
  """
  kind = cut.get('type', 'MonoCut')
  if kind not in ('MonoCut', 'MultiCut', 'Cut'):
    raise errors.UserError(
      f'type: found {kind!r}, expected MonoCut or MultiCut; save the audio of '
      'mixed and padded cuts (`save_audios`) first.'
    )
  supervisions = cut.get('supervisions') or []
  if not isinstance(supervisions, list) or not all(
    isinstance(one, dict) for one in supervisions
  ):
    raise errors.UserError('supervisions: expected a list of objects.')
  channels = cut.get('channel', 0)
  channels = channels if isinstance(channels, list) else [channels]
  if not channels or not all(type(one) is int for one in channels):
    raise errors.UserError(
      f'channel: found {cut["channel"]!r:.50}, expected a whole number or a '
      'list of them.'
    )
  return Part(
    start=columns.number(cut.get('start', 0.0), 'start'),
    supervisions=tuple(supervisions),
    channels=tuple(channels),
    id=columns.name(cut.get('id'), 'id'),
    duration=columns.number(cut.get('duration'), 'duration'),
  )


def item_of(
  start: float,
  supervision: Mapping[str, Any],
  where: str,
  line: int,
  audio: Audio,
) -> base.Item:
  """A supervision as an utterance.

  Args:
    start: Of the cut in its recording; the supervision's times are from there.
    supervision: As Lhotse writes it.
    where: For messages.
    line: Of the manifest.
    audio: Where it is heard.

  Raises:
    UserError: A field is wrong.
  """
  content, name, channel, begin = audio
  first = columns.number(supervision.get('start'), 'start')
  fields = {
    'id': columns.name(supervision.get('id'), 'id'),
    'text': columns.string(supervision.get('text'), 'text'),
    'speaker': columns.name(supervision.get('speaker'), 'speaker'),
    'language': columns.language(supervision.get('language')),
    'offset': round(start + first - begin, 6),
    'duration': columns.number(supervision.get('duration'), 'duration'),
    'channel': channel,
    'words': _words(supervision, first),
  }
  return base.Item(where, fields, content, name, line=line)


def _words(supervision, first) -> list | None:
  """Alignment items are [symbol, start, duration, score]."""
  alignment = supervision.get('alignment') or {}
  items = alignment.get('word') if isinstance(alignment, dict) else None
  if not items:
    return None
  words = []
  for item in items if isinstance(items, list) else ():
    if isinstance(item, dict):
      item = [item.get(key) for key in ('symbol', 'start', 'duration')]
    if not isinstance(item, list) or len(item) < 3:
      raise errors.UserError(
        f'alignment.word: found {item!r}, expected [symbol, start, duration].'
      )
    word = columns.string(item[0], 'alignment.word') or ''
    begin = columns.number(item[1], 'alignment.word') - first
    end = begin + columns.number(item[2], 'alignment.word')
    words.append([word, round(max(begin, 0.0), 4), round(max(end, 0.0), 4)])
  return words
