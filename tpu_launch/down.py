"""The door `down`: stop a job and give its machines back."""

from absl import flags

from step_audio_jax.commands import cli
from tpu_launch.backends import jobs
from tpu_launch.backends import registry


def main(fv: flags.FlagValues):
  """Stops a saved job."""
  job = jobs.find(fv)
  return dict(registry.backend_of(job).down(job))


DOOR = cli.Door(
  summary="""
Stops the workers of a job and gives its machines back. Checkpoints stay; the
same `run` continues from them.

  python -m tpu_launch down --name=stage1
""",
  main=main,
  define=jobs.define_name,
  uses_gin=False,
)
