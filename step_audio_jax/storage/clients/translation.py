"""What the clients of both stores do alike with what their libraries raise."""

import contextlib
from typing import Any, Callable, Iterator, Mapping

from step_audio_jax.storage.clients import failures


class PastEnd(Exception):
  """A range begins behind the end of its object."""


class Translating:
  """The part of a `stores.Client` that speaks of errors.

  A subclass gives `page`.
  """

  def __init__(
    self,
    root: str,
    libraries: tuple[type[BaseException], ...],
    meaning: Callable[..., Exception],
  ):
    """Nothing is asked yet.

    Args:
      root: `gs://bucket`, for messages.
      libraries: What a request may raise.
      meaning: Called with (error, address, root, whether a 404 is one of the
        bucket); gives what `stores.Client` raises.
    """
    self._root, self._libraries, self._meaning = root, libraries, meaning
    self._is_known = False

  def _check_bucket(self, key: str) -> None:
    """Tells a bucket that is not there from an object that is not."""
    if not self._is_known:
      # Whoever may read some names may not list them all, or none.
      with contextlib.suppress(failures.Denied):
        self.page(key, False, None, 1)

  @contextlib.contextmanager
  def _translated(self, key: str, of_bucket: bool = False) -> Iterator[None]:
    """What the libraries raise, as `stores.Client` has it."""
    where = f'{self._root}/{key}' if key else self._root
    try:
      yield
      self._is_known = True
    except self._libraries as error:
      if isinstance(error, (failures.StoreError, FileNotFoundError)):
        raise
      raise self._meaning(error, where, self._root, of_bucket) from error


def pause(headers: Mapping[str, Any]) -> float:
  """Seconds that an answer asks to wait.

  Args:
    headers: Of the answer, in small letters or where case does not matter.
  """
  try:
    return max(0.0, float(headers.get('retry-after', 0)))
  except (TypeError, ValueError):
    return 0.0


def told(error: BaseException) -> str:
  """An error's own words, on one line."""
  line = ' '.join(str(getattr(error, 'message', None) or error).split())
  return line[:160].rstrip('. ') or type(error).__name__
