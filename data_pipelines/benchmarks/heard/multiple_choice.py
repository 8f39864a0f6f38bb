"""Multiple choice about what is heard: MMAU, MMAR, MMSU, AudioMCQ-StrongAC.

    MMAU        mmau-test-mini.json: id, audio_id (./test-mini-audios/…),
                question, choices, answer, task, category, sub-category,
                difficulty; 1,000. The answers of `test` are not public.
    MMAR        MMAR-meta.json or .jsonl: id, audio_path (./audio/…), question,
                choices, answer, modality, category, sub-category, language;
                1,000. audio/, or mmar-audio.tar.gz unopened.
    MMSU        question/mmsu.jsonl, or data/*.parquet: id, question, choice_a
                to choice_d, answer_gt, task_name, category, sub-category,
                audio_path or audio; 5,000.
    AudioMCQ    data.jsonl of AudioMCQ-StrongAC-GeminiCoT: id, audio_path,
                question, choices, answer, question_type, source_dataset;
                19,480. Where a row has `audio-contribution`, only strong ones
                are asked.

MMAU's public versions are told apart by their release, v05.15.25 or older,
which the file does not name: give it as `release`. Options are placed by seed,
not as the files have them.
"""

import dataclasses
from typing import Any, Mapping

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks.heard import reading
from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import options

_LETTERED = ('choice_a', 'choice_b', 'choice_c', 'choice_d')


@dataclasses.dataclass(frozen=True)
class Layout:
  """How one of them is laid out.

  Attributes:
    tables: Patterns, in the order in which they are tried.
    audio: Fields that name a recording.
    answer: Field of the answer.
    category: Field that figures are told apart by.
    about: Further fields of a row that are kept.
    folder: Of recordings.
    tar: The same, not unpacked.
  """

  tables: tuple[str, ...]
  audio: tuple[str, ...] = ('audio_path',)
  answer: str = 'answer'
  category: str = 'category'
  about: tuple[str, ...] = ('category', 'sub-category')
  folder: str = 'audio'
  tar: str = ''


LAYOUTS: Mapping[str, Layout] = {
  'mmau': Layout(
    ('mmau-test-mini.json',),
    audio=('audio_id',),
    category='task',
    about=('category', 'sub-category', 'difficulty'),
    folder='test-mini-audios',
    tar='test-mini-audios.tar.gz',
  ),
  'mmar': Layout(
    ('MMAR-meta.json', 'MMAR-meta.jsonl'),
    category='modality',
    about=('category', 'sub-category', 'language'),
    tar='mmar-audio.tar.gz',
  ),
  'mmsu': Layout(
    ('question/mmsu.jsonl', 'mmsu.jsonl', 'data/*.parquet', '*.parquet'),
    audio=('audio', 'audio_path'),
    answer='answer_gt',
    category='category',
    about=('task_name', 'sub-category'),
  ),
  'audiomcq': Layout(
    ('data.jsonl',),
    category='question_type',
    about=('source_dataset',),
  ),
}


@dataclasses.dataclass(frozen=True)
class Heard(options.Options):
  """One of these benchmarks.

  Attributes:
    layout: Of `LAYOUTS`.
    release: Its version, where the files do not name it.
    expected: Questions of the public set.
  """

  layout: str = 'mmau'
  release: str = ''
  expected: int = 0

  def __post_init__(self):
    super().__post_init__()
    if self.layout not in LAYOUTS:
      raise errors.UserError(
        f'benchmark {self.name}: layout: found {self.layout!r}, expected one '
        f'of {", ".join(LAYOUTS)}.'
      )

  def read(self) -> benchmark.Reading:
    layout, root = LAYOUTS[self.layout], self.path()
    paths, found = reading.parts(self.folder, layout.tables)
    archive = None
    if layout.tar:
      archive = reading.Archive(root, layout.folder, layout.tar)
    columns = (
      *('id', 'question', 'choices', *_LETTERED),
      *(*layout.audio, layout.answer, layout.category, *layout.about),
    )
    rows = reading.rows(paths, columns)
    found += reading.made(rows, lambda row: self._item(layout, archive, row))
    return gathering.reading(
      self, found, expected=self.expected, version=self.release
    )

  def _item(self, layout, archive, row):
    if row.text('audio-contribution') not in ('', 'strong'):
      raise errors.UserError('audio-contribution: not strong.')
    value = row.get(*layout.audio)
    if archive is not None and isinstance(value, str):
      speech = archive.recording(value)
    else:
      speech = reading.recording(self.path(), value)
    return self.item(
      row.id('id'),
      speech,
      row.needed('question'),
      _options(row),
      row.needed(layout.answer),
      category=row.text(layout.category),
      **{_plain(name): row.text(name) for name in layout.about},
    )


def _plain(name: str) -> str:
  """A column as a field; `category` may tell figures apart elsewhere."""
  name = name.replace('-', '_')
  return 'kind' if name == 'category' else name


def _options(row: reading.Row) -> Any:
  found = row.get('choices')
  if found is None:
    return [text for name in _LETTERED if (text := row.text(name))]
  return reading.listed(found) if isinstance(found, str) else found
