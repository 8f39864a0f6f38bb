"""What `speak` writes into a bucket is what it writes on a disk."""

import pytest

from step_audio_jax.storage import files
from tests.decoder.doors import test_speak

place, speak = test_speak.place, test_speak.speak


def test_a_wav_in_a_bucket(place, capsys, gs_folder):
  assert speak(capsys, 'the cat', '--out=x.wav')[0] == 0
  status, result = speak(capsys, 'the cat', f'--out={gs_folder}/x.wav')
  assert status == 0 and result['out'] == f'{gs_folder}/x.wav'
  assert files.read_bytes(gs_folder / 'x.wav') == files.read_bytes('x.wav')


@pytest.mark.parametrize(
  ('flag', 'told'),
  [
    ('--out=gs://no-such-bucket/x.wav', 'gs://no-such-bucket: no such bucket'),
    ('--out=gs:/bucket/x.wav', '--out=gs:/bucket/x.wav: found one slash'),
    ('--out=gs:///x.wav', '--out=gs:///x.wav: found no bucket'),
    ('--model=gs://bucket/none', 'gs://bucket/none'),
  ],
)
def test_bad_addresses_are_told(capsys, gs_folder, flag, told):
  status, sentence = speak(capsys, 'a', f'--out={gs_folder}/x.wav', flag)
  assert status == 2
  assert told in sentence
  assert not files.exists(gs_folder / 'x.wav')
