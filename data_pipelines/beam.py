"""Beam as an executor: a picklable function mapped over shards."""

from typing import Any, Callable, Sequence

from step_audio_jax import errors


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
