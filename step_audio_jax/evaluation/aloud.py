"""Answers made to sound: AQTA, then TTS by the same model, then the decoder."""

import pathlib
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.decoder import speech as decoder_lib
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.tokenizers.speech import dual

SECONDS = 10.0  # of an answer, at most


def speak(
  answers: Mapping[str, Sequence[dict[str, Any]]],
  *,
  run: str,
  decoder: str,
  tokenizer: str,
  folder: pathlib.Path,
  count: int,
  seed: int = 0,
) -> None:
  """Speaks the first answers to spoken questions of each split.

  Args:
    answers: Split → rows of `questions.score`; those that are spoken get
      `wav`, a path relative to the parent of `folder`.
    run: That answered, and speaks.
    decoder: Folder of the speech decoder.
    tokenizer: Folder of the tokenizer, whose codes the run writes.
    folder: Gets `<split>-<place>.wav`.
    count: Answers of each split.
    seed: Of the sampling.

  Raises:
    UserError: The run cannot speak, or the decoder cannot be loaded.
  """
  chosen = [
    (f'{folder.name}/{split}-{place:03d}.wav', row)
    for split, rows in answers.items()
    for place, row in enumerate([r for r in rows if r['speech']][:count])
  ]
  pieces = [(name, row, _pieces(row['answer'])) for name, row in chosen]
  pieces = [one for one in pieces if one[2]]
  if not pieces:
    return
  codes = dual.DualTokenizer.load(tokenizer)
  writer = text_to_codes.Writer.load(
    run,
    text_to_codes.SpeakOptions(
      layout=text_to_codes.layout_of(run),
      longest=SECONDS,
      linguistic_codes=codes.linguistic.size,
      semantic_codes=codes.semantic.size,
      seed=seed,
    ),
  )
  speaks = decoder_lib.SpeechDecoder.load(decoder)
  voice = speaks.chosen(None)
  spoken = writer.write([said for *_, said in pieces], voice)
  for (name, row, _), sentence in zip(pieces, spoken, strict=True):
    if len(sentence.ids):
      wave_S, rate = speaks.decode(sentence.ids, voice, seed)
      io.write_audio(folder.parent / name, wave_S, rate)
      row['wav'] = name


def _pieces(text: str) -> str:
  """A text as it is spoken; '' if it cannot be."""
  try:
    return ' '.join(text_to_codes.sentences(text))
  except errors.UserError:
    return ''
