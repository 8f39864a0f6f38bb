"""Step-1 from its Hugging Face names against a dense float64 oracle.

The oracle is written from the formulae (Step-Audio report and its released
weights): no model code, one document at a time, the bias of every pair.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import weights as language
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import shards
from tests.interop.language import tiny_folders as tiny


def slopes(heads):
  """2^(-8k/n) for the first n = 2^floor(log2 H); then 2^(-4(2k-1)/n)."""
  n = 2 ** math.floor(math.log2(heads))
  first = [2.0 ** (-8.0 * k / n) for k in range(1, n + 1)]
  rest = [2.0 ** (-4.0 * (2 * k - 1) / n) for k in range(1, heads - n + 1)]
  return first + rest


def norm(x, scale, eps):
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * scale


def step1(t, config, tokens):
  """Logits (T, V) of one document, float64."""
  t = {name: value.astype(np.float64) for name, value in t.items()}
  heads, groups = config['num_attention_heads'], config['num_attention_groups']
  size = config['hidden_size'] // heads
  eps = config['rms_norm_eps']
  x = t['model.embed_tokens.weight'][tokens]
  for layer in range(config['num_hidden_layers']):
    p = f'model.layers.{layer}.'
    h = norm(x, t[p + 'input_layernorm.weight'], eps)
    q, k, v = (h @ t[f'{p}self_attn.{n}_proj.weight'].T for n in 'qkv')
    outs = []
    for head, slope in enumerate(slopes(heads)):
      group = head // (heads // groups)
      own = slice(size * head, size * (head + 1))
      shared = slice(size * group, size * (group + 1))
      out = np.zeros((len(tokens), size))
      for i in range(len(tokens)):
        past = np.arange(i + 1)
        scores = k[past, shared] @ q[i, own] / math.sqrt(size)
        scores -= slope * np.sqrt(i - past)
        weights = np.exp(scores - scores.max())
        out[i] = weights / weights.sum() @ v[past, shared]
      outs.append(out)
    x = x + np.concatenate(outs, -1) @ t[p + 'self_attn.o_proj.weight'].T
    h = norm(x, t[p + 'post_attention_layernorm.weight'], eps)
    gate = h @ t[p + 'mlp.gate_proj.weight'].T
    up = h @ t[p + 'mlp.up_proj.weight'].T
    silu = gate / (1 + np.exp(-gate))
    x = x + (silu * up) @ t[p + 'mlp.down_proj.weight'].T
  return norm(x, t['model.norm.weight'], eps) @ t['lm_head.weight'].T


def test_slopes_are_the_published_ones():
  found = slopes(48)
  assert found[0] == 2**-0.25 and found[31] == 2**-8.0
  assert found[32] == 2**-0.125 and found[47] == 2 ** (-31 / 8)


# 48 and 96 heads have a second batch of slopes; so do 6 and 12.
@pytest.mark.parametrize(('heads', 'groups'), [(6, 3), (12, 2)])
def test_logits(tmp_path, monkeypatch, heads, groups):
  monkeypatch.setattr(tiny, 'E', 24)
  monkeypatch.setattr(tiny, 'H', heads)
  monkeypatch.setattr(tiny, 'G', groups)
  folder, theirs = tiny.make(tmp_path / 'm', 'step1', files=2)
  config = tiny.config_of('step1')
  ours = configs.read(config)
  tree = language.variables(ours, shards.read_folder(folder), 'm')
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(ours))
  rng = np.random.default_rng(0)
  documents = [rng.integers(0, tiny.V, n) for n in (1, 9, 20, 4)]
  # One packed row, padded at its end.
  tokens = np.concatenate([*documents, np.zeros(5, int)])[None]
  segments = [np.full(len(d), i + 1) for i, d in enumerate(documents)]
  positions = [np.arange(len(d)) for d in documents]
  got = jax.jit(model.apply)(
    jax.tree.map(np.asarray, tree),
    jnp.asarray(tokens),
    segment_ids_BT=jnp.asarray(
      np.concatenate([*segments, np.zeros(5, int)])[None]
    ),
    positions_BT=jnp.asarray(np.concatenate([*positions, np.arange(5)])[None]),
  )
  want = np.concatenate([step1(theirs, config, d) for d in documents])
  assert np.abs(want).max() > 1
  np.testing.assert_allclose(got[0, : len(want)], want, atol=1e-4, rtol=0)
