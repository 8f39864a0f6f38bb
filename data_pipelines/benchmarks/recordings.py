"""Speech recognition: recordings whose words are known.

A benchmark is a few lines around a reader of `data_pipelines.readers`; what
that rejects, and what `ingest` would refuse, is left out by reason.
"""

import abc
import dataclasses
import os
import pathlib
import re
from typing import Iterator, Mapping

from data_pipelines import readers
from data_pipelines.benchmarks import entries
from data_pipelines.benchmarks import gathering
from data_pipelines.readers.common import base
from data_pipelines.readers.common import delimited
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import transcription
from step_audio_jax.storage import files


@dataclasses.dataclass(frozen=True)
class Transcripts(transcription.Transcription):
  """Base: what a reader yields, admitted as `ingest` does.

  Attributes:
    language: Of recordings whose line names none.
    split: Of recordings that name one, those of this split; '' is all.
    expected: How many the public set has; 0 where it is not known.
  """

  language: str = 'en'
  split: str = ''
  expected: int = 0

  @abc.abstractmethod
  def found(self) -> gathering.Found:
    """Items, and what is none."""

  @property
  def version(self) -> str:
    """What the folder says of its release."""
    return ''

  def read(self) -> benchmark.Reading:
    """All recordings; raises UserError where there is nothing to hear."""
    return gathering.reading(
      self, self._items(), expected=self.expected, version=self.version
    )

  def _is_own(self, one: base.Item | base.Rejected) -> bool:
    """Whether it does not belong to another split."""
    if isinstance(one, base.Rejected) or not self.split:
      return True
    return one.fields.get('split') in (None, '', self.split)

  def _items(self) -> Iterator[benchmark.Item | gathering.Left]:
    own = filter(self._is_own, self.found())
    for one in gathering.admitted(own, self.language):
      if isinstance(one[0], str):
        yield one
        continue
      item, said = one
      if said.kind != 'speech':
        yield said.id, f'found {said.kind}, expected speech'
        continue
      about = {'seconds': said.duration}
      if said.speaker:
        about['speaker'] = said.speaker
      heard = gathering.speech(item, said)
      yield benchmark.heard(
        said.id, heard, said.text, language=said.language, **about
      )


@dataclasses.dataclass(frozen=True)
class Recordings(Transcripts):
  """Any corpus that a reader of `ingest` reads, in its own layout.

  Attributes:
    format: Of `data_pipelines.readers.READERS`; `auto` looks at the files.
    part: File or folder below the benchmark's that is read; '' is all of it.
    subset: Of a format that has parts.
    audio_root: Where recordings lie, if not below `part`.
    options: Of the reader, as `--reader_option`.
  """

  format: str = 'auto'
  part: str = ''
  subset: str = ''
  audio_root: str = ''
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    if self.format not in ('auto', *readers.READERS):
      raise errors.UserError(
        f'benchmark {self.name}: format: found {self.format!r}, expected auto '
        f'or one of {", ".join(readers.READERS)}.'
      )

  def found(self) -> gathering.Found:
    """See the base."""
    source = self.path(self.part) if self.part else files.path(self.folder)
    options = base.Options(
      audio_root=files.path(self.audio_root) if self.audio_root else None,
      subset=self.subset or None,
      extra=dict(self.options),
    )
    return readers.choose(self.format, source).read(source, options)


