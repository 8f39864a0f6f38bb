"""`wenet` and `wenet_shards`: what WeNet's tools make for its trainer.

    data.list      {"key", "wav", "txt"[, "start", "end", "channel"]} a line
    shards.list    path of a tar a line
    shard_0.tar    key1.txt, key1.wav, key2.txt, key2.wav, …

SOURCE is the list or its folder; for shards also a folder of tars, or a tar.
The key of a member is its name up to the last dot.
"""

import pathlib
from typing import Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tables
from data_pipelines.readers.common import tars
from data_pipelines.readers.speech import webdataset
from step_audio_jax import errors
from step_audio_jax.storage import files


def read_raw(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a raw list; raises `UserError` where it cannot be opened."""
  base.check_options(options.extra, ())
  root = options.root(source)
  path = _list(source, options, 'data.list')
  split = tables.split_named(path.absolute().parent.name)
  for line in base.json_lines(path):
    if isinstance(line, base.Rejected):
      yield line
      continue
    number, row = line
    yield base.reject_on_error(
      f'{path}:{number}',
      _raw_item,
      root,
      path,
      number,
      row,
      split,
      id=row.get('key'),
      line=number,
      file=row.get('wav'),
    )


def _raw_item(root, path, number, row, split):
  audio, name = base.locate(root, row.get('wav'), 'wav')
  said = {
    'id': row.get('key'),
    'text': row.get('txt'),
    'speaker': row.get('speaker', row.get('spk')),
    'language': row.get('lang', row.get('language')),
    'channel': row.get('channel'),
    'split': split,
  }
  if 'start' in row or 'end' in row:
    said['offset'], said['duration'] = tables.offset_and_duration(
      row.get('start', 0), row.get('end')
    )
  return base.Item(f'{path}:{number}', said, audio, name, line=number)


def read_shards(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads shards; raises `UserError` where there are none."""
  base.check_options(options.extra, ())
  split = tables.split_named(source.absolute().name) or tables.split_named(
    source.absolute().parent.name
  )
  for shard in _shards(source, options):
    if isinstance(shard, base.Rejected):
      yield shard
      continue
    path, stem = shard
    for sample in webdataset.samples(path, _split_name):
      if isinstance(sample, base.Rejected):
        yield sample
        continue
      key, parts = sample
      where = f'{path}!{key}'
      yield base.reject_on_error(
        where,
        _shard_item,
        where,
        stem,
        key,
        parts,
        split,
        id=key,
      )


def _split_name(name: str) -> tuple[str, str]:
  key, _, ending = name.rpartition('.')
  return key, f'.{ending.lower()}'


def _list(source, options, name):
  return base.file_of(source, options, name) if files.is_dir(source) else source


def _shards(source, options):
  """Yields (path, name without endings) of each shard, or a `Rejected`."""
  if files.is_dir(source) and not files.is_file(source / 'shards.list'):
    found = sorted(
      path for path in files.list_folder(source) if tars.is_tar(path)
    )
    if not found:
      raise errors.UserError(f'{source}: found neither shards.list nor *.tar.')
    lines = ((str(path), None, path.absolute()) for path in found)
  elif tars.is_tar(source):
    lines = ((str(source), None, source.absolute()),)
  else:
    lines = _listed(_list(source, options, 'shards.list'))
  for line in lines:
    if isinstance(line, base.Rejected):
      yield line
      continue
    where, number, name = line
    found = base.reject_on_error(
      where, _opened, options.root(source), name, line=number, file=name
    )
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, below = found
    yield path, str(pathlib.PurePosixPath(below).parent / tars.stem(below))


def _listed(path):
  for line in base.table_lines(path):
    if isinstance(line, base.Rejected):
      yield line
    else:
      number, name = line
      yield f'{path}:{number}', number, name.strip()


def _opened(root, name):
  path, below = base.locate(root, name, 'shard')
  if not files.is_file(path):
    raise errors.UserError(f'shard: {path}: no such file.')
  return path, below


def _shard_item(where, stem, key, parts, split):
  found = dict(parts)
  endings = [one for one in found if one in media.AUDIO]
  if len(endings) != 1:
    raise errors.UserError(
      f'audio: the shard has {" and ".join(endings) or "no recording"} of this '
      'key, expected one recording.'
    )
  (ending,) = endings
  text = None
  if '.txt' in found:
    text = webdataset.decode_text(found['.txt'])
  said = {'id': key, 'text': text, 'split': split}
  return base.Item(where, said, found[ending], f'{stem}/{key}{ending}')
