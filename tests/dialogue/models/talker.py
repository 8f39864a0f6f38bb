"""Models that talk without fault: the parrot on a real engine.

A letter k is 0.12 s of samples of (k + 1) / 100; so texts are recordings, and
what is spoken are codes of letters.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from step_audio_jax.decoder import speech
from step_audio_jax.dialogue.models import ear
from step_audio_jax.dialogue.models import load
from step_audio_jax.dialogue.models import mind
from step_audio_jax.dialogue.models import mouth
from step_audio_jax.dialogue.models import run
from step_audio_jax.dialogue.models import streaming
from step_audio_jax.generation import complete
from step_audio_jax.generation import restore
from step_audio_jax.generation.batching import engine
from step_audio_jax.storage import files
from tests.decoder import tiny_decoder
from tests.evaluation import parrot

LETTER = 1920  # samples, 0.12 s


@dataclasses.dataclass(frozen=True)
class Parrot(parrot.Remembers):
  """The parrot, whose rows come and go."""

  def init_cache(self, batch, length):
    places = jnp.zeros((batch, length), jnp.int32)
    return {
      **super().init_cache(batch, length),
      'positions': places,
      'segment_ids': places,
      'index': jnp.int32(0),
    }

  def apply(self, variables, tokens_BT, *, cache, **keywords):
    logits, seen = super().apply(variables, tokens_BT, cache=cache, **keywords)
    index = cache['index'] + tokens_BT.shape[1]
    return logits, {**cache, **seen, 'index': index}

  def move_cache(self, cache, rows_B, shift, length):
    made = self.init_cache(len(rows_B), length)
    seen = cache['seen'][rows_B][:, : length + 1]
    return {
      **made,
      'seen': made['seen'].at[:, : seen.shape[1]].set(seen),
      'index': cache['index'],
    }

  def put_cache(self, cache, some, rows):
    seen = cache['seen'].at[jnp.stack(rows)].set(some['seen'])
    return {**cache, 'seen': seen}


def follow(seen, place):
  """As the parrot; who is asked what it thinks says `a` for ever."""
  heard = seen[1] == parrot.CONTROL['<|ASR|>']
  spoken = (seen == parrot.CONTROL['<audio_start>']).any()
  told = parrot._follow(seen, place)
  return jnp.where(heard | spoken, told, parrot.FIRST)


class Alphabet(parrot.Alphabet):
  """Writes a space for what it does not know, as the names of roles."""

  def encode(self, text):
    known = (one if one in parrot.LETTERS else ' ' for one in text)
    return super().encode(''.join(known))


VOCABULARY = dataclasses.replace(parrot.VOCABULARY, text=Alphabet())


class Tokenizer:
  """Hears letters."""

  identity = None

  def encode(self, wave_S):
    letters = np.round(wave_S[LETTER // 2 :: LETTER] * 100).astype(int) - 1
    return parrot.codes(''.join(parrot.LETTERS[k] for k in letters))


def recording(text):
  """A text as samples at 16 kHz."""
  letters = [parrot.LETTERS.index(letter) for letter in text]
  return np.repeat((np.asarray(letters, np.float32) + 1) / 100, LETTER)


def models(
  folder, monkeypatch, follow=follow, vocabulary=VOCABULARY, places=256
):
  """`load.Loaded` of the parrot; to be closed."""
  files.write_json(folder / 'config.json', {'model': {}, 'vocabulary': {}})
  monkeypatch.setattr(complete, 'describe', lambda *_: {})
  model = Parrot(follow, vocabulary.table_size)
  monkeypatch.setattr(
    restore,
    'load_model',
    lambda *_: (model, parrot.VARIABLES, vocabulary),
  )
  one = run.Run(folder, settings=engine.Settings(slots=2, places=places))
  hands = streaming.Hands()
  hears = ear.Ear(Tokenizer(), one, hands)
  decoder = speech.SpeechDecoder(
    tiny_decoder.Painted(),
    tiny_decoder.Steps(),
    None,
    tiny_decoder.MEL,
    tiny_decoder.voice(0),
  )
  return load.Loaded(
    'parrot',
    hears,
    mind.Mind(one, hears),
    mouth.Mouth(one, decoder, hands),
    {str(folder): one},
    hands,
  )
