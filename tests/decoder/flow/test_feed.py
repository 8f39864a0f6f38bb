"""Waveforms with codes and speakers: what is in, what is out, what is cut."""

import numpy as np
import pytest

from data_pipelines import records
from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.decoder.flow import feed as flow_feed
from step_audio_jax.decoder.speaker import embeddings

MEL = vocoder_mel.VocoderMel(
  sample_rate=8000, bands=8, fft=128, window=128, hop=40, high_hz=None
)
SECONDS = (0.5, 1.3, 0.7, 0.9, 1.1, 0.6)


def write_codes(folder, codes):
  records.write_shard(
    folder / records.shard_name(speech_codes.STEM, 0, 1),
    (
      records.pack({'linguistic': a, 'semantic': b}, {'id': name})
      for name, (a, b) in codes.items()
    ),
  )


@pytest.fixture
def corpus(tmp_path):
  """Six recordings that hold their number; codes of whole groups."""
  rng = np.random.default_rng(0)
  utterances, codes, vectors = [], {}, {}
  for n, seconds in enumerate(SECONDS):
    wave = np.full(round(seconds * 16000), (n + 1) / 10, np.float32)
    io.write_audio(tmp_path / 'corpus' / 'wav' / f'u{n}.wav', wave)
    utterances.append(
      manifest.Utterance(
        id=f'u{n}',
        text='a',
        audio=f'wav/u{n}.wav',
        duration=seconds,
        sample_rate=16000,
        speaker='s',
      )
    )
    groups = int(seconds / 0.12)
    codes[f'u{n}'] = (
      rng.integers(0, 1024, 2 * groups).astype(np.uint16),
      rng.integers(0, 4096, 3 * groups).astype(np.uint16),
    )
    vectors[f'u{n}'] = np.full(3, n, np.float32)
  manifest.write(tmp_path / 'corpus', utterances)
  write_codes(tmp_path / 'codes', codes)
  embeddings.write(tmp_path / 'speakers.npz', vectors)
  return tmp_path, codes, vectors


def make_feed(folder, **settings):
  return flow_feed.FlowFeed(
    **{
      'corpus': folder / 'corpus',
      'codes': folder / 'codes',
      'embeddings': folder / 'speakers.npz',
      'batch_size': 2,
      'mel': MEL,
      **settings,
    }
  )


def test_rows_hold_what_belongs_together(corpus):
  folder, codes, vectors = corpus
  feed = make_feed(folder)
  assert len(feed) == 2 and feed.batch_size == 2
  seen = set()
  for step in range(6):
    batch = feed.batch(step)
    for row, name in enumerate(feed.row_ids(step)):
      number = int(name[1:])
      seen.add(name)
      linguistic, semantic = codes[name]
      count = batch['token_counts'][row]
      ids = batch['tokens'][row, :count].reshape(-1, 5)
      np.testing.assert_array_equal(ids[:, :2].reshape(-1), linguistic)
      np.testing.assert_array_equal(ids[:, 2:].reshape(-1) - 1024, semantic)
      assert not batch['tokens'][row, count:].any()
      np.testing.assert_array_equal(batch['speaker'][row], vectors[name])
      samples = batch['samples'][row]
      middle = batch['wave'][row, 500 : samples - 500]
      np.testing.assert_allclose(middle, (number + 1) / 10, atol=0.01)
      assert not batch['wave'][row, samples:].any()
      assert batch['weights'][row] == 1
  assert len(seen) > 3


def test_a_wave_ends_with_its_codes_on_a_frame(corpus):
  folder, codes, _ = corpus
  feed = make_feed(folder, batch_size=6, buckets=1)
  batch = feed.batch(0)
  for row, name in enumerate(feed.row_ids(0)):
    seconds = len(codes[name][0]) // 2 * 0.12
    want = int(seconds * MEL.sample_rate / MEL.hop + 1e-6) * MEL.hop
    assert abs(batch['samples'][row] - want) <= MEL.hop
    assert not batch['samples'][row] % MEL.hop


def test_the_single_codebook_variant_gets_semantic_codes(corpus):
  folder, codes, _ = corpus
  feed = make_feed(folder, streams='semantic')
  batch = feed.batch(0)
  for row, name in enumerate(feed.row_ids(0)):
    count = batch['token_counts'][row]
    np.testing.assert_array_equal(batch['tokens'][row, :count], codes[name][1])


def test_a_host_reads_only_its_rows(corpus):
  folder, *_ = corpus
  feed = make_feed(folder, batch_size=4)
  whole, part = feed.batch(1), feed.batch(1, 1, 3)
  for name, array in part.items():
    np.testing.assert_array_equal(array, whole[name][1:3])


def test_what_is_left_out_is_counted(corpus):
  folder, codes, vectors = corpus
  vectors.pop('u0')
  embeddings.write(folder / 'speakers.npz', vectors)
  codes.pop('u5')
  write_codes(folder / 'codes', codes)
  feed = make_feed(folder, max_seconds=1.2)
  assert dict(feed.dropped) == {
    'no speaker embedding': 1,
    'no codes': 1,
    'longer than 1.2 s': 1,
  }
  assert feed.describe()['utterances'] == 3
  assert feed.describe()['streams'] == 'dual'


def test_an_unreadable_file_weighs_nothing(corpus, capsys):
  folder, *_ = corpus
  (folder / 'corpus' / 'wav' / 'u3.wav').write_bytes(b'RIFF')
  feed = make_feed(folder, batch_size=6, buckets=1)
  batch = feed.batch(0)
  row = feed.row_ids(0).index('u3')
  assert batch['weights'][row] == 0 and batch['weights'].sum() == 5
  assert not batch['samples'][row] and not batch['token_counts'][row]
  feed.batch(1)
  assert capsys.readouterr().err.count('u3 is left out') == 1


@pytest.mark.parametrize(
  'settings,sentence',
  [
    ({'streams': 'both'}, "streams is 'both', expected 'dual' or 'semantic'"),
    ({'batch_size': 0}, 'batch_size is 0'),
    ({'buckets': 0}, 'buckets is 0'),
    ({'max_seconds': 0.1}, 'nothing to train on in train'),
  ],
)
def test_bad_settings_are_told(corpus, settings, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    make_feed(corpus[0], **settings)


def test_its_digests_are_of_codes_and_voices_that_are_used(corpus):
  folder, codes, vectors = corpus
  before = make_feed(folder).contents()
  embeddings.write(folder / 'speakers.npz', {**vectors, 'other': vectors['u0']})
  write_codes(folder / 'codes', {**codes, 'other': codes['u0']})
  assert make_feed(folder).contents() == before
  linguistic, semantic = codes['u2']
  other = (linguistic, np.where(semantic == semantic[0], 7, semantic))
  write_codes(folder / 'codes', {**codes, 'u2': other})
  assert make_feed(folder).contents()['manifest'] != before['manifest']
  write_codes(folder / 'codes', codes)
  assert make_feed(folder).contents() == before
  embeddings.write(folder / 'speakers.npz', {**vectors, 'u4': vectors['u1']})
  assert make_feed(folder).contents()['manifest'] != before['manifest']
