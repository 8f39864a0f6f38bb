"""Vocabularies over the text models of files; for gin and for doors."""

import dataclasses

from step_audio_jax import errors
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
  *,
  text_model: str | None,
  speech: bool = True,
  multiple: int = 1,
  text_rows: int | None = None,
) -> vocabulary.Vocabulary:
  """A vocabulary from a text model's file.

  Args:
    text_model: A SentencePiece `.model` or a Hugging Face `tokenizer.json`;
      None where `plan` only counts.
    speech: Append the speech block; without it this is the text model's own
      vocabulary, as the backbone has it before it hears anything.
    multiple: The table is rounded up to a multiple of this.
    text_rows: Rows that the published model has for its text; they are counted
      with where no `text_model` is.

  Raises:
    UserError: There is neither, or no text model in the file.
  """
  text = None if text_model is None else text_models.load(text_model)
  if text is not None:
    size = text.size
  elif text_rows is not None:
    size = vocabulary.CONTROL_SIZE + text_rows
  else:
    raise errors.UserError(
      'vocabularies.load.text_model: missing, expected a SentencePiece .model '
      'or a Hugging Face tokenizer.json.'
    )
  whole = vocabulary.Vocabulary
  kept = (whole.linguistic_size, whole.semantic_size) if speech else (0, 0)
  end = size + sum(kept)
  return whole(size, -(-end // multiple) * multiple, *kept, text)
