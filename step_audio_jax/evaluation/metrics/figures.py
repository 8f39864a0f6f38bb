"""A number with what it means: its interval, its unit, and who says so."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Figure:
  """A number, with what it means.

  Attributes:
    value: Of it; None where it cannot be made of what there is.
    low: Of its 95 % interval, as `high`; None where there is none.
    high: The other end.
    unit: '%' (of a fraction), 'score', 's', 'nats', …
    better: 'higher' or 'lower'.
    of: Items that it holds.
    by: What it was scored by: a convention, a rule, a judge, a recogniser.
  """

  value: float | None
  low: float | None = None
  high: float | None = None
  unit: str = '%'
  better: str = 'higher'
  of: int = 0
  by: str = ''
