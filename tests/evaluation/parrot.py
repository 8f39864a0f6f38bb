"""A model that reads and speaks without fault, by construction, for tests.

Letter k of the alphabet (a space is letter 26) is text id 68 + k and is spoken
as one group: linguistic codes k, k and three semantic codes 0. The model looks
back into what it was fed through its cache, as a trained one would.
"""

import dataclasses
import functools
import types
from typing import Callable

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import vocabulary as vocabulary_lib

CONTROL = vocabulary_lib.CONTROL
LETTERS = 'abcdefghijklmnopqrstuvwxyz '
FIRST = vocabulary_lib.CONTROL_SIZE


class Alphabet:
  """Text tokenizer of single letters."""

  size = FIRST + len(LETTERS)

  def encode(self, text):
    return [FIRST + LETTERS.index(letter) for letter in text]

  def decode(self, ids):
    return ''.join(LETTERS[i - FIRST] for i in ids if i >= FIRST)


VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=Alphabet.size,
  linguistic_size=30,
  semantic_size=5,
  text=Alphabet(),
)


def codes(text):
  """What the parrot hears as `text`: (linguistic, semantic), uint16."""
  letters = np.asarray([LETTERS.index(letter) for letter in text], np.uint16)
  return np.repeat(letters, 2), np.zeros(3 * len(letters), np.uint16)


@dataclasses.dataclass(frozen=True)
class Remembers:
  """Has the API of `models.language.speech_text.SpeechTextModel`.

  Attributes:
    follow: (all ids so far, place) -> the id after `place`.
    rows: Ids that there are.
  """

  follow: Callable[[jax.Array, jax.Array], jax.Array]
  rows: int

  @property
  def config(self):
    return types.SimpleNamespace(vision=None, transformer=None)

  def init_cache(self, batch, length):
    # One place more, where the padding is put.
    return {'seen': jnp.zeros((batch, length + 1), jnp.int32)}

  def apply(self, variables, tokens_BT, *, segment_ids_BT, positions_BT, cache):
    seen = cache['seen']
    rows = jnp.arange(len(tokens_BT))[:, None]
    last = seen.shape[1] - 1
    places = jnp.where(segment_ids_BT > 0, positions_BT, last)
    seen = seen.at[rows, places].set(tokens_BT)
    follow = jax.vmap(self.follow)(seen[:, :last], positions_BT[:, -1])
    logits = jax.nn.one_hot(follow, self.rows) * variables['sure']
    return jnp.broadcast_to(
      logits[:, None], (*tokens_BT.shape, logits.shape[-1])
    ), {'seen': seen}


def _follow(seen, place):
  """The id after `place`, given all ids so far."""

  def find(marker):
    return jnp.argmax(seen == marker)

  def read():
    start = find(CONTROL['<text_start>'])
    n = place - start
    code = seen[3 + 5 * n] - VOCABULARY.linguistic_offset
    done = n >= (start - 3) // 5
    return jnp.where(done, vocabulary_lib.EOT, code + FIRST)

  def speak():
    start = find(CONTROL['<audio_start>'])
    group, rest = jnp.divmod(place - start, 5)
    letter = seen[3 + group] - FIRST
    code = jnp.where(
      rest < 2,
      VOCABULARY.linguistic_offset + letter,
      VOCABULARY.semantic_offset,
    )
    return jnp.where(group >= start - 3, vocabulary_lib.EOT, code)

  return jnp.where(seen[1] == CONTROL['<|ASR|>'], read(), speak())


Parrot = functools.partial(Remembers, _follow, VOCABULARY.table_size)
VARIABLES = {'sure': np.float32(9.0)}
