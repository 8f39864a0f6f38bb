"""Lhotse: cuts, or recordings with supervisions; and SHAR folders.

    lhotse       *cuts*.jsonl[.gz], or pairs of *recordings*.jsonl[.gz] and
                 *supervisions*.jsonl[.gz]; recordings are files
    lhotse_shar  cuts.000000.jsonl.gz beside recording.000000.tar

A supervision becomes an utterance, its `word` alignment the word times. Cuts
of a recording are parts of its file; only where one channel out of several is
spoken of are its samples copied. Relative paths start at `--audio_root`,
which is the folder of SOURCE unless it is named.

Recordings from commands and addresses, with transforms that were not yet
applied, mixed and padded cuts are left out. A cut without supervisions is an
utterance without a transcript.
"""

import functools
import io
import json
import pathlib
from typing import Any, Iterator

import numpy as np

from data_pipelines.readers import base
from data_pipelines.readers import columns
from data_pipelines.readers import lhotse_cuts
from data_pipelines.readers import media
from data_pipelines.readers import tables
from data_pipelines.readers import tars
from step_audio_jax import errors

ENDINGS = ('.jsonl', '.jsonl.gz')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads cuts, or pairs of recordings and supervisions.

  Raises:
    UserError: There are none.
  """
  base.only(options.extra, ())
  root = options.root(source)
  found, paths = 0, {}
  for one in columns.files_of(source, options, ENDINGS):
    if isinstance(one, base.Rejected):
      yield one
      continue
    path, stem = one
    paths[stem] = path
    if source.is_file() or 'cuts' in pathlib.PurePosixPath(stem).name:
      found += 1
      yield from _cuts(path, stem, root)
  for stem, path in paths.items():
    folder, _, name = stem.rpartition('/')
    if 'cuts' in name or 'supervisions' not in name or source.is_file():
      continue
    twin = name.replace('supervisions', 'recordings')
    twin = paths.get(f'{folder}/{twin}' if folder else twin)
    if twin is None:
      yield base.Rejected(str(path), 'no recordings of this name beside it.')
      continue
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

    def find(part, channel, cut=cut, number=number):
      window = channel, part.start, part.duration
      name = f'{stem}/{number:08d}-{channel}.wav'
      return file_of(cut.get('recording'), root, window, name)

    yield from lhotse_cuts.cut_items(cut, f'{path}:{number}', number, find)


def _pair(recordings, supervisions, stem, root):
  """A RecordingSet and a SupervisionSet; the first waits on disk."""
  with tables.Lookup(recordings) as known:
    for line in base.json_lines(recordings):
      if not isinstance(line, base.Rejected):
        number, value = line
        line = known.add(number, str(value.get('id')), json.dumps(value))
      if line is not None:
        yield line
    for line in base.json_lines(supervisions):
      if isinstance(line, base.Rejected):
        yield line
        continue
      number, value = line
      where, name = f'{supervisions}:{number}', f'{stem}/{number:08d}.wav'
      yield base.guarded(
        where, _supervised, known, root, value, where, number, name,
        id=value.get('id'), line=number,
      )  # fmt: skip


def _supervised(known, root, value, where, number, name) -> base.Item:
  """A supervision with its recording."""
  found = known.get(str(value.get('recording_id')))
  if found is None:
    raise errors.UserError(
      f'recording_id: no recording {value.get("recording_id")!r} in '
      f'{known.path}.'
    )
  channel = value.get('channel', 0)
  window = (
    channel if type(channel) is int else None,
    columns.number(value.get('start'), 'start'),
    columns.number(value.get('duration'), 'duration'),
  )
  audio = file_of(json.loads(found), root, window, name)
  return lhotse_cuts.item_of(0.0, value, where, number, audio)


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
        stored = data, f'{folder}/{name}/{member_name}'.lstrip('/')
        yield from lhotse_cuts.cut_items(
          json.loads(text), where, number, functools.partial(_stored, *stored)
        )
    yield from cuts.left('audio: the tar has no recording of this cut.')


def _stored(data, name, part, channel):
  """`Find` in a SHAR: what is stored begins with the cut, in its channels."""
  if channel is None or len(part.channels) == 1:
    return data, name, None
  samples, rate = _channel(data, part.channels, channel, 0.0, None)
  name = f'{name.rpartition(".")[0]}-{channel}.wav'
  return media.wav(samples, rate), name, None


def _recordings(tar):
  if not tar.is_file():
    yield base.Rejected(str(tar), 'no such file, expected the recordings.')
    return
  endings = (*media.AUDIO, '.nodata')
  yield from tars.members(tar, lambda name: name.lower().endswith(endings))


def file_of(
  recording: Any,
  root: pathlib.Path,
  window: tuple[int | None, float, float | None],
  name: str,
) -> lhotse_cuts.Audio:
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
  if not isinstance(sources, list) or not all(map(_is_source, sources)):
    raise errors.UserError(
      'recording.sources: expected a list of {type, channels, source}.'
    )
  held = [
    source
    for source in sources
    if len(sources) == 1 or channel in (source.get('channels') or ())
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
  samples, rate = _channel(path, channels, channel, start, duration)
  return media.wav(samples, rate), name, start


def _is_source(value: Any) -> bool:
  return isinstance(value, dict) and isinstance(
    value.get('channels'), (list, type(None))
  )


def _channel(recording, channels, channel, start, duration):
  """(samples, rate) of a part of one of the `channels` of a recording."""
  import soundfile

  if channel not in channels:
    raise errors.UserError(
      f'channel: found {channel!r:.50}, expected one of {list(channels)}.'
    )
  place = list(channels).index(channel)
  held = isinstance(recording, bytes)
  path = 'the recording in the tar' if held else recording
  try:
    with soundfile.SoundFile(io.BytesIO(recording) if held else path) as handle:
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
