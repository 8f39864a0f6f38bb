"""Objectives: they learn, count CMVN, start codebooks, survive padding."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from step_audio_jax import errors
from step_audio_jax.models.tokenizer import chunk_masked
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.tokenizers.speech import codebook
from step_audio_jax.tokenizers.speech import features
from step_audio_jax.tokenizers.training import labels
from step_audio_jax.tokenizers.training import objectives

LABELS = labels.Labels(('a', 'b', 'c'))
TONES = {1: 300.0, 2: 900.0, 3: 2400.0}  # Hz of each label
SAMPLES = 15360  # 0.96 s: 16 linguistic and 24 semantic frames


def make_batch(step, rows=4, lost=()):
  """Utterances of three tones; what a tone is called is its label."""
  rng = np.random.default_rng(step)
  batch = {
    'wave': np.zeros((rows, SAMPLES), np.float32),
    'samples': np.zeros(rows, np.int32),
    'labels': np.zeros((rows, 4), np.int32),
    'label_counts': np.zeros(rows, np.int32),
    'weights': np.zeros(rows, np.float32),
    'step': np.int32(step),
  }
  for row in range(rows):
    if row in lost:
      continue
    ids = rng.permutation([1, 2, 3])[: rng.integers(2, 4)]
    each = SAMPLES // 3
    time = np.arange(each) / 16000
    wave = [np.sin(2 * np.pi * TONES[i] * time) for i in ids]
    wave = np.concatenate(wave) * 0.3 + rng.normal(size=each * len(ids)) * 0.01
    batch['wave'][row, : len(wave)] = wave
    batch['samples'][row] = len(wave)
    batch['labels'][row, : len(ids)] = ids
    batch['label_counts'][row] = len(ids)
    batch['weights'][row] = 1.0
  return batch


def linguistic(**settings):
  config = paraformer.ParaformerConfig(
    width=32, heads=2, mlp_width=64, layers=2
  )
  return objectives.LinguisticCTC(
    config, LABELS, **{'cmvn_steps': 4, **settings}
  )


def semantic(start=12):
  config = s3.S3Config(
    width=32,
    heads=2,
    layers=1,
    positions=24,
    codes=8,
    head_layers=1,
    activation='relu',
  )
  book = codebook.CodebookConfig(
    size=8, start=start, reservoir=64, fill_steps=4, decay=0.9
  )
  return objectives.SemanticCTC(config, LABELS, book)


def start(objective):
  init = jax.jit(objective.init)
  return nn.unbox(init(jax.random.key(0), make_batch(0, rows=1)))


def train(objective, variables, steps, rate=3e-3):
  """The smallest of loops; returns variables and the metrics of each step."""
  chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
  state = chain.init(variables['params'])

  @jax.jit
  def step_fn(variables, state, batch):
    def scalar(params):
      total, weight, metrics, updates = objective.loss(
        {**variables, 'params': params}, batch, jax.random.key(batch['step'])
      )
      return total / weight, (metrics, updates)

    grads, (metrics, updates) = jax.grad(scalar, has_aux=True)(
      variables['params']
    )
    deltas, state = chain.update(grads, state)
    params = optax.apply_updates(variables['params'], deltas)
    return {**variables, **updates, 'params': params}, state, metrics

  history = []
  for step in range(steps):
    variables, state, metrics = step_fn(variables, state, make_batch(step))
    history.append(
      {
        name: float(total) / max(float(weight), 1e-9)
        for name, (total, weight) in metrics.items()
      }
    )
  return variables, history


@pytest.fixture(scope='module')
def trained():
  objective = linguistic()
  return objective, *train(objective, start(objective), 60)


def spell(objective, variables, batch):
  x, counts, _ = jax.jit(functools.partial(objective.inputs, count=False))(
    variables, batch
  )
  _, logits = jax.jit(objective.model.apply)(
    {'params': variables['params']}, x, counts
  )
  best = np.asarray(logits.argmax(-1))
  return [LABELS.decode(row[:n]) for row, n in zip(best, counts)]


def test_linguistic_learns_to_spell_tones(trained):
  objective, variables, history = trained
  assert history[0]['loss'] > 1.5
  assert history[-1]['loss'] < 0.3
  batch = make_batch(1000)
  truth = [
    ''.join('abc'[i - 1] for i in row[:n])
    for row, n in zip(batch['labels'], batch['label_counts'])
  ]
  heard = spell(objective, variables, batch)
  assert sum(a == b for a, b in zip(truth, heard)) >= 3


def test_integrate_and_fire_learns_on_overlapping_chunks():
  objective = linguistic(ctc=0.3, cif=1.0, chunks=((6, 4, 0, 2),))
  variables, history = train(objective, start(objective), 50)
  for name in ('loss/ctc', 'loss/cif', 'loss/quantity'):
    assert history[-1][name] < 0.5 * history[0][name], name
  # The loss is the weighted sum; the quantity counts utterances, not labels.
  last = history[-1]
  batch = make_batch(49)
  away = last['loss/quantity'] * 4 / batch['label_counts'].sum()
  want = 0.3 * last['loss/ctc'] + last['loss/cif'] + away
  np.testing.assert_allclose(last['loss'], want, rtol=1e-4)
  # Its own head spells, and fires as often as there are tones.
  batch = make_batch(1000)

  def spelt(model, x, counts):
    hidden, _ = model(x, counts, objective.chunks[0])
    return model.cif_head.spell(hidden, counts, 4)

  @jax.jit
  def run(variables, batch):
    x, counts, _ = objective.inputs(variables, batch, count=False)
    params = {'params': variables['params']}
    return objective.model.apply(params, x, counts, method=spelt)

  ids, fired = run(variables, batch)
  right = [
    n == m and (row[:n] == want[:n]).all()
    for row, n, want, m in zip(
      ids, fired, batch['labels'], batch['label_counts']
    )
  ]
  assert sum(right) >= 3


def test_every_step_takes_one_of_the_chunk_sizes():
  specs = (chunk_masked.ChunkSpec(6, 4, 0, 2), (5, 3, 1, 1))
  both = linguistic(chunks=specs)
  alone = [linguistic(chunks=(one,)) for one in specs]
  x = jax.random.normal(jax.random.key(0), (2, 11, 560))
  counts = jnp.array([11, 7])
  init = jax.jit(both.model.init)
  params = nn.unbox(init(jax.random.key(1), x, counts))['params']

  @jax.jit
  def logits(key):
    return [one._run(params, x, counts, {}, key)[0] for one in (both, *alone)]

  taken = set()
  for seed in range(8):
    found, *wanted = map(np.asarray, logits(jax.random.key(seed)))
    away = [np.abs(found - one).max() for one in wanted]
    assert min(away) < 1e-4 and max(away) > 1e-2
    taken.add(int(np.argmin(away)))
  assert taken == {0, 1}


@pytest.mark.parametrize(
  ('change', 'said'),
  [({'cif': -1.0}, 'cif is -1.0'), ({'ctc': 0.0}, 'ctc and cif are both 0')],
)
def test_bad_weights_say_what_is_wrong(change, said):
  with pytest.raises(errors.UserError, match=said):
    linguistic(**change)


def test_cmvn_counts_the_first_steps_and_then_stands(trained):
  _, variables, _ = trained
  frames, total = 0, 0.0
  for step in range(4):
    batch = make_batch(step)
    x, counts = features.linguistic(batch['wave'], batch['samples'])
    for row, count in zip(np.asarray(x), np.asarray(counts)):
      frames += count
      total = total + row[:count].sum(0)
  moments = variables['cmvn']
  assert moments['count'] == frames
  np.testing.assert_allclose(moments['sum'], total, rtol=1e-3)
  shift, scale = features.shift_and_scale(moments)
  np.testing.assert_allclose(shift, -total / frames, rtol=1e-3)
  assert np.isfinite(scale).all() and (scale > 0).all()


def test_kmeans_clusters_the_frozen_encoder(trained):
  ctc, variables, _ = trained
  book = codebook.CodebookConfig(
    size=6, start=3, reservoir=60, fill_steps=3, decay=0.8
  )
  objective = objectives.LinguisticKMeans(ctc, book)
  fresh = start(objective)
  assert set(fresh) == {'params', 'cmvn', 'codebook'}
  after, history = train(objective, {**fresh, **variables}, 12)
  same = jax.tree.map(
    lambda a, b: np.array_equal(a, b), after['params'], variables['params']
  )
  assert all(jax.tree.leaves(same))
  assert np.array_equal(after['cmvn']['sum'], variables['cmvn']['sum'])
  assert [h['codes/started'] for h in history[:4]] == [0, 0, 0, 1]
  assert history[3]['loss'] < 0.7 * history[0]['loss']
  assert history[-1]['codes/perplexity'] > 3


def test_semantic_learns_through_its_quantiser():
  objective = semantic(start=60)
  variables, history = train(objective, start(objective), 90)
  assert history[59]['loss'] < 0.8
  assert history[59]['codes/distance'] == 0
  assert history[-1]['codes/distance'] > 0
  assert history[-1]['loss'] < 0.8
  assert history[-1]['codes/perplexity'] > 3
  counts = np.asarray(variables['codebook']['counts'])
  assert (counts > 0).all()


@pytest.mark.parametrize('make', [linguistic, semantic])
def test_a_row_without_weight_changes_nothing(make):
  objective = make()
  variables = start(objective)
  loss = jax.jit(objective.loss)

  def totals(batch):
    key = jax.random.key(0)
    total, weight, _, _ = loss(variables, batch, key)
    return float(total), float(weight)

  base = make_batch(3, lost=(1,))
  loud = {**base, 'wave': base['wave'].copy()}
  loud['wave'][1] = 1.0
  assert np.isfinite(totals(base)).all()
  np.testing.assert_allclose(totals(base), totals(loud), rtol=1e-5)
  assert totals(base)[1] == base['label_counts'].sum()


def test_ctc_loss_equals_the_sum_over_paths():
  """Brute force over all paths of a tiny grid."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(1, 4, 3)).astype(np.float32)
  probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
  total = 0.0
  table = labels.Labels(('a', 'b'))
  for path in np.ndindex(3, 3, 3):  # the row has three frames
    if table.decode(path) == 'ab':
      total += np.prod([probabilities[t, i] for t, i in enumerate(path)])
  batch = {
    'labels': np.array([[1, 2, 0]]),
    'label_counts': np.array([2]),
    'weights': np.ones(1, np.float32),
  }
  loss, weight = objectives.ctc_loss(jnp.asarray(logits), jnp.array([3]), batch)
  np.testing.assert_allclose(loss, -np.log(total), rtol=1e-4)
  assert weight == 2


def test_features_normalise_energy():
  wave = make_batch(0)['wave']
  samples = make_batch(0)['samples']
  for front_end in (features.linguistic, features.semantic):
    loud, counts = front_end(wave, samples)
    quiet, _ = front_end(wave * 0.1, samples)
    np.testing.assert_allclose(loud, quiet, atol=2e-2)
    assert counts.shape == (4,)


def test_codebook_and_model_must_agree():
  objective = semantic()
  with pytest.raises(errors.UserError, match='16 codes and the model 8'):
    objectives.SemanticCTC(
      objective.config,
      LABELS,
      codebook.CodebookConfig(size=16, start=4, reservoir=64, fill_steps=4),
    )


def test_descriptions_rebuild_the_models():
  for objective, kind in (
    (linguistic(), paraformer.ParaformerConfig),
    (semantic(), s3.S3Config),
  ):
    told = objective.describe()
    assert kind(**told['model']) == objective.config
    assert labels.Labels(told['labels']) == LABELS
