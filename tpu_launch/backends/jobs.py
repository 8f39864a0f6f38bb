"""What a job is, and the file by which later commands find it again.

`<state_dir>/<name>/job.json` is written by `up` and `run`; `status`, `logs`
and `down` need only the name.
"""

import dataclasses
import pathlib
import re
from typing import Any, Mapping, Protocol, Sequence

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.parallel import topology
from step_audio_jax.storage import files

_MOST_PROCESSES = 1024
BACKENDS = ('local', 'queued-resource')
_NAME = re.compile(r'[a-z]([-a-z0-9]{0,48}[a-z0-9])?')


@dataclasses.dataclass(frozen=True)
class Job:
  """One job, as its flags describe it.

  Attributes:
    name: Its name, also of its folder and of its machines.
    backend: One of `BACKENDS`.
    state_dir: Where the folders of jobs lie.
    processes: `local`: how many workers.
    accelerator: `queued-resource`: the slice, as `v5e-256`.
    slices: `queued-resource`: how many of them.
    project: `queued-resource`: the cloud project.
    zone: `queued-resource`: where.
    spot: `queued-resource`: cheaper machines that may be taken away.
    dry_run: Whether commands are only printed.
  """

  name: str
  backend: str = 'local'
  state_dir: str = 'runs/launch'
  processes: int = 1
  accelerator: str = ''
  slices: int = 1
  project: str = ''
  zone: str = ''
  spot: bool = False
  dry_run: bool = False

  def __post_init__(self):
    if not _NAME.fullmatch(self.name):
      raise errors.UserError(
        f'--name={self.name}: expected a small letter, then at most 49 small '
        'letters, digits and hyphens.'
      )
    if self.backend == 'local':
      if not 1 <= self.processes <= _MOST_PROCESSES:
        raise errors.UserError(
          f'--processes={self.processes}: expected at least 1 and at most '
          f'{_MOST_PROCESSES}.'
        )
      return
    for flag in ('accelerator', 'project', 'zone'):
      if not getattr(self, flag):
        raise errors.UserError(f'--{flag}: the {self.backend} needs it.')
    if not self.slice.chip.accelerator:
      raise errors.UserError(f'--accelerator={self.accelerator}: no TPU VM.')
    if self.slices < 1:
      raise errors.UserError(f'--slices={self.slices}: expected at least 1.')

  @property
  def slice(self) -> topology.Slice:
    return topology.slice_of(self.accelerator)

  @property
  def folder(self) -> pathlib.Path:
    return files.path(self.state_dir) / self.name

  def save(self, **extra: Any) -> None:
    """Writes the job, and what its backend adds, unless this is a dry run."""
    if not self.dry_run:
      job = dataclasses.asdict(self)
      del job['dry_run'], job['state_dir']
      files.write_json(self.folder / 'job.json', {'job': job} | extra)

  def state(self) -> dict[str, Any]:
    """What was saved; empty where nothing was."""
    path = self.folder / 'job.json'
    return files.read_json(path) if files.exists(path) else {}


class Backend(Protocol):
  """Where jobs run."""

  def check(self, job: Job) -> Mapping[str, Any]:
    """Whether the machines could be had."""

  def up(self, job: Job) -> Mapping[str, Any]:
    """Asks for them."""

  def run(self, job: Job, command: Sequence[str]) -> Mapping[str, Any]:
    """Starts `python -m …command` on every one."""

  def status(self, job: Job) -> Mapping[str, Any]:
    """How the job stands."""

  def logs(
    self, job: Job, worker: int, lines: int, follow: bool
  ) -> Mapping[str, Any]:
    """Prints the end of one worker's output."""

  def down(self, job: Job) -> Mapping[str, Any]:
    """Stops the workers and gives the machines back."""


def define_name(fv: flags.FlagValues) -> None:
  """The flags by which a job is found."""
  flags.DEFINE_string(
    'name', None, 'Name of the job.', flag_values=fv, required=True
  )
  flags.DEFINE_string(
    'state_dir', 'runs/launch', 'Where jobs are kept.', flag_values=fv
  )


def define_job(fv: flags.FlagValues) -> None:
  """The flags that describe a job."""
  define_name(fv)
  flags.DEFINE_enum(
    'backend', 'local', BACKENDS, 'Where it runs.', flag_values=fv
  )
  flags.DEFINE_integer(
    'processes', 1, 'local: workers on this machine.', flag_values=fv
  )
  flags.DEFINE_string(
    'accelerator',
    '',
    'queued-resource: the slice, by our name or the cloud\'s ("v5e-256").',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'slices', 1, 'queued-resource: how many slices.', flag_values=fv
  )
  flags.DEFINE_string(
    'project', '', 'queued-resource: cloud project.', flag_values=fv
  )
  flags.DEFINE_string(
    'zone', '', 'queued-resource: cloud zone.', flag_values=fv
  )
  flags.DEFINE_bool(
    'spot', False, 'queued-resource: spot machines.', flag_values=fv
  )


def from_flags(fv: flags.FlagValues) -> Job:
  """The job that the flags describe; what was saved fills what is not given.

  Raises:
    UserError: A value is wrong.
  """
  names = {field.name for field in dataclasses.fields(Job)}
  given = {n: fv[n].value for n in names if n in fv and fv[n].present}
  given |= {'name': fv.name, 'state_dir': fv.state_dir, 'dry_run': fv.dry_run}
  path = files.local(fv.state_dir, '--state_dir') / fv.name / 'job.json'
  saved = {}
  if _NAME.fullmatch(fv.name) and files.exists(path):
    saved = files.read_json(path).get('job', {})
  if given.get('backend', saved.get('backend')) != saved.get('backend'):
    saved = {}
  return Job(**(saved | given))


def to_start(fv: flags.FlagValues) -> Job:
  """As `from_flags`, for a door that writes the folder of the job.

  Raises:
    UserError: A value is wrong, or the folder cannot be written.
  """
  job = from_flags(fv)
  files.check_writable(job.folder, folder=True)
  return job


def find(fv: flags.FlagValues) -> Job:
  """A job that `up` or `run` has saved.

  Raises:
    UserError: There is none of that name.
  """
  job = from_flags(fv)
  if not job.state():
    raise errors.UserError(
      f'--name={job.name}: no such job, expected {job.folder}/job.json, which '
      '`up` and `run` write.'
    )
  return job


def define_command(fv: flags.FlagValues) -> None:
  """The flags that say what the workers run."""
  flags.DEFINE_string(
    'door',
    'train',
    'The door that every worker opens: `train`, `evaluate`, … of '
    'step_audio_jax, or `data_pipelines.codes.tokenize`.',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'arguments',
    [],
    'More flags of that door; or write them behind `--`.',
    flag_values=fv,
  )


def command(fv: flags.FlagValues) -> list[str]:
  """Words behind `python -m`: module, door, gin flags as given, the rest."""
  module, dot, door = fv.door.rpartition('.')
  module = module if dot else 'step_audio_jax'
  if module not in ('step_audio_jax', 'data_pipelines'):
    raise errors.UserError(
      f'--door={fv.door}: expected a door of step_audio_jax, or '
      'data_pipelines.DOOR.'
    )
  return [module, door, *cli.gin_arguments(fv), *fv.arguments]
