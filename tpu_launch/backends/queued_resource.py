"""Backend `queued-resource`: Cloud TPU VMs that the cloud grants in its turn.

Everything is a `gcloud` command, printed before it runs. One slice is one node
called like the job; several are `<name>-0`, `<name>-1`, … On a node every VM
runs one process; jax finds the others by itself, also across slices, because
the runtime tells each VM its slice.

A job outlives the connection: workers are started detached, write to
`~/step_audio_jobs/<name>/` and leave their exit status there.
"""

import shlex
from typing import Any, Mapping, Sequence

from step_audio_jax.parallel import xla_flags
from step_audio_jax.storage import files
from tpu_launch.backends import jobs
from tpu_launch.backends import shell

TREE = '~/step_audio_jax'
# What a fresh TPU VM lacks: Python 3.11 and our locked packages.
SETUP = (
  f'mkdir -p {TREE} && tar -xzf /tmp/step_audio_jax.tar.gz -C {TREE} && '
  f'cd {TREE} && {{ command -v python3.11 >/dev/null || {{ '
  'sudo apt-get update && '
  'sudo apt-get install -y python3.11 python3.11-venv; }; } && '
  'make install && .venv/bin/python -m pip install --no-deps '
  '-r requirements/tpu.txt'
)


class QueuedResource:
  """Runs jobs on Cloud TPU slices."""

  def check(self, job: jobs.Job) -> Mapping[str, Any]:
    found = job.slice
    print(
      f'{job.slices} x {found.name} ({found.topology}): '
      f'{job.slices * found.chips} chips on {job.slices * found.hosts} VMs, '
      f'{job.slices * found.chips * found.chip.flops / 1e15:.3g} PFLOP/s bf16 '
      f'peak, {found.chip.hbm_bytes / 2**30:.0f} GiB HBM a chip'
    )
    for argv in (
      ['accelerator-types', 'describe', found.accelerator_type],
      ['versions', 'describe', found.chip.image],
    ):
      _gcloud(job, *argv)
    return {'chips': job.slices * found.chips}

  def up(self, job: jobs.Job) -> Mapping[str, Any]:
    nodes = (
      [f'--node-id={job.name}']
      if job.slices == 1
      else [f'--node-count={job.slices}', f'--node-prefix={job.name}']
    )
    _gcloud(
      job,
      'queued-resources',
      'create',
      job.name,
      f'--accelerator-type={job.slice.accelerator_type}',
      f'--runtime-version={job.slice.chip.image}',
      *nodes,
      *(['--spot'] if job.spot else []),
    )
    job.save(state='requested')
    return {'state': 'requested', 'nodes': _nodes(job)}

  def run(self, job: jobs.Job, command: Sequence[str]) -> Mapping[str, Any]:
    archive = self._pack(job)
    for node in _nodes(job):
      _gcloud(
        job,
        'tpu-vm',
        'scp',
        archive,
        f'{node}:/tmp/step_audio_jax.tar.gz',
        '--worker=all',
      )
    for node in _nodes(job):
      _ssh(job, node, SETUP)
    for node in _nodes(job):
      _ssh(job, node, _start(job, command))
    job.save(state='started', command=list(command))
    return {'state': 'started', 'nodes': _nodes(job)}

  def status(self, job: jobs.Job) -> Mapping[str, Any]:
    queue = _gcloud(
      job,
      'queued-resources',
      'describe',
      job.name,
      '--format=value(state.state)',
      capture=True,
    ).strip()
    exits = {}
    if queue in ('ACTIVE', '') and job.state().get('state') == 'started':
      for node in _nodes(job):
        lines = _ssh(
          job,
          node,
          f'echo "$(hostname) $(cat {_folder(job)}/exit 2>/dev/null '
          '|| echo running)"',
          capture=True,
        ).splitlines()
        exits |= dict(line.rsplit(' ', 1) for line in lines if ' ' in line)
    print(f'{job.name}: {queue or "dry_run"}')
    for worker, code in sorted(exits.items()):
      print(f'  {worker}: {code}')
    return {'state': queue, 'workers': exits}

  def logs(
    self, job: jobs.Job, worker: int, lines: int, follow: bool
  ) -> Mapping[str, Any]:
    node, index = divmod(worker, job.slice.hosts)
    _ssh(
      job,
      _nodes(job)[min(node, job.slices - 1)],
      f'tail --lines={lines} {"--follow " if follow else ""}'
      f'{_folder(job)}/output.log',
      worker=str(index),
    )
    return {'worker': worker}

  def down(self, job: jobs.Job) -> Mapping[str, Any]:
    _gcloud(job, 'queued-resources', 'delete', job.name, '--force', '--quiet')
    job.save(state='deleted')
    return {'state': 'deleted'}

  def _pack(self, job: jobs.Job) -> str:
    """The checkout as it is, without what git ignores."""
    archive = str(job.folder / 'source.tar.gz')
    names = str(job.folder / 'source.txt')
    listed = shell.run(
      ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
      dry_run=job.dry_run,
      capture=True,
    )
    if not job.dry_run:
      with files.atomic(names, 'w') as handle:
        handle.write(listed)
    shell.run(
      [
        'tar',
        '--create',
        '--gzip',
        f'--file={archive}',
        f'--files-from={names}',
      ],
      dry_run=job.dry_run,
    )
    return archive


def _nodes(job: jobs.Job) -> list[str]:
  if job.slices == 1:
    return [job.name]
  return [f'{job.name}-{index}' for index in range(job.slices)]


def _folder(job: jobs.Job) -> str:
  return f'~/step_audio_jobs/{job.name}'


def _start(job: jobs.Job, command: Sequence[str]) -> str:
  """The remote line that starts the workers and returns at once."""
  flags = xla_flags.libtpu_init_args(job.slice.chip.name, job.slices)
  worker = shell.quoted(
    ['.venv/bin/python', '-m', *command],
    {
      'JAX_PLATFORMS': 'tpu,cpu',
      'LIBTPU_INIT_ARGS': flags,
      'PYTHONUNBUFFERED': '1',
    },
  )
  folder = _folder(job)
  kept = shlex.quote(f'{worker}; echo $? > {folder}/exit')
  return (
    f'mkdir -p {folder} && rm -f {folder}/exit && cd {TREE} && '
    f'{{ nohup setsid bash -c {kept} > {folder}/output.log 2>&1 '
    '< /dev/null & }'
  )


def _gcloud(job: jobs.Job, *words: str, capture: bool = False) -> str:
  argv = ['gcloud', 'compute', 'tpus', *words]
  argv += [f'--project={job.project}', f'--zone={job.zone}']
  return shell.run(argv, dry_run=job.dry_run, capture=capture)


def _ssh(job, node, line, *, worker='all', capture=False) -> str:
  return _gcloud(
    job,
    'tpu-vm',
    'ssh',
    node,
    f'--worker={worker}',
    f'--command={line}',
    capture=capture,
  )
