"""A regression that compiles in a moment: objective, feed and trainer.

Rows weigh very differently, so that a mean of means is no mean; a collection
beside the parameters counts what it has seen.
"""

import dataclasses
import time

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers

WIDTH = 8


class Net(nn.Module):
  """Two layers, with logical axes as the transformer has them."""

  @nn.compact
  def __call__(self, x_BD):
    def matrix(name, shape, axes):
      init = nn.with_logical_partitioning(nn.initializers.normal(0.3), axes)
      return self.param(name, init, shape)

    up_DF = matrix('up', (WIDTH, 16), ('embed', 'mlp'))
    down_FO = matrix('down', (16, 1), ('mlp', None))
    return (jnp.tanh(x_BD @ up_DF) @ down_FO)[:, 0]


@dataclasses.dataclass(frozen=True)
class Regression:
  """Weighted squared error."""

  model: Net = Net()

  def init(self, rng, batch):
    variables = self.model.init(rng, batch['x'])
    return {**variables, 'seen': {'weight': jnp.zeros(())}}

  def loss(self, variables, batch, rng):
    del rng
    y_B = self.model.apply({'params': variables['params']}, batch['x'])
    weight = batch['weight'].sum()
    total = (jnp.square(y_B - batch['y']) * batch['weight']).sum()
    big = (jnp.abs(y_B) > 0.1).astype(jnp.float32).sum()
    seen = {'weight': variables['seen']['weight'] + weight}
    metrics = {
      'loss': (total, weight),
      'big': (big, jnp.float32(len(y_B))),
    }
    return total, weight, metrics, {'seen': seen}

  def describe(self):
    return {'toy': True}


class Feed:
  """Row k is a pure function of k; some steps may be poisoned."""

  batch_size = 16

  def __init__(self, poison=None, seconds=0.0):
    self.poison = poison or {}
    self._seconds = seconds
    self.read = []

  def batch(self, step, start=0, stop=None):
    stop = self.batch_size if stop is None else stop
    self.read.append(step)
    time.sleep(self._seconds)
    rows = [
      np.random.default_rng([3, step * self.batch_size + k])
      for k in range(start, stop)
    ]
    x = np.stack([rng.normal(size=WIDTH) for rng in rows])
    weight = [float(rng.choice([0, 1, 40])) for rng in rows]
    return {
      'x': (x * self.poison.get(step, 1.0)).astype(np.float32),
      'y': np.tanh(x[:, 0]).astype(np.float32),
      'weight': np.asarray(weight, np.float32),
    }

  def row_ids(self, step):
    first = step * self.batch_size
    return [f'toy/{first + k}' for k in range(self.batch_size)]

  def describe(self):
    return {}


def trainer(devices=1, poison=None, mesh=None, optimizer=None, **config):
  """A trainer on the first `devices` devices."""
  mesh = mesh or mesh_lib.MeshConfig()
  return loop.Trainer(
    objective=Regression(),
    feed=Feed(poison),
    optimizer=optimizer or optimizers.OptimizerConfig(1e-2, weight_decay=0.01),
    config=loop.LoopConfig(**{'steps': 8, 'log_every': 2} | config),
    mesh=mesh.build(jax.devices()[:devices]),
    rules=mesh.rules,
  )


def state(made):
  """Fresh variables and optimizer state of a trainer."""
  with jax.set_mesh(made.mesh):
    variables = made.fresh_variables()
    return variables, made.optimizer_state(variables)


def walk(made, steps, variables=None, optimizer=None):
  """Some steps from the start; returns every (variables, state, metrics)."""
  if variables is None:
    variables, optimizer = state(made)
  seen = []
  with jax.set_mesh(made.mesh):
    for step in range(steps):
      variables, optimizer, metrics = made.step(
        variables, optimizer, made.device_batch(step)
      )
      seen.append(jax.device_get((variables, optimizer, metrics)))
  return seen


GIN = """
from __gin__ import dynamic_registration
from tests.training import toy_regression
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training import run
RUN_DIR = %gin.REQUIRED
SECONDS = 0.0
loop.LoopConfig:
  steps = 40
  log_every = 2
  checkpoint_every = 4
  ema_decay = 0.9
optimizers.OptimizerConfig.learning_rate = 0.01
toy_regression.Feed.seconds = %SECONDS
run.train:
  run_dir = %RUN_DIR
  objective = @toy_regression.Regression()
  feed = @toy_regression.Feed()
  optimizer = @optimizers.OptimizerConfig()
  config = @loop.LoopConfig()
"""
