"""Documents that go back and forth between text and speech.

    <s> <audio_start> A… <text_start> text <audio_start> A… <|EOT|>

A builder says which neighbouring utterances make one document and which of
its words are spoken; `interleaving.builders` has three. This module makes
that the contents of a document, which `documents` lays out. Cuts fall on groups
of 120 ms, so that the 2:3 pattern of the codes survives; every word appears
once, in order, as text or as speech.
"""

from typing import Callable, Iterable, Iterator, NamedTuple, Protocol, Sequence

import numpy as np

from data_pipelines.interleaving import source as interleaving_source
from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary

Source = interleaving_source.Source
# (texts, seed) → (linguistic, semantic) codes of each; none if it failed.
Synthesise = Callable[
  [Sequence[str], int], Sequence[tuple[np.ndarray, np.ndarray]]
]


class Span(NamedTuple):
  """Units first..last - 1 of a source, spoken or written."""

  spoken: bool
  first: int
  last: int


class Builder(Protocol):
  """How documents are made.

  Attributes:
    whole: Whether a recording is one unit; else its words are.
    cut: `Document.cut` of its documents.
  """

  whole: bool
  cut: int

  def is_full(self, gathered: Sequence[Source]) -> bool:
    """Whether a document takes no further utterance."""

  def draw(self, source: Source, rng: np.random.Generator) -> Sequence[Span]:
    """Spans in order that cover all units; neighbours may not be alike."""


def gather(
  builder: Builder, sources: Iterable[Source]
) -> Iterator[list[Source]]:
  """Runs of neighbours of one speaker, each of which makes one document."""
  waiting: list[Source] = []
  for source in sources:
    if waiting and source.speaker != waiting[0].speaker:
      yield waiting
      waiting = []
    waiting.append(source)
    if builder.is_full(waiting):
      yield waiting
      waiting = []
  if waiting:
    yield waiting


def document(
  table: vocabulary.Vocabulary,
  builder: Builder,
  gathered: Sequence[Source],
  seed_of: Callable[[str], int],
  synthesise: Synthesise | None = None,
) -> documents_lib.Document:
  """Makes one document; a pure function of its arguments.

  Args:
    table: Turns text and codes into ids.
    builder: Decides what is spoken.
    gathered: Of `gather`.
    seed_of: Id → the seed of what is drawn for it.
    synthesise: Speaks what has no recording.

  Returns:
    The document; its `spans` hold (spoken, words).

  Raises:
    UserError: A text has no ids, or there is neither recording nor voice.
  """
  source = interleaving_source.join(gathered)
  seed = seed_of(source.ids[0])
  spans = builder.draw(source, np.random.default_rng(seed))
  speech = _speech(table, source, spans, seed, synthesise)
  contents, told = [], []
  for spoken, first, last in _audible(spans, speech):
    contents.append(speech[first] if spoken else source.text_of(first, last))
    told.append((spoken, sum(source.counts[first:last])))
  return documents_lib.interleaved(
    table,
    source.name,
    contents,
    spans=np.array(told, np.int32),
    cut=builder.cut,
  )


def _speech(table, source, spans, seed, synthesise) -> dict[int, np.ndarray]:
  """First unit → speech ids of each spoken span."""
  spoken = [span for span in spans if span.spoken]
  if source.groups is not None:
    return {s.first: source.speech_of(s.first, s.last) for s in spoken}
  if synthesise is None:
    raise errors.UserError('codes: none, and no voice to speak the text.')
  texts = [source.text_of(span.first, span.last) for span in spoken]
  pairs = synthesise(texts, seed) if texts else []
  return {
    span.first: table.interleave(*pair)
    for span, pair in zip(spoken, pairs, strict=True)
  }


def _audible(spans, speech) -> Iterator[Span]:
  """What has no group of its own is written, together with its neighbours."""
  written = None
  for span in spans:
    if span.spoken and len(speech[span.first]):
      if written:
        yield written
        written = None
      yield span
    else:
      begin = written.first if written else span.first
      written = Span(False, begin, span.last)
  if written:
    yield written
