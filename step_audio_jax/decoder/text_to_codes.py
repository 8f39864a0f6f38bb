"""Text → speech ids, by a trained speech-text model.

The text is cut into sentences, each is prompted by itself and all are written
in batches, under the grammar of 2 linguistic and 3 semantic ids. How a model
wants to be asked is its layout (see `documents`): `document` as the
project's rows have it, `turns` as Step-Audio-TTS-3B's.
"""

import dataclasses
import os
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import habits
from step_audio_jax.chats import rendering
from step_audio_jax.decoder import sentences as sentences_lib
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.styles import tags
from step_audio_jax.training.checkpoints import checkpoints

LAYOUTS = ('document', 'turns')
_BATCH = 8


@dataclasses.dataclass(frozen=True)
class SpokenSentence:
  """What the model wrote for one sentence.

  Attributes:
    text: The sentence.
    ids: Mixed ids 0..5119, whole groups, int32.
    stopped: Whether the model came to an end by itself.
    style: What is done to its sound.
    gap: As `styled_text.Part`.
  """

  text: str
  ids: np.ndarray
  stopped: bool
  style: tags.Style = tags.Style()
  gap: float | None = None


@dataclasses.dataclass(frozen=True)
class SpeakOptions:
  """How texts are spoken.

  Attributes:
    layout: 'document' or 'turns'.
    system: Instruction of the turns.
    starts: Whether `<s>` is behind every `<|BOT|>` of the turns.
    longest: Seconds of speech of a sentence at most.
    linguistic_codes: Codes 0..n-1 that exist; 0 means the whole codebook.
    semantic_codes: The same for semantic codes.
    sampler: How ids are chosen.
    seed: Of the choice.
  """

  layout: str = 'document'
  system: str = ''
  starts: bool = False
  longest: float = 20.0
  linguistic_codes: int = 0
  semantic_codes: int = 0
  sampler: sampling.Sampler = sampling.Sampler()
  seed: int = 0

  def __post_init__(self):
    if self.layout not in LAYOUTS:
      raise errors.UserError(
        f'layout: found {self.layout!r}, expected one of {", ".join(LAYOUTS)}.'
      )
    if not vocabulary_lib.GROUP_SECONDS <= self.longest <= 600:
      raise errors.UserError(
        f'longest: found {self.longest} s, expected '
        f'{vocabulary_lib.GROUP_SECONDS} to 600 s.'
      )


def layout_of(run: str | os.PathLike) -> str:
  """The layout of a run: turns where it was converted from a released model.

  And where it has learnt them (`tts_turns`).

  Raises:
    UserError: There is no such run.
  """
  feed = checkpoints.run_config(run).get('feed', {})
  sources = feed.get('sources') or ()
  learnt = any(source.get('name') == 'tts_turns' for source in sources)
  return 'turns' if learnt or is_released(run) else 'document'


def is_released(run: str | os.PathLike) -> bool:
  """Whether a run was converted from weights with Step-Audio's ids.

  Raises:
    UserError: There is no such run.
  """
  config = checkpoints.run_config(run)
  sizes = config.get('vocabulary', {})
  released = all(
    sizes.get(name) == getattr(vocabulary_lib.STEP_AUDIO, name)
    for name in ('text_size', 'table_size')
  )
  return released and 'converted_from' in config


def starts_of(run: str | os.PathLike, asked: bool | None = None) -> bool:
  """Whether a run is asked with `<s>` behind every `<|BOT|>`.

  Args:
    run: Its directory.
    asked: What the user wants; None for what the run has learnt.

  Raises:
    UserError: There is no such run, or it has learnt the other.
  """
  config, path = checkpoints.run_config(run), files.path(run) / 'config.json'
  return habits.of_run(config, path, starts=asked).starts


def tokenizer_of(run: str | os.PathLike) -> bindings.Described:
  """The speech tokenizer whose codes a run writes; None if it does not say.

  Raises:
    UserError: There is no such run.
  """
  path = files.path(run) / 'config.json'
  return bindings.tokenizer_of(checkpoints.run_config(run), path)


def check_text(text: str) -> None:
  """Refuses what is no text to say.

  Raises:
    UserError: A control piece, or something that is no character, is written
      in it.
  """
  if any('\ud800' <= character <= '\udfff' for character in text):
    raise errors.UserError(
      f'text: {text[:40]!r} is not UTF-8, expected only characters.'
    )
  for piece in vocabulary_lib.CONTROL:
    if piece in text:
      raise errors.UserError(
        f'text: found the control piece {piece}, expected only words.'
      )
  if '<audio_' in text:
    raise errors.UserError(
      'text: found <audio_k> pieces, expected only words; --codes reads those.'
    )


def sentences(text: str) -> list[str]:
  """A text in the pieces that are spoken one by one.

  Args:
    text: Any text, without tags.

  Raises:
    UserError: There is nothing to say, or as `check_text`.
  """
  check_text(text)
  pieces = sentences_with_words(text)
  if not pieces:
    raise errors.UserError('text: found no word, expected something to say.')
  return pieces


def sentences_with_words(text: str) -> list[str]:
  """As `sentences`; none where there is nothing to say, and all is taken."""
  pieces = sentences_lib.split(text)
  return [piece for piece in pieces if any(map(str.isalnum, piece))]


