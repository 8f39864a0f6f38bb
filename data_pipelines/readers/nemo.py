"""`nemo` and `nemo_tarred`: manifests of NVIDIA NeMo.

    manifest.json    {"audio_filepath", "duration", "text"[, "offset", "lang",
                     "speaker"]} a line
    audio_0.tar …    recordings; the line's "shard_id" names its tar

SOURCE is the manifest; of the tarred form it is the folder, with
`tarred_audio_manifest.json` or `sharded_manifests/manifest_*.json`. A line
has no id of its own: the path of its recording without ending is it, with
the offset in milliseconds behind it where there is an offset.
"""

import json
import pathlib
import re
from typing import Any, Iterator, Mapping

from data_pipelines.readers import base
from data_pipelines.readers import tables
from data_pipelines.readers import tars
from step_audio_jax import errors

_TARRED = 'tarred_audio_manifest.json'
_SHARD = re.compile(r'audio_(\d+)\.tar$')


def read_manifest(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a manifest; raises `UserError` where it cannot be opened."""
  base.only(options.extra, ())
  root = options.root(source)
  split = tables.split_named(source.name)
  for line in base.json_lines(source):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, row = line
    file = row.get('audio_filepath')
    where = f'{source}:{number}'
    try:
      audio, name = base.locate(root, file, 'audio_filepath')
      said = _fields(row, name, split)
    except errors.UserError as error:
      yield base.Rejected(where, str(error), line=number, file=file)
      continue
    yield base.Item(where, said, audio, name, line=number)


def _fields(row: Mapping[str, Any], name: str, split: str | None):
  known = row.get('id', row.get('utt_id'))
  offset = row.get('offset')
  if known is None:
    known = str(pathlib.PurePosixPath(name).with_suffix(''))
    if offset:
      milliseconds = tables.span(offset, offset)[0] * 1000
      known = f'{known}-{milliseconds:.0f}'
  return {
    'id': known,
    'text': row.get('text'),
    'duration': row.get('duration'),
    'offset': offset,
    'speaker': row.get('speaker'),
    'language': row.get('lang'),
    'split': split,
  }


def read_tarred(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a tarred data set.

  Raises:
    UserError: There is no manifest, or no tar.
  """
  base.only(options.extra, ())
  shards = sorted(
    (int(_SHARD.search(path.name)[1]), path)
    for path in source.glob('audio_*.tar')
    if _SHARD.search(path.name)
  )
  if not shards:
    raise errors.UserError(f'{source}: found no audio_0.tar, audio_1.tar, ….')
  split = tables.split_named(source.absolute().name)
  with tables.Lookup(source, many=True) as lines:
    yield from _load(source, lines)
    for number, path in shards:
      safe = base.guarded(
        str(path),
        base.inside,
        options.root(source),
        path.absolute(),
      )
      if isinstance(safe, base.Rejected):
        yield safe
        continue
      for member in tars.members(safe):
        if isinstance(member, base.Rejected):
          yield member
        else:
          yield from _items(path, number, lines, *member, split)
    yield from lines.left('audio: no shard has the recording of this line.')


def _load(source, lines):
  """Keeps the lines of the manifests by shard and recording."""
  paths = [source / _TARRED]
  if not paths[0].is_file():
    folder = source / 'sharded_manifests'
    paths = sorted(folder.glob('manifest_*.json')) or paths
  total = 0
  for path in paths:
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
      key = f'{row.get("shard_id", "")}/{_stem(file)}'
      # `total` and not `number`: lines of several manifests have one.
      refused = lines.add(total, key, json.dumps([path.name, number, row]))
      if refused is not None:
        yield refused


def _stem(file: str) -> str:
  """What NeMo tells a recording by: its name without folder and ending."""
  return pathlib.PurePosixPath(file).stem


def _items(path, shard, lines, name, data, split):
  where = f'{path}!{name}'
  audio_name = f'{tars.stem(path)}/{name}'
  stem = _stem(name)
  found = lines.take(f'{shard}/{stem}') or lines.take(f'/{stem}')
  if not found:
    reason = 'text: no line of the manifest names this recording.'
    yield base.Rejected(where, reason, id=stem, file=name)
  for _, value in found:
    _, number, row = json.loads(value)
    said = base.guarded(
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
