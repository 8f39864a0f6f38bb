"""Chats of a corpus of yours that end with what the assistant should say.

As the door `answer` asks them (`evaluation.metrics.quiz`): right where every
word of the expected answer that the question has not is in it, exact where it
is that answer, and neither where other tools are called.
"""

import dataclasses
import os
from typing import Any, Sequence

from data_pipelines.benchmarks import entries
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import answered
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.storage import files

RULE = 'every word of the expected answer that the question has not'


@dataclasses.dataclass(frozen=True)
class Quiz(benchmark.Benchmark):
  """Chats of one split.

  Attributes:
    split: Of the corpus.
    language: Of the chats.
  """

  split: str = 'test'
  language: str = 'en'

  def read(self) -> benchmark.Reading:
    """See the base."""
    asked, passed = quiz.questions(self.folder, [self.split])
    recordings = {
      line.id: line for line in manifest.stream(self.folder, kind='speech')
    }
    found: list[Any] = [
      self._item(one, recordings) for one in asked[self.split]
    ]
    for told in passed.get(self.split, ()):
      name, _, why = told.partition(': ')
      found.append((name, why))
    return benchmark.reading(found, manifest.path_of(self.folder))

  def _item(self, one: quiz.Question, recordings) -> Any:
    turns = []
    for turn in one.chat.turns[:-1]:
      parts = []
      for part in turn.parts:
        if isinstance(part, chats_lib.Speech):
          part = self._recording(recordings.get(part.id))
          if isinstance(part, tuple):
            return one.id, part[0]
        parts.append(part)
      turns.append(dataclasses.replace(turn, parts=tuple(parts)))
    about: dict[str, Any] = {'question': one.question}
    if one.calls:
      about['expected_calls'] = [
        {'name': call.name, 'arguments': dict(call.arguments)}
        for call in one.calls
      ]
    chat = chats_lib.Conversation(tuple(turns))
    return benchmark.Item(one.id, chat, (one.expected,), self.language, about)

  def _recording(self, line) -> chats_lib.Speech | tuple[str]:
    if line is None or line.audio is None:
      return ('a recording of it is not in the corpus',)
    path = line.audio_path(manifest.path_of(self.folder).parent)
    if not files.is_file(path):
      return ('audio: no such file',)
    return chats_lib.Speech(
      id=line.id, path=os.fspath(path), text=line.text or None, **line.part()
    )

  def score(
    self,
    items: Sequence[benchmark.Item],
    answers: Sequence[benchmark.Answer],
    means: benchmark.Means,
  ) -> benchmark.Scored:
    """See the base."""
    del means
    rows = [_row(*pair) for pair in zip(items, answers, strict=True)]
    figures = {
      name: answered.mean([row[name] for row in rows], by)
      for name, by in (('right', RULE), ('exact', 'the expected answer'))
    }
    return benchmark.Scored(figures, rows)


def _row(item, answer) -> dict[str, Any]:
  said, (expected,) = answered.text_of(answer), item.references
  called = list(answer.calls) == item.about.get('expected_calls', [])
  right = quiz.is_right(item.about['question'], expected, said)
  exact = quiz.words(said) == quiz.words(expected)
  return {
    'id': item.id,
    'right': float(called and right),
    'exact': float(called and exact),
    'points': float(called and right),
  }


ENTRIES = {
  'quiz': entries.Entry(
    'quizzes:Quiz',
    'chats of a corpus of yours',
    'manifest.jsonl and its files',
    'right, exact',
    'yours',
  )
}
