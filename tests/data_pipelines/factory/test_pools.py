"""Babble of a corpus: of its training split alone."""

import numpy as np
import pytest

from data_pipelines.factory import pools as lib
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.corpus import manifest
from tests.data_pipelines.factory import takes


@pytest.fixture
def corpus(tmp_path):
  lines = []
  for number, (split, language) in enumerate(
    (('train', 'en'), ('train', 'zh'), ('train', 'en'), ('test', 'en'))
  ):
    audio = f'{number}.wav'
    wave = np.concatenate(
      [takes.silence(0.2), takes.tone(0.5, 0.1 + number / 9)]
    )
    audio_io.write_audio(tmp_path / audio, wave)
    lines.append(
      manifest.Utterance(
        id=f'u{number}',
        split=split,
        language=language,
        audio=audio,
        offset=0.2,
        duration=0.5,
        sample_rate=takes.RATE,
      )  # fmt: skip
    )
  lines.append(manifest.Utterance(id='mute', audio=None))
  manifest.write(tmp_path, lines)
  lib._listed.cache_clear()
  lib._read.cache_clear()
  return str(tmp_path)


def test_only_what_may_be_heard(corpus):
  assert lib.Utterances(corpus).names() == ('u0', 'u1', 'u2')
  assert lib.Utterances(corpus, language='en').names() == ('u0', 'u2')
  assert lib.Utterances(corpus, 'test').names() == ('u3',)
  wave = lib.Utterances(corpus).read('u2', takes.RATE)
  assert len(wave) == 8000  # the part, not the file
  assert np.abs(wave).max() == pytest.approx(0.1 + 2 / 9, abs=0.001)
  assert len(lib.Utterances(corpus).read('u2', 8000)) == 4000


def test_babble_is_made_of_others_and_again(corpus):
  pool = lib.Utterances(corpus)
  step = chain.Step(noise.Recordings(pool, 2, 6.0))
  wave = takes.tone(0.8)
  changed = chain.Chain((step,)).apply(wave, takes.RATE, 'u1')
  (told,) = changed.provenance['operations']
  assert sorted(told['recordings']) == ['u0', 'u2']
  assert told['pool'] == corpus
  again = chain.replay(wave, takes.RATE, changed.provenance, pool)
  np.testing.assert_array_equal(again, changed.samples)


def test_what_is_not_there(corpus, tmp_path):
  with pytest.raises(errors.UserError, match="found no 'u3' among .* 'train'"):
    lib.Utterances(corpus).read('u3', takes.RATE)
  with pytest.raises(errors.UserError, match="no recording of 'train' in 'fr'"):
    lib.Utterances(corpus, language='fr').names()
  with pytest.raises(errors.UserError, match="no split 'dev'"):
    lib.Utterances(corpus, 'dev').names()
  with pytest.raises(errors.UserError, match='no such file'):
    lib.Utterances(str(tmp_path / 'nowhere')).names()
