"""Streams of samples against the whole mel at once; Griffin-Lim; bad input."""

import contextlib
import functools
import logging

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.vocoder import streaming
from step_audio_jax.decoder.vocoder import vocoder
from step_audio_jax.models.vocoder import hift
from tests.models.vocoder import tiny_hift

CHUNK = 6
FRAMES = 45


@functools.cache
def made(causal):
  config = tiny_hift.CAUSAL if causal else tiny_hift.TINY
  return vocoder.HiftVocoder(config, tiny_hift.params(config))


@functools.cache
def whole(causal, frames=FRAMES, seed=3):
  return made(causal).wave(tiny_hift.mel(frames), seed=seed)


def stream(causal, **settings):
  given = {'seed': 3, 'chunk': CHUNK, **settings}
  return streaming.VocoderStream(made(causal), **given)


def pushed(source, mel, cuts):
  """Pieces of a mel that is handed over between cuts; the last is final."""
  edges = [0, *cuts, len(mel)]
  return [
    source.push(mel[a:b], final=b is edges[-1] and n == len(edges) - 2)
    for n, (a, b) in enumerate(zip(edges, edges[1:]))
  ]


@pytest.mark.parametrize('causal', [False, True])
@hypothesis.given(
  cuts=st.lists(st.integers(0, FRAMES), max_size=5).map(sorted),
  frames=st.sampled_from([FRAMES, 7, 1]),
)
@hypothesis.settings(max_examples=12, deadline=None)
def test_a_stream_is_the_whole_however_it_is_cut(causal, cuts, frames):
  mel = tiny_hift.mel(FRAMES)[:frames]
  cuts = [min(cut, frames) for cut in cuts]
  pieces = pushed(stream(causal), mel, cuts)
  got = np.concatenate(pieces)
  want = made(causal).wave(mel, seed=3)
  assert got.shape == want.shape == (frames * made(causal).hop,)
  np.testing.assert_allclose(got, want, atol=2e-5)


def test_the_causal_network_waits_less():
  late, soon = (stream(causal).latency for causal in (False, True))
  assert soon < late / 2
  assert soon == tiny_hift.CAUSAL.context[1]


def test_what_comes_later_changes_nothing_that_was_said():
  mel = tiny_hift.mel(FRAMES)
  other = mel.copy()
  other[30:] = -other[30:]
  first, second = stream(True), stream(True)
  np.testing.assert_array_equal(first.push(mel[:30]), second.push(other[:30]))
  assert np.abs(
    first.push(mel[30:], True) - second.push(other[30:], True)
  ).max()


def test_less_context_is_faded_over_and_its_error_is_known():
  mel = tiny_hift.mel(FRAMES)
  needed = tiny_hift.TINY.context[1]
  error = {}
  for right in (0, needed // 2, needed):
    source = stream(False, right=right, fade=2)
    got = np.concatenate(pushed(source, mel, [10, 31]))
    assert got.shape == whole(False).shape
    error[right] = np.abs(got - whole(False)).mean()
  assert error[needed] < 1e-5 < error[0]
  assert error[needed // 2] <= error[0]
  assert stream(False, right=needed, fade=2).fade == 0


def test_the_fade_leaves_equal_sides_as_they_are():
  rising = streaming.hamming_rise(32)
  np.testing.assert_allclose(rising + rising[::-1], 1.0, atol=1e-12)
  assert (np.diff(rising) > 0).all()


def test_nothing_is_compiled_after_warm_up():
  source = stream(False)
  source.warm_up()
  with jax.log_compiles(), _counted() as names:
    for _ in range(3):
      source.push(tiny_hift.mel(13))
    source.push(tiny_hift.mel(2), final=True)
  assert not [name for name in names if '_step' in name]


@contextlib.contextmanager
def _counted():
  """Messages on what jax compiles meanwhile."""
  names, handler = [], logging.Handler()
  handler.emit = lambda record: names.append(record.getMessage())
  logger = logging.getLogger('jax._src.interpreters.pxla')
  logger.addHandler(handler)
  try:
    yield names
  finally:
    logger.removeHandler(handler)


def test_a_stream_begins_anew_after_its_end():
  source = stream(True)
  mel = tiny_hift.mel(20)
  first = source.push(mel, final=True)
  np.testing.assert_array_equal(source.push(mel, final=True), first)


@pytest.mark.parametrize('causal', [False, True])
def test_a_mel_longer_than_a_step_is_one_signal(causal, monkeypatch):
  monkeypatch.setattr(vocoder.HiftVocoder, 'CHUNK', 11)
  got = made(causal).wave(tiny_hift.mel(FRAMES), seed=3)
  np.testing.assert_allclose(got, whole(causal), atol=2e-5)


def test_a_seed_is_a_sound():
  mel = tiny_hift.mel(9)
  one, other = (made(False).wave(mel, seed=seed) for seed in (0, 1))
  np.testing.assert_array_equal(one, made(False).wave(mel, seed=0))
  assert np.abs(one - other).max() > 1e-4


BROKEN = {
  'nan': (lambda mel: mel + np.nan, 'frame 0 is not finite'),
  'bands': (lambda mel: mel[:, :-1], '5'),
  'flat': (lambda mel: mel[0], '6'),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_mel_is_told_and_the_stream_stays(kind):
  spoil, sentence = BROKEN[kind]
  mel = tiny_hift.mel(20)
  source = stream(True)
  head = source.push(mel[:12])
  with pytest.raises(errors.UserError, match=sentence):
    source.push(spoil(mel[12:15]))
  with pytest.raises(errors.UserError, match=sentence):
    made(True).wave(spoil(mel))
  rest = source.push(mel[12:], final=True)
  np.testing.assert_allclose(
    np.concatenate([head, rest]), made(True).wave(mel, seed=3), atol=2e-5
  )


def test_weights_of_another_vocoder_are_told():
  params = tiny_hift.params(tiny_hift.TINY)
  with pytest.raises(errors.UserError, match='weights of another vocoder'):
    vocoder.HiftVocoder(hift.HiftConfig(), params)


@pytest.mark.parametrize(
  'settings', [{'chunk': 0}, {'right': -1}, {'right': 0, 'fade': 9}]
)
def test_sizes_that_make_no_window_are_told(settings):
  with pytest.raises(errors.UserError, match='vocoder stream: chunk'):
    stream(False, **settings)


def test_griffin_lim_finds_the_tones_of_a_mel_again():
  mel = vocoder_mel.VocoderMel()
  speaker = vocoder.GriffinLim(mel)
  time = np.arange(22050) / 22050
  tone = (0.3 * np.sin(2 * np.pi * 700 * time)).astype(np.float32)
  frames, _ = vocoder_mel.vocoder_mel(tone[None], np.array([len(tone)]))
  frames = np.asarray(frames)[0]
  wave = speaker.wave(frames)
  assert wave.shape == (len(frames) * 256,) and np.isfinite(wave).all()
  spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
  peak = np.argmax(spectrum) * 22050 / len(wave)
  assert peak == pytest.approx(700, abs=15)
  with pytest.raises(errors.UserError, match='not finite'):
    speaker.wave(frames * np.nan)
