"""`librispeech`: the tree of LibriSpeech, and of corpora laid out like it.

    SOURCE/train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac
                                          /SPEAKER-CHAPTER.trans.txt
    SOURCE/SPEAKERS.TXT, CHAPTERS.TXT      (not needed)

SOURCE is that folder, the `LibriSpeech` in it, or one part such as
`train-clean-100`. A part gives its split: `dev-other` is `dev`; `--subset`
takes a single part. Where recordings of several chapters have one name
(`0001.flac`), all of them are called by their paths
(`train-clean-100/19/198/0001`).
"""

import collections
import pathlib
from typing import Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import tables
from step_audio_jax import errors
from step_audio_jax.storage import files

_AUDIO = ('.flac', '.wav', '.mp3', '.ogg', '.opus')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads the tree, chapter by chapter.

  Raises:
    UserError: There is no part of the corpus.
  """
  base.check_options(options.extra, ())
  root = options.root(source)
  parts = _parts(source, options.subset)
  chapters = [
    (part, chapter)
    for part in parts
    for speaker in _folders(part)
    for chapter in _folders(speaker)
  ]
  names = collections.Counter(
    name for _, chapter in chapters for name in _recordings(chapter)[0]
  )
  shared = {name for name, count in names.items() if count > 1}
  del names
  for part, chapter in chapters:
    yield from _chapter(root, part, chapter, shared)


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
  try:
    return sorted(files.list_folders(path))
  except OSError as error:
    raise errors.UserError(f'{path}: {error.strerror}.') from error


def _parts(source, subset):
  if not files.is_dir(source):
    raise errors.UserError(f'{source}: a file, expected a folder.')
  for root in (source, source / 'LibriSpeech'):
    if files.is_dir(root):
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


def _recordings(
  chapter: pathlib.Path,
) -> tuple[dict[str, pathlib.Path], list[pathlib.Path]]:
  """Recordings by name, and those whose name another one has."""
  paths, others = {}, []
  for path in sorted(files.list_folder(chapter)):
    if path.suffix in _AUDIO and paths.setdefault(path.stem, path) != path:
      others.append(path)
  return paths, others


def _chapter(root, part, chapter, shared):
  paths, others = _recordings(chapter)
  split = tables.split_named(part.name)
  for path in others:
    said = f'{paths[path.stem].name} has the same name, expected one of them.'
    yield base.Rejected(str(path), said, id=path.stem, file=path.name)
  left = dict(paths)
  for table in sorted(files.glob(chapter, '*.trans.txt')):
    safe = base.reject_on_error(
      str(table), base.resolve_inside, root, table.absolute(), 'file'
    )
    if isinstance(safe, base.Rejected):
      yield safe
      continue
    for pair in tables.pairs(table):
      if isinstance(pair, base.Rejected):
        yield pair
        continue
      number, name, text = pair
      where = f'{table}:{number}'
      left.pop(name, None)
      known = name
      if name in shared:
        known = f'{chapter.relative_to(part.parent)}/{name}'
      yield base.reject_on_error(
        where,
        _item,
        root,
        chapter,
        where,
        number,
        paths.get(name),
        {'id': known, 'text': text, 'split': split},
        id=known,
        line=number,
      )
  for name, path in left.items():
    said = 'no line of a *.trans.txt gives its transcript.'
    yield base.Rejected(str(path), said, id=name, file=path.name)


def _item(root, chapter, where, number, path, said):
  if path is None:
    raise errors.UserError(f'audio: no recording {said["id"]} in {chapter}.')
  audio, audio_name = base.locate(root, path.absolute())
  said = {**said, 'language': 'en', 'speaker': chapter.parent.name}
  return base.Item(where, said, audio, audio_name, line=number)
