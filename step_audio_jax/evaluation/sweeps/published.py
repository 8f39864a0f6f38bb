"""What others say of themselves beside our figures.

A benchmark that knows it has `published`, system → figure → value (rates and
accuracies in percent), and `unpublished`, what is not told beside them, so
that they compare only roughly.
"""

from typing import Any, Iterable, Mapping, NamedTuple


class Published(NamedTuple):
  """A figure as others publish it.

  Attributes:
    values: System → value, of a rate in percent.
    doubt: What is not told beside it; '' where it compares.
  """

  values: Mapping[str, float]
  doubt: str = ''


def beside(
  names: Iterable[str], published: Mapping[str, Published]
) -> dict[str, Published]:
  """What stands beside each of our figures.

  Others name a rate (`asr/wer`), ours say under which convention
  (`asr/wer/whisper`): the first of these, the headline, has theirs beside it.

  Args:
    names: Of our figures, headlines first.
    published: By name of a figure, or what ours begins with.
  """
  found: dict[str, Published] = {}
  left = dict(published)
  for name in names:
    keys = (name, name.rpartition('/')[0])
    key = next((key for key in keys if key in left), None)
    if key is not None:
      found[name] = left.pop(key)
  return found


def of(benchmark: Any) -> dict[str, Published]:
  """Figure → what is published of it."""
  found: dict[str, dict[str, float]] = {}
  for system, figures in getattr(benchmark, 'published', {}).items():
    for name, value in figures.items():
      found.setdefault(name, {})[system] = value
  doubt = getattr(benchmark, 'unpublished', '')
  return {name: Published(values, doubt) for name, values in found.items()}
