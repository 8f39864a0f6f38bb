"""The door `status`: whether a job waits, runs or has ended."""

from absl import flags

from step_audio_jax.commands import cli
from tpu_launch.backends import jobs
from tpu_launch.backends import registry


def main(fv: flags.FlagValues):
  """Asks the backend of a saved job."""
  job = jobs.find(fv)
  return dict(registry.backend_of(job).status(job))


DOOR = cli.Door(
  summary="""
Says whether a job waits, runs or has ended, and how each worker ended.

  python -m tpu_launch status --name=stage1
""",
  main=main,
  define=jobs.define_name,
  uses_gin=False,
)
