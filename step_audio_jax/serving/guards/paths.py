"""Paths of routes, `/v1/models/{model}`, and which of them is meant."""

from typing import Iterable


class Paths:
  """Some routes by their paths."""

  def __init__(self, paths: Iterable[str]):
    """Of these; what stands in braces is one part of a path, or its end.

    Args:
      paths: As starlette has them.
    """
    found = set(paths)
    self._exact = {one for one in found if '{' not in one}
    self._open = [
      (one.partition('{')[0], one) for one in sorted(found - self._exact)
    ]

  def name(self, path: str) -> str | None:
    """The route's own path; None where it is none of these."""
    if path in self._exact:
      return path
    for begin, whole in self._open:
      rest = path[len(begin) :]
      if path.startswith(begin) and (':path}' in whole or '/' not in rest):
        return whole
    return None
