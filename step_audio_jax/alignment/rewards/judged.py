"""A reward that another model gives: 0 or 1 on an objective question.

Any server that speaks the protocol of chat completions can judge. What it is
asked is ours (the report publishes no prompt), has a version, and is kept with
its answers, so that a run that goes on asks nothing twice.
"""

import dataclasses
from typing import Any, Sequence

from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat
from step_audio_jax.endpoints import client
from step_audio_jax.evaluation.judges import prompts

PROMPT = 'objective@1'


@dataclasses.dataclass(frozen=True)
class Judged:
  """Asks a model whether an answer is right.

  Attributes:
    endpoint: The model.
    kept: Folder of its answers.
  """

  endpoint: client.Endpoint
  kept: str

  def __call__(self, samples: Sequence[sample_lib.Sample]) -> list[float]:
    asks = prompts.find(PROMPT)
    questions = [asks.question(_row(one), 0) for one in samples]
    replies = self.endpoint.answers(questions, answers_lib.Answers(self.kept))
    return [_value(asks, reply) for reply in replies]


def _row(one: sample_lib.Sample) -> dict[str, Any]:
  return {
    'id': one.id,
    'question': one.question,
    'expected': one.expected,
    'answer': one.text,
  }


def _value(asks: prompts.Prompt, reply: chat.Reply) -> float:
  """0 or 1; NaN for anything that is neither, and for no reply."""
  found = None if reply.kind else asks.parser(reply.text).value
  return float('nan') if found is None else found
