"""Google Cloud Storage through its own client, `google-cloud-storage`.

`STORAGE_EMULATOR_HOST` names a server that stands in for it, as the client's
own documentation has it.
"""

import base64
import functools
import mimetypes
import os
from typing import Any

from google.api_core import exceptions as api_exceptions
from google.api_core import retry as api_retry
import google.auth
from google.auth import credentials as auth_credentials
from google.auth import exceptions as auth_exceptions
from google.cloud import storage
from google.cloud.storage import exceptions as storage_exceptions
import requests
import urllib3

from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores
from step_audio_jax.storage.clients import translation

_EMULATOR = 'STORAGE_EMULATOR_HOST'
_CONNECTIONS = 64
# Above it the client uploads in pieces.
_WHOLE = 8 * 2**20
_PIECE = 32 * 2**20
# 410: an upload in pieces that the store forgot; it is begun again.
_PASSING = (408, 410, 429, 500, 502, 503, 504)
_LIBRARY = (
  *(api_exceptions.GoogleAPIError, auth_exceptions.GoogleAuthError),
  *(requests.exceptions.RequestException, urllib3.exceptions.HTTPError),
  *(storage_exceptions.DataCorruption, storage_exceptions.InvalidResponse),
  OSError,
)


def open_bucket(name: str) -> stores.Client:
  """The client of one bucket; nothing is asked yet."""
  return _Bucket(f'gs://{name}', _client(os.getpid()).bucket(name))


@functools.lru_cache(maxsize=1)
def _client(process: int) -> storage.Client:
  del process  # connections do not outlive a fork
  if os.environ.get(_EMULATOR):
    found = auth_credentials.AnonymousCredentials()
  else:
    try:
      found, _ = google.auth.default(
        scopes=['https://www.googleapis.com/auth/devstorage.read_write']
      )
    except auth_exceptions.DefaultCredentialsError as error:
      raise failures.Denied(
        'gs://',
        'no credentials were found; expected '
        '`gcloud auth application-default login`, a file in '
        '$GOOGLE_APPLICATION_CREDENTIALS, or a machine with a service account',
      ) from error
  client = storage.Client(project='step-audio-jax', credentials=found)
  adapter = requests.adapters.HTTPAdapter(
    pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS
  )
  for scheme in ('http://', 'https://'):
    client._http.mount(scheme, adapter)
  return client


class _Bucket(translation.Translating):
  """See `stores.Client`."""

  def __init__(self, root: str, bucket: storage.Bucket):
    super().__init__(root, _LIBRARY, _meaning)
    self._bucket = bucket

  def head(self, key):
    blob = self._bucket.blob(key)
    try:
      with self._translated(key):
        blob.reload(retry=None, timeout=_timeout())
    except failures.Missing:
      self._check_bucket(key)
      return None
    return _entry(blob)

  def get(self, key, begin, end, version):
    if end is not None and end <= begin:
      return b'', version
    blob = self._bucket.blob(key)
    try:
      with self._translated(key):
        content = blob.download_as_bytes(
          start=begin or None if end is None else begin,
          end=None if end is None else end - 1,
          raw_download=True,
          if_generation_match=int(version) if version else None,
          checksum='crc32c' if not begin and end is None else None,
          retry=None,
          single_shot_download=True,
          timeout=_timeout(),
        )
    except translation.PastEnd:
      return b'', version
    except failures.Missing:
      self._check_bucket(key)
      raise
    found = blob.generation
    return content, str(found) if found is not None else None

  def put(self, key, content, token, version):
    blob = self._bucket.blob(key)
    blob.metadata = {stores.TOKEN: token}
    told = dict(
      content_type=mimetypes.guess_type(key)[0] or 'application/octet-stream',
      if_generation_match=None if version is None else int(version or 0),
      checksum='crc32c',
      timeout=_timeout(),
    )
    with self._translated(key, of_bucket=True):
      size = stores.size_of(content)
      if size > _WHOLE:
        blob.chunk_size = _PIECE
      retry = _retry() if size > _WHOLE else None
      if isinstance(content, bytes):
        blob.upload_from_string(content, retry=retry, **told)
      else:
        blob.upload_from_filename(str(content), retry=retry, **told)
    return _entry(blob)

  def page(self, prefix, flat, at, most):
    with self._translated(prefix, of_bucket=True):
      found = self._bucket.client.list_blobs(
        self._bucket,
        prefix=prefix or None,
        delimiter=None if flat else '/',
        page_token=at,
        page_size=most,
        retry=None,
        timeout=_timeout(),
      )
      page = next(found.pages, ())
      entries = [_entry(blob) for blob in page]
    folders = [] if flat else list(getattr(page, 'prefixes', ()))
    return [*entries, *folders], found.next_page_token

  def copy(self, key, target):
    with self._translated(key):
      source, blob = self._bucket.blob(key), self._bucket.blob(target)
      token = None
      while True:
        token, *_ = blob.rewrite(
          source, token=token, retry=None, timeout=_timeout()
        )
        if token is None:
          return

  def delete(self, key):
    with self._translated(key):
      self._bucket.delete_blob(key, retry=None, timeout=_timeout())