@dataclasses.dataclass(frozen=True)
class CommonVoice(Transcripts):
  """Common Voice: a folder with `test.tsv` and its `clips/`.

  Attributes:
    locale: Folder of the language, as in `cv-corpus-…/zh-CN`; '' where the
      benchmark's folder is that one.
    table: Whose lines are asked.
  """

  locale: str = ''
  table: str = 'test.tsv'

  # Of all releases so far; what names the file comes first.
  FIELDS = (
    'path', 'client_id', 'sentence', 'sentence_id', 'sentence_domain',
    'up_votes', 'down_votes', 'age', 'gender', 'accent', 'accents', 'variant',
    'locale', 'segment',
  )  # fmt: skip
  _RELEASE = re.compile(r'cv-corpus-[\w.-]+')

  @property
  def version(self) -> str:
    """The release that a folder above is named after."""
    place = os.fspath(files.path(self.folder))
    if not files.is_address(self.folder):
      place = os.path.abspath(place)
    found = self._RELEASE.findall(place)
    return found[-1] if found else ''

  def found(self) -> gathering.Found:
    """See the base."""
    place = self.path(self.locale) if self.locale else files.path(self.folder)
    table = place / self.table
    if not files.is_file(table):
      raise errors.UserError(
        f'{table}: no such file, expected a table of Common Voice.'
      )
    for line in delimited.Table(table, self.FIELDS).rows():
      if isinstance(line, base.Rejected):
        yield line
        continue
      number, row = line
      name = row.get('path', '')
      yield base.reject_on_error(
        f'{table}:{number}',
        self._item,
        f'{table}:{number}',
        place,
        row,
        number,
        id=pathlib.PurePosixPath(name).stem,
        line=number,
        file=name,
      )

  def _item(self, where, place, row, number) -> base.Item:
    name = row.get('path', '')
    # Releases before the fourth leave the ending out.
    file = name if pathlib.PurePosixPath(name).suffix else f'{name}.mp3'
    audio, audio_name = base.locate(place, f'clips/{file}', 'path')
    fields = {
      'id': pathlib.PurePosixPath(name).stem,
      'text': row.get('sentence'),
      'language': row.get('locale') or self.locale or None,
      'speaker': row.get('client_id'),
    }
    return base.Item(where, fields, audio, audio_name, line=number)


@dataclasses.dataclass(frozen=True)
class Fleurs(Transcripts):
  """FLEURS: `data/LOCALE/test.tsv` and the unpacked `audio/test.tar.gz`.

  Attributes:
    locale: Such as `en_us` and `cmn_hans_cn`.
    raw: Whether the reference is the text with its signs and capitals, and
      not the one in lower case without them.
  """

  locale: str = 'en_us'
  split: str = 'test'
  raw: bool = False

  # id, file, raw transcription, transcription, characters, samples, gender.
  CELLS = 7

  def found(self) -> gathering.Found:
    """See the base."""
    for place in (self.path('data', self.locale), self.path(self.locale)):
      if files.is_dir(place):
        break
    table, sounds = place / f'{self.split}.tsv', place / 'audio' / self.split
    if not files.is_dir(sounds):
      raise errors.UserError(
        f'{sounds}: no such folder, expected the recordings of FLEURS; '
        f'unpack {self.split}.tar.gz beside it.'
      )
    for line in base.table_lines(table):
      if isinstance(line, base.Rejected):
        yield line
        continue
      number, text = line
      where, cells = f'{table}:{number}', text.split('\t')
      if len(cells) != self.CELLS:
        why = f'found {len(cells)} cells, expected {self.CELLS}.'
        yield base.Rejected(where, why, line=number)
        continue
      yield base.reject_on_error(
        where,
        self._item,
        where,
        sounds,
        cells,
        number,
        id=pathlib.PurePosixPath(cells[1]).stem,
        line=number,
        file=cells[1],
      )

  def _item(self, where, sounds, cells, number) -> base.Item:
    name = cells[1]
    audio, audio_name = base.locate(sounds, name, 'file_name')
    fields = {
      'id': pathlib.PurePosixPath(name).stem,
      'text': cells[2] if self.raw else cells[3],
      'language': self.locale,
      # Several people read a sentence.
      'part_of': cells[0],
    }
    return base.Item(where, fields, audio, audio_name, line=number)


@dataclasses.dataclass(frozen=True)
class Manifest(Transcripts):
  """A split of a corpus folder of ours: `manifest.jsonl` and its files."""

  split: str = 'test'

  def found(self) -> gathering.Found:
    """Not used: a manifest is admitted already."""
    return ()

  def _items(self) -> Iterator[benchmark.Item | gathering.Left]:
    for line in manifest.stream(self.folder, kind='speech'):
      if not self.split or line.split == self.split:
        yield self._item(line)

  def _item(self, line: manifest.Utterance) -> benchmark.Item | gathering.Left:
    if not (line.text or '').strip():
      return line.id, 'text: missing, expected what is said'
    if line.audio is None:
      return line.id, 'audio: missing, expected a recording'
    try:
      path = line.audio_path(self.folder)
    except errors.UserError as error:
      return line.id, gathering.kind_of(str(error), line.id, line.audio)
    if not files.is_file(path):
      return line.id, 'audio: no such file'
    speech = chats_lib.Speech(
      id=line.id, path=os.fspath(path), text=line.text, **line.part()
    )
    return benchmark.heard(
      line.id,
      speech,
      line.text,
      language=line.language,
      seconds=line.duration,
      **{'speaker': line.speaker} if line.speaker else {},
    )


