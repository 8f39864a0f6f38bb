"""The door `check`: whether a job could start."""

from absl import flags

from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from tpu_launch.backends import jobs
from tpu_launch.backends import registry


def main(fv: flags.FlagValues):
  """Parses the gin files and asks the backend."""
  job = jobs.from_flags(fv)
  if fv.gin_file:
    gin_files.parse(fv.gin_file, fv.gin_bindings)
    print(f'gin: {", ".join(fv.gin_file)} parse; every macro has a value')
  return dict(registry.backend_of(job).check(job))


DOOR = cli.Door(
  summary="""
Says whether a job could start: the gin files parse, every required macro has a
value, and the machines it names exist.

  python -m tpu_launch check --name=stage1 --gin_file=run.gin --processes=2
""",
  main=main,
  define=jobs.define_job,
)
