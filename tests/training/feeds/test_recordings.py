"""Recordings of a corpus: what is left out is counted, the first are told."""

from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.training.feeds import recordings


def test_of_many_that_are_left_out_the_first_are_told(tmp_path, capsys):
  manifest.write(tmp_path, [manifest.Utterance(id='a', text='one')])
  reader = recordings.Recordings(tmp_path)
  for n in range(50):
    utterance = manifest.Utterance(id=f'u{n}', text='one')
    for _ in range(2):
      reader.leave_out(utterance, errors.UserError('too short.'))
  told = capsys.readouterr().err.splitlines()
  assert told[0] == 'warning: u0 is left out: too short.'
  assert len(told) == 21 and 'u19 is left out' in told[19]
  assert told[20].startswith('warning: more utterances are left out')
  assert len(reader.quarantine) == 50
