"""The door `up`: ask for the machines of a job."""

from absl import flags

from step_audio_jax.commands import cli
from tpu_launch.backends import jobs
from tpu_launch.backends import registry


def main(fv: flags.FlagValues):
  """Asks the backend; returns what it says."""
  job = jobs.to_start(fv)
  return dict(registry.backend_of(job).up(job))


DOOR = cli.Door(
  summary="""
Asks for the machines of a job. They come in their turn: `status` says when.

  python -m tpu_launch up --name=stage1 --backend=queued-resource \\
    --accelerator=v5e-256 --slices=2 --project=P --zone=us-west4-a --dry_run
""",
  main=main,
  define=jobs.define_job,
  uses_gin=False,
)
