"""Judges of answers: rules, and language models behind an address.

judges.Judge(endpoint, kept='RUN/judged', prompt='refqa@1').judge(rows) asks a
model, judges.rules.option(row) asks nobody.
"""

from step_audio_jax.evaluation.judges import llm_judge
from step_audio_jax.evaluation.judges import placement
from step_audio_jax.evaluation.judges import prompts
from step_audio_jax.evaluation.judges import rules
from step_audio_jax.evaluation.judges import verdicts
from step_audio_jax.evaluation.judges.instructions import following

__all__ = (
  'Judge',
  'Prompt',
  'Verdict',
  'Verdicts',
  'following',
  'placement',
  'prompts',
  'rules',
)

Judge = llm_judge.Judge
Prompt = prompts.Prompt
Verdict = verdicts.Verdict
Verdicts = llm_judge.Verdicts
