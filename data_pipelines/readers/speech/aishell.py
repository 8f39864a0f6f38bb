"""`aishell1` and `aishell2`.

    wav/{train,dev,test}/S0002/BAC009S0002W0122.wav       AISHELL-1
    transcript/aishell_transcript_v0.8.txt    BAC009S0002W0122 而 对 楼市 …

    wav/C0001/IC0001W0001.wav                             AISHELL-2
    wav.scp      IC0001W0001<tab>wav/C0001/IC0001W0001.wav
    trans.txt    IC0001W0001<tab>厨房用品

AISHELL-1 puts spaces between words, which are taken out. It has recordings
without a transcript; they go to the quarantine. `--subset` takes one of its
parts; the table has the transcripts of all, told apart by their speakers.
SOURCE is `data_aishell`; of AISHELL-2, `iOS/data`, or a `dev` or `test` folder,
which name their split.
"""

import pathlib
import re
from typing import Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import tables
from data_pipelines.readers.speech import kaldi
from step_audio_jax import errors
from step_audio_jax.storage import files

_TRANSCRIPT = 'aishell_transcript_v0.8.txt'
_SPEAKER = re.compile(r'S(\d{4})W')
_FIRST = {'test': 764, 'dev': 724, 'train': 0}  # speaker of a part


def read_1(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads AISHELL-1.

  Raises:
    UserError: There is no transcript or no folder of recordings.
  """
  base.check_options(options.extra, ())
  root = options.root(source)
  wav = source / 'wav'
  if not files.is_dir(wav):
    raise errors.UserError(f'{wav}: no such folder, expected train, dev, test.')
  table = base.file_of(source, options, f'transcript/{_TRANSCRIPT}')
  with tables.Lookup(table) as texts:
    yield from texts.load()
    for path in _recordings(wav, options.subset):
      yield base.reject_on_error(
        str(path), _item_1, root, texts, path, id=path.stem, file=path.name
      )
    for one in texts.left(f'a transcript without a recording in {wav}.'):
      if options.subset in (None, _part(one.id)):
        yield one


def _part(name: str) -> str | None:
  """The part that an utterance belongs to, by its speaker."""
  found = _SPEAKER.search(name)
  number = int(found[1]) if found else 0
  return next((p for p, n in _FIRST.items() if found and number >= n), None)


def _item_1(root, texts, path):
  text = texts.get(path.stem)
  audio, audio_name = base.locate(root, path.absolute())
  said = {
    'id': path.stem,
    'text': text and ''.join(text.split()),
    'language': 'zh',
    'speaker': path.parent.name,
    'split': tables.split_named(path.parent.parent.name),
  }
  return base.Item(str(path), said, audio, audio_name)


def _recordings(
  wav: pathlib.Path, subset: str | None
) -> Iterator[pathlib.Path]:
  """Recordings of one speaker after the other."""
  parts = sorted(files.list_folders(wav))
  if subset is not None:
    parts = [part for part in parts if part.name == subset]
    if not parts:
      raise errors.UserError(f'{wav}: found no folder {subset}, expected it.')
  for split in parts:
    for speaker in sorted(files.list_folders(split)):
      yield from sorted(files.glob(speaker, '*.wav'))


def read_2(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads AISHELL-2.

  Raises:
    UserError: `wav.scp` or `trans.txt` cannot be opened.
  """
  base.check_options(options.extra, ())
  yield from kaldi.read_tables(
    source,
    options,
    'trans.txt',
    speaker_of=lambda path: pathlib.PurePosixPath(path).parent.name or None,
    language='zh',
    split=tables.split_named(source.name) or 'train',
  )
