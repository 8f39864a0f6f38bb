"""Judges of answers: rules, and language models behind an address.

judges.Judge(endpoint, kept='RUN/judged', prompt='refqa@1').judge(rows) asks a
model, judges.rules.option(row) asks nobody.
"""

from step_audio_jax.evaluation.judges import placement
from step_audio_jax.evaluation.judges import prompts
from step_audio_jax.evaluation.judges import rules
from step_audio_jax.evaluation.judges.instructions import following
from step_audio_jax.evaluation.judges.llm_judge import Judge
from step_audio_jax.evaluation.judges.llm_judge import Judged
from step_audio_jax.evaluation.judges.llm_judge import Verdicts
from step_audio_jax.evaluation.judges.llm_judge import Vote
from step_audio_jax.evaluation.judges.prompts import Prompt
from step_audio_jax.evaluation.judges.verdicts import Verdict

__all__ = (
  'Judge',
  'Judged',
  'Prompt',
  'Verdict',
  'Verdicts',
  'Vote',
  'following',
  'placement',
  'prompts',
  'rules',
)
