"""The door `logs`: the last lines of a worker of a job."""

from absl import flags

from step_audio_jax.commands import cli
from tpu_launch.backends import jobs
from tpu_launch.backends import registry


def _define(fv: flags.FlagValues) -> None:
  jobs.define_name(fv)
  flags.DEFINE_integer('worker', 0, 'Which worker.', flag_values=fv)
  flags.DEFINE_integer('lines', 50, 'How many lines.', flag_values=fv)
  flags.DEFINE_bool('follow', False, 'Wait for more.', flag_values=fv)


def main(fv: flags.FlagValues):
  """Prints the end of a log."""
  job = jobs.find(fv)
  return dict(
    registry.backend_of(job).logs(job, fv.worker, fv.lines, fv.follow)
  )


DOOR = cli.Door(
  summary="""
Prints the last lines of a worker of a job.

  python -m tpu_launch logs --name=stage1 --worker=1 --follow
""",
  main=main,
  define=_define,
  uses_gin=False,
)