def _meaning(error, where, root, of_bucket) -> Exception:
  """What an error of the libraries says of a request."""
  status = _status(error)
  if status == 404:
    if of_bucket:
      return failures.Missing(root, 'no such bucket')
    return failures.Missing(where, 'no such object')
  if status in (401, 403):
    return failures.Denied(
      where, f'{_DENIED[status]} ({status}: {translation.told(error)})'
    )
  if status in (304, 412):
    return failures.Occupied(where, 'it is another object now than it was')
  if status == 416:
    return translation.PastEnd()
  if status in _PASSING:
    headers = getattr(getattr(error, 'response', None), 'headers', None) or {}
    return failures.Transient(str(status), translation.pause(headers))
  if status is not None:
    return failures.StoreError(
      where, f'the store answered {status} ({translation.told(error)})'
    )
  if isinstance(error, auth_exceptions.GoogleAuthError):
    # The server of a machine's own credentials may be busy for a while.
    if error.retryable or any(
      isinstance(one, auth_exceptions.TransportError)
      for one in (error, error.__cause__)
    ):
      return failures.Transient('credentials')
    return failures.Denied(
      where, f'the credentials are no longer good ({translation.told(error)})'
    )
  if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
    return failures.Transient('time-out')
  if isinstance(error, storage_exceptions.DataCorruption):
    return failures.Transient('checksum')
  if isinstance(error, (requests.ConnectionError, ConnectionError)):
    return failures.Transient('connection')
  if isinstance(error, OSError) and not isinstance(
    error, requests.RequestException
  ):
    return error  # of a file of this machine
  return failures.Transient('cut')


_DENIED = {
  401: 'not known, or no longer: expected credentials that are good',
  403: 'no permission for it',
}


def _status(error) -> int | None:
  if isinstance(error, api_exceptions.GoogleAPICallError):
    return int(error.code) if error.code is not None else None
  response = getattr(error, 'response', None)
  return getattr(response, 'status_code', None)


def _timeout() -> tuple[float, float]:
  limits = failures.limits()
  return limits.connect, limits.read


def _retry() -> api_retry.Retry:
  """For the pieces of one upload: those that were taken are not sent again."""

  def passes(error):
    meant = _meaning(error, '', '', True)
    return isinstance(error, _LIBRARY) and isinstance(meant, failures.Transient)

  def counted(error):
    failures.count('retries')
    failures.count(f'retries/{_status(error) or "connection"}')

  limits = failures.limits()
  return api_retry.Retry(
    predicate=passes,
    initial=limits.first_pause,
    maximum=limits.longest_pause,
    timeout=limits.seconds,
    on_error=counted,
  )


def _entry(blob: Any) -> stores.Entry:
  changed = blob.updated or blob.time_created
  return stores.Entry(
    key=blob.name,
    size=int(blob.size or 0),
    changed=int(changed.timestamp() * 1e9) if changed else 0,
    version=str(blob.generation),
    token=(blob.metadata or {}).get(stores.TOKEN, ''),
    # Objects that were composed of others have no such sum.
    sum=f'md5:{base64.b64decode(blob.md5_hash).hex()}'
    if blob.md5_hash
    else f'etag:{blob.crc32c}',
  )
