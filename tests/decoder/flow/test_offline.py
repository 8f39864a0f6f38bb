"""The offline flow with weights: buckets, seeds, prompts, bad input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.flow import offline
from step_audio_jax.models import blocks
from step_audio_jax.models.flow import estimator
from step_audio_jax.models.flow import flow as flow_model
from tests.decoder import tiny_decoder

SPEAKER = np.linspace(-1, 1, tiny_decoder.FLOW.speaker_size)


def mel(ids, **settings):
  given = {'speaker_D': SPEAKER, 'steps': 2, **settings}
  return tiny_decoder.flow().mel(ids, **given)


def test_frames_follow_the_ids():
  for groups in (1, 3):
    got = mel(tiny_decoder.ids(groups))
    assert got.shape == (int(groups * 0.12 * 8000 / 64), 16)
    assert got.dtype == np.float32 and np.isfinite(got).all()


def test_a_bucket_is_wide_enough_and_not_much_wider():
  widths = [offline.bucket(n) for n in range(1, 3000)]
  assert all(w >= n for n, w in enumerate(widths, 1))
  assert widths == sorted(widths)
  assert all(w <= max(32, n * 9 / 8 + 1) for n, w in enumerate(widths, 1))
  assert len(set(widths)) < 125


def test_noise_of_a_longer_sentence_begins_with_that_of_a_shorter_one():
  short, long = offline.prior_noise(3, 5, 4), offline.prior_noise(3, 9, 4)
  np.testing.assert_array_equal(long[:5], short)
  assert abs(offline.prior_noise(0, 500, 80).std() - 1) < 0.02
  assert not np.array_equal(short, offline.prior_noise(4, 5, 4))


def test_a_seed_is_a_mel_and_another_seed_another_one():
  ids = tiny_decoder.ids(3)
  np.testing.assert_array_equal(mel(ids, seed=1), mel(ids, seed=1))
  assert np.abs(mel(ids, seed=1) - mel(ids, seed=2)).max() > 0.1


def test_given_noise_is_used():
  ids = tiny_decoder.ids(2)
  noise = offline.prior_noise(7, 30, 16)
  np.testing.assert_array_equal(mel(ids, noise_TM=noise), mel(ids, seed=7))


def test_a_prompt_and_a_voice_change_the_mel_and_are_not_returned():
  ids, voice = tiny_decoder.ids(3), tiny_decoder.voice(4)
  plain = mel(ids)
  prompted = mel(ids, prompt_tokens=voice.tokens, prompt_mel_TM=voice.mel_TM)
  assert prompted.shape == plain.shape
  assert np.abs(prompted - plain).max() > 1e-2
  assert np.abs(mel(ids, speaker_D=-SPEAKER) - plain).max() > 1e-3
  # The embedding's length says nothing.
  np.testing.assert_allclose(mel(ids, speaker_D=9 * SPEAKER), plain, atol=1e-4)


def test_the_temperature_scales_the_noise():
  cold = offline.FlowDecoder(
    dataclasses.replace(tiny_decoder.FLOW, temperature=0.5),
    tiny_decoder.flow().params,
    tiny_decoder.MEL,
  )
  ids = tiny_decoder.ids(3)
  got = cold.mel(ids, speaker_D=SPEAKER, steps=2, seed=4)
  noise = 0.5 * offline.prior_noise(4, 45, 16)
  np.testing.assert_allclose(got, mel(ids, noise_TM=noise), atol=1e-5)


def test_a_mel_may_begin_from_what_the_encoder_says():
  ids, params = tiny_decoder.ids(3), dict(tiny_decoder.flow().params)
  # An estimator that moves nothing leaves the beginning.
  still = dict(params['estimator'])
  still['project'] = jax.tree.map(jnp.zeros_like, still['project'])
  decoder = offline.FlowDecoder(
    dataclasses.replace(tiny_decoder.FLOW, start='prior', temperature=0.0),
    {**params, 'estimator': still},
    tiny_decoder.MEL,
  )
  got = decoder.mel(ids, speaker_D=SPEAKER, steps=2)
  mu = flow_model.Flow(tiny_decoder.FLOW).apply(
    {'params': params},
    np.asarray(ids, np.int32)[None],
    np.array([len(ids)]),
    np.array([len(got)]),
    len(got),
    method='prior',
  )
  np.testing.assert_allclose(got, mu[0], atol=1e-4)


@pytest.mark.parametrize(
  'settings,sentence',
  [
    ({'ids': [0, 5120, 1]}, 'id 5120 at place 1, expected 0..5119'),
    ({'ids': [0, -1]}, 'id -1 at place 1'),
    ({'ids': []}, '0 ids make no mel frame'),
    ({'prompt_tokens': [1, 2]}, '2 ids and 0 mel frames'),
    (
      {'prompt_tokens': [1], 'prompt_mel_TM': np.zeros((3, 15))},
      r'prompt mel is \(3, 15\)',
    ),
    (
      {'prompt_tokens': [1], 'prompt_mel_TM': np.full((3, 16), np.nan)},
      'prompt mel has numbers not finite',
    ),
    ({'speaker_D': np.zeros(3)}, r'speaker embedding is \(3,\)'),
    ({'speaker_D': SPEAKER * np.inf}, 'speaker has numbers not finite'),
  ],
)
def test_bad_input_is_told(settings, sentence):
  ids = settings.pop('ids', tiny_decoder.ids(2))
  with pytest.raises(errors.UserError, match=sentence):
    mel(ids, **settings)


def test_a_mel_of_other_bands_is_refused():
  with pytest.raises(errors.UserError, match='80 bands, expected 16'):
    offline.FlowDecoder(
      tiny_decoder.FLOW, tiny_decoder.flow().params, vocoder_mel.VocoderMel()
    )


def test_padding_changes_nothing_and_stages_may_come_apart():
  own = tiny_decoder.flow()
  config, params = tiny_decoder.FLOW, own.params
  model = estimator.Estimator(config.estimator)
  rng = np.random.default_rng(0)
  bands = config.estimator.bands

  def drawn(frames):
    return rng.normal(size=(1, frames, bands)).astype(np.float32)

  long, short = drawn(17), drawn(9)
  inputs = [drawn(17) for _ in range(3)]
  speaker = rng.normal(size=(2, bands)).astype(np.float32)
  t = np.array([0.2, 0.7], np.float32)
  loud = np.full((1, 8, bands), 30.0, np.float32)
  mask = np.arange(17)[None] < np.array([[17], [9]])
  run = jax.jit(model.apply)
  together = run(
    {'params': params['estimator']},
    np.concatenate([long, np.concatenate([short, loud], axis=1)]),
    t,
    np.concatenate([inputs[0], inputs[1]]),
    speaker,
    np.concatenate([inputs[2], inputs[2]]),
    mask,
  )
  apart = dict(params['estimator'])
  apart['middle'] = blocks.unstack(apart['middle'], config.estimator.middle)
  alone = run(
    {'params': apart},
    short,
    t[1:],
    inputs[1][:, :9],
    speaker[1:],
    inputs[2][:, :9],
    mask[1:, :9],
  )
  np.testing.assert_allclose(together[1, :9], alone[0], atol=2e-5)
  assert not np.asarray(together)[1, 9:].any()


def test_a_description_gives_the_configuration_back():
  config = tiny_decoder.FLOW
  assert flow_model.FlowConfig(**dataclasses.asdict(config)) == config
