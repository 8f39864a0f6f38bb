"""From waveforms through three short runs to a tokenizer folder."""

import functools

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.parallel import mesh
from step_audio_jax.storage import files
from step_audio_jax.tokenizers import export
from step_audio_jax.tokenizers.speech import codebook
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.training import audio_feed
from step_audio_jax.tokenizers.training import labels
from step_audio_jax.tokenizers.training import objectives
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.checkpoints import checkpoints

BOOK = dict(reservoir=32, fill_steps=2)


def make_corpus(folder):
  rng = np.random.default_rng(0)
  utterances = []
  for number in range(8):
    hz = rng.uniform(200, 3000, size=3)
    time = np.arange(5120) / 16000
    wave = np.concatenate([np.sin(2 * np.pi * f * time) for f in hz]) * 0.4
    io.write_audio(folder / f'{number}.wav', wave + rng.normal(size=15360) / 99)
    utterances.append(
      manifest.Utterance(
        id=str(number),
        text='ab',
        audio=f'{number}.wav',
        duration=0.96,
        sample_rate=16000,
      )
    )
  manifest.write(folder, utterances)
  return folder


def train(folder, name, objective, stream, corpus, steps, init_from=()):
  """What the train door does, on one device: it compiles faster than eight."""
  config = mesh.MeshConfig()
  trainer = loop.Trainer(
    objective=objective,
    feed=audio_feed.AudioFeed(
      corpus=corpus,
      labels=labels.of_corpus(corpus),
      stream=stream,
      batch_size=8,
      buckets=1,
    ),
    optimizer=optimizers.OptimizerConfig(
      1e-3, multipliers=(('params', 0.0),) if init_from else ()
    ),
    config=loop.LoopConfig(steps=steps),
    mesh=config.build(jax.devices()[:1]),
    rules=config.rules,
  )
  files.write_json(folder / name / 'config.json', objective.describe())
  sources = [(path, checkpoints.load_variables(path)[0]) for path in init_from]
  loop.run(trainer, folder / name, sources=sources)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  corpus = make_corpus(folder / 'corpus')
  table = labels.of_corpus(corpus)
  ctc = objectives.LinguisticCTC(
    paraformer.ParaformerConfig(width=16, heads=2, mlp_width=16, layers=2),
    table,
  )
  train(folder, 'linguistic', ctc, 'linguistic', corpus, 2)
  kmeans = objectives.LinguisticKMeans(
    ctc, codebook.CodebookConfig(size=5, start=2, **BOOK)
  )
  train(
    folder, 'centroids', kmeans, 'linguistic', corpus, 4,
    (str(folder / 'linguistic'),),
  )  # fmt: skip
  config = s3.S3Config(
    width=16, heads=2, layers=1, positions=40, codes=6, head_layers=1
  )
  for name, begin in (('semantic', 2), ('early', 4)):
    objective = objectives.SemanticCTC(
      config, table, codebook.CodebookConfig(size=6, start=begin, **BOOK)
    )
    train(folder, name, objective, 'semantic', corpus, 3)
  return folder, kmeans


def test_export_encodes_what_training_clustered(runs):
  folder, kmeans = runs
  export.export(folder / 'centroids', folder / 'semantic', folder / 'out')
  tokenizer = dual.DualTokenizer.load(folder / 'out')
  variables, _ = checkpoints.load_variables(folder / 'centroids')
  wave, _ = io.read_audio(folder / 'corpus' / '3.wav')
  one, two = tokenizer.encode(wave)
  assert len(one) == 16 and len(two) == 24
  batch = {
    'wave': wave[None],
    'samples': np.array([len(wave)], np.int32),
    'weights': np.ones(1, np.float32),
    'step': np.int32(9),
  }
  inputs = jax.jit(functools.partial(kmeans.ctc.inputs, count=False))
  x, counts, _ = inputs(variables, batch)
  hidden, _ = jax.jit(kmeans.ctc.model.apply)(
    {'params': variables['params']}, x, counts
  )
  codes, _ = codebook.assign(hidden[0], variables['codebook']['table'])
  np.testing.assert_array_equal(one, codes)
  assert len(set(one.tolist())) > 1 and len(set(two.tolist())) > 1


def test_the_encoder_travels_unchanged(runs):
  folder, _ = runs
  before, _ = checkpoints.load_variables(folder / 'linguistic')
  after, _ = checkpoints.load_variables(folder / 'centroids')
  one, two = (
    tree['params']['encoder']['first_block']['qkv']['kernel']
    for tree in (before, after)
  )
  np.testing.assert_array_equal(one, two)
  np.testing.assert_array_equal(before['cmvn']['sum'], after['cmvn']['sum'])


@pytest.mark.parametrize(
  'linguistic, semantic, pattern',
  [
    ('linguistic', 'semantic', 'no centroids'),
    ('semantic', 'semantic', 'run of semantic, expected .* linguistic'),
    ('centroids', 'centroids', 'run of linguistic, expected .* semantic'),
    ('centroids', 'early', 'codebook had not started'),
    ('absent', 'semantic', 'absent'),
  ],
)
def test_wrong_runs_are_refused(runs, linguistic, semantic, pattern):
  folder, _ = runs
  with pytest.raises(errors.UserError, match=pattern):
    export.export(folder / linguistic, folder / semantic, folder / 'none')
  assert not (folder / 'none').exists()
