"""Beam without its notice that a library of BigQuery is not there."""

import logging
import threading
from typing import Any

# Of two threads the later one would take the first one's quiet for what was
# there before, and leave it.
_ONE = threading.Lock()


def beam() -> tuple[Any, Any]:
  """Imports Beam; returns it and its pipeline options."""
  with _ONE:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
      import apache_beam
      from apache_beam.options import pipeline_options
    finally:
      logging.disable(before)
  return apache_beam, pipeline_options


def dask_setup(worker: Any) -> None:
  """What Dask calls in a new worker that preloads this module."""
  del worker
  beam()
