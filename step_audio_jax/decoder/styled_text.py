"""Tags in a text that is to be spoken: which a model has learnt, where they go.

A run says in its `config.json` what tags its rows had, as they are written:

    "tags": ["快速1", "快速2", "四川话"]

Converted weights of Step-Audio have those of the release, whose prompt says
that there are others and does not name them. Any other run has learnt none: to
it a tag would be words.
"""

import os
from typing import Iterator, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib
from step_audio_jax.training.checkpoints import checkpoints


class Known(NamedTuple):
  """The tags of a model.

  Attributes:
    tags: Those that are known; none are where it has learnt none.
    more: Whether it may have learnt others.
  """

  tags: frozenset[tags_lib.Tag] = frozenset()
  more: bool = False


def of_run(run: str | os.PathLike, is_released: bool) -> Known:
  """The tags of a run.

  Args:
    run: Its directory.
    is_released: Whether it was converted from Step-Audio's weights.

  Raises:
    UserError: There is no such run, or what it says of tags is none.
  """
  told = checkpoints.run_config(run).get(bindings.TAGS)
  if told is None:
    if not is_released:
      return Known()
    released = (tag for tag in tags_lib.every() if tag.source == 'released')
    return Known(frozenset(released), more=True)
  try:
    found = [tags_lib.find(one) for one in told]
  except (TypeError, AttributeError, errors.UserError):
    found = [None]
  if isinstance(told, str) or None in found:
    raise errors.UserError(
      f'{files.path(run) / "config.json"}: {bindings.TAGS}: found '
      f'{str(told)[:80]!r}, expected a list of tags.'
    )
  return Known(frozenset(found))


def parse(
  text: str, known: Known, style: tags_lib.Style, name: str
) -> tuple[tuple[markup.Span, ...], list[str]]:
  """A text in spans whose tags a model has learnt, and what is to be told.

  To a model without tags brackets are text, but for tags that are whole: they
  are left out, with a note.

  Args:
    text: To be said.
    known: Of the model.
    style: What holds from the beginning.
    name: Of the model, for messages.

  Raises:
    UserError: A tag does not exist or was not learnt, or `style` asks one that
      has learnt none.
  """
  if not known.tags:
    if style:
      raise errors.UserError(
        f'--style: found {style.english}, but {name} was trained without tags; '
        'expected a run whose rows have some, or converted weights of '
        'Step-Audio.'
      )
    try:
      spans = markup.parse(text)
    except errors.UserError:  # to this model it is words
      return (markup.Span(text),), []
    left_out = ', '.join(_names(markup.tags_of(spans)))
    told = (
      f'{name} was trained without tags; left out of the text: {left_out}. '
      r'`\(` is a bracket that is spoken.'
    )
    return (markup.Span(markup.plain(spans)),), [told] if left_out else []
  spans = markup.parse(text, style)
  others = [tag for tag in markup.tags_of(spans) if tag not in known.tags]
  if not others:
    return spans, []
  learnt = ', '.join(
    _names(tag for tag in tags_lib.every() if tag in known.tags)
  )
  if not known.more:
    raise errors.UserError(
      f'text: found {", ".join(_names(others))}, expected tags that {name} has '
      f'learnt: {learnt}.'
    )
  return spans, [
    f'{", ".join(_names(others))}: not among the tags that are known of {name} '
    f'({learnt}); it may not follow.'
  ]


def written(
  spans: Sequence[markup.Span], pieces: Sequence[str]
) -> Iterator[str]:
  """Sentences with the tags that hold in them, as a model is asked.

  Args:
    spans: The whole text.
    pieces: Its sentences: parts of `markup.plain`, in order.
  """
  plain, at = markup.plain(spans), 0
  for piece in pieces:
    start = plain.index(piece, at)
    at = start + len(piece)
    yield markup.write(markup.cut(spans, start, at), escape=False)


def _names(tags) -> list[str]:
  return [f'({tag.english})' for tag in tags]
