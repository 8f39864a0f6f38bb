"""What may follow what: a small state machine over classes of ids.

Every id of the vocabulary belongs to one class (text, linguistic, semantic,
control pieces one by one). A state says which classes may come next and, for
each, the state that follows. The tables are arrays, so one compiled decoder
serves every mode, and rows of one batch may be in different modes:

    free     any id of the table that the vocabulary uses
    text     text ids, then <|EOT|>
    speech   2 linguistic, 3 semantic, again and again; <|EOT|> only between
             groups and not before the first
    interleaved  10 text ids, then 3 groups of speech, by turns; where the text
             ends early, or at a border, speech goes on alone to the end

Letters: V vocabulary, K classes, Z states, B batch.
"""

import enum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib

Vocabulary = vocabulary_lib.Vocabulary


class Class(enum.IntEnum):
  """Classes of ids."""

  UNUSED = 0  # padded table rows and codes that were never trained
  TEXT = 1
  LINGUISTIC = 2
  SEMANTIC = 3
  END = 4  # <|EOT|>
  AUDIO_END = 5
  CONTROL = 6  # every other control piece


class State(enum.IntEnum):
  """States; a mode is the state it starts in."""

  FREE = 0
  TEXT = 1
  SPEECH = 2  # the first linguistic code of the first group
  LINGUISTIC_1 = 3
  SEMANTIC_0 = 4
  SEMANTIC_1 = 5
  SEMANTIC_2 = 6
  BORDER = 7  # between two groups
  END = 8  # after <|EOT|>
  INTERLEAVED = 9  # the first text id of the first run


# Of interleaved replies: ids of text in a run, and of speech behind them.
TEXT_RUN, SPEECH_RUN = 10, 15
# States behind the named ones: so many text ids of a run are there (1 to 10),
# then so many speech ids (1 to 15, the last of which is a border).
_RUN = len(State)
_STATES = _RUN + TEXT_RUN + SPEECH_RUN


class Grammar(NamedTuple):
  """The tables (a pytree of arrays).

  Attributes:
    class_V: Class of each id, int32.
    allowed_ZK: Whether a state allows a class, bool.
    next_ZK: The state that follows, int32.
  """

  class_V: np.ndarray
  allowed_ZK: np.ndarray
  next_ZK: np.ndarray

  def mask(self, state_B):
    """Allowed ids of each row, bool (B, V)."""
    return jnp.take(
      jnp.take(jnp.asarray(self.allowed_ZK), state_B, axis=0),
      self.class_V,
      axis=1,
    )

  def step(self, state_B, ids_B):
    """States after the ids were emitted, int32 (B,)."""
    return jnp.asarray(self.next_ZK)[state_B, jnp.asarray(self.class_V)[ids_B]]


def build(
  vocabulary: Vocabulary,
  *,
  linguistic_codes: int | None = None,
  semantic_codes: int | None = None,
  audio_end: bool = False,
) -> Grammar:
  """The grammar of a vocabulary.

  Args:
    vocabulary: The id space.
    linguistic_codes: Codes 0..n-1 exist; None means the whole codebook. A
      tokenizer with fewer centroids than places sets it.
    semantic_codes: The same for semantic codes.
    audio_end: Whether `<audio_end>` may stand at a group border too.

  Raises:
    UserError: A limit is outside its codebook.
  """
  class_V = np.full(vocabulary.table_size, Class.UNUSED, np.int32)
  class_V[: vocabulary.text_size] = Class.TEXT
  class_V[: vocabulary_lib.CONTROL_SIZE] = Class.CONTROL
  class_V[vocabulary_lib.EOT] = Class.END
  class_V[vocabulary_lib.CONTROL['<audio_end>']] = Class.AUDIO_END
  for name, start, places, codes in (
    (
      Class.LINGUISTIC,
      vocabulary.linguistic_offset,
      vocabulary.linguistic_size,
      linguistic_codes,
    ),
    (
      Class.SEMANTIC,
      vocabulary.semantic_offset,
      vocabulary.semantic_size,
      semantic_codes,
    ),
  ):
    codes = places if codes is None else codes
    if not min(1, places) <= codes <= places:
      raise errors.UserError(
        f'grammar: {name.name.lower()}_codes is {codes}, expected 1..{places}.'
      )
    class_V[start : start + codes] = name

  allowed_ZK = np.zeros((_STATES, len(Class)), bool)
  next_ZK = np.tile(
    np.arange(_STATES, dtype=np.int32)[:, None], (1, len(Class))
  )

  def rule(state, kind, following):
    allowed_ZK[state, kind] = True
    next_ZK[state, kind] = following

  for kind in Class:
    if kind != Class.UNUSED:
      rule(State.FREE, kind, State.FREE)
  rule(State.TEXT, Class.TEXT, State.TEXT)
  rule(State.TEXT, Class.END, State.END)
  rule(State.SPEECH, Class.LINGUISTIC, State.LINGUISTIC_1)
  rule(State.LINGUISTIC_1, Class.LINGUISTIC, State.SEMANTIC_0)
  rule(State.SEMANTIC_0, Class.SEMANTIC, State.SEMANTIC_1)
  rule(State.SEMANTIC_1, Class.SEMANTIC, State.SEMANTIC_2)
  rule(State.SEMANTIC_2, Class.SEMANTIC, State.BORDER)
  rule(State.BORDER, Class.LINGUISTIC, State.LINGUISTIC_1)
  rule(State.BORDER, Class.END, State.END)
  if audio_end:
    rule(State.BORDER, Class.AUDIO_END, State.END)
  rule(State.INTERLEAVED, Class.TEXT, _RUN)
  spoken = _RUN + TEXT_RUN  # the state behind the first speech id of a run
  for count in range(1, TEXT_RUN):
    rule(_RUN + count - 1, Class.TEXT, _RUN + count)
    rule(_RUN + count - 1, Class.LINGUISTIC, State.LINGUISTIC_1)
  rule(spoken - 1, Class.LINGUISTIC, spoken)
  for count in range(1, SPEECH_RUN):
    place = count % vocabulary_lib.GROUP
    kind = Class.SEMANTIC
    if place < vocabulary_lib.LINGUISTIC_PER_GROUP:
      kind = Class.LINGUISTIC
    rule(spoken + count - 1, kind, spoken + count)
  border = spoken + SPEECH_RUN - 1
  rule(border, Class.TEXT, _RUN)
  rule(border, Class.LINGUISTIC, State.LINGUISTIC_1)
  rule(border, Class.END, State.END)
  # After the end a row only waits for the others of its batch.
  rule(State.END, Class.END, State.END)
  return Grammar(class_V, allowed_ZK, next_ZK)


def with_calls(grammar: Grammar) -> Grammar:
  """The same, where calls of tools may stand among text."""
  class_V = np.array(grammar.class_V)
  for piece in ('<|CALL_START|>', '<|CALL_END|>'):
    class_V[vocabulary_lib.CONTROL[piece]] = Class.TEXT
  return grammar._replace(class_V=class_V)
