"""The `train` door: a gin file in, a run directory out.

A run directory holds `config.gin` (what was bound), `operative_config.gin`
(what was used), `config.json` (what rebuilds the model), `resume.json` (what
a resume compares), `metrics.jsonl`, `tensorboard/`, `checkpoints/` and, when
the run is over, `done.json`. The first four are written anew by whoever
resumes the run; what may differ then is `resume`'s to say.
"""

import contextlib
import sys
from typing import Any, Callable, Collection, Mapping, Sequence

from flax import traverse_util
import jax
from jax.experimental import multihost_utils
import numpy as np

from step_audio_jax import errors
from step_audio_jax import memory
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from step_audio_jax.corpus import epochs
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training import preemption
from step_audio_jax.training import resume
from step_audio_jax.training import run_bindings
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import stored
from step_audio_jax.training.feeds import feed as feed_lib
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import heads
from step_audio_jax.training.transfer import own_vocabulary
from step_audio_jax.training.transfer import transfer

_KEPT = ('operative_config.gin', 'config.gin', 'config.json', resume.NAME)
# Of `done.json`, what `config.json` says too.
_FACTS = (
  'run_dir',
  'parameters',
  'steps',
  'mesh',
  'feed',
  'init_from',
  'epochs',
)


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
  speech_rows: str = 'match',
  most_epochs: float = epochs.MOST_EPOCHS,
  trainer: Callable[..., loop.Trainer] = loop.Trainer,
  dry_run: bool = False,
) -> dict[str, Any]:
  """Trains one model, from the newest checkpoint of `run_dir` if it has one.

  Args:
    run_dir: Made if it is not there.
    objective: What is minimised (`training.objectives.objectives.Objective`).
    feed: Where batches come from.
    optimizer: Numbers of the Optax chain, or chains.
    config: Length of the run.
    mesh: Devices and rules.
    init_from: Run directories, or folders that a reader knows, whose
      parameters this run starts from; the first that holds a parameter gives
      it.
    readers: Called with (folder, description of the objective); each gives
      variables, lazy or not, or None where the folder is none of its kind.
    speech_rows: What is done where the speech rows of `init_from` are codes of
      another tokenizer than those of the feed: 'match' refuses them, 'fresh'
      draws them anew, 'keep' starts from them all the same.
    most_epochs: A source whose rows the run sees more often is warned of.
    trainer: What makes a step of objective and feed; policies have their own.
    dry_run: Build everything, train and write nothing.

  Returns:
    The last metrics and what the run is.

  Raises:
    UserError: Bad input; `run_dir` holds a run of another configuration; or
      rows, model and what it starts from have no ids in common.
  """
  folder = files.path(run_dir, 'run_dir')
  if not files.is_file(folder / 'done.json'):
    files.check_writable(folder, 'run_dir', folder=True)
  given = resume.Given(objective, feed, optimizer, config, tuple(init_from))
  told = getattr(objective, 'check_feed', lambda feed: ())(feed)
  ids = run_bindings.bindings_of_run(objective.describe(), feed)
  ids = run_bindings.bindings_of_resumed(folder, ids)
  if not dry_run and _agreed(lambda: _finished(folder, given, ids)):
    # A directory that was moved says where it is, not where it was.
    return {**files.read_json(folder / 'done.json'), 'run_dir': str(run_dir)}
  files.check_writable(folder, 'run_dir', folder=True)
  devices = mesh.build()
  stepping = trainer(
    objective=objective,
    feed=feed,
    optimizer=optimizer,
    config=config,
    mesh=devices,
    rules=mesh.rules,
  )
  facts = {
    'run_dir': str(run_dir),
    'parameters': transfer.sizes(stepping.shapes['params']),
    'steps': config.steps,
    'mesh': {name: size for name, size in devices.shape.items()},
    'feed': feed.describe(),
    'init_from': [str(path) for path in init_from],
  }
  if jax.process_index() == 0:
    for sentence in told:
      print(f'warning: {sentence}', file=sys.stderr, flush=True)
  if hasattr(feed, 'epochs'):
    seen = feed.epochs(0, config.steps * feed.batch_size)
    facts['epochs'] = {n['source']: round(n['epochs'], 4) for n in seen}
    if jax.process_index() == 0:
      for sentence in epochs.warnings(seen, most_epochs):
        print(f'warning: {sentence}', file=sys.stderr, flush=True)
  starts: list[run_bindings.Start] = []
  if init_from and not checkpoints.steps_of(folder):
    starts = run_bindings.table_starts(
      init_from, objective.describe(), ids, speech_rows
    )
    for start in starts:
      if start.tokenizer:
        ids.setdefault(bindings.TOKENIZER, start.tokenizer)
      if start.told and jax.process_index() == 0:
        bindings.warn_once(start.told)
  if hasattr(objective, 'check_sources') and not checkpoints.steps_of(folder):
    objective.check_sources(run_bindings.configs(init_from))
  if dry_run:
    return facts

  def sources():
    shapes = {
      path: tuple(leaf.shape)
      for path, leaf in transfer.flatten(stepping.shapes).items()
    }
    found = []
    for start in starts:
      variables = _open(start.path, objective, readers, ids)
      fitting = _by_name(start.path, variables, objective, shapes)
      found.append((start.path, fitting, start.rows))
    return found

  chief = jax.process_index() == 0
  with contextlib.ExitStack() as stack:
    _agreed(lambda: stack.enter_context(files.only_one(folder)))
    description = {**facts, **objective.describe(), **ids}
    _agreed(lambda: _claim(folder, given, description))
    result = loop.run(
      stepping,
      folder,
      sources=sources if init_from else (),
      label=folder.name,
    )
    if chief:
      if hasattr(objective, 'warnings'):
        for sentence in objective.warnings(result):
          print(f'warning: {sentence}', file=sys.stderr, flush=True)
      _account(folder, feed, config.steps)
      files.write_json(folder / 'done.json', {**facts, **result})
  return {**facts, **result}


