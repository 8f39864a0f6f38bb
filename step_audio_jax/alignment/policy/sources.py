"""What a policy starts from: saved runs under the names it has for them."""

from typing import Any, Collection, Mapping

from step_audio_jax import errors
from step_audio_jax.generation import restore
from step_audio_jax.storage import bindings
from step_audio_jax.training.objectives import objectives

CRITIC, REWARD = 'critic', 'reward'
ALIGNMENT = 'alignment'  # by which the `config.json` of a policy says how


def check(
  configs: Mapping[str, Mapping[str, Any]],
  judges: bool,
  described: Mapping[str, Any],
) -> None:
  """Refuses sources of which no policy can begin.

  Args:
    configs: Where a source lies → its `config.json`, {} where it has none.
    judges: Whether a reward model judges.
    described: `describe()` of the policy's language model.

  Raises:
    UserError: A reward model that nobody has trained would judge, or one that
      reads other ids; or all sources are reward models, and none answers.
  """
  scoring = [path for path, one in configs.items() if restore.SCORES in one]
  # A policy may hold the one that judged it.
  held = any(ALIGNMENT in one for one in configs.values())
  # What does not say what it is is told of where it is read.
  known = all(configs.values())
  if judges and known and not scoring and not held:
    raise _unjudged(configs)
  if configs and len(scoring) == len(configs):
    raise errors.UserError(
      f'init_from: found {_named(configs)}, which only score, expected the '
      'policy to begin with as well.'
    )
  for path in scoring:
    _check_ids(path, configs[path], described)


def check_fresh(fresh: Collection[str], sources: Collection[str]) -> None:
  """Refuses to judge by what no source holds.

  Args:
    fresh: Paths of variables that are drawn.
    sources: Where the others come from.

  Raises:
    UserError: Some of the reward model are among them.
  """
  if any(path.startswith(f'{REWARD}/') for path in fresh):
    raise _unjudged(sources)


def _unjudged(sources: Collection[str]) -> errors.UserError:
  return errors.UserError(
    f'init_from: found {_named(sources)}, expected a reward model among them, '
    'since one judges (REWARD): it would be drawn at random.'
  )


def _named(sources: Collection[str]) -> str:
  return ', '.join(sources) or 'nothing'


def _check_ids(path, config, described) -> None:
  bindings.check_vocabulary(
    f'{path}/config.json',
    config.get(bindings.VOCABULARY),
    'this policy',
    described.get(bindings.VOCABULARY),
    'train a reward model with the text model of the policy',
  )


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
    _check_ids(path, config, described)
    return {REWARD: params, 'params': {CRITIC: params}}
  kept = {**variables, 'params': {**params, CRITIC: params}}
  kept.pop(objectives.PENDING, None)  # answers to the prompts of that run
  return {**kept, objectives.REFERENCE: params, 'base': params}
