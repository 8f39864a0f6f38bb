"""What the catalogue knows of a benchmark.

Each module of loaders has a dict `ENTRIES` of these, name → entry, and
`catalogue` joins them.
"""

import dataclasses
import importlib
from typing import Any, Mapping

from step_audio_jax.evaluation.benchmarks import benchmark

PACKAGE = 'data_pipelines.benchmarks'

# Whose figures `Entry.published` holds.
CHAT = 'Step-Audio-Chat'
PRETRAIN = 'Step-Audio pretrain'
TTS = 'Step-Audio-TTS'
TTS_3B = 'Step-Audio-TTS-3B'
DUAL = 'Step-Audio dual-codebook resynthesis'

# What is not told beside them.
UNPUBLISHED = 'normalisation unpublished'


@dataclasses.dataclass(frozen=True)
class Entry:
  """A benchmark that has a name.

  Attributes:
    loader: `module:class` below this package.
    summary: What it is, in a line.
    layout: Files of its folder.
    scored: By what.
    source: Where it is published.
    arguments: Of the class, beside its name, folder and size.
    expected: Items of the public set; 0 where it depends on the release.
    published: System → figure → value as Step-Audio publishes it; rates and
      accuracies in percent.
    unpublished: What is not told beside those figures, so that they compare
      only roughly.
  """

  loader: str
  summary: str
  layout: str
  scored: str
  source: str
  arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  expected: int = 0
  published: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  unpublished: str = ''

  def load(self) -> type[benchmark.Benchmark]:
    """The class."""
    module, _, name = self.loader.partition(':')
    return getattr(importlib.import_module(f'{PACKAGE}.{module}'), name)

  def make(self, name: str, folder: str, **changed: Any) -> benchmark.Benchmark:
    """The benchmark.

    Args:
      name: That figures bear.
      folder: Where its files lie.
      **changed: Further fields of the class.
    """
    told = {'published': self.published, 'unpublished': self.unpublished}
    found = {**told, **self.arguments, **changed}
    if self.expected:
      found.setdefault('expected', self.expected)
    return self.load()(name=name, folder=folder, **found)
