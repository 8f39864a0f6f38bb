"""Questions that are asked aloud and have a right answer.

OpenAudioBench (baichuan-inc/OpenAudioBench) has its three sets as

    eval_datas/llama_questions/llama_questions.csv   Questions, Answer
    eval_datas/web_questions/web_questions.csv       question, answers
    eval_datas/trivia_qa/trivia_qa.csv               question,
                                                     answer_normalized_aliases
    eval_datas/SET/audios/…                          `audio_filename`, .mp3

300, 1,000 and 1,000 questions. As parquet with a column `audio` there are
fixie-ai/llama-questions (300), TwinkStart's llama-questions,
speech-web-questions (2,032) and speech-triavia-qa (1,000), and
fixie-ai/trivia_qa-audio; the names of their other columns are taken as any of
those that `_COLUMNS` lists, which their cards do not all tell. The folder may
be the repository or the set alone.

BigBench-Audio (ArtificialAnalysis/big_bench_audio): `metadata.jsonl` with
`file_name` (below `data/`), `category`, `official_answer`, `id`; 250 of each of
four kinds, with answers from a closed set.
"""

import dataclasses

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks.heard import reading
from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import options
from step_audio_jax.evaluation.benchmarks.answers import questions
from step_audio_jax.storage import files

QUESTION = ('question', 'Questions', 'QuestionText', 'Question')
ANSWER = ('answers', 'answer', 'Answer', 'answer_normalized_aliases')
_AUDIO = ('audio', 'question_audio', 'WavPath')
_ID = ('question_id', 'id')
_COLUMNS = (*QUESTION, *ANSWER, *_AUDIO, *_ID)

# What BigBench-Audio's kinds are answered with; counts have no list.
_CLOSED = {
  'formal_fallacies': ('valid', 'invalid'),
  'navigate': ('yes', 'no'),
  'web_of_lies': ('yes', 'no'),
  'object_counting': (),
}


def csv_patterns(table: str) -> tuple[str, ...]:
  """Where a set of OpenAudioBench may lie below a folder."""
  name = f'{table}.csv'
  return f'eval_datas/{table}/{name}', f'{table}/{name}', name


def speech_of(path: files.AnyPath, row: reading.Row, text: str):
  """The recording of a row: in its cell, or beside its table."""
  name = row.text('audio_filename')
  if name:
    return reading.recording(path.parent / 'audios', name, text)
  value = row.get(*_AUDIO)
  return reading.recording(path.parent, value, text)


@dataclasses.dataclass(frozen=True)
class SpokenQuestions(questions.Questions):
  """A set of questions in one of these layouts.

  Attributes:
    table: Its name in OpenAudioBench.
    expected: Questions of the public set.
  """

  table: str = 'llama_questions'
  expected: int = 0

  def read(self) -> benchmark.Reading:
    paths, lost = reading.parts(
      self.folder,
      (
        *csv_patterns(self.table),
        'data/*.parquet',
        '*/*.parquet',
        '*.parquet',
      ),
    )
    found = list(lost)
    for path in paths:
      rows = reading.rows([path], _COLUMNS)
      found += reading.made(rows, lambda row, path=path: self._item(path, row))
    return gathering.reading(self, found, expected=self.expected)

  def _item(self, path, row):
    text = row.needed(*QUESTION)
    return benchmark.heard(
      row.id(*_ID), speech_of(path, row, text), *row.references(*ANSWER)
    )


@dataclasses.dataclass(frozen=True)
class BigBenchAudio(options.Spoken):
  """Reasoning that is heard."""

  expected: int = 0

  def read(self) -> benchmark.Reading:
    root = self.path()
    table = gathering.one_of(self.folder, ('metadata.jsonl',))
    found = reading.made(reading.rows(table), lambda row: self._item(root, row))
    return gathering.reading(self, found, expected=self.expected)

  def _item(self, root, row):
    kind = row.needed('category')
    if kind not in _CLOSED:
      raise errors.UserError(
        f'category: found {kind!r}, expected one of {", ".join(_CLOSED)}.'
      )
    return benchmark.heard(
      row.id('id'),
      reading.recording(root, row.get('file_name'), row.text('transcript')),
      row.needed('official_answer'),
      options=list(_CLOSED[kind]),
      category=kind,
    )
