"""The `train` door: a gin file in, a run directory out.

A run directory holds `config.gin` (what was bound), `operative_config.gin`
(what was used), `config.json` (what rebuilds the model), `metrics.jsonl`,
`tensorboard/`, `checkpoints/` and, when the run is over, `done.json`.
"""

import contextlib
import difflib
import pathlib
import sys
from typing import Any, Callable, Sequence

import jax
import numpy as np

from step_audio_jax import cli
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import gin_files
from step_audio_jax import memory
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import checkpoints
from step_audio_jax.training import exposure
from step_audio_jax.training import feed as feed_lib
from step_audio_jax.training import loop
from step_audio_jax.training import lora
from step_audio_jax.training import objectives
from step_audio_jax.training import optimizers
from step_audio_jax.training import preemption
from step_audio_jax.training import stored
from step_audio_jax.training import transfer


def train(
  *,
  run_dir: str,
  objective: objectives.Objective,
  feed: feed_lib.Feed,
  optimizer: optimizers.OptimizerConfig | optimizers.OptimizerGroups,
  config: loop.LoopConfig,
  mesh: mesh_lib.MeshConfig = mesh_lib.MeshConfig(),
  init_from: Sequence[str] = (),
  readers: Sequence[Callable[..., Any]] = (),
  most_epochs: float = exposure.MOST_EPOCHS,
  dry_run: bool = False,
) -> dict[str, Any]:
  """Trains one model, from the newest checkpoint of `run_dir` if it has one.

  Args:
    run_dir: Made if it is not there.
    objective: What is minimised (`training.objectives.Objective`).
    feed: Where batches come from.
    optimizer: Numbers of the Optax chain, or chains.
    config: Length of the run.
    mesh: Devices and rules.
    init_from: Run directories, or folders that a reader knows, whose
      parameters this run starts from; the first that holds a parameter gives
      it.
    readers: Called with (folder, description of the objective); each gives
      variables, lazy or not, or None where the folder is none of its kind.
    most_epochs: A source whose rows the run sees more often is warned of.
    dry_run: Build everything, train and write nothing.

  Returns:
    The last metrics and what the run is.

  Raises:
    UserError: Bad input; or `run_dir` holds a run of another configuration.
  """
  folder = files.local(run_dir, 'run_dir')
  done = folder / 'done.json'
  if done.is_file() and not dry_run:
    _check_same(folder)
    return files.read_json(done)
  files.check_writable(folder, 'run_dir', folder=True)
  devices = mesh.build()
  trainer = loop.Trainer(
    objective=objective,
    feed=feed,
    optimizer=optimizer,
    config=config,
    mesh=devices,
    rules=mesh.rules,
  )
  facts = {
    'run_dir': str(run_dir),
    'parameters': transfer.sizes(trainer.shapes['params']),
    'steps': config.steps,
    'mesh': {name: size for name, size in devices.shape.items()},
    'feed': feed.describe(),
    'init_from': [str(path) for path in init_from],
  }
  if hasattr(feed, 'exposure'):
    seen = feed.exposure(0, config.steps * feed.batch_size)
    facts['epochs'] = {n['source']: round(n['epochs'], 4) for n in seen}
    if jax.process_index() == 0:
      for sentence in exposure.warnings(seen, most_epochs):
        print(f'warning: {sentence}', file=sys.stderr, flush=True)
  if dry_run:
    return facts

  def sources():
    return [(str(path), _open(path, objective, readers)) for path in init_from]

  chief = jax.process_index() == 0
  with files.only_one(folder) if chief else contextlib.nullcontext():
    if chief:
      _claim(folder, {**facts, **objective.describe()})
    result = loop.run(
      trainer,
      folder,
      sources=sources if init_from else (),
      label=folder.name,
    )
    if chief:
      _account(folder, feed, config.steps)
      files.write_json(done, {**facts, **result})
  return {**facts, **result}


def _open(path: str, objective: Any, readers: Sequence[Any]) -> Any:
  """Variables of a run directory or of a folder that a reader knows."""
  for read in readers:
    variables = read(path, objective.describe())
    if variables is not None:
      return variables
  variables, _ = stored.open_variables(path)
  adapted = checkpoints.run_config(path).get('lora')
  if adapted and 'lora' not in objective.describe():
    return lora.merged(variables, adapted)
  return variables


def _claim(folder: pathlib.Path, description: dict[str, Any]) -> None:
  """Writes the configuration of a run, or checks that it is the same one."""
  folder.mkdir(parents=True, exist_ok=True)
  if (folder / 'config.gin').is_file():
    _check_same(folder)
    return
  with files.atomic(folder / 'operative_config.gin', 'w') as handle:
    handle.write(gin_files.operative_text())
  files.write_json(folder / 'config.json', description)
  with files.atomic(folder / 'config.gin', 'w') as handle:
    handle.write(gin_files.bound_text())


def _check_same(folder: pathlib.Path) -> None:
  """Refuses a run directory that another configuration made."""
  old = (folder / 'config.gin').read_text(encoding='utf-8').splitlines()
  new = gin_files.bound_text().splitlines()
  changes = [
    line
    for line in difflib.unified_diff(old, new, lineterm='', n=0)
    if line[:1] in ('+', '-') and line[:3] not in ('+++', '---')
  ]
  if changes:
    raise errors.UserError(
      f'{folder}/config.gin: this run directory was made with another '
      f'configuration ({"; ".join(changes[:2])}); expected the same one, or '
      'another run directory.'
    )


def _account(folder: pathlib.Path, feed: Any, steps: int) -> None:
  """Writes which source every consumed row came from, in order."""
  schedule = getattr(feed, 'schedule', None)
  if schedule is None:
    return
  rows = steps * feed.batch_size
  with files.atomic(folder / 'sources.npy') as handle:
    np.save(handle, schedule.sources(0, rows).astype(np.int16))
  files.write_json(
    folder / 'sources.json',
    {
      'names': list(schedule.names),
      'shares': [str(share) for share in schedule.phases[0].shares],
      'phases': [
        {'row': phase.start, 'shares': list(map(str, phase.shares))}
        for phase in schedule.phases
      ],
      'rows': rows,
      'row_length': feed.length,
    },
  )


def _main(fv) -> dict[str, Any]:
  memory.keep_freed()
  mesh_lib.initialize_distributed()
  call = cli.configure(fv, train)
  try:
    result = call(dry_run=fv.dry_run)
  except preemption.Preempted as stop:
    if jax.process_index() == 0:
      print(
        f'stopped by SIGTERM after step {stop.step}, which is saved; the same '
        'command continues.',
        file=sys.stderr,
        flush=True,
      )
    raise SystemExit(preemption.EXIT_STATUS) from stop
  if jax.process_index() == 0:
    verb = 'would train' if fv.dry_run else 'trained'
    print(
      f'{verb} {result["parameters"]:,} parameters for {result["steps"]} '
      f'steps in {result["run_dir"]}'
      + (f'; loss {result["loss"]:.4f}' if 'loss' in result else '')
    )
    if result.get('fresh'):
      print(f'started fresh: {", ".join(sorted(result["fresh"]))}')
    if fv.dry_run:
      print(gin_files.operative_text())
  return result


DOOR = cli.Door(
  summary=(
    'Trains one model as a gin file says, and continues by itself after a '
    'kill. SIGTERM: the step under way ends, is saved, and the exit status is '
    f'{preemption.EXIT_STATUS}; the same command continues.\n\nexample: '
    'python -m step_audio_jax train '
    "--gin_file=gin/quickstart/stage1.gin --gin.RUN_DIR=\\'runs/stage1\\'"
  ),
  main=_main,
)
