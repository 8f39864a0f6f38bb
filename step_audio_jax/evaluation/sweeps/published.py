"""What others say of themselves beside our figures.

A benchmark that knows it has `published`, system → figure → value (rates and
accuracies in percent), and `unpublished`, what is not told beside them, so
that they compare only roughly.
"""

from typing import Any, Mapping, NamedTuple


class Published(NamedTuple):
  """A figure as others publish it.

  Attributes:
    values: System → value, of a rate in percent.
    doubt: What is not told beside it; '' where it compares.
  """

  values: Mapping[str, float]
  doubt: str = ''


def of(benchmark: Any) -> dict[str, Published]:
  """Figure → what is published of it."""
  found: dict[str, dict[str, float]] = {}
  for system, figures in getattr(benchmark, 'published', {}).items():
    for name, value in figures.items():
      found.setdefault(name, {})[system] = value
  doubt = getattr(benchmark, 'unpublished', '')
  return {name: Published(values, doubt) for name, values in found.items()}
