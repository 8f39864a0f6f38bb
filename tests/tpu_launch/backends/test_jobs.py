"""Jobs: their names, their files, the flags that find them again."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys

from absl import flags
import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.parallel import topology
from step_audio_jax.parallel import xla_flags
from tpu_launch import __main__ as launch
from tpu_launch.backends import jobs
from tpu_launch.backends import local
from tpu_launch.backends import queued_resource
from tpu_launch.backends import registry
from tpu_launch.backends import shell

TPU = {
  'backend': 'queued-resource',
  'accelerator': 'v5e-16',
  'project': 'p',
  'zone': 'z',
}


def flag_values(*argv, command=False):
  fv = flags.FlagValues()
  fv.set_gnu_getopt(True)
  flags.DEFINE_bool('dry_run', False, '', flag_values=fv)
  flags.DEFINE_multi_string('gin_file', [], '', flag_values=fv)
  flags.DEFINE_multi_string('gin_bindings', [], '', flag_values=fv)
  jobs.define_job(fv)
  if command:
    jobs.define_command(fv)
  fv(['', *argv])
  return fv


def from_flags(*argv):
  return jobs.from_flags(flag_values(*argv))


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


@hypothesis.given(name=st.text('ab0-_A./ ', max_size=8) | st.text(max_size=60))
def test_a_name_is_what_the_cloud_takes(name):
  """RFC 1035, so that it may name a machine; never a way out of the folder."""
  good = (
    0 < len(name) <= 50
    and not set(name) - set('abcdefghijklmnopqrstuvwxyz0123456789-')
    and name[0].isalpha()
    and name[-1] != '-'
  )
  if good:
    assert jobs.Job(name=name).folder.parts == ('runs', 'launch', name)
  else:
    with pytest.raises(errors.UserError, match='expected a small letter'):
      jobs.Job(name=name)


@pytest.mark.parametrize(
  ('length', 'good'), [(1, True), (50, True), (51, False)]
)
def test_a_name_has_at_most_fifty_characters(length, good):
  if good:
    jobs.Job(name='a' * length)
  else:
    with pytest.raises(errors.UserError, match='at most 49'):
      jobs.Job(name='a' * length)


@pytest.mark.parametrize(
  ('change', 'told'),
  [
    ({'accelerator': ''}, '--accelerator: the queued-resource needs it'),
    ({'project': ''}, '--project: the queued-resource needs it'),
    ({'zone': ''}, '--zone: the queued-resource needs it'),
    ({'accelerator': 'h100-8'}, "'h100-8': no such slice"),
    ({'accelerator': 'v5p-7'}, r"'v5p-7': no such slice, expected v5p-\d+"),
    ({'slices': 0}, '--slices=0: expected at least 1'),
  ],
)
def test_a_job_on_slices_is_checked(change, told):
  with pytest.raises(errors.UserError, match=told):
    jobs.Job(name='j', **(TPU | change))


def test_local_jobs_need_no_cloud():
  jobs.Job(name='j', processes=3)
  for count in (0, -2):
    with pytest.raises(errors.UserError, match=f'--processes={count}: expect'):
      jobs.Job(name='j', processes=count)


@pytest.mark.parametrize('name', sorted(topology.SLICES))
def test_every_slice_on_offer_makes_a_job(name):
  slice_ = topology.SLICES[name]
  for written in (name, slice_.accelerator_type):
    job = jobs.Job(name='j', **(TPU | {'accelerator': written}))
    assert job.slice == slice_
    assert job.slice.hosts * job.slice.chips_per_host == slice_.chips


def test_what_up_says_is_remembered(here):
  first = from_flags(
    '--name=j', *(f'--{k}={v}' for k, v in TPU.items()), '--slices=2', '--spot'
  )
  first.save(state='requested')
  told = json.loads((here / 'runs/launch/j/job.json').read_text())
  assert told['state'] == 'requested'
  assert 'dry_run' not in told['job'] and 'state_dir' not in told['job']
  assert from_flags('--name=j') == first
  # A flag that is given wins, also one given its default.
  assert from_flags('--name=j', '--zone=y').zone == 'y'
  assert from_flags('--name=j', '--slices=1').slices == 1
  assert from_flags('--name=j', '--nospot').spot is False
  assert from_flags('--name=j', '--dry_run').dry_run


def test_another_backend_starts_from_nothing(here):
  jobs.Job(name='j', **TPU).save()
  job = from_flags('--name=j', '--backend=local')
  assert job == jobs.Job(name='j')
  assert from_flags('--name=j', '--backend=queued-resource').zone == 'z'


def test_jobs_of_other_names_and_folders_are_apart(here):
  jobs.Job(name='j', processes=4).save()
  assert from_flags('--name=k').processes == 1
  assert from_flags('--name=j', '--state_dir=other').processes == 1
  assert from_flags('--name=j').processes == 4


def test_a_dry_run_saves_nothing(here):
  jobs.Job(name='j', dry_run=True).save(state='up')
  assert not list(here.iterdir())
  assert jobs.Job(name='j').state() == {}


def test_a_job_is_found_only_if_saved(here):
  with pytest.raises(errors.UserError, match='no such job, expected runs/lau'):
    jobs.find(flag_values('--name=j'))
  jobs.Job(name='j', processes=2).save(state='up')
  assert jobs.find(flag_values('--name=j')) == jobs.Job(name='j', processes=2)


def test_a_broken_job_file_is_told(here, capsys):
  jobs.Job(name='j').save()
  (here / 'runs/launch/j/job.json').write_text('{"job"')
  argv = ['tpu_launch', 'status', '--name=j']
  assert cli.dispatch('tpu_launch', launch.DOORS, argv) == 2
  assert 'job.json: not valid JSON' in capsys.readouterr().err


def test_every_backend_keeps_the_protocol():
  wanted = {n for n in vars(jobs.Backend) if not n.startswith('_')}
  for name, job in (
    ('local', jobs.Job(name='j')),
    ('queued-resource', jobs.Job(name='j', **TPU)),
  ):
    assert name in jobs.BACKENDS
    assert wanted <= set(dir(registry.backend_of(job)))
  assert isinstance(registry.backend_of(jobs.Job(name='j')), local.Local)
  found = registry.backend_of(jobs.Job(name='j', **TPU))
  assert isinstance(found, queued_resource.QueuedResource)


@pytest.mark.parametrize(
  ('argv', 'expected'),
  [
    ([], ['step_audio_jax', 'train']),
    (['--door=evaluate'], ['step_audio_jax', 'evaluate']),
    (['--door=data_pipelines.build'], ['data_pipelines', 'build']),
    (
      ['--gin_file=a.gin', '--gin_file=b.gin', '--gin_bindings=X = "a = b"'],
      [
        'step_audio_jax',
        'train',
        '--gin_file=a.gin',
        '--gin_file=b.gin',
        '--gin.X="a = b"',
      ],
    ),
    (
      ['--arguments=--x=1', '--arguments=--y z'],
      ['step_audio_jax', 'train', '--x=1', '--y z'],
    ),
  ],
)
def test_the_command_of_the_workers(argv, expected):
  fv = flag_values('--name=j', *argv, command=True)
  assert jobs.command(fv) == expected


@pytest.mark.parametrize('door', ['os.system', 'tpu_launch.run', 'a.b.train'])
def test_doors_of_others_are_refused(door):
  fv = flag_values('--name=j', f'--door={door}', command=True)
  with pytest.raises(errors.UserError, match=f'--door={door}: expected a door'):
    jobs.command(fv)


@pytest.mark.parametrize('slices', [1, 3])
@pytest.mark.parametrize('accelerator', ['v5e-8', 'v5e-16', 'v5p-64'])
def test_workers_are_counted_over_the_slices(capsys, accelerator, slices):
  """Worker n of the job is worker n mod hosts of its slice."""
  job = jobs.Job(
    name='j',
    dry_run=True,
    **(TPU | {'accelerator': accelerator, 'slices': slices}),
  )
  expected = [
    ('j' if slices == 1 else f'j-{node}', worker)
    for node in range(slices)
    for worker in range(job.slice.hosts)
  ]
  for number in range(len(expected)):
    queued_resource.QueuedResource().logs(job, number, 5, False)
  found = re.findall(r' ssh (\S+) --worker=(\d+) ', capsys.readouterr().out)
  assert [(node, int(worker)) for node, worker in found] == expected


@hypothesis.given(
  argv=st.lists(st.text(st.characters(codec='utf-8'), max_size=8), min_size=1),
  env=st.dictionaries(st.sampled_from('ABC'), st.text(max_size=5)),
)
def test_shown_commands_are_read_back(argv, env):
  words = shlex.split(shell.quoted(argv, env))
  extra = ['env', *(f'{k}={v}' for k, v in env.items())] if env else []
  assert words == extra + argv


def test_commands_are_printed_run_and_captured(capfd):
  argv = [sys.executable, '-c', 'print("said")']
  assert shell.run(argv, capture=True) == 'said\n'
  assert capfd.readouterr().out == f'+ {shlex.join(argv)}\n'
  assert shell.run(argv) == ''
  assert capfd.readouterr().out.splitlines()[-1] == 'said'


def test_a_dry_run_needs_no_program(capsys):
  assert shell.run(['no_such_program', 'a b'], dry_run=True) == ''
  assert capsys.readouterr().out == "+ no_such_program 'a b'\n"
  with pytest.raises(errors.UserError, match='no_such_program is not on PATH'):
    shell.run(['no_such_program'])


def test_a_failing_command_is_told_by_its_first_words():
  argv = [sys.executable, '-c', 'raise SystemExit(7)', *'abcdefgh']
  with pytest.raises(errors.UserError) as caught:
    shell.run(argv, capture=True)
  assert str(caught.value).endswith('a b c ...: exit status 7.')


@pytest.mark.parametrize('chip', sorted(xla_flags.FLAGS))
def test_xla_flags_reach_libtpu_as_one_word_each(chip):
  one = xla_flags.libtpu_init_args(chip)
  many = xla_flags.libtpu_init_args(chip, slices=4)
  assert many.startswith(one) and len(many) > len(one)
  for flag in many.split(' '):
    assert re.fullmatch(r'--xla_\w+=(true|false|\d+)', flag)
  assert ('scoped_vmem' in one) == (chip == 'v6e')


def test_the_defaults_of_the_flags_are_those_of_a_job():
  fv = flag_values('--name=j')
  for field in dataclasses.fields(jobs.Job):
    if field.name not in ('name', 'dry_run'):
      assert fv[field.name].default == field.default, field.name


def test_the_program_lists_its_doors():
  done = subprocess.run(
    [sys.executable, '-m', 'tpu_launch'],
    capture_output=True,
    text=True,
    check=False,
  )
  for door in launch.DOORS:
    assert door in done.stdout + done.stderr
