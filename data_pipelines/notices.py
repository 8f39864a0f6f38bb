"""What TensorFlow prints when it is imported is kept from the user.

Its libraries write of oneDNN, CUDA and their own log to file descriptor 2,
before any setting of a log level is read. TensorFlow only moves rows here.
"""

import contextlib
import os
import sys
import tempfile
from typing import Iterator


@contextlib.contextmanager
def hold_stderr() -> Iterator[None]:
  """Keeps what the block writes to standard error; shows it if it fails."""
  sys.stderr.flush()
  try:
    before = os.dup(2)
  except OSError:  # closed: nobody sees it anyway
    yield
    return
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      held.seek(0)
      os.write(before, held.read())
      raise
    finally:
      os.dup2(before, 2)
      os.close(before)
