"""`tokenize` and `build` on a Dask scheduler with workers in processes."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import apache_beam
import dask
import distributed
import numpy as np
import pytest
import soundfile

from data_pipelines import __main__ as doors
from data_pipelines.codes import tokenize
from data_pipelines.engines import dask_cluster
from data_pipelines.engines import environment
from data_pipelines.rows import build
from data_pipelines.tasks import definitions
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests import stores
from tests.data_pipelines import frail
from tests.data_pipelines import stand_in
from tests.data_pipelines import tiny

ROOT = pathlib.Path(__file__).parents[2]
COUNT = 24
CLOCK = ('worker_seconds', 'real_time_factor')


@pytest.fixture(scope='module')
def speech(tmp_path_factory):
  """Utterances of ragged length, two of which cannot be used."""
  rng = np.random.default_rng(0)
  root = tmp_path_factory.mktemp('speech')
  (root / 'wav').mkdir()
  utterances = []
  for k in range(COUNT):
    samples = rng.normal(0, 0.1, 4000 + 411 * k).astype(np.float32)
    soundfile.write(root / 'wav' / f'{k}.wav', samples, 16000)
    utterances.append(
      manifest.Utterance(
        id=f'u{k}',
        audio=f'wav/{k}.wav',
        duration=len(samples) / 16000,
        sample_rate=16000,
      )
    )
  for k in (3, 17):
    (root / 'wav' / f'{k}.wav').write_bytes(b'not audio')
  manifest.write(root, utterances)
  return root


@pytest.fixture
def tokenizer(tmp_path):
  return stand_in.save(tmp_path / 'tokenizer')


def run(speech, tokenizer, name, load=frail.Frail, **more):
  output = pathlib.Path(tokenizer).parent / name
  stats = tokenize.tokenize(
    speech, output, tokenizer, load=load, shard_size=4, batch_size=2, **more
  )
  return output, stats


def on_dask(*options):
  return {'runner': 'DaskRunner', 'beam_options': options}


def contents(folder):
  """Everything in a folder, without what a clock says."""
  found = {}
  for path in sorted(folder.rglob('*')):
    name = path.relative_to(folder).as_posix()
    if path.suffix == '.json':
      told = files.read_json(path)
      found[name] = {k: v for k, v in told.items() if k not in CLOCK}
      if 'interleaving' in told:
        found[name]['interleaving'] = {
          k: v for k, v in told['interleaving'].items() if 'second' not in k
        }
    elif path.is_file():
      found[name] = path.read_bytes()
  return found


@contextlib.contextmanager
def dask_process(part, *arguments, before=''):
  """`dask scheduler` or `dask worker` as a user starts it."""
  code = f'{before}\nfrom distributed.cli.dask_{part} import main\nmain()'
  process = subprocess.Popen(
    [sys.executable, '-c', code, *arguments, '--no-dashboard'],
    cwd=ROOT,
    stderr=subprocess.DEVNULL,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )
  try:
    yield process
  finally:
    process.kill()
    process.wait()


@pytest.fixture
def scheduler(tmp_path):
  """(process, its file) of a scheduler that has no workers yet."""
  told = tmp_path / 'scheduler.json'
  arguments = ('--host=127.0.0.1', '--port=0', f'--scheduler-file={told}')
  with dask_process('scheduler', *arguments) as process:
    wait_for(told.exists)
    yield process, told


def worker(told, before=''):
  return dask_process(
    *('worker', f'--scheduler-file={told}', '--nthreads=1', '--no-nanny'),
    before=before,
  )


def wait_for_workers(told, count):
  with distributed.Client(scheduler_file=told) as client:
    client.wait_for_workers(count, timeout=20)


def wait_for(true):
  end = time.monotonic() + 20
  while not true():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_workers_make_the_same_codes_though_one_dies(
  speech, tokenizer, capfd, monkeypatch
):
  monkeypatch.setenv('PROGRESS', '1')
  want = contents(run(speech, tokenizer, 'here')[0])
  assert len(want) == 2 * 6 + 2
  before = len(frail.encoded(tokenizer))
  frail.doom(tokenizer, '')
  output, stats = run(speech, tokenizer, 'dask', **on_dask('--dask_workers=2'))
  assert contents(output) == want
  said = (stats[k] for k in ('read', 'kept', 'quarantined', 'shards_made'))
  assert tuple(said) == (COUNT, COUNT - 2, 2, 6)
  made = frail.encoded(tokenizer)[before:]
  assert sum(n for _, n in made) == COUNT - 2  # nothing was done twice
  # All workers had shards, not one of them the first 128.
  processes = {process for process, _ in made}
  assert len(processes) >= 2 and os.getpid() not in processes
  said = capfd.readouterr().err
  assert 'tokenize: 100%' in said and 'x real time, 24 of 24' in said
  for noise in ('distributed', 'Traceback', 'apitools'):
    assert noise not in said


def test_a_shard_that_kills_its_workers_is_given_up(speech, tokenizer, capfd):
  frail.doom(tokenizer, *[''] * 9)
  with (
    dask.config.set({'distributed.scheduler.allowed-failures': 1}),
    pytest.raises(errors.UserError) as caught,
  ):
    run(speech, tokenizer, 'codes', **on_dask('--dask_workers=1'))
  said = str(caught.value)
  assert '2 workers died of the same shard' in said and 'tcp://' in said
  assert 'the same command continues' in said
  # A batch of each worker that died is kept.
  assert len(frail.encoded(tokenizer)) >= 2
  output, _ = run(speech, tokenizer, 'codes', load=stand_in.StandIn)
  other, _ = run(speech, tokenizer, 'new', load=stand_in.StandIn)
  assert contents(output) == contents(other)
  assert 'Traceback' not in capfd.readouterr().err


def test_what_a_worker_refuses_is_told_in_its_words(speech, tokenizer):
  for runner in (on_dask('--dask_workers=1'), {'runner': 'DirectRunner'}):
    with pytest.raises(errors.UserError) as caught:
      run(speech, tokenizer, 'codes', load=frail.Impostor, **runner)
    said = str(caught.value)
    assert said.startswith(f'{tokenizer}: another tokenizer (eeeeeeeeeeee)')
    assert '\n' not in said
    assert not list((pathlib.Path(tokenizer).parent / 'codes').iterdir())


def test_rows_are_the_same_bytes_though_a_worker_dies(tmp_path, scheduler):
  root = tiny.make(tmp_path / 'corpus', 30)
  model = root / 'text.model'
  tasks = {
    one.name: one
    for one in [
      *definitions.speech('engine', root / 'speech', root / 'codes', model),
      *definitions.text('engine', root / 'text', model),
    ]
    if one.name.split('_', 1)[1] in ('asr', 'interleaved', 'text')
  }
  settings = build.Settings(96, shard_rows=3, parts=3)
  want = build.build(tasks, ['train'], tmp_path / 'here', settings)
  _, told = scheduler
  with worker(told), worker(told) as victim:
    wait_for_workers(told, 2)
    options = [f'--dask_scheduler_file={told}']
    there = tmp_path / 'there'

    def part_stands():
      return list(there.glob('*/.*.parts/*/stats.json'))

    with kill_when(victim, part_stands):
      found = build.build(
        tasks, ['train'], there, settings, **on_dask(*options)
      )
    assert victim.poll()
  assert found == want
  assert contents(tmp_path / 'there') == contents(tmp_path / 'here')


def test_workers_read_and_write_in_a_bucket(
  speech, tokenizer, gs_folder, scheduler
):
  want = contents(run(speech, tokenizer, 'here')[0])
  corpus = stores.upload(speech, gs_folder / 'speech')
  output = gs_folder / 'codes'
  _, told = scheduler
  with worker(told):
    wait_for_workers(told, 1)
    tokenize.tokenize(
      *(corpus, output, tokenizer),
      load=stand_in.StandIn,
      shard_size=4,
      batch_size=2,
      **on_dask(f'--dask_scheduler_file={told}'),
    )
  found = stores.contents(output)
  arrays = {name for name in want if name.endswith('.array_record')}
  assert found.keys() == want.keys() and len(arrays) == 6
  assert {n: found[n] for n in arrays} == {n: want[n] for n in arrays}


@contextlib.contextmanager
def kill_when(process, true):
  """Kills a process as soon as something is so, while the block runs."""
  done = threading.Event()

  def kill():
    while not true():
      if done.wait(0.02):
        return
    process.kill()

  thread = threading.Thread(target=kill)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()


def test_a_scheduler_that_is_lost_is_told(speech, tokenizer, scheduler):
  process, told = scheduler
  frail.doom(tokenizer, process.pid)
  options = (f'--dask_scheduler_file={told}', '--dask_connection_timeout=1')
  with worker(told), pytest.raises(errors.UserError) as caught:
    run(speech, tokenizer, 'codes', **on_dask(*options))
  said = str(caught.value)
  assert said.startswith('tcp://127.0.0.1:')
  assert 'the Dask scheduler was lost while the work ran' in said


@pytest.mark.parametrize(
  'before, said',
  [
    ("import sys; sys.modules['data_pipelines'] = None", 'data_pipelines'),
    (
      "import step_audio_jax; step_audio_jax.__version__ = '0.0.1'",
      'step_audio_jax: found 0.0.1 there, expected 0.',
    ),
  ],
)
def test_a_worker_with_another_environment_is_refused(
  speech, tokenizer, scheduler, before, said, capfd
):
  _, told = scheduler
  with worker(told, before):
    wait_for_workers(told, 1)
    with pytest.raises(errors.UserError) as caught:
      run(
        speech, tokenizer, 'codes', **on_dask(f'--dask_scheduler_file={told}')
      )
  message = str(caught.value)
  assert said in message and 'the worker at tcp://127.0.0.1:' in message
  assert 'the same environment' in message and '\n' not in message


def test_an_option_that_beam_cannot_read(speech, tokenizer):
  with pytest.raises(errors.UserError) as caught:
    run(
      speech, tokenizer, 'codes', runner='DirectRunner',
      beam_options=['--direct_num_workers=x'],
    )  # fmt: skip
  said = str(caught.value)
  assert said == "--beam_option: --direct_num_workers: invalid int value: 'x'."


def test_a_jar_that_cannot_be_downloaded(speech, tokenizer, monkeypatch):
  def fails(self):
    raise RuntimeError('Unable to fetch remote job server jar at x: y')

  monkeypatch.setattr(apache_beam.Pipeline, 'run', fails)
  with pytest.raises(errors.UserError, match='^--runner=DirectRunner: Beam co'):
    run(speech, tokenizer, 'codes', runner='DirectRunner')


def test_every_engine_compares_environments(speech, tokenizer, monkeypatch):
  here = environment.here()
  answers = iter([{**here, 'numpy': '1.0'}])
  monkeypatch.setattr(environment, 'here', lambda: next(answers, here))
  with pytest.raises(errors.UserError, match='numpy: found .*expected 1.0 as'):
    run(speech, tokenizer, 'codes', runner='DirectRunner')


@pytest.mark.parametrize(
  'options, said',
  [
    (
      ['--dask_client_address=tcp://127.0.0.1:{port}'],
      'tcp://127.0.0.1:{port}: no Dask scheduler answered there within 1 s',
    ),
    (['--dask_client_address=nonsense'], '=nonsense: no Dask scheduler'),
    (['--dask_client_address=x://y:1'], '=x://y:1: no Dask scheduler'),
    (['--dask_workers=0'], "--dask_workers: found '0', expected a whole"),
    (['--dask_workers=two'], "--dask_workers: found 'two', expected"),
    (
      ['--dask_workers=2', '--dask_client_address=tcp://a:1'],
      'found --dask_client_address and --dask_workers, expected one of them',
    ),
    (['--dask_scheduler_file=/no/such'], '/no/such: no such file'),
    (
      ['--dask_workers=1', '--dask_npartitions=x'],
      "--dask_npartitions: found 'x', expected a whole number",
    ),
  ],
)
def test_a_cluster_that_cannot_be_reached(
  speech, tokenizer, options, said, capfd
):
  with socket.socket() as closed:
    closed.bind(('127.0.0.1', 0))  # and nobody listens
    port = closed.getsockname()[1]
    options = [*options, '--dask_connection_timeout=1']
    argv = [
      'data_pipelines', 'tokenize', f'--corpus={speech}',
      f'--tokenizer={tokenizer}', f'--output={tokenizer}/../codes',
      '--runner=DaskRunner',
      *(f'--beam_option={o.format(port=port)}' for o in options),
    ]  # fmt: skip
    begin = time.monotonic()
    assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 2
    assert time.monotonic() - begin < 8
  (line,) = [
    line
    for line in capfd.readouterr().err.splitlines()
    if not line.startswith('tokenize:') and line
  ]
  assert line.startswith('error: ') and said.format(port=port) in line


def test_dask_that_is_not_installed(speech, tokenizer, monkeypatch):
  monkeypatch.setattr(
    dask_cluster.importlib.util, 'find_spec', lambda name: None
  )
  with pytest.raises(errors.UserError, match='dask is not installed; pip'):
    run(speech, tokenizer, 'codes', **on_dask('--dask_workers=1'))


def test_work_that_waits_for_a_worker_says_so(scheduler, capfd):
  _, told = scheduler
  address = files.read_json(told)['address']
  with dask_cluster.reached([f'--dask_client_address={address}'], 3) as options:
    pass
  assert f'note: {address}: no worker is there' in capfd.readouterr().err
  assert '--dask_npartitions=3' in options
