"""A recording is spoken again as tags say: faster, higher, with a pause.

    (fast 1)the red cat, codes → faster codes → the same question again …

A tag says how much more or less than in the recording, so that what comes out
may be asked about again, for more (Audio-Edit of arXiv 2502.11946, 5.1.1). The
question is that of the rows of `audio_edit` (`chats.views.edit_turn`). What its
rows could change a run says in its `config.json`:

    "edits": ["快速1", "快速2", "停顿1"]
"""

import os
from typing import Any, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import rendering
from step_audio_jax.chats import views
from step_audio_jax.decoder import styled_text
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib


def learnt(run: str | os.PathLike) -> list[tags_lib.Tag]:
  """What a run has learnt to change.

  Raises:
    UserError: There is no such run, or it has learnt nothing of the kind.
  """
  found = styled_text.told(run, bindings.EDITS)
  if not found:
    raise errors.UserError(
      f'{files.path(run) / "config.json"}: {bindings.EDITS}: missing, expected '
      'a run whose rows were some of audio_edit: this one has learnt to edit '
      'nothing.'
    )
  return [tag for tag in tags_lib.every() if tag in found]


def asked(
  text: str, style: tags_lib.Style, run: str | os.PathLike
) -> tuple[markup.Span, ...]:
  """What is said in a recording, with what is to change in it.

  Args:
    text: With tags, or without.
    style: More of them, which hold from the beginning.
    run: Of the model.

  Raises:
    UserError: There is no tag, one is misspelt, or the run has not learnt it.
  """
  known = learnt(run)
  spans = markup.parse(text, style)
  views.edit_turn(spans, chats.Speech())
  others = [tag for tag in markup.tags_of(spans) if tag not in known]
  if others:
    raise errors.UserError(
      f'--edit: found ({others[0].english}), expected what {run} has learnt to '
      f'change: {", ".join(tag.english for tag in known)}.'
    )
  return spans


def prompt(
  vocabulary: vocabulary_lib.Vocabulary,
  spans: Sequence[markup.Span],
  ids: np.ndarray,
  starts: bool = False,
) -> list[int]:
  """What a model is asked: as the rows of `audio_edit`, before their answer.

  Args:
    vocabulary: Of the model.
    spans: What is said, with tags.
    ids: Mixed ids 0..5119 of the recording, whole groups.
    starts: As `documents.Turns.starts`.

  Raises:
    UserError: There is no tag, or a character that the model's text vocabulary
      does not have.
  """
  turn = views.edit_turn(spans, chats.Speech())
  if vocabulary_lib.PAD in vocabulary.encode_text(turn.text):
    raise errors.UserError(
      f'text: {turn.text[:40]!r} has a character that is not in the text '
      "vocabulary of this model's run."
    )
  heard = vocabulary.interleave(*voice_lib.IDS.deinterleave(ids))
  turns = rendering.turns_of(chats.Conversation((turn,)), lambda _: heard)
  style = rendering.layout(starts)
  return rendering.prompt(vocabulary, turns, style=style)[0]


def apply(
  writer: Any, spans: Sequence[markup.Span], ids: np.ndarray, times: int = 1
) -> list[Any]:
  """Edits codes once, what came out again, and so on.

  Args:
    writer: `text_to_codes.Writer`.
    spans: What is said, with tags.
    ids: Mixed ids of the recording.
    times: How often.

  Returns:
    The `text_to_codes.SpokenSentence` of each time.

  Raises:
    UserError: As `prompt`, or nothing was left to edit again.
  """
  found: list[Any] = []
  for time in range(times):
    given = found[-1].ids if found else ids
    if not len(given):
      raise errors.UserError(
        f'--edit: time {time} left no codes, expected some to edit again; the '
        'model has not learnt this well enough.'
      )
    asked_for = prompt(writer.vocabulary, spans, given, writer.starts)
    found += writer.answer([markup.plain(spans)], [asked_for])
  return found
