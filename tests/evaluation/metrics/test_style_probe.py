"""A probe of styles: what it hears, and what it is worth."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.metrics import style_probe
from step_audio_jax.storage import files


def clouds(shift, speakers=6, count=20, seed=0):
  """Figures of two classes that are `shift` deviations apart, by speakers."""
  rng = np.random.default_rng(seed)
  labels = ['calm', 'happy'] * (speakers * count // 2)
  who = np.repeat([f's{k}' for k in range(speakers)], count).tolist()
  rows = rng.standard_normal((len(labels), style_probe.FIGURES))
  rows[:, 3] += shift * np.array([one == 'happy' for one in labels])
  rows += rng.standard_normal((speakers, 1)).repeat(count, 0)  # of a speaker
  rows[:, 7] = 1.0  # says nothing
  return rows, labels, who


def voice(hz, seconds=1.0, seed=0):
  """A pulse train with some noise, float32 at 16 kHz."""
  rng = np.random.default_rng(seed)
  time = np.arange(int(16000 * seconds)) / 16000
  wave = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 12))
  noise = rng.standard_normal(len(time))
  return (0.1 * wave + 0.003 * noise).astype(np.float32)


def test_fitting_finds_the_least_loss():
  rows, labels, _ = clouds(1.5)
  probe = style_probe.fit(rows, labels)
  x = (rows - probe.mean_F) / probe.scale_F
  wanted = np.array(
    [[one == c for c in probe.classes] for one in labels], float
  )

  def loss(weights, bias):
    logits = x @ weights + bias
    top = logits.max(1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    decay = (weights**2).sum() + (bias**2).sum()
    return -(log_p * wanted).sum() / len(x) + style_probe._DECAY / 2 * decay

  least = loss(probe.weights_FC, probe.bias_C)
  rng = np.random.default_rng(1)
  for size in (1e-3, 1e-2, 0.1):
    for _ in range(20):
      step = size * rng.standard_normal(probe.weights_FC.shape)
      assert loss(probe.weights_FC + step, probe.bias_C) > least
  shown = probe.probabilities(rows)
  np.testing.assert_allclose(shown.sum(1), 1)


def test_what_can_be_told_apart_is_and_what_cannot_is_not():
  apart = style_probe.judged(*clouds(6.0))
  assert apart['low'] > 0.8 > apart['chance'] == 0.5
  assert apart['recordings'] == 120 and apart['speakers'] == 6
  assert set(apart['right']) == {'calm', 'happy'}
  same = style_probe.judged(*clouds(0.0))
  assert same['low'] <= 0.5 <= same['high'] and same['accuracy'] < 0.65


def test_speakers_that_were_heard_do_not_count():
  # A class is known by its speakers alone: others of it are not recognised.
  rows, _, who = clouds(0.0, speakers=8)
  labels = ['happy' if int(one[1]) % 2 else 'calm' for one in who]
  for k in range(8):
    rows[np.array(who) == f's{k}', 20 + k] += 9.0
  told = style_probe.judged(rows, labels, who)
  heard = style_probe.fit(rows, labels).probabilities(rows).argmax(1)
  assert np.mean(np.array(['calm', 'happy'])[heard] == labels) == 1
  assert told['accuracy'] < 0.75 and told['low'] <= told['chance']


@pytest.mark.parametrize(
  ('labels', 'speakers', 'message'),
  [
    (['a'] * 4, 'wxyz', 'found a, expected two classes'),
    (['a', 'a', 'a', 'b'], 'wxyz', "'b' is spoken by 1 speaker, expected two"),
  ],
)
def test_what_cannot_be_judged(labels, speakers, message):
  rows = np.zeros((4, style_probe.FIGURES))
  with pytest.raises(errors.UserError, match=message):
    style_probe.judged(rows, labels, list(speakers))


def test_figures_know_no_level():
  wave = voice(150.0, 1.0)
  found = style_probe.figures(wave)
  assert found.shape == (style_probe.FIGURES,) and np.isfinite(found).all()
  np.testing.assert_allclose(style_probe.figures(wave * 0.25), found, atol=0.05)
  assert abs(style_probe.figures(voice(200.0)) - found).max() > 1
  noise = np.random.default_rng(0).normal(size=9000).astype('f') * 0.1
  assert np.isfinite(style_probe.figures(noise)).all()  # no melody in it
  for silence in (np.zeros(16000, 'f'), np.zeros(10, 'f')):
    with pytest.raises(errors.UserError, match='no sound of 30 ms'):
      style_probe.figures(silence)


def test_a_probe_is_kept_and_not_trusted(tmp_path):
  rows, labels, _ = clouds(2.0, speakers=2)
  probe = style_probe.fit(rows, labels)
  path = tmp_path / 'probe.json'
  probe.save(path)
  again = style_probe.Probe.load(path)
  np.testing.assert_array_equal(
    again.probabilities(rows), probe.probabilities(rows)
  )
  kept = files.read_json(path)
  for field, value, message in (
    ('style_probe', 2, 'style_probe: expected 1'),
    ('classes', ['calm'], 'classes: expected two'),
    ('bias_C', [1.0], r'bias_C: found \(1,\), expected finite'),
    ('bias_C', [1.0, float('inf')], 'bias_C: found'),
    ('mean_F', 'x', 'mean_F: found'),
    ('scale_F', [0.0] * style_probe.FIGURES, 'scale_F: expected numbers abo'),
  ):
    files.write_json(path, {**kept, field: value})
    with pytest.raises(errors.UserError, match=message):
      style_probe.Probe.load(path)
