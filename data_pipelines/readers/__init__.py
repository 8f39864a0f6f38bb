"""Readers of corpus formats, by the name that `ingest --format` takes.

A line of `READERS` adds a format; its module is loaded when it is used.
"""

import dataclasses
import importlib
import pathlib
from typing import Iterator

from data_pipelines.readers import detection
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.storage import files


@dataclasses.dataclass(frozen=True)
class Format:
  """A format: where its reader is, and how it is told from others.

  Attributes:
    reader: `module` or `module:function` below this package; the function is
      `read` where none is named.
    summary: What SOURCE is, in a line.
    marks: Patterns (globs) of files that a source of this format has, for
      `--format=auto`: all of them must be met.
    hints: Patterns; where no marks are met, a source of this format has files
      of one of them.
    line: Fields; where neither marks nor hints tell a format, the first JSON
      line of a file of this one has one of them.
  """

  reader: str
  summary: str
  marks: tuple[str, ...] = ()
  hints: tuple[str, ...] = ()
  line: tuple[str, ...] = ()

  def load(self) -> base.Reader:
    """The reader."""
    module, _, function = self.reader.partition(':')
    return getattr(
      importlib.import_module(f'{__name__}.{module}'), function or 'read'
    )

  def read(
    self, source: pathlib.Path, options: base.Options
  ) -> Iterator[base.Item | base.Rejected]:
    """Reads a corpus; see `base`."""
    return self.load()(source, options)

  def fits(self, source: pathlib.Path) -> bool:
    """Whether `source` has what marks this format."""
    if files.is_dir(source):
      return bool(self.marks) and all(
        detection.has(source, mark) for mark in self.marks
      )
    return len(self.marks) == 1 and detection.has(source, self.marks[0])


READERS: dict[str, Format] = {
  'folder': Format(
    'speech.folder',
    'recordings and metadata.csv, .tsv or .jsonl; or such a table',
    ('metadata.*',),
    line=('file',),
  ),
  'librispeech': Format(
    'speech.librispeech',
    'train-clean-100/SPEAKER/CHAPTER/*.trans.txt and flac',
    ('[td][ere][asv]*/*/*/*.trans.txt',),
    hints=('LibriSpeech/*/*/*/*.trans.txt',),
  ),
  'aishell1': Format(
    'speech.aishell:read_1',
    'wav/train/S0002/*.wav and transcript/aishell_transcript_v0.8.txt',
    ('transcript/aishell_transcript*.txt',),
  ),
  'aishell2': Format(
    'speech.aishell:read_2', 'wav.scp and trans.txt', ('wav.scp', 'trans.txt')
  ),
  'wenetspeech': Format(
    'speech.wenetspeech:read_wenetspeech',
    'WenetSpeech.json and its audio/',
    ('WenetSpeech.json',),
  ),
  'gigaspeech': Format(
    'speech.wenetspeech:read_gigaspeech',
    'GigaSpeech.json and its audio/',
    ('GigaSpeech.json',),
  ),
  'kaldi': Format(
    'speech.kaldi',
    'wav.scp, text and maybe utt2spk, segments',
    ('wav.scp', 'text'),
  ),
  'wenet': Format(
    'speech.wenet:read_raw',
    'data.list: {"key", "wav", "txt"} a line',
    ('data.list',),
    line=('wav',),
  ),
  'wenet_shards': Format(
    'speech.wenet:read_shards',
    'list of tars with key.wav and key.txt',
    ('shards.list',),
  ),
  'nemo': Format(
    'speech.nemo:read_manifest',
    'manifests: {"audio_filepath", "duration", "text"} a line',
    line=('audio_filepath',),
  ),
  'nemo_tarred': Format(
    'speech.nemo:read_tarred',
    'a manifest and its audio_*.tar',
    ('audio_*.tar',),
    hints=('*/audio_*.tar',),
  ),
  'lhotse': Format(
    'speech.lhotse',
    '*cuts*.jsonl[.gz], or recordings and supervisions',
    line=('supervisions', 'sources', 'recording_id'),
  ),
  'lhotse_shar': Format(
    'speech.lhotse:read_shar',
    'cuts.000000.jsonl.gz and recording.000000.tar',
    ('cuts.*.jsonl.gz', 'recording.*.tar'),
  ),
  'webdataset': Format(
    'speech.webdataset',
    'tars with key.flac or key.jpg, and key.txt or key.json',
  ),
  'parquet': Format('parquet', 'Hugging Face: audio or image, and text'),
  'tfds': Format(
    'tfds',
    'a data set that TFDS has prepared',
    ('dataset_info.json', 'features.json'),
    hints=('*/*/features.json', '*/*/*/features.json'),
  ),
  'seed_tts': Format(
    'speech.seed_tts',
    'meta.lst: utt|prompt_text|prompt_wav|text',
    ('meta.lst',),
  ),
  'lrc': Format(
    'speech.lrc',
    'songs with lyrics beside them: TRACK.mp3 and TRACK.lrc',
    hints=('*.lrc', '*/*.lrc', '*/*/*.lrc'),
  ),
  'image_jsonl': Format(
    'images', '{"image", "caption"} a line, and the files', line=('image',)
  ),
  'text_jsonl': Format('texts:read_jsonl', '{"text"} a line', line=('text',)),
  'text_txt': Format('texts:read_txt', 'a document a line, or a paragraph'),
  'text_parquet': Format('parquet:read_text', 'a column text'),
  'preference_jsonl': Format(
    'preferences.reader',
    '{"prompt", "chosen", "rejected"} a line, {"prompt", "completion", '
    '"label"}, or answers with ranks or scores',
    line=('rejected', 'completions', 'answers', 'label'),
  ),
  'preference_parquet': Format(
    'preferences.reader:read_parquet', 'the same as columns'
  ),
  'chat_jsonl': Format(
    'chat',
    '{"messages": [{"role", "content"}]} a line, or in an array',
    line=('messages', 'conversations'),
  ),
}


def choose(name: str, source: pathlib.Path) -> Format:
  """The format of a name; `auto` looks at what is there.

  Raises:
    UserError: There is no such source, or not one format that fits it.
  """
  if not files.exists(source):
    raise errors.UserError(f'{source}: no such file or folder.')
  if name != 'auto':
    return READERS[name]
  found = detection.detect(source, READERS)
  if len(found) != 1:
    raise errors.UserError(
      f'{source}: it looks like {" and ".join(found) or "no format"}; name '
      f'one by --format: {", ".join(READERS)}.'
    )
  return READERS[found[0]]