def _asr(loader, summary, layout, source, expected=0, chat=0, first=0, **told):
  """An entry of recognition; `chat` and `first` are Step-Audio's figures."""
  named = {entries.CHAT: chat, entries.PRETRAIN: first}
  rate = 'cer' if told.get('language') == 'zh' else 'wer'
  published = {who: {rate: value} for who, value in named.items() if value}
  return entries.Entry(
    f'recordings:{loader}',
    summary,
    layout,
    'rates',
    source,
    told,
    expected,
    published,
    entries.UNPUBLISHED if published else '',
  )


_AISHELL_2 = '{0}/test/wav.scp, trans.txt and wav/ of AISHELL-DEV-TEST-SET'
_LIBRI = 'LibriSpeech/{0}/SPEAKER/CHAPTER/*.trans.txt and *.flac'
_WENET = 'WenetSpeech.json and its audio/'
_VOICES = 'test.tsv and clips/ of one language'
_FLEURS = 'data/{0}/test.tsv and audio/test/*.wav'
_OPENSLR = 'openslr.org/'

ENTRIES = {
  'aishell1': _asr(
    'Recordings', 'Mandarin, read', 'transcript/, wav/test/SPEAKER/*.wav',
    f'{_OPENSLR}33', 7176, 1.95, 0.87, format='aishell1', subset='test',
    language='zh',
  ),
  **{
    f'aishell2_{device.lower()}': _asr(
      'Recordings', f'Mandarin, read, {device}', _AISHELL_2.format(device),
      'aishelltech.com/aishell_2', 5000,
      *((3.57, 2.91) if device == 'iOS' else ()),
      format='aishell2', part=f'{device}/test', language='zh',
    )
    for device in ('iOS', 'Android', 'Mic')
  },
  'wenetspeech_net': _asr(
    'Recordings', 'Mandarin of the internet', _WENET, f'{_OPENSLR}121', 24774,
    8.75, 7.62, format='wenetspeech', subset='TEST_NET', language='zh',
  ),
  'wenetspeech_meeting': _asr(
    'Recordings', 'Mandarin meetings', _WENET, f'{_OPENSLR}121', 8370,
    9.52, 7.78, format='wenetspeech', subset='TEST_MEETING', language='zh',
  ),
  'librispeech_clean': _asr(
    'Recordings', 'English, read', _LIBRI.format('test-clean'),
    f'{_OPENSLR}12', 2620, 3.11, 2.36, format='librispeech',
    subset='test-clean',
  ),
  'librispeech_other': _asr(
    'Recordings', 'English, read, harder', _LIBRI.format('test-other'),
    f'{_OPENSLR}12', 2939, 8.44, 6.32, format='librispeech',
    subset='test-other',
  ),
  'gigaspeech': _asr(
    'Recordings', 'English books, podcasts and videos',
    'GigaSpeech.json and its audio/', 'github.com/SpeechColab/GigaSpeech',
    format='gigaspeech', subset='TEST',
  ),
  'common_voice_en': _asr(
    'CommonVoice', 'English of volunteers', _VOICES, 'commonvoice.mozilla.org',
  ),
  'common_voice_zh': _asr(
    'CommonVoice', 'Mandarin of volunteers', _VOICES,
    'commonvoice.mozilla.org', language='zh',
  ),
  'fleurs_en': _asr(
    'Fleurs', 'English, read', _FLEURS.format('en_us'),
    'huggingface.co/datasets/google/fleurs', 647, locale='en_us',
  ),
  'fleurs_zh': _asr(
    'Fleurs', 'Mandarin, read', _FLEURS.format('cmn_hans_cn'),
    'huggingface.co/datasets/google/fleurs', 945, locale='cmn_hans_cn',
    language='zh',
  ),
  'manifest': _asr(
    'Manifest', 'a split of a corpus of yours', 'manifest.jsonl and its files',
    'yours',
  ),
  'recordings': _asr(
    'Recordings', 'a corpus of yours in any format of `ingest`',
    'as `format` has it; `auto` looks at the files', 'yours',
  ),
}  # fmt: skip
