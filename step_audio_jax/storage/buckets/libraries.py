"""Buckets for libraries that open files by themselves: Orbax, TensorStore.

Orbax reaches what is no array through `etils.epath`, which asks `fsspec` for
the file system of a scheme: ours is registered there, so that its requests are
tried again, counted and claimed as all others are. Arrays go through
TensorStore's own clients of both stores.
"""

import functools
import io
import os
from typing import Any

from etils.epath import gpath
import fsspec

from step_audio_jax import addresses
from step_audio_jax.storage.buckets import claims
from step_audio_jax.storage.buckets import listing
from step_audio_jax.storage.buckets import moving
from step_audio_jax.storage.buckets import reading
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores

_PROTOCOLS = {'gs': ('gs', 'gcs'), 's3': ('s3',)}


class _FileSystem(fsspec.AbstractFileSystem):
  """What `etils.epath` asks of a file system."""

  cachable = True
  scheme = ''

  @classmethod
  def _strip_protocol(cls, path):
    if isinstance(path, list):
      return [cls._strip_protocol(one) for one in path]
    return str(path).split('://', 1)[-1].rstrip('/')

  def _address(self, path) -> addresses.Address:
    return addresses.path(f'{self.scheme}://{self._strip_protocol(path)}')

  def info(self, path, **keywords):
    del keywords
    address = self._address(path)
    entry = None
    if address.key:
      entry = stores.bucket_of(address).head(address.key)
    name = self._strip_protocol(path)
    if entry is not None:
      changed = entry.changed / 1e9
      return dict(name=name, size=entry.size, type='file', mtime=changed)
    if listing.is_dir(address):
      return dict(name=name, size=0, type='directory')
    raise failures.Missing(address, 'no such object')

  def exists(self, path, **keywords):
    # What `fsspec` would do says of an outage that nothing is there.
    del keywords
    return listing.exists(self._address(path))

  def isfile(self, path):
    return listing.is_file(self._address(path))

  def isdir(self, path):
    address = self._address(path)
    return not listing.is_file(address) and listing.is_dir(address)

  def ls(self, path, detail=True, **keywords):
    del keywords
    address, found = self._address(path), []
    bucket, prefix = stores.bucket_of(address), address.key
    for one in bucket.list(f'{prefix}/' if prefix else '', flat=False):
      if isinstance(one, str):
        name = f'{address.bucket}/{one.rstrip("/")}'
        found.append(dict(name=name, size=0, type='directory'))
      elif not one.key.endswith('/'):
        name = f'{address.bucket}/{one.key}'
        found.append(dict(name=name, size=one.size, type='file'))
    if not found:
      found = [self.info(path)]
      if found[0]['type'] == 'directory':
        found = []
    return found if detail else [one['name'] for one in found]

  def _open(self, path, mode='rb', **keywords):
    del keywords
    address = self._address(path)
    if 'r' in mode:
      return reading.opened(address)
    return _Written(address)

  def mkdir(self, path, create_parents=True, **keywords):
    pass  # a folder is there with the first object in it

  def makedirs(self, path, exist_ok=False):
    pass

  def rmdir(self, path):
    pass

  def rm(self, path, recursive=False, maxdepth=None):
    del maxdepth
    for one in path if isinstance(path, list) else [path]:
      take = moving.remove_tree if recursive else moving.remove
      take(self._address(one))

  def rm_file(self, path):
    moving.remove(self._address(path))

  def cp_file(self, path1, path2, **keywords):
    del keywords
    moving.copy_one(self._address(path1), self._address(path2))

  def mv(self, path1, path2, recursive=False, maxdepth=None, **keywords):
    del recursive, maxdepth, keywords
    moving.move(self._address(path1), self._address(path2))

  rename = mv

  def created(self, path):
    raise NotImplementedError

  def modified(self, path):
    raise NotImplementedError


class _Written(io.BytesIO):
  """Bytes that become an object when they are closed."""

  def __init__(self, address: addresses.Address):
    super().__init__()
    self._address = address

  def __exit__(self, kind, *error):
    if kind is not None:
      super().close()  # half of it becomes nothing
    self.close()

  def close(self):
    if not self.closed:
      claims.check(self._address)
      bucket = stores.bucket_of(self._address)
      bucket.put(self._address.key, self.getvalue())
    super().close()


class _Google(_FileSystem):
  protocol, scheme = _PROTOCOLS['gs'], 'gs'


class _Amazon(_FileSystem):
  protocol, scheme = _PROTOCOLS['s3'], 's3'


@functools.lru_cache(maxsize=1)
def register() -> None:
  """Lets `etils.epath`, and so Orbax, reach buckets through this package."""
  # Else it takes TensorFlow's client where TensorFlow can be imported, and it
  # remembers that it can from the first local path on.
  os.environ['EPATH_USE_TF'] = 'false'
  getattr(gpath._is_tf_installed, 'cache_clear', lambda: None)()
  for kind in (_Google, _Amazon):
    for protocol in kind.protocol:
      fsspec.register_implementation(protocol, kind, clobber=True)


def kvstore(address: addresses.Address) -> dict[str, Any]:
  """Where TensorStore finds what lies below an address."""
  path = f'{address.key}/' if address.key else ''
  found = {'driver': 'gcs', 'bucket': address.bucket, 'path': path}
  if address.scheme == 'gs':
    emulator = os.environ.get('STORAGE_EMULATOR_HOST')
    if emulator:
      if '://' not in emulator:
        emulator = f'http://{emulator}'
      os.environ.setdefault('TENSORSTORE_GCS_HTTP_URL', emulator)
      os.environ.setdefault('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'nobody')
    return found
  from step_audio_jax.storage.clients import s3

  found['driver'] = 's3'
  # It reads the keys that boto3 reads, and none of these.
  endpoint, region = s3.endpoint()
  if endpoint:  # the store's own it finds, and the region of a bucket there
    found['endpoint'], found['aws_region'] = endpoint, region
  for name in ('AWS_DEFAULT_REGION', 'AWS_REGION'):
    if os.environ.get(name):
      found['aws_region'] = os.environ[name]
  if os.environ.get('AWS_ACCESS_KEY_ID'):
    found['aws_credentials'] = {'type': 'environment'}
  return found
