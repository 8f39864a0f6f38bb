"""Long recordings and live audio: both streams against offline encoding."""

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.audio import io
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import dual_stream
from step_audio_jax.tokenizers.speech import semantic_stream
from tests.tokenizers.speech import tiny_dual

PIECE = 12800  # samples that the tiny positional table holds: 20 codes


@pytest.fixture(scope='module')
def tokenizer():
  return tiny_dual.small()


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
  """Caches are carried between blocks within a second of audio."""
  monkeypatch.setattr(dual, '_CHUNKS_AT_ONCE', 3)


def reference_overlap(tokenizer, wave):
  """Windows one by one, as the module's text says: two codes are shared."""
  gain = np.float32(0.999) / np.abs(wave).max()
  codes, begin = [], 0
  while True:
    part = wave[begin : begin + PIECE] * gain
    padded = np.zeros((1, PIECE), np.float32)
    padded[0, : len(part)] = part
    got, counts = tokenizer.encode_windows(
      padded,
      np.array([len(part)], np.int32),
      np.ones((2, 1), np.float32),
      np.zeros(1, np.int32),
    )
    got = np.asarray(got)[0, : int(counts[0])]
    last = begin + PIECE >= len(wave)
    codes.append(got[1 if begin else 0 : None if last else -1])
    if last:
      return np.concatenate(codes)
    begin += PIECE - 2 * 640


# Whole pieces, a rest that is dropped, one that is not; the last window of
# the overlapping mode full, nearly empty, and absent.
LENGTHS = (30720, 2 * PIECE, 2 * PIECE + 479, 2 * PIECE + 480, 24320, 24330, 90)


@pytest.mark.parametrize('mode', ['pieces', 'overlap'])
def test_long_signals_in_parts_give_the_offline_codes(tokenizer, mode):
  rng = np.random.default_rng(0)
  for samples in LENGTHS:
    wave = tiny_dual.speechlike(samples, samples)
    expected = tokenizer.encode(wave, mode)
    cuts = np.sort(rng.integers(0, samples, 3))
    got = tokenizer.encode_stream(
      np.split(wave, cuts), peak=np.abs(wave).max(), mode=mode
    )
    for one, two in zip(got, expected):
      assert one.dtype == np.uint16
      np.testing.assert_array_equal(one, two)


