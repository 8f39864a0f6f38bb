"""Overlapping training chunks against dense masks over one long row."""

import functools

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.tokenizer import chunk_masked
from step_audio_jax.models.tokenizer import paraformer
from tests.models.tokenizer import test_paraformer_oracle as oracle

CONFIG = oracle.CONFIGS[0]
SPECS = (
  chunk_masked.ChunkSpec(size=5, stride=3, look_back=2),
  chunk_masked.ChunkSpec(size=6, stride=2, pad_left=3, look_back=1),
  chunk_masked.ChunkSpec(size=4, stride=4, look_back=0),
)
LENGTHS = np.array([11, 1, 6, 8], np.int32)


def chunks_of(config, spec, x):
  """The chunks of one utterance as index lists; -1 is a frame of zeros."""
  out = []
  for begin in range(0, len(x), spec.stride):
    last = begin + spec.stride >= len(x)
    end = spec.pad_left + len(x) - begin if last else spec.size
    places = [begin + w - spec.pad_left for w in range(end)]
    out.append([p if 0 <= p < len(x) else -1 for p in places])
  return out


def dense(params, config, spec, x):
  """Chunk after chunk, key by key, in float64."""
  placed = oracle.prepared(config, x)
  zero = np.zeros(config.input_size)
  state = [
    np.stack([placed[p] if p >= 0 else zero for p in chunk])
    for chunk in chunks_of(config, spec, x)
  ]
  for number, p in enumerate(oracle.layers_of(params, config)):
    qkv = [
      np.split(
        oracle.dense(p['qkv'], oracle.norm(p['attention_norm'], h)), 3, -1
      )
      for h in state
    ]
    new = []
    for c, h in enumerate(state):
      none = np.zeros((0, config.width))
      back = range(max(c - spec.look_back, 0), c)
      past = tuple(
        np.concatenate([none, *(qkv[b][i][: spec.stride] for b in back)])
        for i in (1, 2)
      )
      # The first frames with look-back, the others without.
      early, _ = oracle.block(p, h, config, number == 0, past)
      late, _ = oracle.block(p, h, config, number == 0, (none, none))
      new.append(np.concatenate([early[: spec.stride], late[spec.stride :]]))
    state = new
  outs = [
    oracle.norm(params['final_norm'], h)[spec.pad_left :][: spec.stride]
    for h in state
  ]
  return np.concatenate(outs)[: len(x)]


@pytest.mark.parametrize('spec', SPECS)
def test_a_ragged_batch_equals_the_oracle(spec):
  variables = oracle.variables_of(CONFIG)
  x = oracle.features(CONFIG, 4, 11)
  for row, length in zip(x, LENGTHS):
    row[length:] = 50.0  # what is behind does not matter
  model = paraformer.SanmEncoder(CONFIG)
  got = jax.jit(
    functools.partial(model.apply, spec=spec, method='chunk_masked')
  )(variables, x, LENGTHS)
  for row, out, length in zip(x, got, LENGTHS):
    want = dense(variables['params'], CONFIG, spec, row[:length])
    np.testing.assert_allclose(out[:length], want, atol=5e-4, rtol=1e-4)
    assert not np.any(out[length:])


def test_one_chunk_that_holds_all_is_the_whole_utterance():
  spec = chunk_masked.ChunkSpec(size=9, stride=9)
  variables, x = oracle.variables_of(CONFIG), oracle.features(CONFIG, 1, 7)
  model, lengths = paraformer.SanmEncoder(CONFIG), np.array([7])
  got = jax.jit(
    functools.partial(model.apply, spec=spec, method='chunk_masked')
  )(variables, x, lengths)
  want = oracle.whole(variables['params'], CONFIG, x[0])
  np.testing.assert_allclose(got[0], want, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'size': 7}, r'expected at least pad_left \+ stride = 8'),
    ({'stride': 0}, 'stride is 0'),
    ({'pad_left': -1}, 'pad_left is -1'),
    ({'look_back': -4}, 'look_back is -4'),
  ],
)
def test_bad_chunks_say_what_is_wrong(change, said):
  with pytest.raises(errors.UserError, match=said):
    chunk_masked.ChunkSpec(**change)
