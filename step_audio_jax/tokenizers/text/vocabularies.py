"""Vocabularies over the text models of files; for gin and for doors."""

import dataclasses

from step_audio_jax import vocabulary
from step_audio_jax.tokenizers.text import text_models


def step_audio(*, text_model: str | None = None) -> vocabulary.Vocabulary:
  """The released layout, `STEP_AUDIO`, with a text tokenizer if one is named.

  Args:
    text_model: A SentencePiece `.model` or a Hugging Face `tokenizer.json` of
      at most 65,536 pieces; without it a run handles ids alone.
  """
  if text_model is None:
    return vocabulary.STEP_AUDIO
  return dataclasses.replace(
    vocabulary.STEP_AUDIO, text=text_models.load(text_model)
  )


def load(
  *, text_model: str, speech: bool = True, multiple: int = 1
) -> vocabulary.Vocabulary:
  """A vocabulary from a text model's file.

  Args:
    text_model: A SentencePiece `.model` or a Hugging Face `tokenizer.json`.
    speech: Append the speech block; without it this is the text model's own
      vocabulary, as the backbone has it before it hears anything.
    multiple: The table is rounded up to a multiple of this.
  """
  text = text_models.load(text_model)
  if speech:
    return vocabulary.Vocabulary.over(text, multiple)
  rows = -(-text.size // multiple) * multiple
  return vocabulary.Vocabulary(
    text_size=text.size,
    table_size=rows,
    linguistic_size=0,
    semantic_size=0,
    text=text,
  )
