"""What a policy starts from: saved runs under the names it has for them."""

from typing import Any, Mapping

from step_audio_jax.generation import restore
from step_audio_jax.storage import bindings
from step_audio_jax.training.objectives import objectives

CRITIC, REWARD = 'critic', 'reward'


def adopted(
  variables: Mapping[str, Any],
  config: Mapping[str, Any],
  path: str,
  described: Mapping[str, Any],
) -> dict[str, Any]:
  """A saved run's variables under the names that a policy has for them.

  What a reward model has learnt becomes reward and critic. A language model
  becomes policy and reference, and the critic where no reward model comes
  before it among the sources.

  Args:
    variables: Of the run, adapters merged, arrays lazy or not.
    config: Its `config.json`.
    path: Where it lies, for messages.
    described: `describe()` of the policy's language model.

  Raises:
    UserError: A reward model reads other ids than the policy writes. The rows
      of a language model are matched by what they mean; but a judge for whom
      some of them are new has not learnt what they are worth.
  """
  params = dict(variables['params'])
  params.pop(CRITIC, None)  # of a policy that goes on
  if restore.SCORES in config:
    bindings.check_vocabulary(
      f'{path}/config.json',
      config.get(bindings.VOCABULARY),
      'this policy',
      described.get(bindings.VOCABULARY),
      'train a reward model with the text model of the policy',
    )
    return {REWARD: params, 'params': {CRITIC: params}}
  kept = {**variables, 'params': {**params, CRITIC: params}}
  kept.pop(objectives.PENDING, None)  # answers to the prompts of that run
  return {**kept, objectives.REFERENCE: params, 'base': params}