class Prompts:
  """How a model is asked to say something."""

  def __init__(
    self,
    vocabulary: vocabulary_lib.Vocabulary,
    manner: SpeakOptions = SpeakOptions(),
  ):
    """Holds the vocabulary.

    Raises:
      UserError: It has no speech ids or no text.
    """
    if vocabulary.text is None or not vocabulary.linguistic_size:
      raise errors.UserError(
        'speak: this model has no '
        f'{"text vocabulary" if vocabulary.linguistic_size else "speech ids"}; '
        'expected a run that was trained on speech and text.'
      )
    self._vocabulary, self._manner = vocabulary, manner

  def prompt(self, text: str, voice: voice_lib.Voice | None) -> list[int]:
    """Ids up to where a sentence is spoken.

    Args:
      text: The sentence.
      voice: As in `Writer.write`.

    Raises:
      UserError: As there.
    """
    vocabulary, manner = self._vocabulary, self._manner
    said = [text] if voice is None else [text, voice.text]
    for words in said:
      if vocabulary_lib.PAD in vocabulary.encode_text(words):
        raise errors.UserError(
          f'text: {words[:40]!r} has a character that is not in the text '
          "vocabulary of this model's run."
        )
    if manner.layout == 'document':
      return documents_lib.LAYOUTS['tts'].prompt(vocabulary, text=text)
    heard = {}
    if voice is not None and len(voice.tokens):
      if not voice.text.strip():
        raise errors.UserError(
          'voice_text: missing; a model that is asked in turns is told what '
          'the voice says in its recording.'
        )
      codes = voice_lib.IDS.deinterleave(voice.tokens)
      heard = {
        'voice_text': voice.text,
        'voice_ids': vocabulary.interleave(*codes),
      }
    turns = documents_lib.tts_turns(text, system=manner.system, **heard)
    style = rendering.layout(manner.starts, speaks=True)
    return style.prompt(vocabulary, turns)


class Writer:
  """One model that turns texts into speech ids."""

  def __init__(
    self,
    model: Any,
    variables: Mapping[str, Any],
    vocabulary: vocabulary_lib.Vocabulary,
    manner: SpeakOptions = SpeakOptions(),
  ):
    """Holds the model.

    Raises:
      UserError: It has no speech ids or no text vocabulary, or codes are
        outside their codebook.
    """
    self._prompts = Prompts(vocabulary, manner)
    self._model, self._variables = model, variables
    self._vocabulary, self._manner = vocabulary, manner
    self._grammar = grammar_lib.build(
      vocabulary,
      linguistic_codes=manner.linguistic_codes or None,
      semantic_codes=manner.semantic_codes or None,
    )

  @classmethod
  def load(cls, run: str | os.PathLike, manner: SpeakOptions) -> 'Writer':
    """The model of a run directory.

    Raises:
      UserError: The run is missing or cannot speak.
    """
    try:
      model, variables, vocabulary = restore.load_model(files.path(run))
      return cls(restore.unroll_layers(model), variables, vocabulary, manner)
    except errors.UserError as error:
      if str(error).startswith('speak:'):
        raise errors.UserError(f'{run}: {error}') from error
      raise

  def write(
    self,
    texts: Sequence[str],
    voice: voice_lib.Voice | None = None,
    label: str | None = None,
  ) -> list[SpokenSentence]:
    """Sentences → their speech ids, in order.

    Args:
      texts: Of `sentences`.
      voice: Whom the model hears before it speaks; only the turns have a
        place for it.
      label: Of the progress bar; None for no bar.

    Raises:
      UserError: A character is not in the text vocabulary, or the voice
        comes without its text.
    """
    prompts = [self.prompt(text, voice) for text in texts]
    return self.answer(texts, prompts, label)

  @property
  def starts(self) -> bool:
    """Whether `<s>` is behind every `<|BOT|>` of what it is asked."""
    return self._manner.starts

  @property
  def vocabulary(self) -> vocabulary_lib.Vocabulary:
    """Of the model."""
    return self._vocabulary

  def answer(
    self,
    texts: Sequence[str],
    prompts: Sequence[Sequence[int]],
    label: str | None = None,
  ) -> list[SpokenSentence]:
    """What the model speaks behind prompts, in order.

    Args:
      texts: What they ask it to say.
      prompts: Ids of its table, up to where it speaks.
      label: As in `write`.
    """
    manner = self._manner
    groups = int(manner.longest / vocabulary_lib.GROUP_SECONDS + 1e-6)
    outputs = decode.generate_outputs(
      self._model,
      self._variables,
      prompts,
      max_new_tokens=vocabulary_lib.GROUP * groups,
      sampler=manner.sampler,
      grammar=self._grammar,
      start=grammar_lib.State.SPEECH,
      rng=manner.seed,
      shapes=decode.Shapes(batch_size=min(_BATCH, len(prompts))),
      label=label,
    )
    return [
      SpokenSentence(text, self._mixed(output.tokens), output.stopped)
      for text, output in zip(texts, outputs, strict=True)
    ]

  def prompt(self, text: str, voice: voice_lib.Voice | None) -> list[int]:
    """As `Prompts.prompt`; of `write`, of which it is part."""
    return self._prompts.prompt(text, voice)

  def _mixed(self, tokens) -> np.ndarray:
    """Ids of the model's table → mixed ids."""
    # A limit may cut a group apart.
    whole = len(tokens) // vocabulary_lib.GROUP * vocabulary_lib.GROUP
    return voice_lib.mixed_ids(self._vocabulary, tokens[:whole])