def test_overlapping_windows_take_their_middle(tokenizer):
  for samples in (30720, 24320, 24330, 12800):
    wave = tiny_dual.speechlike(samples, 3)
    codes = tokenizer.encode(wave, 'overlap')[1]
    expected = reference_overlap(tokenizer.semantic, wave)
    assert len(codes) == -(-(samples // 160) // 4)
    assert (codes == expected).mean() > 0.95


def test_modes_agree_up_to_one_window_and_differ_beyond(tokenizer):
  wave = tiny_dual.speechlike(30720, 4)
  short = wave[:PIECE]
  for a, b in zip(tokenizer.encode(short), tokenizer.encode(short, 'overlap')):
    np.testing.assert_array_equal(a, b)
  one = tokenizer.encode(wave)
  two = tokenizer.encode(wave, 'overlap')
  np.testing.assert_array_equal(one[0], two[0])
  assert len(one[1]) == len(two[1]) == 48
  assert (one[1] != two[1]).any()


def test_a_long_file_is_what_its_samples_are(tokenizer, tmp_path):
  """Minutes of stereo at 44.1 kHz, by blocks; also a part of it."""
  wave = np.repeat(tiny_dual.speechlike(44100 * 95, 1)[:, None], 2, axis=1)
  wave[70 * 44100, :] = 0.9  # the loudest sample comes late
  soundfile.write(tmp_path / 'long.flac', wave, 44100)
  one, two = tokenizer.encode_file(tmp_path / 'long.flac')
  read, _ = io.read_audio(tmp_path / 'long.flac')
  expected = tokenizer.encode_stream([read], peak=np.abs(read).max())
  np.testing.assert_array_equal(one, expected[0])
  np.testing.assert_array_equal(two, expected[1])
  assert len(one) == 1583 and len(two) == tokenizer.semantic.count(95 * 16000)
  part = tokenizer.encode_file(
    tmp_path / 'long.flac', offset=60.0, duration=1.9, mode='overlap'
  )
  read, _ = io.read_audio(tmp_path / 'long.flac', offset=60.0, duration=1.9)
  for a, b in zip(part, tokenizer.encode(read, 'overlap')):
    np.testing.assert_array_equal(a, b)


def test_an_unknown_mode_is_told(tokenizer, tmp_path):
  wave = tiny_dual.speechlike(1600)
  for call in (
    lambda: tokenizer.encode(wave, 'window'),
    lambda: tokenizer.encode_stream([wave], mode='window'),
    lambda: tokenizer.encode_file(tmp_path / 'no.wav', mode='window'),
  ):
    with pytest.raises(errors.UserError, match="mode: found 'window'"):
      call()


def blocks(tokenizer, wave, left, block, right):
  """Semantic codes by blocks, each window cut out of its own piece."""
  gains, unit = np.ones((2, 1), np.float32), 640
  size, out = (left + block + right) * unit, []
  for start in range(0, len(wave), PIECE):
    piece = wave[start : start + PIECE]
    total, done = tokenizer.count(len(piece)), 0
    while done < total:
      begin, end = max(0, done - left), min(done + block, 20)
      if min(end + right, 20) * unit > len(piece):
        end = total
      part = piece[begin * unit : (min(done + block, 20) + right) * unit]
      padded = np.zeros((1, size), np.float32)
      padded[0, : len(part)] = part
      codes, _ = tokenizer.encode_windows(
        padded,
        np.array([len(part)], np.int32),
        gains,
        np.array([begin], np.int32),
      )
      out.append(np.asarray(codes)[0, done - begin : end - begin])
      done = end
  return np.concatenate([np.zeros(0, np.int32), *out])


def test_live_semantic_codes_are_those_of_their_blocks(tokenizer):
  """However the samples come; two signals in turn through one stream."""
  rng = np.random.default_rng(1)
  stream = semantic_stream.SemanticStream(
    tokenizer.semantic, left=9, block=3, right=4
  )
  for samples in (30000, 5000, 12 * 640, 500, 100):
    wave = tiny_dual.speechlike(samples, samples)
    got, begin = [], 0
    while begin < samples:
      end = min(samples, begin + int(rng.integers(1, 4000)))
      got.append(stream.push(wave[begin:end], final=end == samples))
      # Not before block and look-ahead are heard, and not later.
      if end < samples:
        piece, inside = divmod(end // 640, 20)
        due = max(0, inside - 4) // 3 * 3
        assert sum(map(len, got)) == piece * 20 + due
      begin = end
    expected = blocks(tokenizer.semantic, wave, 9, 3, 4)
    np.testing.assert_array_equal(np.concatenate(got), expected)
    assert len(expected) == tokenizer.semantic.count(samples)


def test_live_groups_are_released_when_complete(tokenizer):
  """Rows side by side; the linguistic half is exact, the tail is dropped."""
  waves = [tiny_dual.speechlike(n, n) for n in (30000, 20000)]
  peaks = [np.abs(w).max() for w in waves]
  stream = dual_stream.DualStream(
    tokenizer, rows=2, peaks=peaks, left=9, block=3, right=4
  )
  stream.warm_up()
  got = {0: [], 1: []}
  for begin in range(0, 30000, 2000):
    samples, final = {}, set()
    for row, wave in enumerate(waves):
      if begin < len(wave):
        samples[row] = wave[begin : begin + 2000]
        final |= {row} if begin + 2000 >= len(wave) else set()
    for row, pair in stream.push_rows(samples, final).items():
      assert len(pair[0]) * 3 == len(pair[1]) * 2
      got[row].append(pair)
  for row, wave in enumerate(waves):
    one, two = map(np.concatenate, zip(*got[row]))
    whole = tokenizer.encode(wave)
    groups = min(len(whole[0]) // 2, len(whole[1]) // 3)
    assert (len(one), len(two)) == (2 * groups, 3 * groups)
    np.testing.assert_array_equal(one, whole[0][: len(one)])
    ids = vocabulary.STEP_AUDIO.interleave(one, two)
    assert len(ids) == 5 * groups


def test_a_live_stream_begins_anew_after_its_end(tokenizer):
  wave = tiny_dual.speechlike(9000, 1)
  stream = dual_stream.DualStream(tokenizer, left=9, block=3, right=4)
  first = stream.push(wave, final=True)
  again = [stream.push(wave[:5000]), stream.push(wave[5000:], final=True)]
  for a, b in zip(first, map(np.concatenate, zip(*again))):
    np.testing.assert_array_equal(a, b)
  assert [len(x) for x in stream.push([], final=True)] == [0, 0]


def test_a_whole_window_of_context_gives_the_codes_of_pieces(tokenizer):
  """The last block of each piece sees all of it, in its place."""
  wave = tiny_dual.speechlike(2 * PIECE, 8)
  stream = semantic_stream.SemanticStream(
    tokenizer.semantic, peaks=[np.abs(wave).max()], left=16, block=4, right=0
  )
  live = stream.push(wave, final=True)
  _, pieces = tokenizer.encode(wave)
  for begin in (16, 36):
    np.testing.assert_array_equal(
      live[begin : begin + 4], pieces[begin : begin + 4]
    )


@pytest.mark.parametrize(
  'sizes', [(-1, 3, 4), (9, 0, 4), (9, 3, -1), (10, 8, 3)]
)
def test_blocks_that_do_not_fit_are_refused(tokenizer, sizes):
  left, block, right = sizes
  with pytest.raises(errors.UserError, match='at most 20 codes in all'):
    semantic_stream.SemanticStream(
      tokenizer.semantic, left=left, block=block, right=right
    )
