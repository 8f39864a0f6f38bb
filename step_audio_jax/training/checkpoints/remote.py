"""Checkpoints in buckets: how Orbax and TensorStore come to know them.

On `gs://` Orbax writes straight to a step's name and commits it, and each item
in it, by an object that is written last; it lets nobody do so on `s3://`, where
the same protocol holds. The four functions by which it tells one store from the
other are taught the second one here. They are private: the lock file holds the
version, and the tests save, kill and restore on both.
"""

import functools
import os
from typing import Any

from etils import epath
from orbax.checkpoint._src.path import atomicity
from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from step_audio_jax.storage import files
from step_audio_jax.storage.buckets import libraries

COMMIT = atomicity.COMMIT_SUCCESS_FILE
_SCHEMES = ('gs://', 's3://')
_OUTAGES = (
  *('UNAVAILABLE:', 'DEADLINE_EXCEEDED:', 'RESOURCE_EXHAUSTED:', 'ABORTED:'),
  *('UNAUTHENTICATED:', 'PERMISSION_DENIED:'),
)


def for_orbax(path: files.Path) -> Any:
  """A path as Orbax takes it: an `epath.Path` where it is in a bucket."""
  path = files.path(path)
  if not isinstance(path, files.Address):
    return path
  libraries.register()
  _teach_orbax()
  return epath.Path(str(path))


def is_outage(error: BaseException) -> bool:
  """Whether TensorStore says that a store does not answer, or refuses."""
  return any(code in str(error) for code in _OUTAGES)


def kvstore(path: files.Path) -> Any:
  """A folder as TensorStore takes it, as the base of others."""
  path = files.path(path)
  if isinstance(path, files.Address):
    return libraries.kvstore(path)
  return f'file://{path}/'


@functools.lru_cache(maxsize=1)
def _teach_orbax() -> None:
  def is_remote(directory: str) -> bool:
    return directory.startswith(_SCHEMES)

  def normalized(path: str) -> str:
    path = os.path.normpath(path)
    for scheme in _SCHEMES:
      path = path.replace(scheme[:-1], scheme, 1)
    return path

  def spec(path: str) -> dict[str, Any]:
    found = libraries.kvstore(files.path(path))
    # Orbax wants what it handed in, without the slash of a folder.
    return {**found, 'path': found['path'].rstrip('/')}

  gcs_utils._GCS_PATH_PREFIX = _SCHEMES
  tensorstore_utils._use_gcs_driver = is_remote
  tensorstore_utils._normalize_path = normalized
  gcs_utils.get_kvstore_for_gcs = spec
  # It would ask for the bucket itself, which many service accounts may not;
  # what it is for are empty folders of one kind of bucket.
  gcs_utils.is_hierarchical_namespace_enabled = lambda path: False
