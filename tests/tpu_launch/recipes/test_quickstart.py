"""The quick start's recipe, read by the doors that it opens."""

import re
import sys
import types

import pytest

from data_pipelines.synthesis import plan
from data_pipelines.synthesis.voices import speakers
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from tpu_launch import __main__ as launch
from tpu_launch.backends import jobs
from tpu_launch.backends import local
from tpu_launch.recipes import quickstart


def test_outside_the_checkout_it_says_so(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  argv = ['tpu_launch', 'quickstart', '--output=q']
  assert cli.dispatch('tpu_launch', launch.DOORS, argv) == 2
  assert 'found no gin/quickstart folder' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_the_recipe_follows_the_stages_and_starts_from_the_one_before():
  (commands,) = quickstart.commands('R')
  names = [c.name for c in commands]
  assert names.index('tokenize') < names.index('build')
  order = [f'train {s}' for s in ('text', 'stage1', 'stage2', 'stage3', 'sft')]
  assert [n for n in names if n in order] == order
  words = {c.name: ' '.join(c.words) for c in commands}
  assert 'INIT_FROM=["R/stage2"]' in words['train stage3']
  assert 'INIT_FROM=["R/text", "R/vision"]' in words['train stage1']
  for stage in quickstart.STAGES:
    (evaluation,) = [c for c in commands if c.name == f'evaluate {stage}']
    assert evaluation.needs == (f'train {stage}',)
    # Who trains goes first: others wait for it, and for no evaluation.
    assert names.index(f'evaluate {stage}') > names.index('train sft')
  assert names[-1] == 'report'


def test_dry_run_prints_commands_and_makes_nothing(tmp_path, capsys):
  from step_audio_jax.commands import cli

  out = tmp_path / 'q'
  status = cli.run(
    'quickstart', quickstart.DOOR, ['--dry_run', f'--output={out}']
  )
  assert status == 0 and not out.exists()
  assert 'python -m data_pipelines synthesize' in capsys.readouterr().out


def hashed(name):
  """Packages of a requirement file, each with digests of its files."""
  text = (gin_files.ROOT / 'requirements' / name).read_text()
  found = {}
  for line in text.replace('\\\n', ' ').splitlines():
    if not line.startswith('#'):
      package, *digests = line.split()
      assert digests and all(
        re.fullmatch('--hash=sha256:[0-9a-f]{64}', d) for d in digests
      ), line
      found[package.partition('==')[0]] = len(digests)
  return found


def test_the_voice_and_the_stranger_are_those_that_are_installed():
  commands = {
    c.name: c.words for step in quickstart.commands('R') for c in step
  }
  (voice,) = [w for w in commands['synthesize'] if 'voice' in w]
  name = re.fullmatch(
    '--optional_voice=package:(.+)@sha256:[0-9a-f]{64}', voice
  )[1]
  voices, ears = hashed('voices.txt'), hashed('judge.txt')
  assert voices[name] == 1 and 'onnxruntime' in voices
  gin_files.parse(['gin/quickstart/evaluate_sound.gin'], [], lint=False)
  told = gin_files.macros()
  model = told['JUDGE'].removeprefix('package:').split('+')
  assert [ears[package] for package in model] == [1, 1]
  assert {'faster-whisper', 'ctranslate2', 'av'} <= set(ears)
  assert told['HEARD'] >= 40 and told['LANGUAGES'] == ('en',)
  # Only the finished model's sentences of test are heard, and recordings once,
  # while it is learning.
  assert told['RECORDINGS'] is False
  heard = {n for n, words in commands.items() if 'HEARD_SPLITS' in str(words)}
  assert heard == {'evaluate stage3', 'evaluate sound'}
  assert 'gin/quickstart/evaluate_heard.gin' in str(commands['evaluate stage3'])
  assert '--gin.HEARD_SPLITS=["test"]' in commands['evaluate sound']
  lines = plan.plan_speech(plan.Config())
  english = [u for u in lines if (u.split, u.language) == ('test', 'en')]
  assert len(english) >= 40


def test_the_decoder_speaks_with_the_natural_voice():
  joe = types.SimpleNamespace(
    name='joe', sha256='0', speakers=('0',), languages=('en',)
  )
  for cast, voice in ((speakers.cast([joe]), 'joe'), ((), 'm1')):
    lines = plan.plan_speech(plan.Config(speakers=cast))
    (line,) = (line for line in lines if line.id == quickstart.VOICE)
    assert (line.language, line.voice) == ('en', voice)


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_the_logs_door_shows_the_last_lines(here, capfd):
  job = jobs.Job(name='j', processes=2)
  job.save(state='succeeded')
  for worker in range(2):
    text = ''.join(f'w{worker} {i}\n' for i in range(9))
    (job.folder / f'worker-{worker}.log').write_text(text)
  argv = ['tpu_launch', 'logs', '--name=j', '--worker=1', '--lines=2']
  assert cli.dispatch('tpu_launch', launch.DOORS, argv) == 0
  path = 'runs/launch/j/worker-1.log'
  assert capfd.readouterr().out.splitlines() == [
    f'+ tail --lines=2 {path}',
    'w1 7',
    'w1 8',
  ]


def test_output_that_is_no_text_is_kept(here, capfd, monkeypatch):
  (here / 'loud.py').write_text(
    'import sys\n'
    "sys.stdout.buffer.write(b'\\xff\\xfe caf\\xc3\\xa9\\nno end')\n"
    "sys.stderr.write('and errors')\n"
  )
  monkeypatch.setenv('PYTHONPATH', str(here))
  done = local.Local().run(jobs.Job(name='j'), ['loud'])
  assert done == {'state': 'succeeded', 'exit_codes': [0]}
  log = (here / 'runs/launch/j/worker-0.log').read_text()
  assert 'café\n' in log and 'no end' in log and 'and errors' in log
  assert log in capfd.readouterr().out


def test_a_finished_job_may_run_again(here, capfd, monkeypatch):
  (here / 'short.py').write_text("print('done')")
  monkeypatch.setenv('PYTHONPATH', str(here))
  job = jobs.Job(name='j')
  for _ in range(2):
    local.Local().run(job, ['short'])
  job.save(state='running', processes=[[2**22 + 1, 0.0]])  # a lost one
  local.Local().run(job, ['short'])
  assert job.state()['state'] == 'succeeded'
  assert job.state()['command'] == [sys.executable, '-m', 'short']
  assert (job.folder / 'worker-0.log').read_text() == 'done\n'
