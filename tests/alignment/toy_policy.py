"""A policy small enough to learn in a second, and what it is asked."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.alignment import prompts as prompts_lib
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.policy import trainer as trainer_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rollouts import sampling as sampling_lib
from step_audio_jax.generation import sampling
from step_audio_jax.models.language import scoring
from step_audio_jax.models.language import speech_text
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.feeds import permutation
from step_audio_jax.training.objectives import objectives

VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=78, table_size=132, linguistic_size=10, semantic_size=20
)
CONFIG = speech_text.SpeechTextConfig(
  speech_text.TransformerConfig(
    vocab_size=132, width=16, layers=2, heads=4, kv_heads=2, mlp_width=24
  )
)
MODEL = speech_text.SpeechTextModel(CONFIG)
LENGTHS = (2, 9, 5, 12, 3)
PLACES, ANSWER = 12, 8
SAMPLER = sampling.Sampler(temperature=1.0, top_p=0.9)
LIKED = tuple(range(68, 72))


class Feed:
  """Ragged prompts, in order."""

  def __init__(self, batch_size=8, group=1):
    self.batch_size, self.group, self.places = batch_size, group, PLACES
    rng = np.random.default_rng(0)
    self.prompts = [
      prompts_lib.Prompt(f'q{n}', rng.integers(30, 78, length, np.int32))
      for n, length in enumerate(LENGTHS)
    ]

  def rows(self, step, start=0, stop=None):
    stop = self.batch_size if stop is None else stop
    first = step * self.batch_size
    return [
      self.prompts[
        permutation.permute(row // self.group % len(LENGTHS), len(LENGTHS), 1)
      ]
      for row in range(first + start, first + stop)
    ]

  def batch(self, step, start=0, stop=None):
    return prompts_lib.padded(
      [one.ids for one in self.rows(step, start, stop)], PLACES
    )

  def silenced(self, step, start=0, stop=None):
    return None

  def describe(self):
    return {'name': 'toy'}


@dataclasses.dataclass(frozen=True)
class Liked:
  """Share of the ids that are liked."""

  def __call__(self, samples):
    return [
      float(np.isin(one.ids, LIKED).mean() if len(one.ids) else 0)
      for one in samples
    ]


REWARDS = rewards_lib.Rewards({'liked': (1.0, Liked())})
SAMPLING = sampling_lib.Sampling(longest=ANSWER, sampler=SAMPLER)


def objective(kind='grpo', **settings):
  """`Grpo` or `Ppo` over the toy."""
  shared = {
    'policy': objectives.NextToken(MODEL, VOCABULARY),
    'sampling': SAMPLING,
    'rewards': REWARDS,
    'no_end_reward': -0.1,
  }
  if kind == 'ppo':
    shared |= {'critic': scoring.ScoringModel(CONFIG), 'warmup_steps': 0}
    return objective_lib.Ppo(**{**shared, **settings})
  return objective_lib.Grpo(**{**shared, 'group': 4, **settings})


def trainer(
  it=None,
  devices=1,
  mesh=None,
  learning_rate=3e-3,
  kind_of_trainer=trainer_lib.PolicyTrainer,
  **config,
):
  """A trainer of the toy."""
  it = it or objective()
  mesh = mesh or mesh_lib.MeshConfig()
  return kind_of_trainer(
    objective=it,
    feed=Feed(group=getattr(it, 'group', 1)),
    optimizer=optimizers.OptimizerConfig(learning_rate, weight_decay=0.0),
    config=loop.LoopConfig(**{'steps': 4, 'log_every': 1} | config),
    mesh=mesh.build(jax.devices()[:devices]),
    rules=mesh.rules,
  )


@functools.cache
def variables(seed=0):
  """Of the policy alone: its ids depend on what came before."""
  found = nn.meta.unbox(
    jax.jit(MODEL.init)(jax.random.key(seed), jnp.ones((1, 4), jnp.int32))
  )
  return jax.tree.map(lambda x: x * 5 if x.ndim > 1 else x, found)
