"""The programs of a step that has several, for who compiles but runs none."""

import dataclasses
from typing import Any, Callable, Mapping, Sequence

import jax

PHASES = ('rollout', 'evaluation', 'update')


@dataclasses.dataclass(frozen=True)
class Program:
  """One compiled program of a step.

  Attributes:
    name: What it does.
    phase: Of `PHASES`.
    function: The compiled function, which is lowered.
    given: Its arguments: shapes, dtypes and shardings.
    beside: What is on the devices while it runs, its arguments among it, but
      the state of the run.
    keywords: Static arguments.
    times: How often it runs in a step.
    turns: How often the loop in it runs that ends when all rows have; 0
      without one.
  """

  name: str
  phase: str
  function: Any
  given: tuple[Any, ...]
  beside: Any
  keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  times: int = 1
  turns: int = 0


@dataclasses.dataclass(frozen=True)
class Step:
  """All that a step does on the devices.

  Attributes:
    state: What is always there, by name: shapes, dtypes and shardings.
    programs: In the order in which they run.
    lower: Program → lowered, on the mesh and under the rules that it runs.
  """

  state: Mapping[str, Any]
  programs: Sequence[Program]
  lower: Callable[[Program], jax.stages.Lowered]
