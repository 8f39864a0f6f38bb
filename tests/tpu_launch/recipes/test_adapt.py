"""`adapt`: what a corpus decides, what is refused, what is bound."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from tpu_launch import __main__ as launch
from tpu_launch.recipes import adapt
from tpu_launch.recipes import adapt_recipe
from tpu_launch.recipes import sizing

ROOT = pathlib.Path(__file__).parents[3]


def utterance(name, split, seconds=1.0, text='one two', **more):
  return manifest.Utterance(
    id=name,
    split=split,
    text=text,
    audio=f'audio/{name}.wav',
    duration=seconds,
    sample_rate=8000,
    **more,
  )


def test_the_survey_counts_what_can_be_learnt(tmp_path):
  manifest.write(
    tmp_path,
    [
      utterance('a', 'train', 2.5, speaker='ann'),
      utterance('b', 'train', 12.0, speaker='bob'),
      utterance('c', 'train', 0.25, text='é' * 9),
      utterance('d', 'test_unseen_voice', 1.5, speaker='cid'),
      utterance('e', 'test', 1.0, speaker='ann'),
      utterance('f', 'validation', 1.0),
      utterance('g', 'dev', 1.0),
      dataclasses.replace(utterance('h', 'other', 30.0), text=None),
    ],
  )
  assert sizing.survey(tmp_path) == sizing.Survey(
    train=3,
    seconds=14.75,
    longest=12.0,
    longest_text=18,
    held_out=('dev', 'validation', 'test', 'test_unseen_voice'),
    speakers=2,
    voice='audio/a.wav',  # 12 s are long for a prompt
  )


def test_a_voice_is_a_file_from_its_beginning_and_its_channel(tmp_path):
  lines = [
    utterance('a', 'train', 2.0, channel=1),
    utterance('b', 'train', 3.0, offset=4.0),
    utterance('c', 'train', 4.0, channel=[0, 1]),
    utterance('d', 'test'),
  ]
  manifest.write(tmp_path, lines)
  found = sizing.survey(tmp_path)
  assert (found.voice, found.voice_channel) == ('audio/a.wav', 1)
  commands = adapt_recipe._speech(
    adapt_recipe.Names(adapt_recipe.Options(source='in', output='run')),
    sizing.plan(found),
    found,
  )
  export = next(c for c in commands if '--channel=1' in c.words)
  assert '--voice=run/data/audio/a.wav' in export.words
  manifest.write(tmp_path, lines[1:])
  assert sizing.survey(tmp_path).voice is None


@pytest.mark.parametrize('split', ['train', 'test'])
def test_learning_needs_something_to_learn_and_to_judge_by(tmp_path, split):
  manifest.write(tmp_path, [utterance('a', split)])
  with pytest.raises(errors.UserError, match='expected some in both'):
    sizing.survey(tmp_path)


SURVEY = sizing.Survey(
  train=1000,
  seconds=1500.0,
  longest=1.3,
  longest_text=5,
  held_out=('test',),
  speakers=2,
  voice=None,
)


@pytest.mark.parametrize(
  'seconds, text, length, rows',
  [(1.3, 5, 272, 4), (8.0, 120, 480, 2), (30.0, 400, 1680, 1)],
)
def test_rows_hold_the_longest_document(seconds, text, length, rows):
  found = sizing.plan(
    dataclasses.replace(SURVEY, longest=seconds, longest_text=text)
  )
  assert (found.length, found.rows) == (length, rows)
  assert found.length >= seconds * 5 / 0.12 + text and not found.length % 16
  assert found.groups * 0.12 >= seconds and found.text_tokens > text


def test_more_recordings_are_more_steps():
  def steps(count):
    return sizing.plan(dataclasses.replace(SURVEY, train=count)).steps(400)

  assert [steps(n) for n in (10, 1600, 3200, 10**9)] == [400, 400, 800, 10_000]


def base(folder):
  """What the recipe looks for in a quick start, empty."""
  for name in adapt.BASE:
    (folder / name).mkdir(parents=True)
  return folder


@pytest.fixture
def recordings(tmp_path):
  folder = tmp_path / 'recordings'
  folder.mkdir()
  lines = ['file,text,split,speaker']
  rng = np.random.default_rng(0)
  for n in range(6):
    wave = rng.normal(size=8000 + 800 * n) / 9
    soundfile.write(folder / f'{n}.wav', wave, 8000)
    lines.append(f'{n}.wav,one,{"train" if n < 4 else "test"},{"ab"[n % 2]}')
  (folder / 'metadata.csv').write_text('\n'.join(lines))
  return folder


def call(recordings, tmp_path, *more):
  argv = [
    'tpu_launch',
    'adapt',
    f'--source={recordings}',
    f'--output={tmp_path / "out"}',
    f'--base={tmp_path / "base"}',
    *more,
  ]
  return cli.dispatch('tpu_launch', launch.DOORS, argv)


def test_a_dry_run_shows_every_command_and_makes_nothing(
  recordings, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  base(tmp_path / 'base')
  assert call(recordings, tmp_path, '--dry_run', '--json') == 0
  out = capsys.readouterr().out
  said = json.loads(out.splitlines()[-1])
  assert said['corpus']['train'] == 4 and said['corpus']['held_out'] == ['test']
  assert said['corpus']['voice'] == 'audio/3.wav'
  assert len(said['commands']) > 12 and not (tmp_path / 'out').exists()
  assert all(command in out for command in said['commands'])
  assert call(recordings, tmp_path, '--dry_run', '--nospeech', '--json') == 0
  fewer = json.loads(capsys.readouterr().out.splitlines()[-1])['commands']
  assert set(fewer) < set(said['commands'])
  assert not any('flow' in command for command in fewer)


def test_without_a_quick_start_it_says_so(
  recordings, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  assert call(recordings, tmp_path) == 2
  error = capsys.readouterr().err
  assert 'base: found no data/text.model, linguistic' in error
  assert '`make quickstart` makes one' in error
  base(tmp_path / 'base')
  assert call(tmp_path / 'none', tmp_path) == 2
  assert 'none: no such file or folder' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_an_output_belongs_to_its_recordings(
  recordings, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  base(tmp_path / 'base')
  monkeypatch.setattr(adapt.following, 'follow', lambda steps, root: {})
  monkeypatch.setattr(adapt, '_summary', lambda found: {})
  monkeypatch.setattr(sizing, 'survey', lambda corpus: None)
  assert call(recordings, tmp_path) == 0
  assert call(recordings, tmp_path) == 0
  table = recordings / 'metadata.csv'
  # What is wrong may be mended until something was trained: all is done anew.
  timing = tmp_path / 'out' / adapt.recipe.TIMING
  timing.write_text('{}')
  table.write_text(table.read_text().replace('one', 'three'))
  assert call(recordings, tmp_path) == 0
  assert not timing.exists()
  timing.write_text('{}')
  assert call(recordings, tmp_path) == 0
  assert timing.exists()
  (tmp_path / 'out' / 'linguistic').mkdir()
  assert call(recordings, tmp_path) == 0
  table.write_text(table.read_text().replace('three', 'two'))
  assert call(recordings, tmp_path) == 2
  assert timing.exists()
  error = capsys.readouterr().err
  assert 'made of other recordings (7 files then, 7 in' in error
  assert 'expected another --output' in error


@pytest.mark.parametrize('name', ['.', 'runs/mine'])
def test_an_output_among_the_recordings(
  recordings, tmp_path, monkeypatch, capsys, name
):
  monkeypatch.chdir(ROOT)
  base(tmp_path / 'base')
  before = sorted(recordings.rglob('*'))
  assert call(recordings, tmp_path, f'--output={recordings / name}') == 2
  assert 'lies in --source=' in capsys.readouterr().err
  assert sorted(recordings.rglob('*')) == before


def test_recordings_without_any_transcript(tmp_path):
  line = dataclasses.replace(utterance('a', 'train'), text=None)
  manifest.write(tmp_path, [line])
  with pytest.raises(errors.UserError, match='no transcript of any of 1 rec'):
    sizing.survey(tmp_path)
