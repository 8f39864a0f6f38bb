"""Sets whose texts are public and whose recordings you make yourself.

Step-Audio asks ComplexBench and HSK-6 aloud and has not published its audio.
Speak the texts with any system, and lay them out as

    data_final.json       of thu-coai/ComplexBench: main_id, instruction,
                          instruction_en, category, scoring_questions
    wav/MAIN_ID.wav       its instruction, spoken

    questions.jsonl       {"id", "question", "choices", "answer"}; the answer is
                          one of the choices, or its letter
    wav/ID.wav            what is heard before the question of the exam

`.flac`, `.mp3` and others may be in place of `.wav`. ComplexBench's questions
of scoring (`point_id`, `question`, `dep`) are asked of a judge, one by one. The
layout of HSK-6 is ours; the public copy of HSK's levels (TwinkStart/speech-HSK)
has columns that its card does not tell.
"""

import dataclasses

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks.heard import reading
from data_pipelines.readers.common import media
from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import following
from step_audio_jax.evaluation.benchmarks.answers import options
from step_audio_jax.storage import files

_FOLDER = 'wav'


def _recorded(root: files.AnyPath, name: str, text: str = ''):
  """The recording of an item, whatever its format."""
  for ending in media.AUDIO:
    if files.is_file(root / _FOLDER / f'{name}{ending}'):
      return reading.recording(root / _FOLDER, f'{name}{ending}', text)
  raise errors.UserError('audio: its file is not there.')


@dataclasses.dataclass(frozen=True)
class ComplexBench(following.Criteria):
  """Instructions with many conditions, spoken.

  Attributes:
    language: zh, or en: which of the two texts was spoken.
    expected: Instructions of the public set.
  """

  language: str = 'zh'
  expected: int = 0

  def __post_init__(self):
    super().__post_init__()
    if self.language not in ('zh', 'en'):
      raise errors.UserError(
        f'benchmark {self.name}: language: found {self.language!r}, expected '
        'zh or en.'
      )

  def read(self) -> benchmark.Reading:
    root = self.path()
    table = gathering.one_of(
      self.folder, ('data_final.json', 'data/data_final.json')
    )
    found = reading.made(reading.rows(table), lambda row: self._item(root, row))
    return gathering.reading(self, found, expected=self.expected)

  def _item(self, root, row):
    name = row.needed('main_id')
    suffix = '_en' if self.language == 'en' else ''
    text = row.needed(f'instruction{suffix}')
    return benchmark.heard(
      name,
      _recorded(root, name, text),
      language=self.language,
      category='+'.join(reading.answers(row.get('category'))),
      criteria=list(self._criteria(row, f'question{suffix}')),
    )

  def _criteria(self, row, field):
    found = row.get('scoring_questions')
    if not isinstance(found, (list, tuple)) or not found:
      raise errors.UserError('scoring_questions: empty, expected some.')
    for one in found:
      question = one.get(field) if isinstance(one, dict) else None
      if not isinstance(question, str) or not question.strip():
        raise errors.UserError(f'scoring_questions: {field}: missing.')
      yield following.criterion(one.get('point_id'), question, one.get('dep'))


@dataclasses.dataclass(frozen=True)
class Exam(options.Options):
  """Multiple choice over recordings of your own, as HSK-6.

  Attributes:
    language: Of its questions.
    expected: Questions that there should be.
  """

  language: str = 'zh'
  expected: int = 0

  def read(self) -> benchmark.Reading:
    root = self.path()
    table = gathering.one_of(self.folder, ('questions.jsonl',))
    found = reading.made(reading.rows(table), lambda row: self._item(root, row))
    return gathering.reading(self, found, expected=self.expected)

  def _item(self, root, row):
    name = row.needed('id')
    return self.item(
      name,
      _recorded(root, name, row.text('text')),
      row.needed('question'),
      row.get('choices'),
      row.needed('answer'),
      language=self.language,
    )