def _agreed(decide: Callable[[], Any]) -> bool:
  """Whether the first process decides so; where it raises, all do."""
  verdict, error = 0, None
  if jax.process_index() == 0:
    try:
      verdict = int(bool(decide()))
    except Exception as caught:
      verdict, error = -1, caught
  if jax.process_count() > 1:
    verdict = int(multihost_utils.broadcast_one_to_all(np.int32(verdict)))
  if error is not None:
    raise error
  if verdict < 0:
    raise errors.UserError('train: the first process said why it stops.')
  return bool(verdict)


def _open(
  path: str, objective: Any, readers: Sequence[Any], ids: Any = None
) -> Any:
  """Variables of a run directory or of a folder that a reader knows."""
  description = {**objective.describe(), **(ids or {})}
  for read in readers:
    variables = read(path, description)
    if variables is not None:
      return variables
  variables, _ = stored.open_variables(path)
  config = checkpoints.run_config(path)
  adapted = config.get('lora')
  adopt = getattr(objective, 'adopt', None)
  # Adapters are new where a run is compared with what it started from.
  anew = adopt or getattr(objective, 'keeps_start', False)
  if adapted and (anew or 'lora' not in description):
    variables = lora.merge(variables, adapted)
  return adopt(variables, config, path) if adopt else variables


def _by_name(
  path: str,
  variables: Any,
  objective: Any,
  shapes: Mapping[str, tuple[int, ...]],
) -> Any:
  """What of it fits the objective, by the names of labels; says what not."""
  named = (getattr(objective, n, tuple)() for n in ('heads', 'all_or_nothing'))
  if not any(named):
    return variables
  fitting, told = heads.match_heads(
    str(path),
    transfer.flatten(variables),
    checkpoints.run_config(path),
    shapes,
    objective,
  )
  if jax.process_index() == 0:
    for sentence in told:
      print(f'note: {sentence}', file=sys.stderr, flush=True)
  return traverse_util.unflatten_dict(fitting, sep='/')


def _finished(
  folder: files.AnyPath, given: resume.Given, ids: dict[str, Any]
) -> bool:
  """Whether the run directory holds this very run, and it is over.

  Raises:
    UserError: It holds another one, or a longer one, or what it made is gone.
  """
  steps, done = checkpoints.steps_of(folder), _done(folder)
  if done is not None and not steps:
    raise errors.UserError(
      f'{folder}: done.json says that this run is over, but its checkpoints '
      'are gone; bring them back, or remove done.json to train it again.'
    )
  if not steps:
    return False
  if steps[-1] > given.config.steps:
    raise errors.UserError(
      f'{folder}: has a checkpoint of step {steps[-1]}, expected at most '
      f'{given.config.steps}, the steps of the run; give at least as many, or '
      'another run directory.'
    )
  if done is None or done.get('steps') != given.config.steps:
    return False  # `_claim` compares
  if steps[-1] < given.config.steps:
    return False  # the last checkpoint is gone, the run does it again
  identity = resume.check(folder, given, steps[-1])
  description = {k: v for k, v in done.items() if k in _FACTS}
  description |= given.objective.describe() | ids
  lost = {'config.json', resume.NAME}
  lost = {name for name in lost if not _is_json_object(folder / name)}
  _write(folder, identity, description, lost | _absent(folder))
  return True


def _claim(
  folder: files.AnyPath, given: resume.Given, description: dict[str, Any]
) -> None:
  """Writes what a run is, or checks that it is the one that is here."""
  files.make_folder(folder)
  steps = checkpoints.steps_of(folder)
  if steps:
    identity = resume.check(folder, given, steps[-1])
  else:  # nothing to go on from: whatever was asked for before is forgotten
    identity = given.identity()
  own_vocabulary.copy_text_model(folder, description.get(bindings.VOCABULARY))
  files.remove(folder / 'done.json')
  _write(folder, identity, description)


def _absent(folder: files.AnyPath) -> set[str]:
  names = ('config.gin', 'operative_config.gin')
  return {name for name in names if not files.is_file(folder / name)}


def _write(
  folder: files.AnyPath,
  identity: resume.Identity,
  description: dict[str, Any],
  names: Collection[str] = _KEPT,
) -> None:
  """Says what the run is, in the files of these names."""
  for name, text in (
    ('operative_config.gin', gin_files.operative_text),
    ('config.gin', gin_files.bound_text),
  ):
    if name in names:
      with files.atomic(folder / name, 'w') as handle:
        handle.write(text())
  for name, value in (
    ('config.json', description),
    (resume.NAME, identity.to_json()),
  ):
    if name in names:
      files.write_json(folder / name, value)


def _done(folder: files.AnyPath) -> dict[str, Any] | None:
  """What `done.json` says; None where there is none, or half of one."""
  path = folder / 'done.json'
  return files.read_json(path) if _is_json_object(path) else None


def _is_json_object(path: files.AnyPath) -> bool:
  try:
    return isinstance(files.read_json(path), dict)
  except errors.UserError as error:
    files.raise_outage(error, refused=True)
    return False


def _account(folder: files.AnyPath, feed: Any, steps: int) -> None:
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
