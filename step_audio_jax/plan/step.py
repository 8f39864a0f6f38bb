"""One plan: the train step of a run, compiled for chips that are absent.

The step is the one that `train` would run; memory, messages and FLOPs are read
off the compiled program.
"""

import dataclasses
import hashlib
import resource
import time
from typing import Any, Mapping, Sequence

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax.commands import gin_files
from step_audio_jax.parallel import topology
from step_audio_jax.plan import absent
from step_audio_jax.plan import counts as counts_lib
from step_audio_jax.plan import roofline as roofline_lib
from step_audio_jax.training import loop
from step_audio_jax.training import run
from step_audio_jax.training.feeds import feed as feed_lib

# Macros that a run needs and a plan does not; they get these values.
_PLACE_HOLDERS = {
  'CODES': 'None',
  'INIT_FROM': '()',
  'MANIFEST': "''",
  'ROWS': "''",
  'RUN_DIR': "''",
  'STAGE': "'stage1'",
  'STEPS': '1000',
}
_FEED = (
  'feed.BlankFeed.batch_size = %BATCH_SIZE',
  'feed.BlankFeed.length = %LENGTH',
)


@dataclasses.dataclass(frozen=True)
class Target:
  """The machines of a plan.

  Attributes:
    slice: One of them.
    slices: How many, joined by DCN.
  """

  slice: topology.Slice
  slices: int = 1

  @property
  def chips(self) -> int:
    return self.slice.chips * self.slices

  @property
  def name(self) -> str:
    times = f'{self.slices} x ' if self.slices > 1 else ''
    return f'{times}{self.slice.topology}'


def configure(
  gin_file: Sequence[str], bindings: Sequence[str]
) -> dict[str, Any]:
  """The parts of the run that gin files describe, with a feed of no data.

  Raises:
    UserError: The files are wrong, or describe no run of `run.train`.
  """
  bindings = list(bindings)
  gin_files.parse(gin_file, bindings, function=feed_lib.BlankFeed, lint=False)
  holders = dict(_PLACE_HOLDERS)
  # Step-1 has one table for every text; of others their files say the rows.
  if gin_files.macros().get('TEXT_ROWS', True) is not None:
    holders['TEXT_MODEL'] = 'None'  # its file would only be counted
  missing = [n for n in gin_files.required_macros() if n in holders]
  bindings += [f'{name} = {holders[name]}' for name in missing]
  if not gin_files.arguments(gin_file, feed_lib.BlankFeed):
    bindings += _FEED
  bindings.append('run.train.feed = @feed.BlankFeed()')
  gin_files.parse(gin_file, bindings, function=feed_lib.BlankFeed)
  found = gin_files.arguments(gin_file, run.train)
  needed = ('objective', 'optimizer', 'config', 'feed')
  if lacking := [name for name in needed if name not in found]:
    raise errors.UserError(
      f'{", ".join(gin_file) or "--gin_file"}: run.train has no '
      f'{", ".join(lacking)}; expected the gin files of a training run.'
    )
  return found


def trainer_of(parts: Mapping[str, Any], target: Target) -> loop.Trainer:
  """The trainer that `run.train` would build, on the target's chips."""
  mesh = parts.get('mesh') or run.mesh_lib.MeshConfig()
  if target.slices > 1 and mesh.replica == 1:
    mesh = dataclasses.replace(mesh, replica=target.slices)
  return parts.get('trainer', loop.Trainer)(
    objective=parts['objective'],
    feed=parts['feed'],
    optimizer=parts['optimizer'],
    config=parts['config'],
    mesh=mesh.build(absent.devices(target.slice, target.slices)),
    rules=mesh.rules,
  )


