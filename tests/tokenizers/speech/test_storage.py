"""Parameter files, ragged batches, label sets and CMVN sums."""

import itertools
import math

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.tokenizers import door
from step_audio_jax.tokenizers.speech import codebook
from step_audio_jax.tokenizers.speech import features
from step_audio_jax.tokenizers.speech import storage
from step_audio_jax.tokenizers.training import labels


def tree():
  rng = np.random.default_rng(0)
  return {
    'params': {
      'a': {'kernel': rng.normal(size=(3, 2)).astype(np.float32)},
      'b': jnp.arange(4.0),
    },
    'scale': np.float32(2.5).reshape(()),
  }


def shapes_of(value):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), value
  )


def test_a_tree_comes_back(tmp_path):
  path = tmp_path / 'deep' / 'x.safetensors'
  storage.write_tree(path, tree())
  back = storage.read_tree(path, shapes_of(tree()))
  assert jax.tree.structure(back) == jax.tree.structure(tree())
  jax.tree.map(np.testing.assert_array_equal, back, tree())
  assert [p.name for p in path.parent.iterdir()] == ['x.safetensors']


def test_transposed_arrays_are_written_as_they_look(tmp_path):
  array = np.arange(6, dtype=np.float64).reshape(2, 3).T
  storage.write_tree(tmp_path / 'x', {'a': array})
  back = storage.read_tree(tmp_path / 'x', shapes_of({'a': array}))
  np.testing.assert_array_equal(back['a'], [[0, 3], [1, 4], [2, 5]])
  assert back['a'].dtype == np.float32


def missing(value):
  del value['params']['a']


def another_shape(value):
  value['params']['b'] = np.zeros((2, 2), np.float32)


def one_more(value):
  value['params']['c'] = np.zeros(3, np.float32)


@pytest.mark.parametrize(
  ('change', 'told'),
  [
    (missing, r'params/a/kernel: found nothing, expected \(3, 2\)'),
    (another_shape, r'params/b: found \(2, 2\), expected \(4,\)'),
    (one_more, r'params/c: found \(3,\), expected nothing'),
  ],
)
def test_a_tree_that_does_not_fit_is_told(tmp_path, change, told):
  value = tree()
  change(value)
  storage.write_tree(tmp_path / 'x.safetensors', value)
  with pytest.raises(errors.UserError, match=f'x.safetensors: {told}'):
    storage.read_tree(tmp_path / 'x.safetensors', shapes_of(tree()))


@pytest.mark.parametrize('kept', [0, 4, 20, -1])
def test_a_cut_file_is_told(tmp_path, kept):
  path = tmp_path / 'x.safetensors'
  storage.write_tree(path, tree())
  path.write_bytes(path.read_bytes()[:kept])
  with pytest.raises(errors.UserError, match='x.safetensors: not a whole'):
    storage.read_tree(path, shapes_of(tree()))
  path.unlink()
  with pytest.raises(errors.UserError, match='x.safetensors: no such file'):
    storage.read_tree(path, shapes_of(tree()))


@hypothesis.given(
  lengths=st.lists(st.integers(1, 300_000), min_size=1, max_size=40)
)
@hypothesis.settings(max_examples=25)
def test_batches_hold_every_wave_once(lengths):
  waves = [np.broadcast_to(np.float32(i + 1), n) for i, n in enumerate(lengths)]
  seen = []
  for part, wave, samples in storage.batches(waves):
    rows, width = wave.shape
    assert rows in (1, 4, 16, 64) and len(part) <= rows
    assert rows == 1 or len(part) > rows // 4  # no smaller size would do
    assert width % 15360 == 0
    most = max(lengths[i] for i in part)
    assert width == 30720 or width <= 1.5 * most  # the padding is bounded
    for row, index in enumerate(part):
      assert samples[row] == lengths[index]
      assert (wave[row, : samples[row]] == index + 1).all()
      assert not wave[row, samples[row] :].any()
    assert not samples[len(part) :].any() and not wave[len(part) :].any()
    seen += part
  assert sorted(seen) == list(range(len(waves)))


def test_long_waves_come_in_small_batches():
  waves = [np.broadcast_to(np.float32(0), 16000 * 120)] * 5
  for _, wave, _ in storage.batches(waves):
    assert wave.size <= 64 * 8 * 16000


def test_a_batch_can_be_kept_smaller():
  waves = [np.zeros(16000, np.float32)] * 5
  sizes = [w.shape for _, w, _ in storage.batches(waves, 5 * 30720)]
  assert sizes == [(4, 30720), (1, 30720)]
  assert [w.shape for _, w, _ in storage.batches(waves, 1)] == [(1, 30720)] * 5


def test_no_waves_are_no_batches():
  assert not list(storage.batches([]))


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_a_wave_becomes_float32(dtype):
  wave = storage.check_wave(np.array([0.5, -0.25], dtype), 'x')
  assert wave.dtype == np.float32 and wave.tolist() == [0.5, -0.25]
  assert storage.check_wave([0.5], 'a list').tolist() == [0.5]


@pytest.mark.parametrize('wave', [np.float32(1), [1, 2], ['a'], [[0.5]]])
def test_no_wave_is_told(wave):
  with pytest.raises(errors.UserError, match='x.wav: found an array'):
    storage.check_wave(wave, 'x.wav')


LETTERS = labels.Labels(tuple('abcdé'))


