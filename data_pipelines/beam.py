"""Beam as an executor: a picklable function mapped over shards."""

import contextlib
import threading
from typing import Any, Callable, Iterator, Sequence

from absl import flags

from step_audio_jax import errors


def define_flags(fv: flags.FlagValues) -> None:
  """`--runner` and `--beam_option`, of every door whose work can be spread."""
  flags.DEFINE_string(
    'runner',
    'local',
    '`local`, or a Beam runner: DirectRunner, FlinkRunner, SparkRunner, …',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'beam_option', [], 'An option for Beam, as a flag.', flag_values=fv
  )


@contextlib.contextmanager
def watching(look: Callable[[], Any], seconds: float) -> Iterator[None]:
  """Calls `look` every `seconds` in a thread while the block runs."""
  stop = threading.Event()

  def watch():
    while not stop.wait(seconds):
      look()

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield
  finally:
    stop.set()
    thread.join()


def map_shards(
  function: Callable[[Any], Any],
  shards: Sequence[Any],
  *,
  runner: str,
  options: Sequence[str] = (),
) -> None:
  """Runs `function(shard)` for every shard on a Beam runner, and waits.

  The function writes its own output, atomically and only where it is missing,
  so a runner may try a shard twice.

  Args:
    function: Picklable.
    shards: Picklable.
    runner: `DirectRunner`, `FlinkRunner`, `SparkRunner`, `DataflowRunner`, …
    options: Further pipeline options, spelt as flags.

  Raises:
    UserError: Beam has no such runner.
  """
  import apache_beam
  from apache_beam.options import pipeline_options

  settings = pipeline_options.PipelineOptions(
    [f'--runner={runner}', *options], save_main_session=False
  )
  try:
    made = apache_beam.Pipeline(options=settings)
  except (ValueError, ImportError, AttributeError) as error:
    reason = ' '.join(str(error).split()).rstrip('.')
    raise errors.UserError(f'--runner={runner}: {reason}.') from error
  with made as pipeline:
    _ = (
      pipeline
      | 'Shards' >> apache_beam.Create(list(shards))
      | 'Spread' >> apache_beam.Reshuffle()
      | 'Work' >> apache_beam.Map(function)
    )
