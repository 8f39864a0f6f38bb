"""`nemo` and `nemo_tarred`: manifests of NVIDIA NeMo.

    manifest.json    {"audio_filepath", "duration", "text"[, "offset", "lang",
                     "target_lang", "source_lang", "speaker", "channel"]} a
                     line
    audio_0.tar …    recordings; the line's "shard_id" names its tar

SOURCE is the manifest, or a folder with some (`train_manifest.json`,
`dev_manifest.json`: splits by name); of the tarred form it is the folder, with
`tarred_audio_manifest.json` or `sharded_manifests/manifest_*.json`, or a
folder of such folders (buckets). A line has no id of its own: the path of its
recording without ending is it, with the offset in milliseconds behind it where
there is an offset, and the channel (`-ch0`) where one is named. NeMo calls the
second part of a tarred recording `x.wav` `x-sub1.wav`, and so on.
"""

import json
import pathlib
import re
from typing import Any, Iterator, Mapping

from data_pipelines.readers.common import base
from data_pipelines.readers.common import channels
from data_pipelines.readers.common import tables
from data_pipelines.readers.common import tars
from step_audio_jax import errors
from step_audio_jax.storage import files

_ENDINGS = ('.json', '.jsonl', '.json.gz', '.jsonl.gz')
_TARRED = 'tarred_audio_manifest.json'
_SHARD = re.compile(r'audio_(\d+)\.tar$')
_SUB = re.compile(r'-sub\d+$')
# The first that is there; the text of a translation is in its target.
_LANGUAGE = ('lang', 'language', 'target_lang', 'source_lang')


def read_manifest(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a manifest, or those of a folder.

  Raises:
    UserError: A manifest cannot be opened, or there is none.
  """
  base.check_options(options.extra, ())
  paths = [source]
  if files.is_dir(source):
    paths = [
      base.file_of(source, options, path.name)
      for path in sorted(files.list_folder(source))
      if path.name.endswith(_ENDINGS)
      and files.is_file(path)
      and _is_manifest(path)
    ]
    if not paths:
      raise errors.UserError(
        f'{source}: no file with a line {{"audio_filepath": …}}, expected one '
        f'that ends with {" or ".join(_ENDINGS)}.'
      )
  for path in paths:
    yield from _manifest(path, options.root(source))


def _is_manifest(path: pathlib.Path) -> bool:
  line = next(base.json_lines(path), None)
  return isinstance(line, tuple) and 'audio_filepath' in line[1]


def _manifest(path, root):
  split = tables.split_named(path.name)
  locate = base.locator(root, 'audio_filepath')
  for line in base.json_lines(path):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, row = line
    file = row.get('audio_filepath')
    where = f'{path}:{number}'
    try:
      audio, name = locate(file)
      said = _fields(row, name, split)
    except errors.UserError as error:
      files.raise_outage(error)
      yield base.Rejected(where, str(error), line=number, file=file)
      continue
    yield base.Item(where, said, audio, name, line=number)


def _fields(row: Mapping[str, Any], name: str, split: str | None):
  known = row.get('id', row.get('utt_id'))
  offset = row.get('offset')
  channel = row.get('channel', row.get('channel_selector'))
  said = {'id': known, 'channel': channel}
  if known is None:
    known = str(pathlib.PurePosixPath(name).with_suffix(''))
    if offset:
      milliseconds = tables.offset_and_duration(offset, offset)[0] * 1000
      known = f'{known}-{milliseconds:.0f}'
    said = channels.id_with_channel(known, channel)
  return said | {
    'text': row.get('text'),
    'duration': row.get('duration'),
    'offset': offset,
    'speaker': row.get('speaker'),
    'language': next(filter(None, map(row.get, _LANGUAGE)), None),
    'heard': row.get('source_lang'),
    'split': split,
  }


def read_tarred(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a tarred data set.

  Raises:
    UserError: There is no manifest, or no tar.
  """
  base.check_options(options.extra, ())
  split = tables.split_named(source.absolute().name)
  for bucket, shards in _buckets(source):
    below = bucket.relative_to(source)
    with tables.Lookup(bucket, many=True) as lines:
      yield from _load(bucket, options, lines)
      for number, path in shards:
        safe = base.reject_on_error(
          str(path), base.file_of, source, options, below / path.name
        )
        if isinstance(safe, base.Rejected):
          yield safe
          continue
        place = str(below / tars.stem(path))
        for member in tars.members(safe):
          if isinstance(member, base.Rejected):
            yield member
          else:
            yield from _items(path, place, number, lines, *member, split)
      yield from lines.left('audio: no shard has the recording of this line.')


def _buckets(
  source: pathlib.Path,
) -> list[tuple[pathlib.Path, list[tuple[int, pathlib.Path]]]]:
  """The folders with shards: (folder, [(number of the shard, tar)])."""
  if not files.is_dir(source):
    raise errors.UserError(f'{source}: a file, expected a folder of shards.')
  inner = sorted(files.list_folders(source))
  for folders in ([source], inner):
    found = [
      (
        folder,
        sorted(
          (int(match[1]), path)
          for path in files.glob(folder, 'audio_*.tar')
          if (match := _SHARD.search(path.name))
        ),
      )
      for folder in folders
    ]
    found = [one for one in found if one[1]]
    if found:
      return found
  raise errors.UserError(f'{source}: found no audio_0.tar, audio_1.tar, ….')


def _load(folder, options, lines):
  """Keeps the lines of the manifests by shard and recording."""
  names = [_TARRED]
  if not files.is_file(folder / _TARRED):
    found = sorted(files.glob(folder, 'sharded_manifests/manifest_*.json'))
    names = [path.relative_to(folder) for path in found] or names
  total = 0
  for path in (base.file_of(folder, options, name) for name in names):
    for line in base.json_lines(path):
      total += 1
      if isinstance(line, base.Rejected):
        yield line
        continue
      number, row = line
      file = row.get('audio_filepath')
      if not isinstance(file, str):
        yield base.Rejected(
          f'{path}:{number}',
          f'audio_filepath: found {file!r}, expected a path.',
          line=number,
        )
        continue
      shard, stem = row.get('shard_id'), _stem(file)
      if row.get('offset') is not None:
        stem = _SUB.sub('', stem)
      key = f'{"" if shard is None else shard}/{stem}'
      # `total` and not `number`: lines of several manifests have one.
      refused = lines.add(total, key, json.dumps([path.name, number, row]))
      if refused is not None:
        yield refused


def _stem(file: str) -> str:
  """What NeMo tells a recording by: its name without folder and ending."""
  return pathlib.PurePosixPath(file).stem


def _items(path, place, shard, lines, name, data, split):
  where = f'{path}!{name}'
  audio_name = f'{place}/{name}'
  stem = _stem(name)
  found = lines.take(f'{shard}/{stem}') or lines.take(f'/{stem}')
  if not found:
    reason = 'text: no line of the manifest names this recording.'
    yield base.Rejected(where, reason, id=stem, file=name)
  for _, value in found:
    _, number, row = json.loads(value)
    said = base.reject_on_error(
      where,
      _fields,
      row,
      audio_name,
      split,
      line=number,
      file=name,
    )
    if isinstance(said, base.Rejected):
      yield said
      continue
    yield base.Item(where, said, data, audio_name, line=number)
