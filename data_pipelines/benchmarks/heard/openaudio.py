"""The two sets of OpenAudioBench that are rated, not right or wrong.

    eval_datas/alpaca_eval/alpaca_eval.csv     instruction
    eval_datas/reasoning_qa/reasoning_qa.csv   Prompt, 参考答案

with `audio_filename` below `audios/` beside each. 199 and 202 questions, rated
1 to 10 and 1 to 5, and told times ten and times twenty. The original prompts
are public; the judge is asked with ours.
"""

import dataclasses

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks.heard import reading
from data_pipelines.benchmarks.heard import spoken_qa
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import ratings

_QUESTION = ('instruction', 'Prompt')
_RIGHT = '参考答案'


@dataclasses.dataclass(frozen=True)
class Rated(ratings.Ratings):
  """A set whose answers are rated.

  Attributes:
    table: Its name.
    language: Of its questions.
    expected: Questions of the public set.
  """

  table: str = 'alpaca_eval'
  language: str = 'en'
  expected: int = 0

  def read(self) -> benchmark.Reading:
    (path, *_), _ = reading.parts(
      self.folder, spoken_qa.csv_patterns(self.table)
    )
    found = reading.made(
      reading.rows([path]), lambda row: self._item(path, row)
    )
    return gathering.reading(self, found, expected=self.expected)

  def _item(self, path, row):
    text = row.needed(*_QUESTION)
    return benchmark.heard(
      row.name,
      spoken_qa.speech_of(path, row, text),
      *(row.references(_RIGHT) if _RIGHT in row.fields else ()),
      language=self.language,
    )
