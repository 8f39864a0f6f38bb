"""`librispeech`: the tree of LibriSpeech, and of corpora laid out like it.

    SOURCE/train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac
                                          /SPEAKER-CHAPTER.trans.txt
    SOURCE/SPEAKERS.TXT, CHAPTERS.TXT      (not needed)

SOURCE is that folder, the `LibriSpeech` in it, or one part such as
`train-clean-100`. A part gives its split: `dev-other` is `dev`; `--subset`
takes a single part.
"""

import pathlib
from typing import Iterator

from data_pipelines.readers import base
from data_pipelines.readers import tables
from step_audio_jax import errors

_AUDIO = ('.flac', '.wav', '.mp3', '.ogg', '.opus')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads the tree, chapter by chapter.

  Raises:
    UserError: There is no part of the corpus.
  """
  base.only(options.extra, ())
  root = options.root(source)
  for part in _parts(source, options.subset):
    for chapter in (
      chapter for speaker in _folders(part) for chapter in _folders(speaker)
    ):
      yield from _chapter(root, chapter, tables.split_named(part.name))


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
  try:
    return sorted(one for one in path.iterdir() if one.is_dir())
  except OSError as error:
    raise errors.UserError(f'{path}: {error.strerror}.') from error


def _parts(source, subset):
  if not source.is_dir():
    raise errors.UserError(f'{source}: a file, expected a folder.')
  for root in (source, source / 'LibriSpeech'):
    if root.is_dir():
      found = [p for p in _folders(root) if tables.split_named(p.name)]
      if found:
        break
  else:
    found = [source] if tables.split_named(source.name) else []
  if subset is not None:
    found = [part for part in found if part.name == subset]
  if not found:
    raise errors.UserError(
      f'{source}: found no folder {subset or "train-*, dev-* or test-*"}.'
    )
  return found


def _chapter(root, chapter, split):
  paths = {
    path.stem: path
    for path in sorted(chapter.iterdir())
    if path.suffix in _AUDIO
  }
  left = dict(paths)
  for table in sorted(chapter.glob('*.trans.txt')):
    safe = base.guarded(str(table), base.inside, root, table.absolute(), 'file')
    if isinstance(safe, base.Rejected):
      yield safe
      continue
    for pair in tables.pairs(table):
      if isinstance(pair, base.Rejected):
        yield pair
        continue
      number, name, _ = pair
      where = f'{table}:{number}'
      left.pop(name, None)
      yield base.guarded(
        where,
        _item,
        root,
        chapter,
        where,
        pair,
        paths.get(name),
        split,
        id=name,
        line=number,
      )
  for name, path in left.items():
    said = 'no line of a *.trans.txt gives its transcript.'
    yield base.Rejected(str(path), said, id=name, file=path.name)


def _item(root, chapter, where, pair, path, split):
  number, name, text = pair
  if path is None:
    raise errors.UserError(f'audio: no recording {name} in {chapter}.')
  audio, audio_name = base.locate(root, path.absolute())
  said = {
    'id': name,
    'text': text,
    'language': 'en',
    'speaker': chapter.parent.name,
    'split': split,
  }
  return base.Item(where, said, audio, audio_name, line=number)
