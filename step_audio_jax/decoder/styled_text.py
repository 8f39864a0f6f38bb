"""Tags in a text that is to be spoken: which a model has learnt, where they go.

A run says in its `config.json` what tags its rows had, as they are written:

    "tags": ["快速1", "快速2", "四川话"]

Converted weights of Step-Audio have those of the release, whose prompt says
that there are others and does not name them. Any other run has learnt none: to
it a tag would be words.

What a model cannot be asked can be done to its sound, as far as it is made of
any speech (`audio.prosody.recipes`): speed, pitch and pauses where it has
learnt no tags, and always the volume, which codes do not have.
"""

import dataclasses
import os
from typing import Iterator, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax.audio.prosody import recipes
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib
from step_audio_jax.training.checkpoints import checkpoints

_ALWAYS = ('volume',)  # axes that no codes have


class Known(NamedTuple):
  """The tags of a model.

  Attributes:
    tags: Those that are known; none are where it has learnt none.
    more: Whether it may have learnt others.
  """

  tags: frozenset[tags_lib.Tag] = frozenset()
  more: bool = False


def told(run: str | os.PathLike, key: str) -> list[tags_lib.Tag] | None:
  """Tags that the `config.json` of a run has under a key; None without it.

  Raises:
    UserError: There is no such run, or what it says there are no tags.
  """
  found = checkpoints.run_config(run).get(key)
  if found is None:
    return None
  try:
    known = [tags_lib.find(one) for one in found]
  except (TypeError, AttributeError, errors.UserError):
    known = [None]
  if isinstance(found, str) or None in known:
    raise errors.UserError(
      f'{files.path(run) / "config.json"}: {key}: found {str(found)[:80]!r}, '
      'expected a list of tags.'
    )
  return known


def of_run(run: str | os.PathLike, is_released: bool) -> Known:
  """The tags of a run.

  Args:
    run: Its directory.
    is_released: Whether it was converted from Step-Audio's weights.

  Raises:
    UserError: There is no such run, or what it says of tags is none.
  """
  found = told(run, bindings.TAGS)
  if found is not None:
    return Known(frozenset(found))
  if not is_released:
    return Known()
  released = (tag for tag in tags_lib.every() if tag.source == 'released')
  return Known(frozenset(released), more=True)


class Asked(NamedTuple):
  """A text as it is spoken.

  Attributes:
    spans: What a model is asked, with tags that it has learnt.
    made: The same words with what is done to their sound.
    notes: What is to be told.
  """

  spans: tuple[markup.Span, ...]
  made: tuple[markup.Span, ...]
  notes: tuple[str, ...] = ()


class Part(NamedTuple):
  """Words whose sound is treated in one way.

  Attributes:
    text: A sentence, or a part of one.
    style: What is done to their sound.
    gap: Seconds of silence before them; None is what is usual between
      sentences.
  """

  text: str
  style: tags_lib.Style
  gap: float | None


def parse(text: str, known: Known, style: tags_lib.Style, name: str) -> Asked:
  """A text with what its model is asked and what is done to the sound.

  To a model without tags brackets are text, but for tags that are whole; those
  that no sound can be given are left out, with a note.

  Args:
    text: To be said.
    known: Of the model.
    style: What holds from the beginning.
    name: Of the model, for messages.

  Raises:
    UserError: A tag does not exist or was not learnt, or `style` asks a model
      without tags for what no sound can be given.
  """
  if not known.tags:
    return _of_untaught(text, style, name)
  spans = markup.parse(text, style)
  made = tuple(markup.Span(s.text, _only(s.style, _ALWAYS)) for s in spans)
  spans = tuple(
    markup.Span(
      span.text,
      tags_lib.Style(
        tuple(
          tag
          for tag in span.style.tags
          if tag.axis not in _ALWAYS or tag in known.tags
        )
      ),
      span.pause,
    )
    for span in spans
  )
  others = [tag for tag in markup.tags_of(spans) if tag not in known.tags]
  if not others:
    return Asked(spans, made)
  learnt = ', '.join(
    _names(tag for tag in tags_lib.every() if tag in known.tags)
  )
  if not known.more:
    raise errors.UserError(
      f'text: found {", ".join(_names(others))}, expected tags that {name} has '
      f'learnt: {learnt}.'
    )
  note = (
    f'{", ".join(_names(others))}: not among the tags that are known of {name} '
    f'({learnt}); it may not follow.'
  )
  return Asked(spans, made, (note,))


