"""Live linguistic codes: golden sessions, any cuts, any rows, flat cost."""

import itertools
import pathlib
import time

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import fbank
from step_audio_jax.tokenizers.speech import linguistic_stream
from tests import compilations
from tests.tokenizers.speech import tiny_dual

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'
SIZE = fbank.CHUNK_SAMPLES


@pytest.fixture(scope='module')
def golden():
  return np.load(GOLDEN / 'linguistic_A.npz')


@pytest.fixture(scope='module')
def original(golden):
  return tiny_dual.recorded_linguistic(golden)


@pytest.fixture(scope='module')
def stream(original):
  """One stream for all tests of a row: its function is compiled once."""
  return linguistic_stream.LinguisticStream(original)


def test_a_session_matches_golden_call_by_call(golden, stream):
  """Samples in pieces, only the last call final; raw, as recorded."""
  wave, cuts = golden['in/wav'], [*golden['in/session_cuts']]
  cuts = sorted({0, *map(int, cuts), len(wave)})
  codes, frames = [], []
  for begin, end in zip(cuts, cuts[1:]):
    one, two = stream.push_frames(wave[begin:end], final=end == len(wave))
    assert len(one) == len(two)
    codes.append(one)
    frames.append(two)
  lens = [len(c) for c in codes]
  assert lens == golden['out/session_lens'].tolist()
  np.testing.assert_allclose(
    np.concatenate(frames), golden['out/session_enc'], atol=5e-3
  )
  np.testing.assert_array_equal(np.concatenate(codes), golden['out/vq02'])


def test_chunk_by_chunk_matches_golden(golden, stream):
  wave = golden['in/wav']
  out = [
    stream.push_frames(wave[b : b + SIZE], final=b + SIZE >= len(wave))
    for b in range(0, len(wave), SIZE)
  ]
  lens = [len(codes) for codes, _ in out]
  assert lens == golden['out/stream_chunk_lens'].tolist()
  frames = np.concatenate([frames for _, frames in out])
  np.testing.assert_allclose(frames, golden['out/stream_enc'], atol=5e-3)


def test_tails_match_golden(golden, stream):
  """Each is a signal of its own: `final` begins the stream anew."""
  wave = golden['in/wav']
  for samples, count in zip(
    golden['in/tail_samples'].tolist(), golden['out/tail_frames'].tolist()
  ):
    codes, frames = stream.push_frames(wave[:samples], final=True)
    assert len(codes) == count, samples
    if f'out/tail{samples}_enc' in golden.files:
      np.testing.assert_allclose(
        frames, golden[f'out/tail{samples}_enc'], atol=5e-3
      )


PUSHES = (0, 1, 159, 160, 400, 960, 3839, 3840, 3841, 7680, 9000)


@hypothesis.settings(max_examples=15)
@hypothesis.given(
  samples=st.integers(1, 30720),
  sizes=st.lists(st.sampled_from(PUSHES), min_size=1, max_size=12),
)
def test_any_cuts_give_the_offline_codes(samples, sizes):
  """With the peak known; tails, multiples of 3840 and empty pushes included."""
  tokenizer = tiny_dual.small().linguistic
  wave = tiny_dual.speechlike(40000, 7)[:samples]
  padded = np.zeros((1, 30720), np.float32)
  padded[0, :samples] = wave
  codes, counts = tokenizer.encode_padded(padded, np.array([samples], np.int32))
  expected = np.asarray(codes)[0, : int(counts[0])]
  stream = linguistic_stream.LinguisticStream(
    tokenizer, peaks=[np.abs(wave).max()]
  )
  got, begin = [], 0
  for size in itertools.cycle([*sizes, 5000]):
    end = min(samples, begin + size)
    got.append(stream.push(wave[begin:end], final=end == samples))
    begin = end
    if end == samples:
      break
  np.testing.assert_array_equal(np.concatenate(got), expected)
  # Codes come as soon as their chunk is heard.
  assert sum(map(len, got[:-1])) <= samples // SIZE * 4


def test_rows_do_not_know_each_other():
  """Rows at different places, ending and beginning anew at different times."""
  tokenizer = tiny_dual.small().linguistic
  waves = [tiny_dual.speechlike(n, n) for n in (20000, 9000, 11520, 700)]
  alone = linguistic_stream.LinguisticStream(tokenizer)
  expected = [alone.push(wave, final=True) for wave in waves]
  rows = linguistic_stream.LinguisticStream(tokenizer, rows=2)
  got = {0: [], 1: []}
  orders = {0: [0, 3], 1: [1, 3, 2]}
  signals = {row: list(order) for row, order in orders.items()}
  places = dict.fromkeys(got, 0)
  rng = np.random.default_rng(0)
  while any(signals.values()):
    samples, final = {}, set()
    for row, left in signals.items():
      if not left or rng.random() < 0.3:
        continue
      begin, wave = places[row], waves[left[0]]
      places[row] = begin + int(rng.integers(1, 6000))
      samples[row] = wave[begin : places[row]]
      if places[row] >= len(wave):
        final.add(row)
        places[row] = 0
        left.pop(0)
    for row, codes in rows.push_rows(samples, final).items():
      got[row].append(codes)
  for row, order in orders.items():
    np.testing.assert_array_equal(
      np.concatenate(got[row]), np.concatenate([expected[i] for i in order])
    )


