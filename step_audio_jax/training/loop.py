"""The one training loop: any objective, any feed, any mesh.

    state_{t+1} = optimizer(state_t, d loss_sum(state_t, batch_t) / weight)

Step t of a run is a pure function of (config, state_t, t): the batch comes
from the step's number and the random key is folded from it, so a run that was
killed continues to the same bits.
"""

import contextlib
import dataclasses
import pathlib
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
    # Only shapes: a trainer may be built for devices that are not there.
    example = self._host_batch(0, 0, 1)
    self._init = lambda: self.objective.init(
      jax.random.key(self.config.seed), example
    )
    self.boxed = jax.eval_shape(self._init)
    self.shapes = nn.unbox(self.boxed)
    self.shardings = mesh_lib.shardings(self.boxed, self.mesh, self.rules)
    self._example = jax.tree.map(np.asarray, example)
    self.chain = self.optimizer.build(self.shapes['params'], self.config.steps)
    self._optimizer_shapes = jax.eval_shape(
      self.chain.init, self.shapes['params']
    )
    self._replicated = jax.sharding.NamedSharding(
      self.mesh, jax.sharding.PartitionSpec()
    )
    self.optimizer_shardings = optax.tree_utils.tree_map_params(
      self.chain,
      lambda _, sharding: sharding,
      self._optimizer_shapes,
      self.shardings['params'],
      transform_non_params=lambda _: self._replicated,
    )
    self.step = self._compiled_step()

  def _host_batch(self, step: int, start: int, stop: int | None):
    batch = self.feed.batch(step, start, stop)
    return {**batch, 'step': np.int32(step)}

  def abstract_state(self) -> tuple[Any, Any]:
    """(variables, optimizer state): shapes, dtypes and shardings."""
    return (
      jax.tree.map(_abstract, self.shapes, self.shardings),
      jax.tree.map(_abstract, self._optimizer_shapes, self.optimizer_shardings),
    )

  def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch: shapes, dtypes and shardings of the first one."""
    rows = self.feed.batch_size

    def one(array):
      if not array.ndim:
        return jax.ShapeDtypeStruct((), array.dtype, sharding=self._replicated)
      shape = (rows, *array.shape[1:])
      return jax.ShapeDtypeStruct(
        shape,
        array.dtype,
        sharding=mesh_lib.batch_sharding(shape, self.mesh, self.rules),
      )

    return jax.tree.map(one, self._example)

  def lowered(self) -> jax.stages.Lowered:
    """The step that `run` runs, lowered for devices that may be absent."""
    with jax.set_mesh(self.mesh):
      return self.step.lower(*self.abstract_state(), self.abstract_batch())

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
    arrays = jax.tree.map(
      lambda value, sharding, shape: transfer.placed(
        value, sharding, shape.dtype
      ),
      variables,
      self.shardings,
      self.shapes,
    )
    return arrays, fresh

  def optimizer_state(self, variables: Any) -> Any:
    """Initial optimizer state; moments are sharded as their parameters."""
    return jax.jit(self.chain.init, out_shardings=self.optimizer_shardings)(
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

    # Pinned, so that no step moves the state and no second program is made.
    return jax.jit(
      step,
      donate_argnums=(0, 1),
      out_shardings=(
        self.shardings,
        self.optimizer_shardings,
        self._replicated,
      ),
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
      restored = store.restore(*trainer.abstract_state())
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
    meter = metrics_lib.Meter(trainer)
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
