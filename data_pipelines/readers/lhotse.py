"""Lhotse: cuts, or recordings with supervisions; and SHAR folders.

    lhotse       *cuts*.jsonl[.gz], or pairs of *recordings*.jsonl[.gz] and
                 *supervisions*.jsonl[.gz]; recordings are files
    lhotse_shar  cuts.000000.jsonl.gz beside recording.000000.tar

A supervision becomes an utterance, its `word` alignment the word times. Cuts
of a recording are parts of its file; only where a cut takes one channel out
of several are its samples copied. Relative paths start at `--audio_root`,
which is the folder of SOURCE unless it is named.

Recordings from commands and addresses, with transforms that were not yet
applied, mixed and padded cuts are left out. A cut without supervisions is an
utterance without a transcript.
"""

import dataclasses
import json
import pathlib
from typing import Any, Callable, Iterator, Mapping

import numpy as np

from data_pipelines.readers import base
from data_pipelines.readers import columns
from data_pipelines.readers import media
from data_pipelines.readers import tables
from data_pipelines.readers import tars
from step_audio_jax import errors

ENDINGS = ('.jsonl', '.jsonl.gz')

# A recording, its name, and the seconds of it at which it begins.
Audio = tuple[pathlib.Path | bytes, str, float]


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of a recording with what is said in it.

  Attributes:
    start: Seconds into the recording.
    supervisions: As Lhotse writes them; times from the part's start.
    channel: The one channel that is wanted; None takes all.
    id: Of the cut.
    duration: Seconds; None lasts to the end.
  """

  start: float
  supervisions: tuple[Mapping[str, Any], ...]
  channel: int | None
  id: str | None
  duration: float | None


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads cuts, or pairs of recordings and supervisions.

  Raises:
    UserError: There are none, or recordings without their supervisions.
  """
  base.only(options.extra, ())
  root = options.root(source)
  found, tables = 0, {}
  for one in columns.files_of(source, options, ENDINGS):
    if isinstance(one, base.Rejected):
      yield one
      continue
    path, stem = one
    tables[stem] = path
    if source.is_file() or 'cuts' in pathlib.PurePosixPath(stem).name:
      found += 1
      yield from _cuts(path, stem, root)
  for stem, path in tables.items():
    folder, _, name = stem.rpartition('/')
    if 'cuts' in name or 'supervisions' not in name or source.is_file():
      continue
    twin = name.replace('supervisions', 'recordings')
    twin = tables.get(f'{folder}/{twin}' if folder else twin)
    if twin is None:
      raise errors.UserError(f'{path}: no recordings of this name beside it.')
    found += 1
    yield from _pair(twin, path, stem, root)
  if not found:
    raise errors.UserError(
      f'{source}: no *cuts*.jsonl and no *supervisions*.jsonl, expected one.'
    )


def _cuts(path, stem, root):
  for line in base.json_lines(path):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, cut = line

    def find(part, cut=cut, number=number):
      window = part.channel, part.start, part.duration
      return file_of(
        cut.get('recording'), root, window, f'{stem}/{number:08d}.wav'
      )

    yield from cut_items(cut, f'{path}:{number}', number, find)


def _pair(recordings, supervisions, stem, root):
  """A RecordingSet and a SupervisionSet; only the first is held."""
  known = {}
  for line in base.json_lines(recordings):
    if isinstance(line, base.Rejected):
      yield line
      continue
    _, value = line
    known[value.get('id')] = value

  def item(value, where, number):
    name = value.get('recording_id')
    if not isinstance(name, str) or name not in known:
      raise errors.UserError(
        f'recording_id: no recording {name!r} in {recordings}.'
      )
    channel = value.get('channel', 0)
    window = (
      channel if isinstance(channel, int) else None,
      columns.number(value.get('start'), 'start'),
      columns.number(value.get('duration'), 'duration'),
    )
    audio = file_of(known[name], root, window, f'{stem}/{number:08d}.wav')
    return item_of(0.0, value, where, number, audio)

  for line in base.json_lines(supervisions):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, value = line
    where = f'{supervisions}:{number}'
    yield base.guarded(
      where, item, value, where, number, id=value.get('id'), line=number
    )


