"""`webdataset`: tars whose neighbouring members with one key are a sample.

    shard-000000.tar    k1.flac, k1.txt, k2.mp3, k2.json, k3.jpg, k3.txt …

The key of a member is its name up to the first dot behind the last slash. A
sample with a recording becomes speech, one with an image an image with a
caption. Its text is `key.txt`, or else a field of `key.json`, which also
tells id, speaker and language. Other members are passed over; pickles
(`.pyd`, `.pth`, …) never open, for they can run code.

SOURCE is a tar, or a folder of them. As keys begin anew in each shard of many
corpora, ids are `shard/key` unless the JSON has an `id`.
"""

import pathlib
from typing import Callable, Iterator

from data_pipelines.readers import base
from data_pipelines.readers import columns as columns_lib
from data_pipelines.readers import media
from data_pipelines.readers import tars
from step_audio_jax import errors

FIELDS = ('id', 'text', 'speaker', 'language', 'split', 'channel')
# Known so that a sample which has nothing else is counted.
PICKLES = ('.pyd', '.pkl', '.pickle', '.pth', '.pt')
_KNOWN = (*media.AUDIO, *media.IMAGES, '.txt', '.json', *PICKLES)


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads the tars one after the other."""
  columns = columns_lib.Columns.of(options, FIELDS)
  for found in columns_lib.files_of(source, options, tars.ENDINGS):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem = found
    for sample in samples(path):
      if isinstance(sample, base.Rejected):
        yield sample
        continue
      key, parts = sample
      where = f'{path}!{key}'
      yield base.guarded(
        where,
        _item,
        columns,
        where,
        f'{stem}/{key}',
        parts,
        id=f'{stem}/{key}',
      )


def samples(
  path: pathlib.Path,
  split: Callable[[str], tuple[str, str]] | None = None,
) -> Iterator[tuple[str, list[tuple[str, bytes]]] | base.Rejected]:
  """Yields (key, [(ending, bytes)]) of a tar; holds one sample.

  A key that has an ending twice tells no sample from another: each of its
  members behind the first of their ending is refused, and what they belong to.

  Args:
    path: The tar.
    split: Name → (key, ending); by default `split_name`.
  """
  split = split or split_name
  key, parts, mixed = None, {}, False

  def sample():
    if not mixed:
      return key, list(parts.items())
    return base.Rejected(
      f'{path}!{key}', f'several samples have the key {key!r}.', id=key
    )

  for member in tars.members(path, wanted):
    if isinstance(member, base.Rejected):
      yield member
      continue
    name, data = member
    new, ending = split(name)
    if parts and new != key:
      yield sample()
      parts, mixed = {}, False
    key = new
    if ending in parts:
      mixed = True
      yield base.Rejected(
        f'{path}!{name}',
        f'one more {ending[1:]} with the key {key!r}, expected one.',
        id=key,
      )
    else:
      parts[ending] = data
  if parts:
    yield sample()


def split_name(name: str) -> tuple[str, str]:
  """`a/b.seg1.WAV` → (`a/b`, `.wav`)."""
  folder, slash, last = name.rpartition('/')
  key, _, rest = last.partition('.')
  return f'{folder}{slash}{key}', f'.{rest.rpartition(".")[2].lower()}'


def wanted(name: str) -> bool:
  """Whether a member can be part of a sample."""
  hidden = name.rpartition('/')[2].startswith('.')
  return not hidden and split_name(name)[1] in _KNOWN


def _item(columns, where, place, parts) -> base.Item:
  row, text, pickled = {}, None, ''
  found: dict[str, tuple[str, bytes]] = {}
  for ending, data in parts:
    if ending == '.json':
      row = base.parse_object(data)
    elif ending == '.txt':
      text = decoded(data)
    elif ending in PICKLES:
      pickled = f' ({ending[1:]} is not opened: a pickle can run code)'
    else:
      kind = 'audio' if ending in media.AUDIO else 'image'
      if kind in found:
        raise errors.UserError(
          f'{kind}: found {found[kind][0]} and {ending} of one key, expected '
          'one of them.'
        )
      found[kind] = ending, data
  if text is not None and 'text' not in columns.chosen:
    row = {**row, columns.names['text'][0]: text}
  kind = 'speech' if 'audio' in found else 'image_text'
  fields = columns.fields(row, kind=kind)
  fields['id'] = fields['id'] or place
  if 'audio' in found:
    ending, data = found['audio']
    return base.Item(where, fields, audio=data, audio_name=place + ending)
  if 'image' in found:
    ending, data = found['image']
    return base.Item(where, fields, image=data, image_name=place + ending)
  raise errors.UserError(
    'audio, image: neither is there, expected one of '
    f'{", ".join(s[1:] for s in media.AUDIO + media.IMAGES)} beside the text'
    f'{pickled}.'
  )


def decoded(data: bytes) -> str:
  """The text of a member; raises `UserError` where it is not UTF-8."""
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise errors.UserError(f'text: not UTF-8: {error}.') from error
