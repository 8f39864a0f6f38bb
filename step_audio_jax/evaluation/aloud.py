"""Answers made to sound: AQTA, then TTS by the same model, then the decoder."""

import pathlib
from typing import Any, Callable, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.decoder import speech as decoder_lib
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.tokenizers.speech import seal

SECONDS = 10.0  # of an answer, at most


def speak(
  answers: Mapping[str, Sequence[dict[str, Any]]],
  *,
  run: str,
  writer: Callable[[text_to_codes.SpeakOptions], text_to_codes.Writer],
  decoder: str,
  tokenizer: str,
  folder: pathlib.Path,
  count: int,
  seed: int = 0,
) -> None:
  """Speaks the first answers to spoken questions of each split.

  Args:
    answers: Split → rows of `quiz.score`; those that are spoken get
      `wav`, a path relative to the parent of `folder`.
    run: That answered; how it is asked to speak follows from it.
    writer: Its model, loaded already, as one that speaks.
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
  linguistic, semantic = seal.code_counts(tokenizer)
  speaker = writer(
    text_to_codes.SpeakOptions(
      layout=text_to_codes.layout_of(run),
      starts=text_to_codes.starts_of(run),
      longest=SECONDS,
      linguistic_codes=linguistic,
      semantic_codes=semantic,
      seed=seed,
    )
  )
  speaks = decoder_lib.SpeechDecoder.load(decoder)
  voice = speaks.chosen(None)
  spoken = speaker.write([said for *_, said in pieces], voice)
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