@hypothesis.given(path=st.lists(st.integers(0, 5), max_size=12))
def test_decoding_equals_its_definition(path):
  merged = [i for i, _ in itertools.groupby(path)]
  expected = ''.join('-abcdé'[i] for i in merged if i)
  assert LETTERS.decode(path) == expected


@hypothesis.given(text=st.text('abcdé', max_size=10), data=st.data())
def test_every_path_of_a_text_decodes_to_it(text, data):
  """Any repeats, blanks where two equal letters meet, and elsewhere too."""
  path, last = [0] * data.draw(st.integers(0, 2)), None
  for i in LETTERS.encode(text):
    path += [0] * data.draw(st.integers(int(i == last), 2))
    path += [i] * data.draw(st.integers(1, 3))
    last = i
  path += [0] * data.draw(st.integers(0, 2))
  assert LETTERS.decode(np.array(path, np.int32)) == text


@hypothesis.given(text=st.text(max_size=20))
def test_spelling_has_no_spaces_and_is_settled(text):
  spelt = labels.spelling(text)
  assert not any(c.isspace() for c in spelt)
  assert labels.spelling(text + ' ,.!') == spelt


def test_a_character_has_one_label():
  with pytest.raises(errors.UserError, match='occurs twice'):
    labels.Labels(('a', 'b', 'a'))
  assert labels.Labels(['a', 'b']) == labels.Labels(('a', 'b'))


def test_moments_equal_numpy_over_ragged_batches():
  rng = np.random.default_rng(2)
  moments, kept = features.empty_moments(3), []
  for rows, frames in ((2, 5), (3, 4)):
    x = rng.normal(3, 2, (rows, frames, 3)).astype(np.float32)
    counts = rng.integers(0, frames + 1, rows)
    weights = np.ones(rows, np.float32)
    weights[-1] = 0.0
    for row, count in list(zip(x, counts))[:-1]:
      kept.append(row[:count].copy())
      row[count:] = 1e6  # padding is not counted
    x[-1] = np.nan  # nor is a row without weight, whatever it holds
    moments = features.add_moments(moments, x, counts, weights)
  kept = np.concatenate(kept)
  assert moments['count'] == len(kept) > 3
  shift, scale = features.shift_and_scale(moments)
  np.testing.assert_allclose(shift, -kept.mean(0), rtol=1e-5)
  np.testing.assert_allclose(scale, 1 / kept.std(0), rtol=1e-3)


def test_features_that_never_move_are_not_amplified():
  x = np.full((1, 6, 2), 7.0, np.float32)
  moments = features.add_moments(
    features.empty_moments(2), x, np.array([6]), np.ones(1, np.float32)
  )
  shift, scale = features.shift_and_scale(moments)
  assert shift.tolist() == [-7, -7] and (scale <= 100.0).all()
  nothing = features.shift_and_scale(features.empty_moments(2))
  assert np.isfinite(nothing).all() and nothing[0].tolist() == [0, 0]


@hypothesis.given(
  counts=st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(any)
)
@hypothesis.settings(max_examples=30)
def test_perplexity_lies_between_one_and_the_codes_in_use(counts):
  p = np.array(counts) / sum(counts)
  expected = math.prod(x**-x for x in p if x)
  got = float(codebook.perplexity(jnp.array(counts, jnp.float32)))
  assert got == pytest.approx(expected, rel=1e-4)
  assert 0.999 <= got <= 1.001 * np.count_nonzero(counts)


@pytest.mark.parametrize(
  ('argv', 'told'),
  [
    ([], 'expected recordings, or --export=FOLDER'),
    (['a.wav'], 'expected --tokenizer=FOLDER or $STEP_AUDIO_TOKENIZER'),
    (['--tokenizer=t'], 'expected recordings, or --export=FOLDER'),
    (['--export=t'], '--linguistic=RUN is missing'),
    (['--export=t', '--linguistic=r'], '--semantic=RUN is missing'),
    (['--tokenizer=t', 'absent.wav'], 'absent.wav'),
  ],
)
def test_the_door_says_what_is_missing(
  tmp_path, monkeypatch, capsys, argv, told
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv(door.VARIABLE, raising=False)
  assert cli.run('tokenize', door.DOOR, argv) == 2
  err = capsys.readouterr().err
  assert err.startswith('error: ') and told in err and err.count('\n') == 1
  assert not list(tmp_path.iterdir())


def test_a_dry_export_writes_nothing(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  argv = ['--export=t', '--linguistic=a', '--semantic=b', '--dry_run']
  assert cli.run('tokenize', door.DOOR, argv) == 0
  assert capsys.readouterr().out == 'would export a and b to t\n'
  assert not list(tmp_path.iterdir())


def test_widths_hold_their_waves_and_waste_no_window():
  seconds = [0.1, 1.92, 1.93, 23.1, 29.99, 30.0, 30.01, 45.1, 60.0, 3600.0]
  lengths = [round(16000 * s) for s in seconds]
  widths = []
  for length in lengths:
    ((_, wave_BS, _),) = storage.batches([np.zeros(length, np.float32)])
    widths.append(wave_BS.shape[1])
    # No more windows of 30 s than half as many again as the sound needs.
    assert length <= widths[-1] <= max(1.5 * length + 1, 30720)
  assert widths[3:6] == [480_000] * 3 and widths[8] == 960_000
