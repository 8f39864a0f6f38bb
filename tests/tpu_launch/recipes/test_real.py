"""The recipe that gives a language model ears, read by what it would run."""

import json

import pytest

from step_audio_jax.commands import cli
from tpu_launch.recipes import real


def words_of(options):
  (found,) = real.commands(options)
  return {c.name: ' '.join(c.words) for c in found}


def test_what_is_made_is_what_is_read():
  words = words_of(real.Options('m.gguf', 'R', voices=('joe.onnx',), steps=7))
  names = list(words)
  order = ['quiz', 'convert', 'tokenize', 'build', 'spell', 'hear']
  assert [n for n in names if n in order] == order
  assert names[-3:] == ['evaluate', 'answer', 'report']
  assert '--voice=joe.onnx' in words['quiz']
  assert '--to=R/base --speech' in words['convert']
  assert '--from=R/base --to=R/start' in words['spell']
  assert 'INIT_FROM=["R/start"]' in words['hear']
  assert 'RUN_DIR="R/hearing-7"' in words['hear']
  for name in ('build', 'answer'):
    assert '--streams=linguistic' in words[name]
  assert 'STREAMS="linguistic"' in words['evaluate']


def test_a_run_goes_on_behind_its_schedule():
  longer = words_of(real.Options('m', 'R', steps=7, more_steps=5))
  assert 'STEPS=12' in longer['hear']
  assert 'SCHEDULE_STEPS=7' in longer['hear']
  assert 'hearing-7' in longer['hear']


def test_a_gpu_hears_both_streams():
  words = words_of(real.Options('m', 'R', device='gpu'))
  assert 'hearing_gpu.gin' in words['hear']
  assert '--streams=both' in words['build']
  assert 'STEPS=280' in words['train semantic']


def test_the_figures_are_those_of_the_answers(tmp_path):
  def split(right, count):
    return {'right': right, 'questions': count}

  told = {
    kind: {real.ASKED: split(a, 30), real.HEARD: split(b, 10)}
    for kind, a, b in (
      ('spoken', 0.7, 0.5),
      ('written', 0.8, 0.4),
      ('untouched', 1.0, 0.6),
    )
  }
  told['spoken'] |= {real.FOLLOWED: split(0.6, 5), real.SILENT: split(1, 3)}
  (tmp_path / 'answers.json').write_text(json.dumps(told))
  found = real.figures(str(tmp_path))
  assert found['spoken_asked'] == 0.7 and found['spoken_heard_only'] == 0.5
  assert found['spoken_followed'] == 0.6 and found['silence_refused'] == 1
  assert found['written'] == pytest.approx(0.7)
  assert found['written_of_untouched'] == pytest.approx(0.7 / 0.9)


def test_dry_run_and_a_model_that_is_not_there(tmp_path, capsys):
  (tmp_path / 'm.gguf').write_bytes(b'GGUF')
  argv = [f'--model={tmp_path}/m.gguf', f'--output={tmp_path}/real']
  assert cli.run('real', real.DOOR, [*argv, '--dry_run']) == 0
  assert 'step_audio_jax spell' in capsys.readouterr().out
  assert not (tmp_path / 'real').exists()
  argv[0] = f'--model={tmp_path}/none'
  assert cli.run('real', real.DOOR, argv) == 2
  assert 'no such file or folder' in capsys.readouterr().err
