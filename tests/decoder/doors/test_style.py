"""`speak --style`: asked of runs that have learnt tags alone."""

import json

import pytest

from step_audio_jax.commands import cli
from step_audio_jax.decoder import speech
from step_audio_jax.decoder.doors import speak as door
from step_audio_jax.storage import files
from tests.decoder import tiny_decoder as tiny


@pytest.fixture
def place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  decoder = speech.SpeechDecoder(
    tiny.Painted(), tiny.Steps(), tiny.speaker(), tiny.MEL, tiny.voice(2)
  )
  monkeypatch.setattr(speech.SpeechDecoder, 'load', lambda folder: decoder)
  (tmp_path / 'decoder').mkdir()

  def run(name, **config):
    config = {'model': {}, 'vocabulary': {}, **config}
    files.write_json(tmp_path / name / 'config.json', config)

  run('plain')
  run('tagged', tags=['快速1', '快速2', '悲伤1'])
  return tmp_path


def asked(capsys, model, *words):
  """(status, what would be asked or the sentence on stderr, notes)."""
  argv = [*words, f'--model={model}', '--decoder=decoder', '--out=x.wav']
  status = cli.run('speak', door.DOOR, [*argv, '--dry_run', '--json'])
  out, err = capsys.readouterr()
  if status:
    assert err.count('\n') == 1, err
    return status, err, ''
  return status, json.loads(out.splitlines()[-1])['sentences'], err


def test_tags_go_where_the_model_is_asked(place, capsys):
  _, pieces, notes = asked(
    capsys, 'tagged', 'One. (sad)Two.', '--style=a bit faster'
  )
  assert pieces == ['(快速1)One.', '(悲伤1)(快速1)Two.'] and not notes
  _, pieces, _ = asked(capsys, 'tagged', 'One.', '--style=(fast 2)')
  assert pieces == ['(快速2)One.']


def test_a_model_without_tags_is_told_of(place, capsys):
  _, pieces, notes = asked(capsys, 'plain', '(fast 2)One (see page 3).')
  assert pieces == ['One (see page 3).']
  assert notes.startswith('note: plain was trained without tags')
  _, pieces, notes = asked(capsys, 'plain', '(chapter 2) begins.')
  assert pieces == ['(chapter 2) begins.'] and not notes


@pytest.mark.parametrize(
  'model, words, message',
  [
    ('plain', ('hi', '--style=(sad 2)'), 'plain was trained without tags'),
    ('plain', ('hi', '--style=(loud 2)', '--stream'), '--stream: found with ('),
    ('tagged', ('hi', '--style=(fasst 2)'), '(fast 2), the nearest'),
    ('tagged', ('hi', '--style=like a pirate'), "found 'pirate'"),
    ('tagged', ('hi', '--style='), 'found'),
    ('tagged', ('hi', '--style=(slow 1)'), 'tagged has learnt: (sad 1), (fast'),
    ('tagged', ('(fasst 2)hi',), '(fast 2), the nearest'),
    ('tagged', ('(fast 1)(fast 2)hi',), 'both say the speed'),
    ('tagged', ('(fast 1)',), 'no word behind it'),
    ('tagged', ('(fast 1)!',), 'no word behind it'),
    ('tagged', ('--codes=a.json', '--style=(fast 2)'), 'with --codes'),
  ],
)
def test_what_cannot_be_asked(place, capsys, model, words, message):
  status, told, _ = asked(capsys, model, *words)
  assert status == 2 and message in told, told


def test_ssml_is_a_text_with_tags(place, capsys):
  text = '<speak>One. <prosody rate="125%">Two.</prosody></speak>'
  _, pieces, notes = asked(capsys, 'tagged', text)
  assert pieces == ['One.', '(快速2)Two.'] and not notes
  status, told, _ = asked(
    capsys, 'tagged', '<speak>One. <sub>Two.</sub></speak>'
  )
  assert status == 2 and 'line 1, column 13: <sub>: not supported' in told