def _of_untaught(text: str, style: tags_lib.Style, name: str) -> Asked:
  wrong = [tag for tag in style.tags if tag.axis not in recipes.MADE]
  if wrong:
    raise errors.UserError(
      f'--style: found {", ".join(_names(wrong))}, but {name} was trained '
      f'without tags; expected those of {", ".join(recipes.MADE)}, which its '
      'sound can be given, or a run whose rows have some, or converted weights '
      'of Step-Audio.'
    )
  try:
    spans = markup.parse(text, style)
  except errors.UserError:  # to this model it is words
    spans = (markup.Span(text, style),)
  made = tuple(
    markup.Span(s.text, _only(s.style, recipes.MADE), s.pause) for s in spans
  )
  given, notes = markup.tags_of(made), []
  if given:
    notes.append(f'done to the sound: {", ".join(_names(given))}')
  if lost := [tag for tag in markup.tags_of(spans) if tag not in given]:
    notes.append(f'left out of the text: {", ".join(_names(lost))}')
  if notes:
    notes = [
      f'{name} was trained without tags; {"; ".join(notes)}. '
      r'`\(` is a bracket that is spoken.'
    ]
  return Asked((markup.Span(markup.plain(spans)),), made, tuple(notes))


def _only(style: tags_lib.Style, axes) -> tags_lib.Style:
  return tags_lib.Style(tuple(tag for tag in style.tags if tag.axis in axes))


def parts(made: Sequence[markup.Span], pieces: Sequence[str]) -> list[Part]:
  """Sentences, parted where something else is done to their sound.

  Args:
    made: The whole text.
    pieces: Its sentences: parts of `markup.plain`, in order.
  """
  found = []
  for cut in _cut(made, pieces):
    spans: list[markup.Span] = []
    for span in cut:
      # Marks alone go with the words beside them.
      if spans and not (_has_word(span.text) and _has_word(spans[-1].text)):
        before = spans.pop()
        kept = span if _has_word(span.text) else before
        span = dataclasses.replace(
          kept, text=before.text + span.text, pause=before.pause or span.pause
        )
      spans.append(span)
    for place, span in enumerate(spans):
      gap = None if place == 0 else 0.0
      if span.pause:
        gap = recipes.PAUSES[span.pause - 1]
      found.append(Part(span.text.strip(), span.style, gap))
  return found


def _has_word(text: str) -> bool:
  return any(map(str.isalnum, text))


def written(
  spans: Sequence[markup.Span], pieces: Sequence[str]
) -> Iterator[str]:
  """Sentences with the tags that hold in them, as a model is asked.

  Args:
    spans: The whole text.
    pieces: Its sentences, or parts of them: parts of `markup.plain`, in order.
  """
  for cut in _cut(spans, pieces):
    yield markup.write(cut, escape=False)


def _cut(spans, pieces) -> Iterator[tuple[markup.Span, ...]]:
  """The spans of each piece."""
  plain, at = markup.plain(spans), 0
  for piece in pieces:
    start = plain.index(piece, at)
    at = start + len(piece)
    yield markup.cut(spans, start, at)


def _names(tags) -> list[str]:
  return [f'({tag.english})' for tag in tags]


def prompted(asked: Asked, pieces: Sequence[str]) -> list[tuple[str, Part]]:
  """(what the model is asked, what is done to its sound) for each part.

  Args:
    asked: Of `parse`.
    pieces: The sentences of its words.
  """
  found = parts(asked.made, pieces)
  prompts = written(asked.spans, [part.text for part in found])
  return list(zip(prompts, found, strict=True))
