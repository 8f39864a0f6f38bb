"""Examples as turns: chats and preferences as a task shows them, and speech."""

from typing import Iterable

import numpy as np

from data_pipelines.documents import examples as corpus_examples
from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import own
from step_audio_jax.chats import preferences
from step_audio_jax.chats import rendering
from step_audio_jax.chats import views
from step_audio_jax.corpus import manifest
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib

Example = corpus_examples.Example


def of_chat(
  table: vocabulary.Vocabulary,
  example: Example,
  *,
  codes: str | None,
  streams: str = documents_lib.BOTH,
  view: str = '',
) -> list[documents_lib.Turn]:
  """Turns of a chat.

  Args:
    table: Turns codes into ids.
    example: Of `documents.examples.read`, with transcripts where `view` asks
      for them.
    codes: Folder of the codes, for messages.
    streams: Which of them are heard.
    view: Which of `views.VIEWS` it is shown in; '' as it is.

  Raises:
    UserError: The conversation is not sound, cannot be shown so, or refers to
      speech that has no codes.
  """
  told, said, ids_of = _heard(table, example, codes, streams)
  conversation = own.parse(told)
  checks.check(conversation, training=True, orderly=False)
  if view:
    conversation = views.VIEWS[view](conversation, said)
  return rendering.turns_of(conversation, ids_of)


def of_preference(
  table: vocabulary.Vocabulary,
  example: Example,
  *,
  codes: str | None,
  streams: str = documents_lib.BOTH,
  view: str = '',
) -> tuple[list[documents_lib.Turn], tuple[documents_lib.Turn | None, ...]]:
  """Turns of the prompt of a preference, and both answers; as `of_chat`.

  None is one that is missing.
  """
  told, said, ids_of = _heard(table, example, codes, streams)
  first = len(told) - len(example['answers'])
  given = dict(zip(example['answers'], told[first:]))
  found = preferences.parse(told[:first], *map(given.get, preferences.ANSWERS))
  preferences.check(found)
  prompt: list[documents_lib.Turn] = []
  answers: list[documents_lib.Turn | None] = []
  for answer in (found.chosen, found.rejected):
    if answer is None:
      answers.append(None)
      continue
    whole = chats.Conversation((*found.prompt.turns, answer))
    if view:
      whole = views.VIEWS[view](whole, said)
    *prompt, last = rendering.turns_of(whole, ids_of)
    answers.append(last)
  return prompt, tuple(answers)


def _heard(table, example: Example, codes: str | None, streams: str):
  """Turns of an example, what is said in a recording, and the ids of one."""
  pairs, said, told = {}, {}, []
  linguistic, semantic = example['linguistic'], example['semantic']
  for turn in example['turns']:
    told.append({k: v for k, v in turn.items() if k not in ('codes', 'said')})
    for name in own.spoken(told[-1:]):
      said[name] = turn.get('said')
      if 'codes' in turn:
        first, second = turn['codes']
        pairs[name] = linguistic[:first], semantic[:second]
        linguistic, semantic = linguistic[first:], semantic[second:]

  def ids_of(speech: chats.Speech) -> np.ndarray:
    if speech.id not in pairs:
      where = f'in {codes}' if codes else 'without --codes'
      raise errors.UserError(
        f'turns: no codes of {speech.id!r} {where}, expected those of the '
        'corpus.'
      )
    return documents_lib.speech_ids(table, *pairs[speech.id], streams)

  return told, lambda speech: said.get(speech.id), ids_of


def tags_of_edits(utterances: Iterable[manifest.Utterance]) -> list[str]:
  """Tags that recordings are edited by in chats, as they are written."""
  found: set[tags_lib.Tag] = set()
  for utterance in utterances:
    conversation = own.parse(utterance.turns or ())
    try:
      # What is said has no tags.
      shown = views.VIEWS['audio_edit'](conversation, lambda speech: 'x')
    except errors.UserError:
      continue  # is left out of the rows, too, and told there
    found.update(markup.tags_of(markup.parse(shown.turns[0].text)))
  return [str(tag) for tag in tags_lib.every() if tag in found]


def of_speaker(
  table: vocabulary.Vocabulary,
  example: Example,
  pair: tuple[np.ndarray, np.ndarray],
) -> list[documents_lib.Turn]:
  """Turns of one speaker: another recording first, then this one.

  Args:
    table: Turns codes into ids.
    example: Of `documents.examples.read`, with references.
    pair: Its codes.

  Raises:
    UserError: There is no other recording.
  """
  reference = example['reference']
  if reference is None:
    raise errors.UserError(
      f'speaker: no recording of {example["speaker"] or "nobody"!r} in front '
      f'of this one, among {corpus_examples.BLOCK} lines, expected one for '
      'the first of two turns.'
    )
  words, *heard = reference
  asked = documents_lib.tts_turns(
    corpus_examples.text_of(example, spoken=True),
    voice_text=words,
    voice_ids=documents_lib.speech_ids(table, *heard),
  )
  return [*asked, ('assistant', documents_lib.speech_ids(table, *pair))]
