"""The one training loop: any objective, any feed, any mesh.

    state_{t+1} = optimizer(state_t, d loss_sum(state_t, batch_t) / weight)

Step t of a run is a pure function of (config, state_t, t): the batch comes
from the step's number and the random key is folded from it, so a run that was
killed continues to the same bits.
"""

import contextlib
import dataclasses
import functools
from typing import Any, Callable

from flax import linen as nn
import jax
import numpy as np
import optax

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.storage import files
from step_audio_jax.training import guard
from step_audio_jax.training import metrics as metrics_lib
from step_audio_jax.training import optimizers
from step_audio_jax.training import placement
from step_audio_jax.training import preemption
from step_audio_jax.training import step as step_lib
from step_audio_jax.training.checkpoints import checkpoints as checkpoints_lib
from step_audio_jax.training.transfer import transfer


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """How long and how often.

  Attributes:
    steps: Optimizer steps.
    seed: Of initialisation and of the per-step keys.
    log_every: Steps between two lines of metrics.
    checkpoint_every: Steps between checkpoints; 0 means only the last.
    keep: Newest checkpoints that are kept.
    best: Metric by which one more is kept, such as 'loss'; '' for none.
    best_is: 'min' or 'max': which value of it is the best.
    microbatches: Parts of a batch that go one after the other and are summed:
      the same step in less memory.
    spikes: When a step is skipped; None means never.
    ema_decay: Of the mean of the parameters; 0 keeps none.
  """

  steps: int = settings.free()
  seed: int = 0
  log_every: int = settings.free(10)
  checkpoint_every: int = settings.free(0)
  keep: int = settings.free(2)
  best: str = settings.free('')
  best_is: str = settings.free('min')
  microbatches: int = settings.free(1)
  spikes: guard.SpikeConfig | None = guard.SpikeConfig()
  ema_decay: float = 0.0

  def __post_init__(self):
    errors.at_least_one('loop', self, ['log_every'])
    if self.checkpoint_every < 0:
      raise errors.UserError(
        f'loop: checkpoint_every is {self.checkpoint_every}, expected 0 or '
        'more.'
      )
    if self.keep < 1:
      raise errors.UserError(f'loop: keep is {self.keep}, expected >= 1.')
    if self.best_is not in ('min', 'max'):
      raise errors.UserError(
        f"loop: best_is is {self.best_is!r}, expected 'min' or 'max'."
      )
    if not 0 <= self.ema_decay < 1:
      raise errors.UserError(
        f'loop: ema_decay is {self.ema_decay}, expected 0 to below 1.'
      )
    if self.microbatches < 1:
      raise errors.UserError(
        f'loop: microbatches is {self.microbatches}, expected >= 1.'
      )
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
    optimizer: Numbers of the Optax chain, or chains.
    config: Length of the run.
    mesh: The devices.
    rules: Logical axis → mesh axis.
  """

  objective: Any
  feed: Any
  optimizer: optimizers.OptimizerConfig | optimizers.OptimizerGroups
  config: LoopConfig
  mesh: jax.sharding.Mesh
  rules: mesh_lib.Rules = mesh_lib.DEFAULT_RULES

  def __post_init__(self):
    # Only shapes: a trainer may be built for devices that are not there.
    example = self._host_batch(0, 0, 1)
    self._init = functools.partial(self._initial_variables, example)
    self.boxed = jax.eval_shape(self._init)
    self.shapes = nn.unbox(self.boxed)
    self.shardings = mesh_lib.shardings(self.boxed, self.mesh, self.rules)
    self._example = jax.tree.map(np.asarray, example)
    self.chain = self.optimizer.build(self.boxed['params'], self._horizon())
    self._initial = functools.partial(
      step_lib.initial_state,
      self.chain,
      self.config.spikes,
      self.config.ema_decay,
    )
    self._optimizer_shapes = jax.eval_shape(
      self._initial, self.shapes['params']
    )
    self._replicated = jax.sharding.NamedSharding(
      self.mesh, jax.sharding.PartitionSpec()
    )
    shapes, params = self._optimizer_shapes, self.shardings['params']
    self.optimizer_shardings = jax.tree.map(
      lambda _: self._replicated, shapes
    )._replace(
      chain=optax.tree_utils.tree_map_params(
        self.chain,
        # What belongs to another group of an optimizer stays an empty node.
        lambda leaf, sharding: leaf if _masked(leaf) else sharding,
        shapes.chain,
        params,
        transform_non_params=lambda _: self._replicated,
        is_leaf=_masked,
      ),
      ema=params if self.config.ema_decay else None,
    )
    self._check_microbatches()
    self.step = self._compiled_step()

  def _initial_variables(self, example: Any) -> Any:
    """Boxed variables before the first step; traceable."""
    return self.objective.init(jax.random.key(self.config.seed), example)

  def _horizon(self) -> int:
    """Updates of the run, as the schedules of the optimizer count them."""
    return self.config.steps

  def _check_microbatches(self) -> None:
    count, rows = self.config.microbatches, self.feed.batch_size
    each = self._rows_sharding((rows,)).shard_shape((rows,))[0]
    if each % count:
      raise errors.UserError(
        f'loop: microbatches is {count}, expected a divisor of {each}, the '
        f'rows of a batch of {rows} that lie on one device.'
      )

  def _rows_sharding(self, shape):
    return mesh_lib.batch_sharding(shape, self.mesh, self.rules)

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
        sharding=self._rows_sharding(shape),
      )

    return jax.tree.map(one, self._example)

  def lowered(self) -> jax.stages.Lowered:
    """The step that `run` runs, lowered for devices that may be absent."""
    with jax.set_mesh(self.mesh):
      return self.step.lower(*self.abstract_state(), self.abstract_batch())

  def _once(self, call: Callable[..., Any], **keywords: Any):
    """`jax.jit` of what runs once: on a CPU, code is not worth polishing."""
    cpu = self.mesh.devices.flat[0].platform == 'cpu'
    options = {'xla_backend_optimization_level': 0} if cpu else None
    return jax.jit(call, compiler_options=options, **keywords)

  def fresh_variables(self) -> Any:
    """Initial variables on the mesh."""
    init = self._once(
      lambda: nn.unbox(self._init()), out_shardings=self.shardings
    )
    with jax.set_mesh(self.mesh):
      return init()

  def variables_from(self, sources) -> tuple[Any, list[str]]:
    """Variables from saved ones; see `transfer.transfer`."""

    def initial(paths):
      # Only what no source holds is computed, the rest is dead code.
      def some():
        flat = transfer.flatten(nn.unbox(self._init()))
        return {path: flat[path] for path in paths}

      return self._once(some)()

    variables, fresh = transfer.transfer(
      self.boxed, sources, initial, self.config.seed
    )
    arrays = jax.tree.map(
      lambda value, sharding, shape: transfer.place_on_mesh(
        value, sharding, shape.dtype
      ),
      variables,
      self.shardings,
      self.shapes,
    )
    return arrays, fresh

  def optimizer_state(self, variables: Any) -> Any:
    """Initial optimizer state; moments are sharded as their parameters."""
    return self._once(self._initial, out_shardings=self.optimizer_shardings)(
      variables['params']
    )

  def device_batch(self, step: int) -> Any:
    """The global batch of a step; this host reads only its own rows."""
    rows = self.feed.batch_size
    start, stop = placement.local_rows(self._rows_sharding((rows,)), rows)
    host = self._host_batch(step, start, stop)
    return placement.global_batch(host, rows, start, self._rows_sharding)

  def gradients(self, variables: Any, batch: Any):
    """((loss, metrics, updates), gradients) of one batch; traceable."""
    key = jax.random.fold_in(
      jax.random.key(self.config.seed + 1), batch['step']
    )
    pin = jax.lax.with_sharding_constraint
    with nn.logical_axis_rules(self.rules):
      total, weight, metrics, updates, grads = step_lib.accumulate_gradients(
        self.objective,
        variables,
        batch,
        key,
        self.config.microbatches,
        self._pin_parts,
        lambda grads: pin(grads, self.shardings['params']),
      )
    loss, grads = step_lib.weighted_mean(total, weight, grads)
    return (loss, metrics, updates), grads

  def _pin_parts(self, array: jax.Array) -> jax.Array:
    """Pins (parts, rows, …) to where the rows lie; traceable."""
    sharding = self._rows_sharding(array.shape[1:])
    return jax.lax.with_sharding_constraint(
      array, placement.add_leading_axis(sharding)
    )

  def _updated(self, variables: Any, optimizer: Any, batch: Any):
    """(variables, optimizer state, metrics) behind an update; traceable."""
    return self._applied(
      variables, optimizer, *self.gradients(variables, batch)
    )

  def _applied(self, variables: Any, optimizer: Any, found: Any, grads: Any):
    """As `_updated`, of what `gradients` gives."""
    loss, metrics, updates = found
    return step_lib.update(
      self.chain,
      self.config.spikes,
      self.config.ema_decay,
      variables,
      optimizer,
      loss,
      metrics,
      updates,
      grads,
    )

  def _compiled_step(self) -> Callable[..., Any]:
    def step(variables, optimizer, batch):
      batch = dict(batch)
      stop = batch.pop('stop', None)
      variables, optimizer, metrics = self._updated(variables, optimizer, batch)
      if stop is not None:
        metrics['stop'] = stop.max()
      return variables, optimizer, metrics

    return self._compiled(step)

  def _compiled(
    self, step: Callable[..., Any], shardings: Any = None
  ) -> Callable[..., Any]:
    """What makes a new state of the one that is given away.

    Args:
      step: As `_updated`.
      shardings: Of its variables, where those are not all.
    """
    # Pinned, so that no step moves the state and no second program is made.
    return jax.jit(
      step,
      donate_argnums=(0, 1),
      out_shardings=(
        shardings or self.shardings,
        self.optimizer_shardings,
        self._replicated,
      ),
    )


def run(
  trainer: Trainer,
  run_dir: files.Path,
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

  Raises:
    UserError: A checkpoint cannot be written, or the guard gave up.
    Preempted: SIGTERM came; the step it says is saved.
  """
  config, feed = trainer.config, trainer.feed
  fresh: list[str] = []
  with contextlib.ExitStack() as stack:
    watch = stack.enter_context(preemption.Watch(trainer.mesh))
    # However the run ends, the save under way is finished first.
    store = stack.enter_context(
      contextlib.closing(
        checkpoints_lib.Checkpoints(
          run_dir, config.keep, config.best, config.best_is
        )
      )
    )
    stack.enter_context(jax.set_mesh(trainer.mesh))
    first, data = 0, {}
    restored = store.restore(*parts(*trainer.abstract_state()))
    if restored:
      first, variables, optimizer, ema, data = restored
      optimizer = optimizer._replace(ema=ema)
    else:
      pairs = sources() if callable(sources) else sources
      if pairs:
        variables, fresh = trainer.variables_from(pairs)
      else:
        variables = trainer.fresh_variables()
      optimizer = trainer.optimizer_state(variables)
    log = stack.enter_context(
      metrics_lib.Log(trainer, run_dir, first, data.get('log'), label)
    )
    batches = placement.read_ahead(
      trainer.device_batch,
      range(first, config.steps),
      getattr(feed, 'read_ahead', 1),
    )
    pending = None
    for step in range(first + 1, config.steps + 1):
      variables, optimizer, metrics = trainer.step(
        variables, optimizer, watch.marked(next(batches))
      )
      # Metrics are read one step late: the device never waits for the host,
      # unless the state is about to be copied anyway.
      stop = watch.asked(pending and log.add(step - 1, pending))
      pending = metrics
      due = config.checkpoint_every and step % config.checkpoint_every == 0
      if due or stop or step == config.steps:
        stop = watch.asked(log.add(step, pending)) or stop
        pending = None
        data = {'row': step * feed.batch_size, 'log': log.state()}
        line = log.last if log.last['step'] == step else None
        *state, ema = parts(variables, optimizer)
        # A kill must not leave a step whose lines are not there yet.
        log.flush()
        store.save(step, *state, data, ema, line)
        if stop and step < config.steps:
          raise preemption.Preempted(step)
      store.check()
  return {**log.last, 'fresh': fresh}


def parts(variables: Any, optimizer: step_lib.State) -> tuple[Any, Any, Any]:
  """(variables, the rest of the state, ema), as checkpoints hold them."""
  return variables, optimizer._replace(ema=None), optimizer.ema


def _masked(leaf: Any) -> bool:
  return isinstance(leaf, optax.MaskedNode)


def _abstract(shape, sharding):
  return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