def test_many_chunks_at_once_give_the_same_codes():
  """Blocks of 3 chunks with caches between them, against the whole at once."""
  tokenizer = tiny_dual.small().linguistic
  for samples in (100, 11520, 30720, 30720 - 3840 + 900, 26880):
    wave = tiny_dual.speechlike(samples, 5)
    padded = np.zeros((1, 30720), np.float32)
    padded[0, :samples] = wave
    codes, counts = tokenizer.encode_padded(
      padded, np.array([samples], np.int32)
    )
    peak = np.abs(wave).max()
    stream = linguistic_stream.LinguisticStream(
      tokenizer, peaks=[peak], chunks=3
    )
    got = stream.push(wave, final=True)
    np.testing.assert_array_equal(got, np.asarray(codes)[0, : int(counts[0])])


def test_ten_minutes_cost_what_they_cost_at_first():
  """Nothing is compiled after warm-up, no state grows, no code is missing."""
  tokenizer = tiny_dual.small().linguistic
  with compilations.Compilations() as before:
    jax.jit(lambda x: x + 41)(np.float32(1.0))
  assert before.messages  # the count does count
  stream = linguistic_stream.LinguisticStream(tokenizer)
  stream.warm_up()
  rng = np.random.default_rng(0)
  wave = rng.normal(size=600 * 16000 + 1000).astype(np.float32) * 0.1
  chunks = [wave[b : b + SIZE] for b in range(0, len(wave), SIZE)]
  sizes, count, seconds = set(), 0, []
  with compilations.Compilations() as during:
    for number, chunk in enumerate(chunks):
      begin = time.perf_counter()
      count += len(stream.push(chunk, final=number == len(chunks) - 1))
      seconds.append(time.perf_counter() - begin)
      sizes.add(sum(x.nbytes for x in jax.tree.leaves(stream._state)))
  assert not during.messages
  assert len(sizes) == 1
  assert count == fbank.stacked_count(len(wave))
  # The fastest of many: what other programs take is not in it.
  assert min(seconds[-500:]) < 2 * min(seconds[:500])


@pytest.mark.parametrize(
  'samples, pattern',
  [
    (np.array([0.1, np.nan]), 'row 0: samples are not finite'),
    (np.zeros((2, 9), np.float32), 'row 0: .*expected mono'),
    (np.zeros(9, np.int16), 'expected mono floating-point'),
  ],
)
def test_bad_samples_change_nothing(samples, pattern):
  tokenizer = tiny_dual.small().linguistic
  wave = tiny_dual.speechlike(9000, 2)
  stream = linguistic_stream.LinguisticStream(tokenizer)
  first = stream.push(wave[:5000])
  with pytest.raises(errors.UserError, match=pattern):
    stream.push(samples)
  rest = stream.push(wave[5000:], final=True)
  again = stream.push(wave, final=True)
  np.testing.assert_array_equal(np.concatenate([first, rest]), again)


def test_nothing_gives_nothing():
  stream = linguistic_stream.LinguisticStream(tiny_dual.small().linguistic)
  for samples in ([], np.zeros(0, np.float32), np.zeros(160, np.float32)):
    codes = stream.push(samples, final=True)
    assert codes.shape == (0,) and codes.dtype == np.int32
  silence = stream.push(np.zeros(8000, np.float32), final=True)
  assert len(silence) == 8


def test_rows_and_peaks_are_checked():
  tokenizer = tiny_dual.small().linguistic
  with pytest.raises(errors.UserError, match='rows: found 0'):
    linguistic_stream.LinguisticStream(tokenizer, rows=0)
  with pytest.raises(errors.UserError, match='peaks: found 1.*of 2 rows'):
    linguistic_stream.LinguisticStream(tokenizer, rows=2, peaks=[0.5])
  for peak in (-1.0, float('nan')):
    with pytest.raises(errors.UserError, match='peak: found'):
      linguistic_stream.LinguisticStream(tokenizer, peaks=[peak])
  with pytest.raises(ValueError, match='use push_rows'):
    linguistic_stream.LinguisticStream(tokenizer, rows=2).push(
      np.zeros(4, np.float32)
    )


def test_chunks_that_end_inside_a_stacked_frame_are_refused():
  with pytest.raises(errors.UserError, match='inside a stacked frame'):
    fbank.history(fbank.FrontEnd(chunk_samples=4000, stack=5, stride=4))
