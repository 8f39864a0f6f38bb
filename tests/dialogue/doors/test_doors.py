"""`transcribe` and `chat`, from their command lines to what they print."""

import io as memory
import json

import numpy as np
import pytest
import soundfile

from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.dialogue.doors import chat
from step_audio_jax.dialogue.doors import folders
from step_audio_jax.dialogue.doors import transcribe
from tests.dialogue.models import talker


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A working directory with all that a conversation needs."""
  monkeypatch.chdir(tmp_path)
  for variable, _ in (folders.MODEL, folders.TOKENIZER, folders.DECODER):
    monkeypatch.delenv(variable, raising=False)
  for name in ('sft', 'tokenizer', 'decoder'):
    (tmp_path / 'runs/quickstart' / name).mkdir(parents=True)
  loaded = []

  def load(given, **_):
    loaded.append(given)
    return talker.models(tmp_path / 'runs/quickstart/sft', monkeypatch)

  monkeypatch.setattr(folders, 'load', load)
  return loaded


def recorded(path, text):
  io.write_audio(path, talker.recording(text), 16000)
  return path


def run(capsys, name, door, *words):
  status = cli.run(name, door, [*words, '--json'])
  out, err = capsys.readouterr()
  if status:
    return status, err.strip().splitlines()[-1]
  return status, json.loads(out.splitlines()[-1])


def test_recordings_are_written_down(place, capsys):
  paths = [recorded('a.wav', 'a cat'), recorded('b.wav', 'big dogs run')]
  status, found = run(capsys, 'transcribe', transcribe.DOOR, *paths)
  assert status == 0
  told = [(one['file'], one['text']) for one in found['transcripts']]
  assert told == [('a.wav', 'a cat'), ('b.wav', 'big dogs run')]
  assert found['transcripts'][0]['seconds'] == pytest.approx(0.6)
  assert place[0]['decoder'] is None


def test_a_chat_goes_on_and_is_spoken(place, capsys):
  said = ['@' + recorded('a.wav', 'a cat'), 'and what else']
  more = ['--out=x.wav', '--max_tokens=5']
  status, found = run(capsys, 'chat', chat.DOOR, *said, *more)
  assert status == 0, found
  first, second = found['turns']
  assert first['heard'] == 'a cat' and 'heard' not in second
  assert first['assistant'] == second['assistant'] == 'aaaaa'
  wave, rate = soundfile.read('x.wav')
  assert len(wave) / rate == pytest.approx(found['seconds'], abs=1e-3)
  assert found['seconds'] == pytest.approx(2 * 0.6, abs=0.1)
  assert np.abs(wave).max() > 0


def test_lines_of_standard_input_are_turns(place, capsys, monkeypatch):
  monkeypatch.setattr('sys.stdin', memory.StringIO('hello\nand you\n'))
  status, found = run(capsys, 'chat', chat.DOOR, '--max_tokens=3')
  assert status == 0
  assert [one['user'] for one in found['turns']] == ['hello', 'and you']
  assert place[0]['tokenizer'] and place[0]['decoder'] is None


@pytest.mark.parametrize(
  'name, door, words, message',
  [
    ('transcribe', transcribe.DOOR, [], 'found no recording'),
    ('transcribe', transcribe.DOOR, ['no.wav'], 'no.wav: no such file'),
    ('chat', chat.DOOR, ['@no.wav'], 'no.wav: no such file'),
    ('chat', chat.DOOR, ['hello', '--out=x.mp3'], 'expected a file .wav'),
    ('chat', chat.DOOR, ['hello', '--model=nowhere/x'], 'nowhere/x'),
  ],
)
def test_what_is_wrong_is_one_sentence(
  place, capsys, monkeypatch, name, door, words, message
):
  if 'nowhere' in message:
    monkeypatch.undo()
  status, told = run(capsys, name, door, *words)
  assert status == 2 and message in told


def test_dry_runs_load_nothing(place, capsys):
  path = recorded('a.wav', 'a cat')
  for name, door, word in (
    ('transcribe', transcribe.DOOR, path),
    ('chat', chat.DOOR, '@' + path),
  ):
    status, found = run(capsys, name, door, word, '--dry_run')
    assert status == 0 and found['dry_run']
  assert not place
