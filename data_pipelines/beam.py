"""Beam as an executor: a picklable function mapped over shards.

A worker's word on what a user can mend is left in a folder beside the output:
every engine hands failures on in another way, tries again first, and few tell
them in one sentence.
"""

import contextlib
import functools
import io
import platform
from typing import Any, Callable, Mapping, Sequence

from absl import flags

from data_pipelines.engines import dask_cluster
from data_pipelines.engines import environment
from data_pipelines.engines import quietly
from step_audio_jax import errors
from step_audio_jax.storage import files

COMPLAINTS = '.complaints'
_ENDING = '.error.json'


def define_flags(fv: flags.FlagValues) -> None:
  """`--runner` and `--beam_option`, of every door whose work can be spread."""
  flags.DEFINE_string(
    'runner',
    'local',
    '`local`, or a Beam runner: DirectRunner, DaskRunner, FlinkRunner, '
    'SparkRunner, DataflowRunner.',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'beam_option',
    [],
    'An option for Beam, as a flag: --beam_option=--dask_workers=4.',
    flag_values=fv,
  )


def map_shards(
  function: Callable[[Any], Any],
  shards: Sequence[Any],
  *,
  output: files.Path,
  runner: str,
  options: Sequence[str] = (),
) -> None:
  """Runs `function(shard)` for every shard on a Beam runner, and waits.

  The function writes its own output, atomically and only where it is missing,
  so a runner may try a shard twice.

  Args:
    function: Picklable.
    shards: Picklable.
    output: Folder that every worker reaches; what they complain of is there
      while they work.
    runner: `DirectRunner`, `DaskRunner`, `FlinkRunner`, `DataflowRunner`, …
    options: Further pipeline options, spelt as flags.

  Raises:
    UserError: Beam has no such runner, or it cannot be reached; a worker has
      another environment; or the function raised one.
  """
  complaints = output / COMPLAINTS
  files.remove_tree(complaints)
  work = functools.partial(
    _work, function=function, wanted=environment.here(), complaints=complaints
  )
  with contextlib.ExitStack() as stack:
    name, told = runner, options
    if dask_cluster.is_meant(runner):
      name = dask_cluster.RUNNER
      told = stack.enter_context(dask_cluster.reached(options, len(shards)))
    _run(work, list(enumerate(shards)), runner, [f'--runner={name}', *told])
  _raise_first(complaints)


def _run(work, items, runner, options) -> None:
  beam, pipeline_options = quietly.beam()
  try:
    with contextlib.redirect_stderr(io.StringIO()) as usage:
      settings = pipeline_options.PipelineOptions(
        options, save_main_session=False
      )
      made = beam.Pipeline(options=settings)
      settings.get_all_options()  # those of the runner, too
  except SystemExit as error:  # of its parser of flags
    *_, reason = ['', *usage.getvalue().strip().splitlines()]
    raise errors.UserError(
      f'--beam_option: {reason.partition("argument ")[2].rstrip(".")}.'
    ) from error
  except (ValueError, ImportError, AttributeError) as error:
    reason = ' '.join(str(error).split()).rstrip('.')
    raise errors.UserError(f'--runner={runner}: {reason}.') from error
  try:
    with made as pipeline:
      _ = (
        pipeline
        | 'Shards' >> beam.Create(items)
        | 'Spread' >> beam.Reshuffle()
        | 'Work' >> beam.Map(work)
      )
    if dask_cluster.is_meant(runner):
      dask_cluster.check(made.result)
  except RuntimeError as error:
    # Of runners that need Java, where their jar cannot be downloaded.
    if 'job server jar' not in str(error):
      raise
    raise errors.UserError(
      f'--runner={runner}: Beam could not download the jar of its job server; '
      'name one that is there, as docs/engines.md shows.'
    ) from error
  finally:
    # DaskRunner leaves its client open; while it lives, so do its tasks.
    client = getattr(getattr(made, 'result', None), 'client', None)
    if client is not None:
      client.close()


def _work(item, function, wanted: Mapping[str, str], complaints) -> int:
  """What a worker does with a shard; returns its number."""
  number, shard = item
  try:
    other = environment.difference(environment.here(), wanted)
    if other:
      raise errors.UserError(
        f'the worker on {platform.node() or "another machine"}: {other}; give '
        'every worker the same environment (docs/engines.md).'
      )
    function(shard)
  except errors.UserError as error:
    told = complaints / f'{number:05d}{_ENDING}'
    files.write_json(told, str(error))
  return number


def _raise_first(complaints) -> None:
  told = sorted(files.glob(complaints, f'*{_ENDING}'))
  sentences = [files.read_json(path) for path in told]
  files.remove_tree(complaints)
  if sentences:
    raise errors.UserError(sentences[0])
