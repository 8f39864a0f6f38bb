"""Perplexity of packed rows against documents scored one by one."""

import json

from array_record.python import array_record_module
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.evaluation.metrics import perplexity
from step_audio_jax.models.language import speech_text

VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=80, linguistic_size=10, semantic_size=20
)
LENGTH = 24


def tiny():
  model = speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(
      speech_text.TransformerConfig(
        vocab_size=VOCABULARY.table_size,
        width=16,
        layers=2,
        heads=2,
        kv_heads=1,
        mlp_width=16,
      )
    )
  )
  variables = nn.meta.unbox(
    jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 4), jnp.int32))
  )
  return model, jax.tree.map(lambda x: x * 3, variables)


def documents(seed, count):
  """Ragged documents of (ids, weights)."""
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(count):
    n = int(rng.integers(2, 14))
    ids = rng.integers(0, VOCABULARY.table_size, n).astype(np.int32)
    weights = rng.choice([0.0, 0.5, 1.0], n).astype(np.float32)
    found.append((ids, weights))
  return found


def pack(docs):
  """Rows of whole documents, first come first served."""
  rows, row = [], None
  for ids, weights in docs:
    if row is None or row['used'] + len(ids) > LENGTH:
      row = {
        'tokens': np.zeros(LENGTH, np.int32),
        'segment_ids': np.zeros(LENGTH, np.int32),
        'loss_weights': np.zeros(LENGTH, np.float32),
        'used': 0,
        'segments': 0,
      }
      rows.append(row)
    span = slice(row['used'], row['used'] + len(ids))
    row['segments'] += 1
    row['used'] += len(ids)
    row['tokens'][span] = ids
    row['loss_weights'][span] = weights
    row['segment_ids'][span] = row['segments']
  return [
    {k: row[k] for k in ('tokens', 'segment_ids', 'loss_weights')}
    for row in rows
  ]


def write(folder, rows):
  folder.mkdir(parents=True)
  writer = array_record_module.ArrayRecordWriter(
    str(folder / 'rows-00000-of-00001.array_record'), 'group_size:1'
  )
  for row in rows:
    writer.write(safetensors_numpy.save(row))
  writer.close()
  stats = {'rows': len(rows), 'length': LENGTH, 'images_per_row': 0}
  (folder / 'stats.json').write_text(json.dumps(stats))


def one_by_one(model, variables, docs):
  """(nll, weight) of each stream, in float64, without packing."""
  nll, weight = np.zeros((2, len(perplexity.STREAMS)))
  apply = jax.jit(model.apply)
  for ids, weights in docs:
    padded = np.zeros((1, LENGTH), np.int32)
    padded[0, : len(ids)] = ids
    logits = np.asarray(apply(variables, padded), np.float64)[0]
    for place in range(1, len(ids)):
      row = logits[place - 1]
      log_p = row[ids[place]] - row.max()
      log_p -= np.log(np.exp(row - row.max()).sum())
      token = int(ids[place])
      stream = 1 if token < 68 else 0 if token < 80 else 2 if token < 90 else 3
      nll[stream] -= weights[place] * log_p
      weight[stream] += weights[place]
  return nll, weight


@pytest.mark.parametrize('batch_size', [1, 3, 64])
def test_packed_rows_equal_single_documents(tmp_path, batch_size):
  model, variables = tiny()
  docs = {'asr': documents(0, 17), 'text': documents(1, 8)}
  for name, some in docs.items():
    write(tmp_path / name / 'dev', pack(some))
  found = perplexity.row_perplexities(
    model,
    variables,
    VOCABULARY,
    rows=str(tmp_path),
    sources=['asr', 'text'],
    split='dev',
    batch_size=batch_size,
  )
  for name, some in {**docs, 'all': docs['asr'] + docs['text']}.items():
    nll, weight = one_by_one(model, variables, some)
    for stream, places in (
      *((s, [n]) for n, s in enumerate(perplexity.STREAMS)),
      ('audio', [2, 3]),
      ('all', [0, 1, 2, 3]),
    ):
      figures = found[name][stream]
      assert figures['tokens'] == pytest.approx(weight[places].sum())
      nats = nll[places].sum() / weight[places].sum()
      assert figures['nats'] == pytest.approx(nats, rel=1e-5)
      assert figures['perplexity'] == pytest.approx(np.exp(nats), rel=1e-4)


def test_max_rows_takes_the_first_rows(tmp_path):
  model, variables = tiny()
  rows = pack(documents(0, 12))
  write(tmp_path / 'all' / 'dev', rows)
  write(tmp_path / 'some' / 'dev', rows[:2])
  common = dict(rows=str(tmp_path), split='dev', batch_size=4)
  cut = perplexity.row_perplexities(
    model, variables, VOCABULARY, sources=['all'], max_rows=2, **common
  )
  whole = perplexity.row_perplexities(
    model, variables, VOCABULARY, sources=['some'], **common
  )
  assert cut['all'] == whole['some']


def test_streams_cover_the_table_and_nothing_twice():
  vocabulary = vocabulary_lib.Vocabulary(table_size=74752)
  stream = perplexity.streams(vocabulary)
  names = [perplexity.STREAMS[i] for i in stream[[0, 67, 68, 65535, 65536]]]
  assert names == ['control', 'control', 'text', 'text', 'linguistic']
  assert np.bincount(stream + 1).tolist() == [
    74752 - 70656,
    65536 - 68,
    68,
    1024,
    4096,
  ]


def test_streams_that_do_not_occur_are_absent():
  sums = perplexity.Sums(np.asarray([2.0, 0, 0, 0]), np.asarray([4.0, 0, 0, 0]))
  assert sums.as_dict() == {
    name: {'tokens': 4.0, 'nats': 0.5, 'perplexity': np.exp(0.5)}
    for name in ('text', 'all')
  }


def test_missing_folder_and_foreign_rows_are_named(tmp_path):
  model, variables = tiny()
  common = dict(rows=str(tmp_path), split='dev', batch_size=2)
  with pytest.raises(errors.UserError, match='nope/dev: no such folder'):
    perplexity.row_perplexities(
      model, variables, VOCABULARY, sources=['nope'], **common
    )
  docs = [(np.asarray([1, 5000, 3], np.int32), np.ones(3, np.float32))]
  write(tmp_path / 'foreign' / 'dev', pack(docs))
  with pytest.raises(errors.UserError, match='found id 5000'):
    perplexity.row_perplexities(
      model, variables, VOCABULARY, sources=['foreign'], **common
    )
