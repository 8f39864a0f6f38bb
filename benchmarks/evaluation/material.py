"""A run of tiny checkpoints with a corpus, codes and rows, made on the spot."""

import dataclasses
import json
import pathlib
import random

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from data_pipelines import records
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import choices
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.objectives import objectives

_LETTERS = 'abcdefghijklmnopqrstuvwxyz '
_RESERVED = 68  # ids before those of texts
_WORDS = 'a the red blue cat dog sees hears small big ball house'.split()
_GROUPS = 8  # of speech, of each utterance
_LENGTH = 64


@dataclasses.dataclass(frozen=True)
class Guess(choices.Choices):
  """Sentences whose last word is one of three.

  Attributes:
    items: How many.
  """

  items: int = 96

  def read(self) -> benchmark.Reading:
    """Made on the spot, the same each time."""
    draw, found = random.Random(1), []
    for n in range(self.items):
      *words, _ = draw.choices(_WORDS, k=5)
      about = {
        choices.CONTINUATIONS: [f' {one}' for one in draw.sample(_WORDS, 3)],
        choices.RIGHT: draw.randrange(3),
      }
      found.append(benchmark.written(f'g{n}', ' '.join(words), **about))
    return benchmark.reading(found, self.name)


def _vocabulary(folder: pathlib.Path):
  pieces = {'<unk>': 0, **{c: _RESERVED + n for n, c in enumerate(_LETTERS)}}
  pieces |= {f'<spare{n}>': n for n in range(1, _RESERVED)}
  model = tokenizers.models.WordLevel(pieces, unk_token='<unk>')
  text = tokenizers.Tokenizer(model)
  text.pre_tokenizer = tokenizers.pre_tokenizers.Split('', 'isolated')
  text.save(str(folder / 'tokenizer.json'))
  return vocabularies.load(text_model=str(folder / 'tokenizer.json'))


def make(folder: pathlib.Path, steps: int, utterances: int) -> dict[str, str]:
  """Writes all of it below `folder`.

  Args:
    folder: It is made.
    steps: Checkpoints, 1 … steps, each with parameters of its own.
    utterances: Of the split `dev`.

  Returns:
    The arguments of `evaluate.evaluate`: checkpoints, manifest, codes, rows.
  """
  folder.mkdir(parents=True, exist_ok=True)
  vocabulary = _vocabulary(folder)
  draw, rng = random.Random(0), np.random.default_rng(0)
  said = [
    manifest.Utterance(
      id=f'u{n}',
      text=' '.join(draw.choices(_WORDS, k=draw.randint(1, 3))),
      split='dev',
      audio='x.wav',
      duration=1.0,
      sample_rate=16000,
    )
    for n in range(utterances)
  ]
  manifest.write(folder / 'corpus', said)
  records.write_shard(
    folder / 'codes' / records.shard_name(speech_codes.STEM, 0, 1),
    [
      records.pack(
        {
          'linguistic': rng.integers(0, 1024, 2 * _GROUPS).astype(np.uint16),
          'semantic': rng.integers(0, 4096, 3 * _GROUPS).astype(np.uint16),
        },
        {'id': one.id},
      )
      for one in said
    ],
  )
  rows = folder / 'rows' / 'text' / 'dev'
  records.write_shard(
    rows / records.shard_name('rows', 0, 1),
    [
      records.pack(
        {
          'tokens': rng.integers(_RESERVED, 90, _LENGTH).astype(np.int32),
          'segment_ids': np.ones(_LENGTH, np.int32),
          'loss_weights': np.ones(_LENGTH, np.float32),
        }
      )
      for _ in range(8)
    ],
  )
  (rows / 'stats.json').write_text(json.dumps({'rows': 8, 'length': _LENGTH}))
  model = speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(
      speech_text.TransformerConfig(
        vocab_size=vocabulary.table_size,
        width=32,
        layers=2,
        heads=2,
        kv_heads=1,
        mlp_width=64,
      )
    )
  )
  init = jax.jit(model.init)
  store = checkpoints.Checkpoints(folder / 'run', keep=steps)
  for step in range(1, steps + 1):
    variables = nn.meta.unbox(
      init(jax.random.key(step), jnp.ones((1, 4), jnp.int32))
    )
    store.save(step, variables, {'count': np.zeros(())}, {'row': 0})
  store.close()
  described = objectives.NextToken(model, vocabulary).describe()
  files.write_json(folder / 'run' / 'config.json', described)
  return {
    'checkpoints': str(folder / 'run'),
    'manifest': str(folder / 'corpus'),
    'codes': str(folder / 'codes'),
    'rows': str(folder / 'rows'),
  }
