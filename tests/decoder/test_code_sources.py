"""What `speak --codes` takes, and what it refuses."""

import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.decoder import code_sources
from step_audio_jax.decoder import voice as voice_lib
from tests.decoder import tiny_decoder as tiny

IDS = tiny.ids(3)
PAIR = [codes.tolist() for codes in voice_lib.IDS.deinterleave(IDS)]
TOLD = {'linguistic': PAIR[0], 'semantic': PAIR[1], 'audio_string': ''}


def none():
  raise AssertionError('no tokenizer is needed')


@pytest.mark.parametrize(
  'value', [{'files': [TOLD]}, TOLD, IDS.tolist()], ids=['door', 'pair', 'ids']
)
def test_json(tmp_path, value):
  path = tmp_path / 'codes.json'
  path.write_text(json.dumps(value))
  np.testing.assert_array_equal(code_sources.read(str(path), none), IDS)


def test_strings():
  text = voice_lib.IDS.to_audio_string(IDS)
  found = code_sources.read(f' {text}\n', none)
  np.testing.assert_array_equal(found, IDS)


def test_a_recording_is_tokenised(tmp_path):
  path = tmp_path / 'a.wav'
  io.write_audio(path, np.sin(np.arange(8000) / 9), 16000)
  found = code_sources.read(str(path), tiny.Ruler)
  assert len(found) == 20


@pytest.mark.parametrize(
  'content, message',
  [
    ('{', 'x.json: not valid JSON'),
    ('{"files": []}', 'x.json: files: found 0 recordings, expected one'),
    ('{"files": [{}, {}]}', 'x.json: files: found 2 recordings, expected one'),
    ('{"linguistic": [1]}', 'x.json: expected "linguistic" and "semantic"'),
    ('[1, 2.5]', 'x.json: ids: expected a list of whole numbers'),
    ('[true]', 'x.json: ids: expected a list of whole numbers'),
    ('[1e99]', 'x.json: ids: expected a list of whole numbers'),
    (f'[{"9" * 30}]', 'x.json: ids: a number is too large'),
    ('[]', r'x.json: speech ids: found an array \(0,\)'),
    ('[1, 2, 1024, 1024]', 'x.json: speech ids: found 4 ids, expected a mul'),
    ('[1, 2, 3, 1024, 1024]', 'x.json: .* id 3 at position 2 breaks'),
    ('[1, 2, 9999, 1024, 1024]', 'x.json: .* id 9999 at position 2, expected'),
    (
      '{"linguistic": [1, 1024], "semantic": [1, 2, 3]}',
      'x.json: linguistic codes: code 1024 at position 1',
    ),
    ('{"linguistic": "ab", "semantic": []}', 'x.json: linguistic: expected a'),
    ('words', 'x.json: found no JSON object'),
  ],
)
def test_wrong_files_are_named(tmp_path, content, message):
  path = tmp_path / 'x.json'
  path.write_text(content)
  with pytest.raises(errors.UserError, match=message):
    code_sources.read(str(path), none)


@pytest.mark.parametrize(
  'text, message',
  [
    ('<audio_1><audio_5120>', '--codes: <audio_5120>: expected 0..5119'),
    ('<audio_1> then', "--codes: audio string: found 'then'"),
    ('<audio_1><audio_2>', '--codes: speech ids: found 2 ids'),
    ('nowhere.wav', 'nowhere.wav: no such file'),
  ],
)
def test_wrong_strings_are_named(text, message):
  with pytest.raises(errors.UserError, match=message):
    code_sources.read(text, none)


@pytest.mark.parametrize(
  'wave, message',
  [
    (np.ones(1000) * 0.1, 'b.wav: 0.062 s of audio, expected at least 0.12'),
    (np.zeros(40000), 'b.wav: silence, no sample is above 0.001'),
  ],
)
def test_recordings_without_speech_are_named(tmp_path, wave, message):
  path = tmp_path / 'b.wav'
  io.write_audio(path, wave, 16000)
  with pytest.raises(errors.UserError, match=message):
    code_sources.read(str(path), none)
