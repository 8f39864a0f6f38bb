"""`webdataset`: tars whose neighbouring members with one key are a sample.

    shard-000000.tar    k1.flac, k1.txt, k2.mp3, k2.json, k3.jpg, k3.txt …

The key of a member is its name up to the first dot behind the last slash; all
that follows is its extension, as the format has it. So `talk.1.wav` and
`talk.2.txt` belong to the sample `talk`, as its `1.wav` and its `2.txt`, of
which nobody says that they belong together: such a sample is refused. Tars
whose names have dots are read up to the last one by `wenet_shards`.

A sample with a recording becomes speech, one with an image an image with a
caption. Its text is `key.txt`, or else a field of `key.json`, which also
tells id, speaker and language. Other members are passed over; pickles
(`.pyd`, `.pth`, …) never open, for they can run code.

SOURCE is a tar, or a folder of them. As keys begin anew in each shard of many
corpora, ids are `shard/key` unless the JSON has an `id`.
"""

import pathlib
from typing import Callable, Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tars
from step_audio_jax import errors
from step_audio_jax.audio import foreign

FIELDS = ('id', 'text', 'speaker', 'language', 'split', 'channel')
# Known so that a sample which has nothing else is counted.
PICKLES = ('.pyd', '.pkl', '.pickle', '.pth', '.pt')
MEDIA = (*media.AUDIO, *media.IMAGES)
_KNOWN = (*MEDIA, '.txt', '.json', *PICKLES, *foreign.ENDINGS)
_WAY_ON = (
  'a key is a name up to its first dot, and its members stand next to each '
  'other (--format=wenet_shards takes names up to the last dot).'
)


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads the tars one after the other."""
  columns = columns_lib.Columns.from_options(options, FIELDS)
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
      yield base.reject_on_error(
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

  A key that has an extension twice tells no sample from another: each of its
  members behind the first of their ending is refused, and what they belong
  to. So are members whose extensions do not say that they belong together.

  Args:
    path: The tar.
    split: Name → (key, extension); by default `split_name`.
  """
  hint = _WAY_ON if split is None else 'expected each ending once.'
  split = split or split_name
  key, parts, mixed, crowded = None, {}, False, False

  for member in tars.members(path, is_sample_member):
    if isinstance(member, base.Rejected):
      yield member
      continue
    name, data = member
    new, extension = split(name)
    if parts and new != key:
      yield from _sample(path, key, parts, (mixed, crowded), hint)
      parts, mixed, crowded = {}, False, False
    key, ending = new, _ending(extension)
    plain = extension == ending
    if extension in parts or not plain and ending in map(_ending, parts):
      mixed, crowded = mixed or plain, crowded or not plain
      yield base.Rejected(
        f'{path}!{name}',
        f'one more {ending[1:]} with the key {key!r}, expected one.',
        id=key,
      )
    else:
      parts[extension] = data
  if parts:
    yield from _sample(path, key, parts, (mixed, crowded), hint)


def _sample(path, key, parts, twice, hint):
  """The sample of a key, and what of it is none.

  Args:
    path: The tar.
    key: Of all `parts`.
    parts: Extension → bytes.
    twice: Whether an extension without dots came twice, and whether an ending
      of those with dots did.
    hint: How to go on.
  """
  mixed, crowded = twice
  plain = [(e, data) for e, data in parts.items() if e == _ending(e)]
  dotted = [(e, data) for e, data in parts.items() if e != _ending(e)]
  whole = any(extension in MEDIA for extension, _ in plain)
  fronts = {e.removesuffix(_ending(e)) for e in parts}
  where = f'{path}!{key}'
  if mixed or crowded and not whole:
    reason = f'several samples have the key {key!r}; {hint}'
    yield base.Rejected(where, reason, id=key)
  elif whole or len(fronts) == 1:
    for extension, _ in dotted if whole else ():
      if _ending(extension) in MEDIA:
        yield base.Rejected(
          f'{where}{extension}', f'another part of {key!r}; {hint}', id=key
        )
    yield key, plain or [(_ending(e), data) for e, data in dotted]
  else:
    extensions = ' and '.join(e[1:] for e in parts)
    reason = (
      f'{key!r} has {extensions}, which nothing says belong together; {hint}'
    )
    yield base.Rejected(where, reason, id=key)


def split_name(name: str) -> tuple[str, str]:
  """`v1.0/b.seg1.WAV` → (`v1.0/b`, `.seg1.wav`)."""
  folder, slash, last = name.rpartition('/')
  key, dot, rest = last.partition('.')
  return f'{folder}{slash}{key}', f'{dot}{rest.lower()}'


def _ending(extension: str) -> str:
  """`.seg1.wav` → `.wav`."""
  return f'.{extension.rpartition(".")[2]}'


def is_sample_member(name: str) -> bool:
  """Whether a member can be part of a sample."""
  hidden = name.rpartition('/')[2].startswith('.')
  return not hidden and _ending(split_name(name)[1]) in _KNOWN


def _item(columns, where, place, parts) -> base.Item:
  row, text, passed = {}, None, ''
  found: dict[str, tuple[str, bytes]] = {}
  for ending, data in parts:
    if ending == '.json':
      row = base.parse_object(data)
    elif ending == '.txt':
      text = decode_text(data)
    elif ending in PICKLES:
      passed = f' ({ending[1:]} is not opened: a pickle can run code)'
    elif ending in foreign.ENDINGS:
      passed = f' ({ending[1:]} is not read: {foreign.WAY_ON})'
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
    f'{passed}.'
  )


def decode_text(data: bytes) -> str:
  """The text of a member; raises `UserError` where it is not UTF-8."""
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise errors.UserError(f'text: not UTF-8: {error}.') from error
