"""The one training loop: any objective, any feed, any mesh.

    state_{t+1} = optimizer(state_t, d loss_sum(state_t, batch_t) / weight)

Step t of a run is a pure function of (config, state_t, t): the batch comes
from the step's number and the random key is folded from it, so a run that was
killed continues to the same bits.
"""

import contextlib
import dataclasses
import pathlib
import time
from typing import Any, Callable

from flax import linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import checkpoints as checkpoints_lib
from step_audio_jax.training import metrics as metrics_lib
from step_audio_jax.training import optimizers
from step_audio_jax.training import transfer


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """How long and how often.

  Attributes:
    steps: Optimizer steps.
    seed: Of initialisation and of the per-step keys.
    log_every: Steps between two lines of metrics.
    checkpoint_every: Steps between checkpoints; 0 means only the last.
    keep: Newest checkpoints that are kept.
  """

  steps: int
  seed: int = 0
  log_every: int = 10
  checkpoint_every: int = 0
  keep: int = 2

  def __post_init__(self):
    if self.steps < 1:
      raise errors.UserError(f'loop: steps is {self.steps}, expected >= 1.')
    if self.checkpoint_every % self.log_every:
      raise errors.UserError(
        f'loop: checkpoint_every is {self.checkpoint_every}, expected a '
        f'multiple of log_every ({self.log_every}), so that a resumed run '
        'logs the same lines.'
      )


@dataclasses.dataclass
class Trainer:
  """An objective on a mesh: initial state and the compiled step.

  Attributes:
    objective: What is minimised.
    feed: Where batches come from.
    optimizer: Numbers of the Optax chain.
    config: Length of the run.
    mesh: The devices.
    rules: Logical axis → mesh axis.
  """

  objective: Any
  feed: Any
  optimizer: optimizers.OptimizerConfig
  config: LoopConfig
  mesh: jax.sharding.Mesh
  rules: mesh_lib.Rules = mesh_lib.DEFAULT_RULES

  def __post_init__(self):
    key = jax.random.key(self.config.seed)
    self._example = self._host_batch(0, 0, 1)
    self._init = lambda: self.objective.init(key, self._example)
    self.boxed = jax.eval_shape(self._init)
    self.shardings = mesh_lib.shardings(self.boxed, self.mesh, self.rules)
    self.shapes = nn.unbox(self.boxed)
    self.chain = self.optimizer.build(self.shapes['params'], self.config.steps)
    self.step = self._compiled_step()

  def _host_batch(self, step: int, start: int, stop: int | None):
    batch = self.feed.batch(step, start, stop)
    return {**batch, 'step': np.int32(step)}

  def fresh_variables(self) -> Any:
    """Initial variables on the mesh."""
    init = jax.jit(lambda: nn.unbox(self._init()), out_shardings=self.shardings)
    with jax.set_mesh(self.mesh):
      return init()

  def variables_from(self, sources) -> tuple[Any, list[str]]:
    """Variables from saved ones; see `transfer.transfer`."""

    def initial(paths):
      # Only what no source holds is computed, the rest is dead code.
      def some():
        flat = transfer.flatten(nn.unbox(self._init()))
        return {path: flat[path] for path in paths}

      return jax.jit(some)()

    variables, fresh = transfer.transfer(
      self.boxed, sources, initial, self.config.seed
    )
    return jax.tree.map(_placed, variables, self.shardings), fresh

  def optimizer_state(self, variables: Any) -> Any:
    """Initial optimizer state; moments are sharded as their parameters."""
    shapes = jax.eval_shape(self.chain.init, variables['params'])
    shardings = optax.tree_utils.tree_map_params(
      self.chain,
      lambda _, sharding: sharding,
      shapes,
      self.shardings['params'],
      transform_non_params=lambda _: jax.sharding.NamedSharding(
        self.mesh, jax.sharding.PartitionSpec()
      ),
    )
    return jax.jit(self.chain.init, out_shardings=shardings)(
      variables['params']
    )

  def device_batch(self, step: int) -> Any:
    """The global batch of a step; this host reads only its own rows."""
    rows = self.feed.batch_size
    sharding = mesh_lib.batch_sharding((rows,), self.mesh, self.rules)
    spans = [
      index[0].indices(rows)[:2]
      for index in sharding.addressable_devices_indices_map((rows,)).values()
    ]
    start = min(low for low, _ in spans)
    stop = max(high for _, high in spans)
    host = self._host_batch(step, start, stop)

    def place(array):
      array = np.asarray(array)
      if not array.ndim:
        return array
      shape = (rows,) + array.shape[1:]

      def shard(index):
        low, high, _ = index[0].indices(rows)
        return array[(slice(low - start, high - start), *index[1:])]

      return jax.make_array_from_callback(
        shape,
        mesh_lib.batch_sharding(shape, self.mesh, self.rules),
        shard,
      )

    return {name: place(array) for name, array in host.items()}

  def gradients(self, variables: Any, batch: Any):
    """((loss, metrics, updates), gradients) of one batch; traceable."""
    key = jax.random.fold_in(
      jax.random.key(self.config.seed + 1), batch['step']
    )

    def scalar(params):
      with nn.logical_axis_rules(self.rules):
        total, weight, metrics, updates = self.objective.loss(
          {**variables, 'params': params}, batch, key
        )
      loss = total / jnp.maximum(weight, 1e-8)
      return loss, (metrics, updates)

    (loss, (metrics, updates)), grads = jax.value_and_grad(
      scalar, has_aux=True
    )(variables['params'])
    return (loss, metrics, updates), grads

  def _compiled_step(self) -> Callable[..., Any]:
    def step(variables, optimizer, batch):
      (_, metrics, updates), grads = self.gradients(variables, batch)
      metrics = dict(metrics)
      metrics['gradient_norm'] = (optax.global_norm(grads), jnp.ones(()))
      deltas, optimizer = self.chain.update(
        grads, optimizer, variables['params']
      )
      params = optax.apply_updates(variables['params'], deltas)
      return {**variables, **updates, 'params': params}, optimizer, metrics

    return jax.jit(step, donate_argnums=(0, 1))


