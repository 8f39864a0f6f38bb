"""Lhotse: cuts, or recordings with supervisions; and SHAR folders.

    lhotse       *cuts*.jsonl[.gz], or pairs of *recordings*.jsonl[.gz] and
                 *supervisions*.jsonl[.gz]; recordings are files
    lhotse_shar  cuts.000000.jsonl.gz beside recording.000000.tar

A supervision becomes an utterance, its `word` alignment the word times. Cuts
of a recording are parts of its file, heard on the channels that they name: by
their places in the file, whatever numbers the recording gives them. Relative
paths start at `--audio_root`, which is the folder of SOURCE unless it is named.

Recordings from commands and addresses, with transforms that were not yet
applied, mixed and padded cuts are left out. A cut without supervisions is an
utterance without a transcript.
"""

import functools
import json
import pathlib
from typing import Any, Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tables
from data_pipelines.readers.common import tars
from data_pipelines.readers.speech import lhotse_cuts
from step_audio_jax import errors
from step_audio_jax.storage import files

ENDINGS = ('.jsonl', '.jsonl.gz')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads cuts, or pairs of recordings and supervisions.

  Raises:
    UserError: There are none.
  """
  base.check_options(options.extra, ())
  root = options.root(source)
  found, paths = 0, {}
  for one in columns.files_of(source, options, ENDINGS):
    if isinstance(one, base.Rejected):
      yield one
      continue
    path, stem = one
    paths[stem] = path
    if files.is_file(source) or 'cuts' in pathlib.PurePosixPath(stem).name:
      found += 1
      yield from _cuts(path, root)
  for stem, path in paths.items():
    folder, _, name = stem.rpartition('/')
    if 'cuts' in name or 'supervisions' not in name or files.is_file(source):
      continue
    twin = name.replace('supervisions', 'recordings')
    twin = paths.get(f'{folder}/{twin}' if folder else twin)
    if twin is None:
      yield base.Rejected(str(path), 'no recordings of this name beside it.')
      continue
    found += 1
    yield from _pair(twin, path, root)
  if not found:
    raise errors.UserError(
      f'{source}: no *cuts*.jsonl and no *supervisions*.jsonl, expected one.'
    )


def _cuts(path, root):
  for line in base.json_lines(path):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, cut = line

    def find(part, channels, cut=cut):
      del part
      return *file_of(cut.get('recording'), root, channels), 0.0

    yield from lhotse_cuts.cut_items(cut, f'{path}:{number}', number, find)


def _pair(recordings, supervisions, root):
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
      where = f'{supervisions}:{number}'
      yield base.reject_on_error(
        where, _supervised, known, root, value, where, number,
        id=value.get('id'), line=number,
      )  # fmt: skip


def _supervised(known, root, value, where, number) -> base.Item:
  """A supervision with its recording."""
  found = known.get(str(value.get('recording_id')))
  if found is None:
    raise errors.UserError(
      f'recording_id: no recording {value.get("recording_id")!r} in '
      f'{known.path}.'
    )
  channels = lhotse_cuts.named_channels(value.get('channel', 0))
  audio = *file_of(json.loads(found), root, channels), 0.0
  return lhotse_cuts.item_of(0.0, value, where, number, audio)


def read_shar(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads SHAR shards: cuts, and the audio of each in a tar beside them.

  Raises:
    UserError: There is no cuts.*.jsonl[.gz].
  """
  base.check_options(options.extra, ())
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


def _stored(data, name, part, channels):
  """`Find` in a SHAR: what is stored begins with the cut, in its channels."""
  return data, name, _places(part.channels, channels), None


def _recordings(tar):
  if not files.is_file(tar):
    yield base.Rejected(str(tar), 'no such file, expected the recordings.')
    return
  endings = (*media.AUDIO, '.nodata')
  yield from tars.members(tar, lambda name: name.lower().endswith(endings))


def file_of(
  recording: Any, root: pathlib.Path, channels: tuple[int, ...]
) -> tuple[pathlib.Path, str, int | tuple[int, ...] | None]:
  """The file of a recording.

  Args:
    recording: As Lhotse writes it.
    root: Where files lie.
    channels: Those that are wanted; none of them is all.

  Returns:
    (path, its name, places of the channels in it); None is all places.

  Raises:
    UserError: It is no file as it stands, or lacks a channel.
  """
  if not isinstance(recording, dict):
    raise errors.UserError('recording: missing, expected one.')
  if recording.get('transforms'):
    raise errors.UserError(
      'recording: it has transforms that were not applied; save the cuts with '
      'their audio (SHAR) first.'
    )
  sources = recording.get('sources')
  if not isinstance(sources, list) or not all(map(_is_source, sources)):
    raise errors.UserError(
      'recording.sources: expected a list of {type, channels, source}.'
    )
  held = [
    source
    for source in sources
    if len(sources) == 1
    or channels
    and all(one in (source.get('channels') or ()) for one in channels)
  ]
  if len(held) != 1:
    raise errors.UserError(
      f'recording: {len(sources)} sources, {len(held)} with channel '
      f'{", ".join(map(str, channels)) or "0"}; expected one.'
    )
  (source,) = held
  if source.get('type') != 'file':
    raise errors.UserError(
      f'recording: a source of type {source.get("type")!r}, expected file; '
      'commands are not run and addresses not opened.'
    )
  path, below = base.locate(root, source.get('source'), 'recording')
  return path, below, _places(source.get('channels') or [0], channels)


def _places(held, channels) -> int | tuple[int, ...] | None:
  """Where in a file that holds `held` some channels are; None is all of it."""
  held = list(held)
  if not channels or len(held) == 1:
    return None
  for one in channels:
    if one not in held:
      raise errors.UserError(f'channel: found {one}, expected one of {held}.')
  places = tuple(held.index(one) for one in channels)
  if len(places) == len(held):
    return None
  return places if len(places) > 1 else places[0]


def _is_source(value: Any) -> bool:
  return isinstance(value, dict) and isinstance(
    value.get('channels'), (list, type(None))
  )
