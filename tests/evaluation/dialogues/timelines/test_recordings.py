import numpy as np
import pytest
import soundfile

from step_audio_jax.evaluation.dialogues.timelines import recordings
from tests.evaluation.dialogues import samples


@pytest.mark.parametrize('rate', [8000, 16000, 24000, 48000])
def test_segments_are_where_the_bursts_are(rate, tmp_path):
  bursts = [(0.5, 1.2), (1.6, 3.0), (4.1, 4.6)]
  samples.record(tmp_path / 'output.wav', bursts, 6.0, rate)
  channel = recordings.read(tmp_path, 'output')
  assert channel.sample_rate == rate
  assert channel.seconds == pytest.approx(6.0, abs=1e-3)
  np.testing.assert_allclose(channel.segments_N2, bursts, atol=samples.NEAR)


def test_flac_is_read_too(tmp_path):
  soundfile.write(
    tmp_path / 'output.flac', samples.sound([(1, 2)], 3), samples.RATE
  )
  assert len(recordings.read(tmp_path, 'output').segments_N2) == 1


def heard(tmp_path, wave_S, rate=samples.RATE):
  soundfile.write(tmp_path / 'output.wav', wave_S, rate, subtype='FLOAT')
  return recordings.read(tmp_path, 'output')


def test_what_is_odd(tmp_path):
  user = heard(tmp_path, samples.sound([(0, 1)], 4))
  assert recordings.notes(user, user, 0.5) == []
  silent = heard(tmp_path, np.zeros(4 * samples.RATE, np.float32))
  assert silent.is_silent
  assert recordings.notes(silent, user, 0.5) == [recordings.SILENT]
  loud = heard(tmp_path, np.clip(4 * samples.sound([(0, 1)], 4), -1, 1))
  assert recordings.notes(loud, user, 0.5) == [recordings.CLIPPED]
  other = heard(tmp_path, samples.sound([(0, 1)], 2, 8000), 8000)
  assert recordings.notes(other, user, 0.5) == [
    recordings.OTHER_RATE,
    recordings.OTHER_LENGTH,
  ]
  assert recordings.notes(other, user, 2.0) == [recordings.OTHER_RATE]


def test_an_output_that_ends_too_early(tmp_path):
  output = heard(tmp_path, samples.sound([(0, 1)], 2))
  recordings.check_covers(output, 2.4, 0.5)
  with pytest.raises(recordings.Fault, match='ends before the event.*2.00 s'):
    recordings.check_covers(output, 2.6, 0.5)


def test_what_cannot_be_read(tmp_path):
  with pytest.raises(recordings.Fault, match='output.wav is not there'):
    recordings.read(tmp_path, 'output')
  wave_S = samples.sound([(0, 1)], 2)
  wave_S[100] = np.nan
  with pytest.raises(recordings.Fault, match='cannot be read: .*finite'):
    heard(tmp_path, wave_S)
  path = tmp_path / 'output.wav'
  for content in (b'', b'<html>', samples.encoded([(0, 1)], 2)[:2000]):
    path.write_bytes(content)
    with pytest.raises(recordings.Fault, match='output.wav cannot be read'):
      recordings.read(tmp_path, 'output')
