"""What `gcp-storage-emulator` holds: in memory, and in a journal of a folder.

The emulator writes a list of everything at every change, gives a generation
when an upload starts, keeps what was deleted, and takes the names of objects
for those of files.
"""

import base64
import datetime
import hashlib
import json
import os
import pathlib
import time
import urllib.parse

from gcp_storage_emulator import exceptions
from gcp_storage_emulator import storage


class Refused(Exception):
  """An answer that is not the emulator's.

  Attributes:
    status: Its number.
  """

  def __init__(self, status: int, message: str):
    super().__init__(message)
    self.status = status


def no_object(bucket: str, name: str) -> Refused:
  return Refused(404, f'No such object: {bucket}/{name}')


class Store(storage.Storage):
  """Buckets and objects, in memory, and in a journal if there is a folder."""

  def __init__(self, folder: str | None = None):
    super().__init__(use_memory_fs=True, data_dir='/')
    self._uploads: dict[str, bytearray] = {}
    self._last = 0
    self._journal = None
    # Of resumable uploads: what must hold when they end, and what came of it.
    self.guards: dict[str, dict[str, str]] = {}
    self.ended: dict[str, dict] = {}
    if folder is not None:
      os.makedirs(folder, exist_ok=True)
      path = pathlib.Path(folder) / 'journal'
      path.touch()
      self._replay(path)
      self._journal = open(path, 'ab')

  def _replay(self, path: pathlib.Path) -> None:
    whole = 0
    with open(path, 'rb') as file:
      for line in file:
        try:
          entry = json.loads(line)
        except ValueError:
          break
        content = file.read(entry['size'])
        if len(content) < entry['size']:
          break  # the process was killed meanwhile; nobody was told of it
        whole = file.tell()
        arguments = entry['arguments']
        if entry['call'] == 'put':
          bucket, name, meta = arguments
          self.objects.setdefault(bucket, {})[name] = meta
          self._store.write_bytes(self._object_path(bucket, name), content)
          self._last = max(self._last, int(meta['generation']))
        else:
          getattr(super(), entry['call'])(*arguments)
    os.truncate(path, whole)

  def _note(self, call: str, *arguments, content: bytes = b'') -> None:
    if self._journal:
      entry = {'call': call, 'arguments': arguments, 'size': len(content)}
      self._journal.write(json.dumps(entry).encode() + b'\n' + content)
      self._journal.flush()

  def _write_config_to_file(self):
    """Nothing: the emulator writes a list of everything at every change."""

  def _object_path(self, bucket_name, file_name):
    """A name that says nothing to a file system: any is one of an object."""
    digest = hashlib.sha256(file_name.encode('utf-8', 'surrogatepass'))
    return f'{bucket_name}/{digest.hexdigest()}'

  def _bucket_soft_delete_retention_seconds(self, bucket_name):
    """Deleted objects are gone, as in a bucket without soft deletion."""
    return 0

  def create_bucket(self, bucket_name, bucket_obj):
    self._note('create_bucket', bucket_name, bucket_obj)
    return super().create_bucket(bucket_name, bucket_obj)

  def delete_bucket(self, bucket_name):
    super().delete_bucket(bucket_name)
    self._note('delete_bucket', bucket_name)

  def delete_file(self, bucket_name, file_name):
    super().delete_file(bucket_name, file_name)
    self._note('delete_file', bucket_name, file_name)

  def patch_object(self, bucket_name, file_name, file_obj):
    super().patch_object(bucket_name, file_name, file_obj)
    content = self.get_file(bucket_name, file_name)
    self._note('put', bucket_name, file_name, file_obj, content=content)

  def create_file(
    self, bucket_name, file_name, content, file_obj, file_id=None
  ):
    """Makes the object, if what its upload is bound to still holds."""
    self.check(self.guards.get(file_id, {}), bucket_name, file_name)
    self._stamp(bucket_name, file_name, file_obj)
    content = bytes(content)
    super().create_file(bucket_name, file_name, content, file_obj)
    self._note('put', bucket_name, file_name, file_obj, content=content)
    if file_id:
      self.delete_resumable_file_obj(file_id)
      self._uploads.pop(file_id, None)
      self.guards.pop(file_id, None)
      self.ended[file_id] = file_obj

  def _stamp(self, bucket: str, name: str, meta: dict) -> None:
    """A generation above all others, given when an object comes to be."""
    self._last = max(self._last + 1, time.time_ns() // 1000)
    now = datetime.datetime.now(datetime.UTC)
    now = now.strftime('%Y-%m-%dT%H:%M:%S.%fZ')
    quoted = urllib.parse.quote(name, safe='')
    host = meta['mediaLink'].partition('/download/')[0]
    link = f'/storage/v1/b/{bucket}/o/{quoted}'
    meta.update(
      id=f'{bucket}/{name}/{self._last}',
      generation=str(self._last),
      metageneration='1',
      etag=base64.b64encode(b'%d' % self._last).decode(),
      selfLink=f'{host}{link}',
      mediaLink=(f'{host}/download{link}?generation={self._last}&alt=media'),
      timeCreated=now,
      updated=now,
    )

  def get_resumable_byte_count(self, file_id):
    return len(self._uploads.get(file_id, b''))

  def add_to_resumable_upload(
    self, file_id, content, total_size=None, expected_start=None
  ):
    """The emulator's, without a copy of all that came before."""
    held = self._uploads.setdefault(file_id, bytearray())
    start = len(held) if expected_start is None else expected_start
    if start > len(held):
      raise exceptions.BadRequest(
        f'Invalid Content-Range start: expected {len(held)}, got {start}'
      )
    held += (content or b'')[len(held) - start :]  # what is there already
    if total_size is None or len(held) < total_size:
      return None
    return bytes(held[:total_size])

  def check(self, query, bucket, name, source: str = '') -> dict | None:
    """Compares an object with the preconditions of a request.

    Args:
      query: Of the request.
      bucket: The object's.
      name: The object's.
      source: 'Source' for those of what is copied.

    Returns:
      Its metadata, or None.

    Raises:
      Refused: One does not hold, or another generation is asked for.
    """
    found = self.objects.get(bucket, {}).get(name)
    asked = query.get('sourceGeneration' if source else 'generation')
    if asked and (not found or asked != found['generation']):
      raise no_object(bucket, name)
    for field in ('Generation', 'Metageneration'):
      there = found[field.lower()] if found else '0'
      expected = query.get(f'if{source}{field}Match', there)
      unwanted = query.get(f'if{source}{field}NotMatch')
      if expected != there or unwanted == there:
        raise Refused(
          412,
          'At least one of the pre-conditions you specified did not hold.',
        )
    return found