def plan(parts: Mapping[str, Any], target: Target) -> dict[str, Any]:
  """Compiles one configuration for the target; the facts, JSON-able.

  Where it does not fit, `fits` is false and what needs the compiled program is
  missing.
  """
  began = time.monotonic()
  trainer = trainer_of(parts, target)
  facts = describe(trainer, target)
  state = trainer.abstract_state(), trainer.abstract_batch()
  lowered = trainer.lowered()
  memory, text, seconds = absent.compile_step(
    lowered, absent.shard_bytes(state), target.slice.chip
  )
  facts |= {
    'fits': memory.fits,
    'hbm_gib_per_chip': memory.gib(),
    'compile_seconds': round(seconds, 1),
  }
  if text is not None:
    counts = counts_lib.count(text)
    facts |= predict(counts, trainer, target, facts['model_flops_per_chip'])
    facts['program'] = hashlib.sha256(text.encode()).hexdigest()[:16]
  facts['total_seconds'] = round(time.monotonic() - began, 1)
  facts['host_memory_gib'] = host_memory_gib()
  return facts


def heading(facts: Mapping[str, Any]) -> str:
  """What is planned on which chips, in a line."""
  mesh = ' x '.join(f'{n} {s}' for n, s in facts['mesh'].items() if s > 1)
  return (
    f'{facts["parameters"]:,} parameters on {facts["chips"]} chips '
    f'({facts["slices"]} x {facts["topology"]}), mesh {mesh or "of one"}'
  )


def host_memory_gib() -> float:
  """The most that this process has held."""
  used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return round(used / 2**20, 2)


def transformer_of(objective: Any) -> Any:
  """Configuration of the transformer that is trained; None if there is none."""
  model = getattr(objective, 'model', None)
  return getattr(getattr(model, 'config', None), 'transformer', None)


def describe(trainer: loop.Trainer, target: Target) -> dict[str, Any]:
  """What is planned: sizes that need no compiler."""
  batch = trainer.abstract_batch()
  tokens = batch.get('tokens')
  flops = getattr(trainer.objective, 'flops', lambda _: 0.0)(batch)
  transformer = transformer_of(trainer.objective)
  return {
    'topology': target.slice.topology,
    'slices': target.slices,
    'chips': target.chips,
    'parameters': sum(
      int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(trainer.shapes)
    ),
    'mesh': dict(trainer.mesh.shape),
    'batch_size': trainer.feed.batch_size,
    'length': tokens.shape[1] if tokens is not None else None,
    'tokens_per_step': int(np.prod(tokens.shape)) if tokens is not None else 0,
    'microbatches': trainer.config.microbatches,
    'remat': getattr(transformer, 'remat', None),
    'model_flops_per_chip': flops / target.chips,
  }


def predict(
  counts: counts_lib.Counts,
  trainer: loop.Trainer,
  target: Target,
  model_flops: float,
) -> dict[str, Any]:
  """What follows from the compiled program; all of it predicted."""
  first = [
    device
    for device in trainer.mesh.devices.flat
    if getattr(device, 'slice_index', 0)
    == getattr(trainer.mesh.devices.flat[0], 'slice_index', 0)
  ]
  found = roofline_lib.roofline(counts, target.slice, first)
  mfu = model_flops / (target.slice.chip.flops * found.step)
  facts = {
    'executed_flops_per_chip': found.executed_flops,
    'collective_bytes_per_chip': counts.bytes_by_kind(),
    'ici_bytes_per_chip': sum(counts.bytes_by_kind('ici').values()),
    'dcn_bytes_per_chip': sum(counts.bytes_by_kind('dcn').values()),
    'hbm_bytes_per_chip': counts.hbm_bytes,
    'roofline_seconds': {
      'compute': found.compute,
      'hbm': found.hbm,
      'ici': found.ici,
      'dcn': found.dcn,
    },
    'ici_exposed_seconds': found.ici_exposed,
    'predicted_step_seconds': found.step,
    'predicted_mfu': mfu,
    'predicted_mxu_fraction': roofline_lib.MXU,
    'executed_flops_by_part': {
      f'{part}, {phase}': flops
      for (part, phase), flops in sorted(found.parts.items())
    },
  }
  if counts.unknown_loops:
    facts['loops_counted_once'] = list(counts.unknown_loops)
  return facts
