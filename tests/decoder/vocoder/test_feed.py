"""Crops with F0: where they are cut, what they hold, what is left out."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.vocoder import feed as wave_feed
from tests.decoder.vocoder import tiny_vocoder

FRAMES = 64
SAMPLES = FRAMES * tiny_vocoder.HOP


def make_feed(corpus, **settings):
  return wave_feed.WaveFeed(
    **{
      'corpus': corpus,
      'batch_size': 3,
      'frames': FRAMES,
      'mel': tiny_vocoder.MEL,
      **settings,
    }
  )


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  lines = [
    (f'u{i}', 100.0 + 20 * i, 0.5 + 0.07 * i, 8000 if i % 2 else 16000)
    for i in range(7)
  ]
  return tiny_vocoder.make_corpus(tmp_path_factory.mktemp('waves'), lines)


def test_batches_are_a_pure_function_of_the_step(corpus):
  a, b = make_feed(corpus), make_feed(corpus)
  for step in (0, 9, 4):
    left, right = a.batch(step), b.batch(step)
    for name in left:
      np.testing.assert_array_equal(left[name], right[name])
  other = make_feed(corpus, seed=1)
  assert not np.array_equal(a.batch(0)['wave'], other.batch(0)['wave'])


def test_parts_make_up_the_batch(corpus):
  feed = make_feed(corpus)
  for name, array in feed.batch(5).items():
    parts = [feed.batch(5, i, i + 1)[name] for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), array)


def test_an_epoch_shows_each_utterance_once_and_then_elsewhere(corpus):
  feed = make_feed(corpus, batch_size=7)
  ids = [feed.row_ids(step) for step in range(2)]
  assert all(sorted(one) == [f'u{i}' for i in range(7)] for one in ids)
  assert ids[0] != ids[1] and len(feed) == 1
  places = [
    feed.batch(step)['wave'][ids[step].index('u6')] for step in range(2)
  ]
  assert not np.array_equal(*places)


def test_a_crop_is_cut_out_of_the_resampled_recording(corpus):
  """At a multiple of the hop, wherever that lies."""
  feed = make_feed(corpus)
  whole = {
    u.id: io.read_audio(u.audio_path(corpus), sample_rate=8000)[0]
    for u in manifest.read(corpus)
  }
  for step in range(4):
    batch = feed.batch(step)
    for row, name in enumerate(feed.row_ids(step)):
      wave, crop = whole[name], batch['wave'][row]
      starts = range(0, len(wave) - SAMPLES + 1, tiny_vocoder.HOP)
      distance = min(
        np.abs(wave[at : at + SAMPLES] - crop).max() for at in starts
      )
      # The resampler sees a margin only, and rounds where its input begins.
      assert distance < (1e-6 if int(name[1:]) % 2 else 1e-2)
  assert batch['wave'].shape == (3, SAMPLES)


def test_f0_is_that_of_the_crop(corpus):
  feed = make_feed(corpus)
  for step in range(4):
    batch = feed.batch(step)
    assert batch['f0'].shape == (3, FRAMES)
    for row, name in enumerate(feed.row_ids(step)):
      # Also in the outermost frames, thanks to the margin; not where the
      # recording itself begins or ends.
      inner = batch['f0'][row, 12:-12]
      np.testing.assert_allclose(inner, 100.0 + 20 * int(name[1:]), rtol=5e-3)


def test_a_short_recording_is_followed_by_silence(tmp_path):
  corpus = tiny_vocoder.make_corpus(tmp_path, [('u', 200.0, 0.0777, 8000)])
  batch = make_feed(corpus, batch_size=2).batch(0)
  np.testing.assert_array_equal(batch['wave'][0], batch['wave'][1])
  end = round(0.0777 * 8000)
  assert np.abs(batch['wave'][0, end - 20 : end]).max() > 0.05
  assert not batch['wave'][0, end:].any()
  assert not batch['f0'][0, end // tiny_vocoder.HOP :].any()
  assert batch['weights'].tolist() == [1, 1]


def test_an_unreadable_file_becomes_a_row_without_weight(tmp_path, capsys):
  lines = [(f'u{i}', 150.0, 0.4, 8000) for i in range(3)]
  corpus = tiny_vocoder.make_corpus(tmp_path, lines)
  (corpus / 'wav' / 'u1.wav').write_bytes(b'no audio')
  feed = make_feed(corpus)
  for step in range(3):
    batch, ids = feed.batch(step), feed.row_ids(step)
    lost = ids.index('u1')
    assert batch['weights'].tolist() == [float(i != 'u1') for i in ids]
    assert not batch['wave'][lost].any() and not batch['f0'][lost].any()
  assert list(feed.quarantine) == ['u1']
  assert capsys.readouterr().err.count('u1 is left out') == 1


def test_what_cannot_be_used_is_counted(tmp_path):
  corpus = tiny_vocoder.make_corpus(
    tmp_path, [('a', 150.0, 0.5, 8000), ('b', None, 0, 0)]
  )
  told = make_feed(corpus).describe()
  assert told['utterances'] == 1 and told['dropped'] == {'no audio': 1}
  assert told['crop_seconds'] == 0.128 and told['hours'] == 0.0001


@pytest.mark.parametrize(
  'change, pattern',
  [
    ({'batch_size': 0}, 'batch_size is 0'),
    ({'frames': 0}, 'frames is 0'),
    ({'frames': 1}, 'expected more than the 56'),
    ({'splits': ('dev',)}, "no split 'dev'"),
  ],
)
def test_bad_settings_say_what_is_wrong(corpus, change, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    make_feed(corpus, **change)


def test_a_corpus_without_audio_says_so(tmp_path):
  corpus = tiny_vocoder.make_corpus(tmp_path, [('b', None, 0, 0)])
  with pytest.raises(errors.UserError, match="nothing to train on.*'no audio'"):
    make_feed(corpus)
