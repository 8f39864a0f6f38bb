"""How full rows are, and that what is packed trains as if it were alone."""

import time

import numpy as np

from benchmarks.pipelines import material


def padding(tiny: bool) -> dict:
  from data_pipelines.rows import packing

  rng = np.random.default_rng(0)
  count = 300 if tiny else 6000
  # Speech of 1 to 12 s with its transcript and markers, in groups of 120 ms.
  groups = rng.integers(9, 100, 10 * count)
  uniform = rng.integers(50, material.LENGTH + 1, count)
  cases = {
    'pretraining': (uniform, 5, 0.02),
    'pretraining_whole': (uniform, 0, 0.02),
    'sft': (5 * groups + rng.integers(10, 60, 10 * count), 0, 0.05),
  }
  result = {'length': material.LENGTH}
  met = True
  known = {}  # lengths → SeqIO's figure
  for name, (sizes, cut, most) in cases.items():
    made = list(material.documents(sizes, cut))
    begin = time.perf_counter()
    rows = real = 0
    for row in packing.pack(made, material.LENGTH):
      rows += 1
      real += int((row.segment_ids > 0).sum())
    seconds = time.perf_counter() - begin
    ours = 1 - real / (rows * material.LENGTH)
    # Pieces repeat their header; nothing is lost.
    kept = real >= sizes.sum() if cut else real == sizes.sum()
    if not tiny and id(sizes) not in known:
      known[id(sizes)] = round(_seqio_padding(sizes), 5)
    result[name] = {
      'documents': len(sizes),
      'padding': round(ours, 5),
      'seqio_padding': known.get(id(sizes)),
      'tokens_per_second': round(real / seconds),
      'must': most,
      'met': bool(kept and ours <= most),
    }
    met &= result[name]['met']
  return {**result, 'met': met}


def _seqio_padding(sizes) -> float:
  """Share of padding that `seqio.trim_and_pack_dataset` leaves."""
  import seqio
  import tensorflow as tf

  tf.config.set_visible_devices([], 'GPU')
  data = tf.data.Dataset.from_generator(
    lambda: ({'targets': np.ones(size, np.int32)} for size in sizes.tolist()),
    output_signature={'targets': tf.TensorSpec([None], tf.int32)},
  )
  packed = seqio.trim_and_pack_dataset(data, {'targets': material.LENGTH})
  rows = real = 0
  for row in packed.as_numpy_iterator():
    rows += 1
    real += int((row['targets_segment_ids'] > 0).sum())
  return 1 - real / (rows * material.LENGTH)


def packed(tiny: bool) -> dict:
  import jax
  import jax.numpy as jnp

  from data_pipelines.rows import packing
  from step_audio_jax import documents as documents_lib
  from step_audio_jax import vocabulary as vocabulary_lib
  from step_audio_jax.models.language import speech_text
  from step_audio_jax.models.language import transformer
  from step_audio_jax.training.feeds import feed as feed_lib
  from step_audio_jax.training.objectives import objectives

  rng = np.random.default_rng(0)
  table = vocabulary_lib.Vocabulary(80, 160, 40, 40)
  worst = {}
  for position in ('sqrt_alibi', 'rope'):
    objective = objectives.NextToken(
      speech_text.SpeechTextModel(
        speech_text.SpeechTextConfig(
          transformer.TransformerConfig(
            vocab_size=160, width=48, layers=2, heads=4, kv_heads=2,
            mlp_width=96, position=position,
          )
        )
      ),
      table,
    )  # fmt: skip
    sizes = rng.integers(1, 90, 12 if tiny else 40)
    made = [
      documents_lib.Document(
        str(k),
        rng.integers(70, 160, size).astype(np.int32),
        rng.uniform(0, 2, size).astype(np.float32),
      )
      for k, size in enumerate(sizes.tolist())
    ]

    def batch(rows):
      fields = ('tokens', 'segment_ids', 'loss_weights')
      value = {f: np.stack([getattr(r, f) for r in rows]) for f in fields}
      value['positions'] = feed_lib.positions(value['segment_ids'])
      return value | {'source': np.zeros(len(rows), np.int32)}

    length = 128
    together = batch(list(packing.pack(made, length)))
    alone = batch([packing.make_row([one], length) for one in made])
    from flax import linen as nn

    variables = nn.unbox(jax.jit(objective.init)(jax.random.key(0), together))

    def loss(params, rows, objective=objective, rest=variables):
      total, weight, _, _ = objective.loss(
        {**rest, 'params': params}, rows, jax.random.key(1)
      )
      return total / weight

    grad = jax.jit(jax.value_and_grad(loss))
    one, one_grads = grad(variables['params'], together)
    two, two_grads = grad(variables['params'], alone)
    difference = jax.tree.map(
      lambda a, b: float(jnp.max(jnp.abs(a - b))), one_grads, two_grads
    )
    worst[position] = {
      'rows': [len(together['tokens']), len(alone['tokens'])],
      'loss': float(abs(one - two)),
      'gradients': max(jax.tree.leaves(difference)),
      'largest_gradient': max(
        float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(two_grads)
      ),
    }
  most = max(max(w['loss'], w['gradients']) for w in worst.values())
  return {**worst, 'must': 1e-5, 'met': most <= 1e-5}
