"""Answers that a judge rates: there is no rule that could.

    judge           mean mark, on the scale that the benchmark reports
    judge_parsed    of those that have a verdict
    judge_unparsed  share of those that have none; they count as the worst mark
    judge/CATEGORY  of each category

StepEval-Audio-360 has three: `chat` (1 to 5), `factuality` and `relevance`.
"""

import dataclasses
from typing import ClassVar, Sequence

from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import answered
from step_audio_jax.evaluation.benchmarks.answers import questions
from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import prompts

Item = benchmark.Item

# URO-Bench, semi-open: a mark with suggestions beside it. The words are ours.
SUGGESTED = prompts.Prompt(
  'suggested',
  1,
  'A user spoke to a voice assistant. Judge the transcript of what it said.\n\n'
  'What the user said:\n{question}\n\nHow it might be answered:\n{reference}'
  '\n\nWhat the assistant said:\n{answer}\n\nOther answers than these may be '
  'as good. Marks:\n'
  '1: beside the point, wrong, or no help\n'
  '2: to the point in part, with gaps, errors or much that is not asked for\n'
  '3: to the point and mostly right, but wordy or roundabout\n'
  '4: right, to the point and brief\n'
  '5: as 4, and could hardly be better\n'
  'Say the mark, one digit, and nothing else.',
  parsing.score(1, 5),
)
_OURS = {'suggested@1': SUGGESTED}


@dataclasses.dataclass(frozen=True)
class Ratings(answered.Answered):
  """Base of answers with one mark.

  Attributes:
    prompt: Of the judge, `NAME@VERSION`.
    times: What marks are multiplied by: 20 makes percent of 1 to 5.
    votes: Of the judge; 0 is its own number.
  """

  prompt: str = 'voicebench_open@1'
  times: float = 1.0
  votes: int = 0

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base."""
    rows = questions.rows_of(items, said)
    prompt = _OURS.get(self.prompt, self.prompt)
    found = answered.judged(means, prompt, rows, self.votes)
    if isinstance(found, str):
      return answered.lacking(len(rows), found, 'judge')
    groups = answered.categories(items)
    return answered.by_judge(
      'judge', found, groups, times=self.times, unit='score'
    )


@dataclasses.dataclass(frozen=True)
class Chats(answered.Answered):
  """Base of turns of chats with three marks.

  Attributes:
    prompt: Of the judge, `NAME@VERSION`.
    votes: Of the judge; 0 is its own number.
  """

  prompt: str = 'stepeval_360@1'
  votes: int = 0

  marks: ClassVar[tuple[str, ...]] = ('chat', 'factuality', 'relevance')

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base."""
    rows = questions.rows_of(items, said)
    found = answered.judged(means, self.prompt, rows, self.votes)
    if isinstance(found, str):
      return answered.lacking(len(rows), found, *self.marks)
    groups = answered.categories(items)
    return answered.joined(
      *(
        answered.by_judge(
          mark,
          found,
          groups,
          part=mark,
          unit='score' if mark == 'chat' else '%',
        )
        for mark in self.marks
      )
    )
