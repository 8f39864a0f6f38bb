"""Dialogues that a system had and that were recorded, as a benchmark.

Nobody is asked: the scorers of `evaluation.dialogues` read what a system did.
Its figures are the same for all checkpoints of a run, so they belong to none of
them; they stand in its report to be compared with.
"""

import dataclasses
from typing import Any, ClassVar, Mapping

from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues import registry


@dataclasses.dataclass(frozen=True)
class Dialogues(benchmark.Benchmark):
  """Recorded dialogues under one of `dialogues.registry.BENCHMARKS`.

  Attributes:
    scorer: Its name there.
    outputs: Folder of what the system did; '' is `folder`.
    options: Further fields of the scorer's class.
  """

  scorer: str = 'full_duplex_bench_1'
  outputs: str = ''
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  asks: ClassVar[str] = benchmark.RECORDED

  @property
  def recorded(self) -> tuple[str, ...]:
    """Folders that figures depend on."""
    return tuple(dict.fromkeys((self.folder, self.outputs or self.folder)))

  def _scorer(self) -> base.Benchmark:
    return registry.find(self.scorer)(self.folder, self.outputs, **self.options)

  def read(self) -> benchmark.Reading:
    """See the base; what lacks a recording is found out when it is scored."""
    found = self._scorer().read()
    nothing = chats_lib.Conversation(())
    items = [
      benchmark.Item(one.id, nothing, about={'subset': one.subset})
      for one in found.items
    ]
    faults = [(id, fault.reason) for id, fault in found.left_out.items()]
    return benchmark.reading([*items, *faults], self.folder)

  def score(self, items, answers, means) -> benchmark.Scored:
    """See the base; all dialogues are scored, whatever `most` says."""
    del items, answers, means
    found = self._scorer().score()
    return benchmark.Scored(
      {
        name: benchmark.Figure(by=self.scorer, **told)
        for name, told in found['figures'].items()
      },
      found['rows'],
      found['not_computed'],
      counted=found['counted'],
    )
