"""The door `run`: start a command on every machine of a job."""

from absl import flags

from step_audio_jax.commands import cli
from tpu_launch.backends import jobs
from tpu_launch.backends import registry


def _define(fv: flags.FlagValues) -> None:
  jobs.define_job(fv)
  jobs.define_command(fv)


def main(fv: flags.FlagValues):
  """Starts the workers; `local` waits for them."""
  job = jobs.to_start(fv)
  return dict(registry.backend_of(job).run(job, jobs.command(fv)))


DOOR = cli.Door(
  summary="""
Starts `python -m step_audio_jax DOOR` on every machine of a job, with the gin
flags as they are given here. `local` waits, shows what the workers print, and
ends all of them when one fails; `queued-resource` returns at once.

  python -m tpu_launch run --name=stage1 --processes=2 \\
    --gin_file=run.gin --gin.STEPS=100
  python -m tpu_launch run --name=eval --door=evaluate -- --checkpoints=RUN
""",
  main=main,
  define=_define,
)
