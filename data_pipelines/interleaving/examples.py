"""Examples of a corpus → interleaved documents, by a builder's name."""

import dataclasses
import itertools
from typing import Callable, Iterable, Iterator

import numpy as np

from data_pipelines.documents import examples as corpus_examples
from data_pipelines.interleaving import builders
from data_pipelines.interleaving import source as interleaving_source
from data_pipelines.interleaving import spans
from data_pipelines.interleaving import voice as interleaving_voice
from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary

Example = corpus_examples.Example
OnBad = Callable[[str, str | None, str], None]


def check(
  name: str | None, voice: interleaving_voice.VoiceConfig | None
) -> None:
  """Raises UserError if there is no such builder, or it cannot use a voice."""
  known = builders.BUILDERS
  if name is not None and name not in known:
    raise errors.UserError(
      f'interleaving: found {name!r}, expected one of {", ".join(known)}.'
    )
  if voice and name != 'poisson':
    raise errors.UserError(
      f'interleaving: found {name!r}, expected poisson where a voice speaks a '
      'text corpus.'
    )


@dataclasses.dataclass(frozen=True)
class Maker:
  """Everything that decides the documents, the examples apart.

  Attributes:
    table: Turns text and codes into ids.
    seed_of: Id → the seed of what is drawn for it.
    codes_of: Example → (linguistic, semantic) codes.
    name: Of the builder; None means words where any example has word times,
      and segments where none has.
    poisson: How the builder of that name draws.
    voice: Speaks texts that have no codes.
  """

  table: vocabulary.Vocabulary
  seed_of: Callable[[str], int]
  codes_of: Callable[[Example], tuple[np.ndarray, np.ndarray]]
  name: str | None = None
  poisson: builders.Poisson = builders.Poisson()
  voice: interleaving_voice.VoiceConfig | None = None

  def documents(
    self, examples: Iterable[Example], on_bad: OnBad
  ) -> Iterator[documents_lib.Document]:
    """Makes documents; `on_bad(id, file, reason)` for what cannot be in one."""
    builder, examples = self._builder(examples)
    synthesise = self.voice and interleaving_voice.load(self.voice)
    sources = self._sources(builder, examples, on_bad)
    for gathered in spans.gather(builder, sources):
      try:
        yield spans.document(
          self.table, builder, gathered, self.seed_of, synthesise
        )
      except (errors.UserError, ValueError) as error:
        for source in gathered:
          on_bad(source.ids[0], source.file, str(error))

  def _builder(self, examples):
    """The builder, and the examples again: to find it, some are read."""
    name, read = self.name, []
    if name is None:
      name, examples = 'segments', iter(examples)
      for example in examples:
        read.append(example)
        if example['words']:
          name = 'words'
          break
    if name == 'poisson':
      builder = self.poisson
    else:
      builder = builders.BUILDERS[name]()
    return builder, itertools.chain(read, examples)

  def _sources(self, builder, examples, on_bad):
    """Examples as sources; one that cannot be is left out of its document."""
    for example in examples:
      about = {'speaker': example['speaker'], 'file': example['file'] or None}
      try:
        source = self._source(builder, example, about)
      except (errors.UserError, ValueError) as error:
        on_bad(example['id'], about['file'], str(error))
      else:
        yield source

  def _source(self, builder, example, about) -> interleaving_source.Source:
    name, text = example['id'], example['text']
    if self.voice:
      return interleaving_source.from_text(name, text, **about)
    pair = self.codes_of(example)
    ids = documents_lib.speech_ids(self.table, *pair)
    if builder.whole:
      return interleaving_source.from_segment(name, text, ids, **about)
    return interleaving_source.from_words(
      name, text, example['words'], ids, **about
    )
