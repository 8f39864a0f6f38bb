"""A judge that says what it was told to, through the real prompts."""

import dataclasses
from typing import Any, Mapping

from step_audio_jax.evaluation import judges
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.judges import llm_judge


@dataclasses.dataclass
class Judge:
  """Stands for `judges.Judge`.

  Attributes:
    replies: Id of a row → what is said of it.
    other: Of all other rows.
    why: Why there are no verdicts; '' where there are.
    asked: Messages, by id: what was put to it.
    prompt: As of the real one.
    votes: Likewise.
  """

  replies: Mapping[str, str] = dataclasses.field(default_factory=dict)
  other: str = 'yes'
  why: str = ''
  asked: dict[str, Any] = dataclasses.field(default_factory=dict)
  prompt: Any = ''
  votes: int = 1

  def using(self, prompt, votes=0):
    return dataclasses.replace(self, prompt=prompt, votes=votes or self.votes)

  def judge(self, rows, counts=None):
    del counts
    asks = self.prompt
    if isinstance(asks, str):
      asks = judges.prompts.find(asks)
    identity = {
      'model': {'model': 'made'},
      'prompt': asks.identity,
      'votes': self.votes,
    }
    found = []
    for row in rows:
      verdict = asks.unasked(row)
      if verdict is None:
        self.asked[row['id']] = asks.messages(row)[-1][1]
        reply = self.replies.get(row['id'], self.other)
        votes = [llm_judge.Vote(reply, asks.parser(reply))] * self.votes
        verdict = llm_judge.decided(
          [one.verdict for one in votes], asks.parser.scales
        )
      found.append(llm_judge.Judged(row['id'], verdict))
    if self.why:
      found = []
    return judges.Verdicts(tuple(found), asks.parser.scales, identity, self.why)


def answers(items, said):
  """Id → text, calls or an answer as `Answer`s; ids without one are faults."""
  found = []
  for item in items:
    one = said.get(item.id)
    if isinstance(one, list):
      one = benchmark.Answer('', calls=one)
    elif isinstance(one, str):
      one = benchmark.Answer(one)
    found.append(one or benchmark.Answer(None, fault='not asked'))
  return found


def values(scored):
  """Name → value of all figures, rounded."""
  return {
    name: one.value if one.value is None else round(one.value, 4)
    for name, one in scored.figures.items()
  }
