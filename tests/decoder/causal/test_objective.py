"""The causal objective: it learns, its masks are a stream's, padding is out."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.causal import flow
from step_audio_jax.decoder.causal import layout as causal_layout
from step_audio_jax.decoder.causal import objective as causal_objective
from step_audio_jax.decoder.flow import matching
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from tests.decoder.causal import tiny_causal

CONFIG, MEL = tiny_causal.CONFIG, tiny_causal.MEL
HOP = MEL.hop
KEY = jax.random.key(0)
GROUPS = 4
TONES = (300.0, 1500.0, 6000.0)  # Hz of each id


def make_batch(step, rows=4, groups=GROUPS, lost=(), ragged=True):
  """Every group is a tone; its ids say which."""
  rng = np.random.default_rng(step)
  batch = {
    'wave': np.zeros((rows, (6 * groups + 1) * HOP), np.float32),
    'samples': np.zeros(rows, np.int32),
    'tokens': np.zeros((rows, 5 * groups + 2), np.int32),
    'token_counts': np.zeros(rows, np.int32),
    'speaker': rng.normal(size=(rows, CONFIG.speaker_size)).astype(np.float32),
    'weights': np.zeros(rows, np.float32),
    'step': np.int32(step),
  }
  for row in range(rows):
    if row in lost:
      continue
    count = int(rng.integers(2, groups + 1)) if ragged else groups
    tones = rng.integers(0, 3, count)
    time = np.arange(6 * HOP) / MEL.sample_rate
    wave = [
      np.sin(2 * np.pi * (300.0, 1500.0, 6000.0)[i] * time) for i in tones
    ]
    wave = 0.3 * np.concatenate(wave)
    ids = np.array([[i, i, 1024 + i, 1024 + i, 1024 + i] for i in tones])
    batch['wave'][row, : len(wave)] = wave
    batch['samples'][row] = len(wave)
    batch['tokens'][row, : ids.size] = ids.reshape(-1)
    batch['token_counts'][row] = ids.size
    batch['weights'][row] = 1.0
  return batch


def objective(**settings):
  return causal_objective.CausalFlowMatching(CONFIG, MEL, **settings)


LOSS = jax.jit(objective().loss)


@functools.cache
def trained():
  """The smallest of loops."""
  task = objective()
  steps = 100
  rate = optax.cosine_decay_schedule(2e-2, steps, 0.05)
  chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98))
  params, history = tiny_causal.fresh(), []
  state = chain.init(params)

  @jax.jit
  def step_fn(params, state, batch):
    def scalar(params):
      total, weight, metrics, updates = task.loss(
        {'params': params}, batch, jax.random.key(batch['step'])
      )
      assert not updates
      return total / weight, metrics

    grads, metrics = jax.grad(scalar, has_aux=True)(params)
    deltas, state = chain.update(grads, state)
    return optax.apply_updates(params, deltas), state, metrics

  for step in range(steps):
    params, state, metrics = step_fn(params, state, make_batch(step, rows=8))
    history.append(
      {k: float(a) / max(float(b), 1e-9) for k, (a, b) in metrics.items()}
    )
  return jax.tree.map(np.asarray, params), history


def test_it_learns_to_hear_tones_in_ids():
  """Less is lost every time, and more with the ids of another utterance."""
  params, history = trained()

  def mean(name, part):
    return np.mean([line[name] for line in history[part]])

  first, last = slice(0, 20), slice(-40, None)
  for name in ('loss', 'loss/whole', 'loss/chunks'):
    assert mean(name, last) < 0.4 * mean(name, first), name
  right, wrong = 0.0, 0.0
  for step in range(1000, 1010):
    batch, key = make_batch(step, ragged=False), jax.random.key(step)
    right += float(LOSS({'params': params}, batch, key)[0])
    batch['tokens'] = np.roll(batch['tokens'], 1, axis=0)
    wrong += float(LOSS({'params': params}, batch, key)[0])
  assert wrong > 1.15 * right


# --- rows and masks -----------------------------------------------------------


def test_ids_and_mel_are_cut_to_the_same_time():
  tokens = np.stack([tiny_causal.ids(4)] * 4)[:, :18]  # 3 groups and a part
  mel = np.random.default_rng(0).normal(size=(4, 21, CONFIG.bands))
  rows = causal_objective.rows(
    CONFIG,
    jnp.asarray(tokens),
    np.array([18, 15, 9, 0], np.int32),
    jnp.asarray(mel, jnp.float32),
    np.array([21, 13, 21, 21], np.int32),
  )
  assert rows.ids_BS2.shape == (4, 12, 2)
  assert rows.mel_BTM.shape == (4, 24, CONFIG.bands)
  # 3 groups are 9 steps; 13 frames are 6; one group is 3.
  np.testing.assert_array_equal(rows.steps_B, [9, 6, 3, 0])
  np.testing.assert_array_equal(rows.mel_BTM[:, :21], mel.astype(np.float32))
  np.testing.assert_array_equal(rows.mel_BTM[:, 21:], 0)


def test_masks_of_a_batch_written_out():
  """Prompts, chunk lengths and padding of four rows, key by key."""
  steps, prefix, chunk = [9, 12, 0, 7], [2, 0, 0, 3], [4, 0, 3, 12]
  segment, masks, present = causal_objective.chunk_masks(
    CONFIG, 12, *(np.array(x, np.int32) for x in (steps, prefix, chunk))
  )
  for rate, mask in ((1, masks[0]), (2, masks[1])):
    visible = np.asarray(mask.visible_BTS)
    for row in range(4):
      n, p, size = steps[row] * rate, prefix[row] * rate, chunk[row] * rate
      for i in range(n):
        if i < p:
          wanted = set(range(p))
        elif not size:
          wanted = set(range(n))
        else:
          begin = p + (i - p) // size * size
          low = max(p, begin - CONFIG.window // 2 * rate)
          wanted = {*range(p), *range(low, min(n, begin + size))}
        assert set(np.flatnonzero(visible[row, i])) == wanted, (rate, row, i)
  np.testing.assert_array_equal(
    np.asarray(present).sum(1), [2 * n for n in steps]
  )
  np.testing.assert_array_equal(
    segment[0], [1, 1, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0]
  )


def test_chunk_lengths_are_drawn_as_said():
  draws = np.asarray(
    jax.jit(objective(whole=0.3).chunks, static_argnums=1)(
      jax.random.key(0), 20000
    )
  )
  assert abs((draws == 0).mean() - 0.3) < 0.02
  sizes, counts = np.unique(draws[draws > 0], return_counts=True)
  np.testing.assert_array_equal(sizes, [2, 3, 4, 5])
  assert counts.min() > 0.9 * counts.mean()
  assert objective(whole=1.0).chunks(jax.random.key(1), 50).max() == 0
  assert objective(whole=0.0).chunks(jax.random.key(1), 50).min() > 0


@pytest.fixture(scope='module')
def squares():
  """Squared errors with everything that chance decides given."""
  return jax.jit(objective().squares)


def draw_of(t, keep, prefix):
  return matching.Draw(
    np.array(t, np.float32), np.array(keep), np.array(prefix, np.int32)
  )


def rows_of(counts, groups=GROUPS):
  """Ragged rows with garbage where nothing is."""
  rng = np.random.default_rng(3)
  tokens = np.stack([tiny_causal.ids(groups, n) for n in range(len(counts))])
  mel = rng.normal(size=(len(counts), 6 * groups, CONFIG.bands))
  pairs = np.stack([causal_layout.steps_of(ids, CONFIG) for ids in tokens])
  return causal_objective.Rows(
    pairs, 3 * np.array(counts, np.int32), mel.astype(np.float32)
  )


def test_rows_stand_alone(squares):
  """A row of a padded batch loses what it loses without padding."""
  counts = (4, 2, 3)
  rows = rows_of(counts)
  rng = np.random.default_rng(4)
  speaker = rng.normal(size=(3, CONFIG.speaker_size)).astype(np.float32)
  noise = rng.normal(size=rows.mel_BTM.shape).astype(np.float32)
  draw = draw_of([0.2, 0.9, 0.5], [True, True, True], [0, 5, 6])
  chunk = np.array([3, 2, 0], np.int32)
  params = {'params': tiny_causal.params()}
  losses, numbers = squares(params, rows, speaker, noise, draw, chunk)
  np.testing.assert_array_equal(numbers, [6 * n * CONFIG.bands for n in counts])
  for row, count in ((1, 2),):
    one = slice(row, row + 1)
    alone = causal_objective.Rows(
      rows.ids_BS2[one, : 3 * count],
      rows.steps_B[one],
      rows.mel_BTM[one, : 6 * count],
    )
    loss, _ = jax.jit(objective().squares)(
      params,
      alone,
      speaker[one],
      noise[one, : 6 * count],
      draw_of(draw.t_B[one], draw.keep_B[one], draw.prefix_B[one]),
      chunk[one],
    )
    np.testing.assert_allclose(loss[0], losses[row], rtol=1e-5)


def test_dropped_conditions_are_all_dropped(squares):
  """Ids, speaker and prompt have no influence on a row that lost them."""
  rows = rows_of((4, 4, 4))
  rng = np.random.default_rng(5)
  speaker = rng.normal(size=(3, CONFIG.speaker_size)).astype(np.float32)
  noise = rng.normal(size=rows.mel_BTM.shape).astype(np.float32)
  params = {'params': tiny_causal.params()}
  chunk = np.array([3, 3, 3], np.int32)
  draw = draw_of([0.5] * 3, [True, False, False], [6, 6, 6])
  one, _ = squares(params, rows, speaker, noise, draw, chunk)
  other = rows._replace(ids_BS2=rows.ids_BS2[::-1])
  two, _ = squares(params, other, speaker[::-1], noise, draw, chunk)
  assert abs(one[0] - two[0]) > 1e-2
  np.testing.assert_array_equal(one[1:], two[1:])


def test_lost_rows_weigh_nothing():
  params = {'params': tiny_causal.params()}
  batch = make_batch(0, lost=(1, 3))
  total, weight, metrics, _ = LOSS(params, batch, KEY)
  batch['speaker'][[1, 3]] = 50.0
  again = LOSS(params, batch, KEY)
  assert float(total) == float(again[0]) and 0 < weight == again[1]
  assert weight == metrics['loss/whole'][1] + metrics['loss/chunks'][1]
  none = LOSS(params, make_batch(0, lost=range(4)), KEY)
  assert float(none[0]) == float(none[1]) == 0.0


# --- configuration ------------------------------------------------------------


@pytest.mark.parametrize('name', ['dropout', 'prefix_share', 'whole'])
def test_shares_are_checked(name):
  with pytest.raises(errors.UserError, match=f'{name} is 1.5, expected 0 to 1'):
    objective(**{name: 1.5})


def test_the_corpus_must_have_its_speakers():
  batch = make_batch(0)
  batch['speaker'] = batch['speaker'][:, :3]
  with pytest.raises(errors.UserError, match='embeddings of 3 numbers, expec'):
    objective().init(jax.random.key(0), batch)


def test_training_begins_with_closed_gates():
  """So the first velocity is zero, whatever the ids."""
  fresh = nn.unbox(jax.eval_shape(objective().init, KEY, make_batch(0)))
  assert jax.tree.map(np.shape, fresh['params']) == jax.tree.map(
    np.shape, tiny_causal.params()
  )
  closed = flow.CausalFlowDecoder(CONFIG, tiny_causal.fresh(), MEL)
  noise = np.random.default_rng(0).normal(size=(18, CONFIG.bands))
  mel = closed.mel(
    tiny_causal.ids(3),
    speaker_D=tiny_causal.voice(0).speaker_D,
    noise_TM=noise.astype(np.float32),
    steps=tiny_causal.STEPS,
  )
  np.testing.assert_array_equal(mel, noise.astype(np.float32))


class Feed:
  """Just enough of a feed."""

  batch_size = 4

  def batch(self, step, start=0, stop=None):
    batch = make_batch(step, rows=4)
    step = batch.pop('step')
    return {name: array[start:stop] for name, array in batch.items()}


def test_a_trainer_begins_it_on_a_mesh():
  """With logical axes on every parameter, over two shards."""
  layout = mesh_lib.MeshConfig(fsdp=2, replica=4)
  trainer = loop.Trainer(
    objective(),
    Feed(),
    optimizers.OptimizerConfig(learning_rate=1e-3),
    loop.LoopConfig(steps=1),
    layout.build(),
    layout.rules,
  )
  params = trainer.fresh_variables()['params']
  assert jax.tree.map(np.shape, params) == jax.tree.map(
    np.shape, tiny_causal.params()
  )
  assert not np.any(params['modulation']['kernel'])


def test_a_run_says_what_rebuilds_it():
  said = objective().describe()
  assert said['decoder'] == 'causal-flow'
  again = type(CONFIG)(**said['model'])
  assert again == CONFIG and again.chunks == (2, 5)
  assert vocoder_mel.VocoderMel(**said['mel']) == MEL
  wrong = dataclasses.replace(MEL, hop=240)
  with pytest.raises(errors.UserError, match='expected 50 frames a second'):
    causal_objective.CausalFlowMatching(CONFIG, wrong)