def read_shar(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads SHAR shards: cuts, and the audio of each in a tar beside them.

  Raises:
    UserError: There is no cuts.*.jsonl[.gz].
  """
  base.only(options.extra, ())
  found = 0
  for one in columns.files_of(source, options, ENDINGS):
    if isinstance(one, base.Rejected):
      yield one
      continue
    path, stem = one
    if pathlib.PurePosixPath(stem).name.startswith('cuts'):
      found += 1
      yield from _shard(path, stem)
  if not found:
    raise errors.UserError(f'{source}: no cuts.*.jsonl.gz, expected one.')


def _shard(path, stem):
  """The cuts wait on disk for the recordings of the tar."""
  folder, _, name = stem.rpartition('/')
  name = name.replace('cuts', 'recording', 1)
  tar = path.with_name(f'{name}.tar')
  with tables.Lookup(path) as cuts:
    for line in base.json_lines(path):
      if isinstance(line, base.Rejected):
        yield line
        continue
      number, cut = line
      refused = cuts.add(number, str(cut.get('id')), json.dumps(cut))
      if refused is not None:
        yield refused
    for member in _recordings(tar):
      if isinstance(member, base.Rejected):
        yield member
        continue
      member_name, data = member
      key, _, ending = member_name.rpartition('.')
      kept = cuts.take(key)
      where = f'{tar}!{member_name}'
      if not kept:
        yield base.Rejected(where, 'no cut has this id.', id=key)
      for number, text in kept:
        if ending == 'nodata':
          yield base.Rejected(where, 'audio: the cut has none.', id=key)
          continue
        # What is stored begins with the cut.
        audio = data, f'{folder}/{name}/{member_name}'.lstrip('/'), None
        yield from cut_items(
          json.loads(text), where, number, lambda part, audio=audio: audio
        )
    yield from cuts.left('audio: the tar has no recording of this cut.')


def _recordings(tar):
  if not tar.is_file():
    yield base.Rejected(str(tar), 'no such file, expected the recordings.')
    return
  endings = (*media.AUDIO, '.nodata')
  yield from tars.members(tar, lambda name: name.lower().endswith(endings))


def cut_items(
  cut: Mapping[str, Any],
  where: str,
  line: int,
  find: Callable[[Part], tuple[pathlib.Path | bytes, str, float | None]],
) -> Iterator[base.Item | base.Rejected]:
  """The utterances of one cut.

  Args:
    cut: As Lhotse writes it.
    where: For messages.
    line: Of the cut.
    find: Part → (recording, its name, where it begins in what the cut is
      of, seconds); None means with the cut.
  """
  try:
    part = part_of(cut)
    content, name, begin = find(part)
  except errors.UserError as error:
    yield base.Rejected(where, str(error), id=cut.get('id'), line=line)
    return
  audio = content, name, part.start if begin is None else begin
  if not part.supervisions:
    offset = round(part.start - audio[2], 6)
    fields = {'id': part.id, 'offset': offset, 'duration': part.duration}
    yield base.Item(where, fields, content, name, line=line)
  for supervision in part.supervisions:
    yield base.guarded(
      where,
      item_of,
      part.start,
      supervision,
      where,
      line,
      audio,
      id=supervision.get('id'),
      line=line,
    )


def part_of(cut: Mapping[str, Any]) -> Part:
  """Checks a cut.

  Raises:
    UserError: It is mixed, padded or has a wrong field.
  """
  kind = cut.get('type', 'MonoCut')
  if kind not in ('MonoCut', 'MultiCut', 'Cut'):
    raise errors.UserError(
      f'type: found {kind!r}, expected MonoCut or MultiCut; save mixed cuts '
      'with their audio (SHAR) first.'
    )
  supervisions = cut.get('supervisions') or []
  if not isinstance(supervisions, list) or not all(
    isinstance(one, dict) for one in supervisions
  ):
    raise errors.UserError('supervisions: expected a list of objects.')
  channel = cut.get('channel', 0)
  return Part(
    start=columns.number(cut.get('start', 0.0), 'start'),
    supervisions=tuple(supervisions),
    channel=channel if isinstance(channel, int) else None,
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
  content, name, begin = audio
  first = columns.number(supervision.get('start'), 'start')
  fields = {
    'id': columns.name(supervision.get('id'), 'id'),
    'text': columns.string(supervision.get('text'), 'text'),
    'speaker': columns.name(supervision.get('speaker'), 'speaker'),
    'language': columns.language(supervision.get('language')),
    'offset': round(start + first - begin, 6),
    'duration': columns.number(supervision.get('duration'), 'duration'),
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


def file_of(
  recording: Any,
  root: pathlib.Path,
  window: tuple[int | None, float, float | None],
  name: str,
) -> Audio:
  """The file of a recording, or one channel of a part of it.

  Args:
    recording: As Lhotse writes it.
    root: Where files lie.
    window: (channel, start, duration) of the part that is wanted; None takes
      all channels, or the rest of the recording.
    name: What a copied channel is called.

  Raises:
    UserError: It is no file as it stands.
  """
  if not isinstance(recording, dict):
    raise errors.UserError('recording: missing, expected one.')
  if recording.get('transforms'):
    raise errors.UserError(
      'recording: it has transforms that were not applied; save the cuts with '
      'their audio (SHAR) first.'
    )
  channel, start, duration = window
  sources = recording.get('sources')
  sources = sources if isinstance(sources, list) else []
  held = [
    source
    for source in sources
    if isinstance(source, dict)
    and (len(sources) == 1 or channel in (source.get('channels') or ()))
  ]
  if len(held) != 1:
    raise errors.UserError(
      f'recording: {len(sources)} sources, {len(held)} with channel '
      f'{channel}; expected one.'
    )
  (source,) = held
  if source.get('type') != 'file':
    raise errors.UserError(
      f'recording: a source of type {source.get("type")!r}, expected file; '
      'commands are not run and addresses not opened.'
    )
  path, below = base.locate(root, source.get('source'), 'recording')
  channels = source.get('channels') or [0]
  if channel is None or len(channels) < 2:
    return path, below, 0.0
  if channel not in channels:
    raise errors.UserError(
      f'channel: found {channel}, expected one of {channels}.'
    )
  samples, rate = _channel(path, channels.index(channel), start, duration)
  return media.wav(samples, rate), name, start


def _channel(path, place, start, duration):
  import soundfile

  try:
    with soundfile.SoundFile(path) as handle:
      rate = handle.samplerate
      if place >= handle.channels:
        raise errors.UserError(
          f'channel: {path} has {handle.channels}, expected {place + 1}.'
        )
      handle.seek(min(max(round(start * rate), 0), handle.frames))
      frames = -1 if duration is None else max(round(duration * rate), 0)
      found = handle.read(frames, dtype='float32', always_2d=True)
  except soundfile.LibsndfileError as error:
    raise errors.UserError(
      f'recording: {path}: not readable as audio: {error.error_string}'
    ) from error
  return np.clip(found[:, place], -1, 1), rate
