"""A language model with a score: its paths, its start, what it sees."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.models.language import scoring
from step_audio_jax.models.language import speech_text
from step_audio_jax.training.transfer import transfer
from tests.alignment.objectives import toy_pairs

EYES = speech_text.VisionConfig(
  image_size=4, patch_size=4, width=8, layers=1, heads=2, mlp_width=8
)
CONFIG = toy_pairs.CONFIG
TOKENS = jnp.asarray([[3, 4, 5, 6, 7, 0], [1, 2, 9, 8, 0, 0]], jnp.int32)


def shapes(kind, config):
  return jax.eval_shape(kind(config).init, jax.random.key(0), TOKENS)


@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('vision', [None, EYES], ids=['blind', 'seeing'])
def test_a_language_model_starts_it(tied, vision):
  config = speech_text.SpeechTextConfig(
    dataclasses.replace(CONFIG.transformer, tied_head=tied), vision
  )
  boxed = shapes(scoring.ScoringModel, config)
  old = toy_pairs.random_like(shapes(speech_text.SpeechTextModel, config), 0)
  theirs, mine = set(transfer.flatten(old)), set(transfer.flatten(boxed))
  head = set() if tied else {'params/transformer/head'}
  score = {'params/score/kernel', 'params/score/bias'}
  assert theirs - mine == head and mine - theirs == score
  made, fresh = transfer.transfer(
    boxed, [('old', old)], lambda paths: {path: 0 for path in paths}
  )
  assert set(fresh) == score
  for path in mine & theirs:
    np.testing.assert_array_equal(
      transfer.flatten(made)[path], transfer.flatten(old)[path]
    )


def test_scores_are_features_times_a_projection():
  config = dataclasses.replace(
    CONFIG, transformer=dataclasses.replace(CONFIG.transformer, tied_head=True)
  )
  model = scoring.ScoringModel(config)
  variables = {'params': toy_pairs.parameters(model)}
  got = jax.jit(model.apply)(variables, TOKENS)
  language = speech_text.SpeechTextModel(config)
  plain = dict(variables['params'])
  score = plain.pop('score')
  features, _ = jax.jit(functools.partial(language.apply, method='features'))(
    {'params': plain}, TOKENS
  )
  want = np.asarray(features) @ score['kernel'][:, 0] + score['bias']
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_scores_begin_near_0():
  made = jax.jit(toy_pairs.SCORER.init)(jax.random.key(1), TOKENS)
  kernel = made['params']['score']['kernel'].value
  assert float(jnp.std(kernel)) == pytest.approx(0.1 / 16**0.5, rel=0.5)