def _placed(value, sharding):
  value = np.asarray(value)
  return jax.make_array_from_callback(
    value.shape, sharding, lambda index: value[index]
  )


def run(
  trainer: Trainer,
  run_dir: str | pathlib.Path,
  *,
  sources: Any = (),
  label: str = 'train',
) -> dict[str, Any]:
  """Trains from the newest checkpoint of `run_dir`, or from the start.

  Args:
    trainer: What to train.
    run_dir: Gets `metrics.jsonl`, `tensorboard/` and `checkpoints/`.
    sources: () → (name, variables) pairs to start from; called only when
      there is no checkpoint.
    label: Of the progress bar.

  Returns:
    The metrics of the last log line, with `step` and `fresh` paths.
  """
  config, feed = trainer.config, trainer.feed
  fresh: list[str] = []
  # However the run ends, the save under way is finished first.
  with (
    contextlib.closing(
      checkpoints_lib.Checkpoints(run_dir, config.keep)
    ) as store,
    jax.set_mesh(trainer.mesh),
  ):
    restored = None
    if store.steps():
      shapes = jax.tree.map(_abstract, trainer.shapes, trainer.shardings)
      state = jax.eval_shape(trainer.chain.init, shapes['params'])
      state = _with_shardings(trainer, state)
      restored = store.restore(shapes, state)
    if restored:
      first, variables, optimizer, _ = restored
    else:
      first = 0
      pairs = sources() if callable(sources) else sources
      if pairs:
        variables, fresh = trainer.variables_from(pairs)
      else:
        variables = trainer.fresh_variables()
      optimizer = trainer.optimizer_state(variables)
    last: dict[str, Any] = {'step': first}
    chief = jax.process_index() == 0
    writer = metrics_lib.writer(run_dir, first) if chief else None
    window = metrics_lib.Window()
    batches = iter(
      grain.MapDataset.range(first, config.steps)
      .map(trainer.device_batch)
      .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    )
    bar = progress.bar(
      label=label, total=config.steps, initial=first, unit='step'
    )
    meter = _Meter(trainer)
    pending = None
    for step in range(first + 1, config.steps + 1):
      variables, optimizer, metrics = trainer.step(
        variables, optimizer, next(batches)
      )
      # Metrics are read one step late: the device never waits for the host.
      if pending is not None:
        window.add(pending)
      pending = metrics
      if step % config.log_every == 0 or step == config.steps:
        window.add(pending)
        pending = None
        last = window.pop() | meter.read(step)
        if chief:
          writer.write_scalars(step, last)
        last['step'] = step
        bar.set_postfix_str(f'loss {last.get("loss", float("nan")):.3f}')
      bar.update(1)
      due = config.checkpoint_every and step % config.checkpoint_every == 0
      if due or step == config.steps:
        store.save(step, variables, optimizer, {'row': step * feed.batch_size})
    bar.close()
    if chief:
      writer.flush()
      writer.close()
  return {**last, 'fresh': fresh}


def _abstract(shape, sharding):
  return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _with_shardings(trainer, state):
  replicated = jax.sharding.NamedSharding(
    trainer.mesh, jax.sharding.PartitionSpec()
  )
  return optax.tree_utils.tree_map_params(
    trainer.chain,
    _abstract,
    state,
    trainer.shardings['params'],
    transform_non_params=lambda leaf: _abstract(leaf, replicated),
  )


class _Meter:
  """Throughput since the last reading, and token counts of each source."""

  def __init__(self, trainer: Trainer):
    self._trainer = trainer
    self._time = time.monotonic()
    self._step: int | None = None
    flops = getattr(trainer.objective, 'flops', None)
    example = {
      name: np.broadcast_to(
        array, (trainer.feed.batch_size, *np.shape(array)[1:])
      )
      for name, array in trainer._example.items()
      if np.ndim(array)
    }
    self._flops = flops(example) if flops else 0.0
    self._tokens = example['tokens'].size if 'tokens' in example else 0

  def read(self, step: int) -> dict[str, float]:
    """Scalars for one log line; the first interval holds the compilation."""
    now = time.monotonic()
    values: dict[str, float] = {}
    if self._step is not None:
      rate = (step - self._step) / max(now - self._time, 1e-9)
      values['throughput/steps_per_second'] = rate
      if self._tokens:
        values['throughput/tokens_per_second'] = rate * self._tokens
      if self._flops:
        values['throughput/model_flops_per_second'] = rate * self._flops
        peak = _peak_flops(self._trainer.mesh)
        if peak:
          values['throughput/mfu'] = rate * self._flops / peak
    self._time, self._step = now, step
    counts = getattr(self._trainer.feed, 'counts', None)
    return values | (counts(step) if counts else {})


def _peak_flops(mesh) -> float:
  """Peak bf16 FLOP/s of the mesh; 0 where the chip is not in the table."""
  from step_audio_jax.parallel import topology

  device = mesh.devices.flat[0]
  return topology.peak_flops(device.device_kind) * mesh.devices.size
