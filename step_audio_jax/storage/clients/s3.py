"""S3, and what speaks like it, through `boto3`.

`AWS_ENDPOINT_URL`, `AWS_PROFILE` and the rest of the client's own variables
and files are honoured as its documentation has it.
"""

import contextlib
import functools
import mimetypes
import os
import pathlib
import threading
from typing import Any
import urllib.parse

import boto3
from botocore import config as boto_config
from botocore import exceptions as boto_exceptions
import urllib3

from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores
from step_audio_jax.storage.clients import translation

_CONNECTIONS = 64
# Above it an object is uploaded in parts, which the store wants above 5 MiB.
_WHOLE = 64 * 2**20
_PART = 64 * 2**20
_LOCK = threading.Lock()
_SUM, _SENDS_SUMS = 'CRC32', 'when_supported'
_PASSING = (408, 409, 429, 500, 502, 503, 504)
# What is said of copies of more than 5 GB.
_TOO_LARGE = ('InvalidRequest', 'EntityTooLarge')
_SLOW = ('SlowDown', 'Throttling', 'RequestTimeout', 'InternalError')
_EXPIRED = ('ExpiredToken', 'InvalidAccessKeyId', 'TokenRefreshRequired')
_LIBRARY = (
  *(boto_exceptions.ClientError, boto_exceptions.BotoCoreError),
  *(urllib3.exceptions.HTTPError, OSError),
)


def open_bucket(name: str) -> stores.Client:
  """The client of one bucket; nothing is asked yet."""
  return _Bucket(name)


@functools.lru_cache(maxsize=1)
def _session(process: int) -> boto3.session.Session:
  """What has read the descriptions of the protocol, which takes its time."""
  del process
  return boto3.session.Session()


@functools.lru_cache(maxsize=2)
def _client(process: int, connect: float, read: float) -> Any:
  # By process: connections do not outlive a fork.
  try:
    with _LOCK:  # a session makes one at a time
      return _session(process).client(
        's3',
        config=boto_config.Config(
          connect_timeout=connect,
          read_timeout=read,
          max_pool_connections=_CONNECTIONS,
          retries={'total_max_attempts': 1},
        ),
      )
  except boto_exceptions.BotoCoreError as error:
    raise failures.Denied('s3://', translation.told(error)) from error


def endpoint() -> tuple[str, str]:
  """The address of the server, '' for Amazon's own, and its region.

  As the variables and the files of the client's configuration say.
  """
  limits = failures.limits()
  meta = _client(os.getpid(), limits.connect, limits.read).meta
  host = urllib.parse.urlsplit(meta.endpoint_url).hostname or ''
  own = host.endswith(('.amazonaws.com', '.amazonaws.com.cn'))
  return '' if own else meta.endpoint_url, meta.region_name or 'us-east-1'


class _Bucket(translation.Translating):
  """See `stores.Client`."""

  def __init__(self, name: str):
    super().__init__(f's3://{name}', _LIBRARY, _meaning)
    self._name = name

  @property
  def _client(self) -> Any:
    limits = failures.limits()
    return _client(os.getpid(), limits.connect, limits.read)

  def head(self, key):
    try:
      with self._translated(key):
        found = self._client.head_object(Bucket=self._name, Key=key)
    except failures.Missing:
      self._check_bucket(key)
      return None
    return _entry(key, found)

  def get(self, key, begin, end, version):
    if end is not None and end <= begin:
      return b'', version
    told = {'IfMatch': f'"{version}"'} if version else {}
    if begin or end is not None:
      told['Range'] = f'bytes={begin}-{"" if end is None else end - 1}'
    try:
      with self._translated(key):
        found = self._client.get_object(Bucket=self._name, Key=key, **told)
        with found['Body'] as body:
          content = body.read()
        if len(content) != found['ContentLength']:
          raise failures.Transient('cut')
    except translation.PastEnd:
      return b'', version
    except failures.Missing:
      self._check_bucket(key)
      raise
    return content, found['ETag'].strip('"')

  def put(self, key, content, token, version):
    told = {
      'Bucket': self._name,
      'Key': key,
      'Metadata': {stores.TOKEN: token},
      'ContentType': mimetypes.guess_type(key)[0] or 'application/octet-stream',
    }
    only = {}
    if version is not None:
      only = {'IfMatch': f'"{version}"'} if version else {'IfNoneMatch': '*'}
    size = stores.size_of(content)
    if size > _WHOLE:
      return self._put_parts(key, content, size, told, only, token)
    with self._translated(key, of_bucket=True), _opened(content) as body:
      made = self._client.put_object(Body=body, **told, **only)
    return stores.Entry(key, size, 0, made['ETag'].strip('"'), token)

  def _put_parts(self, key, content, size, told, only, token):
    target = {'Bucket': self._name, 'Key': key}
    # The client sends sums of parts by itself. The store takes them only of an
    # upload that was begun with them, and then wants them at its end, too.
    summed = {}
    if self._client.meta.config.request_checksum_calculation == _SENDS_SUMS:
      summed = {'ChecksumAlgorithm': _SUM}
    with self._translated(key, of_bucket=True):
      made = self._client.create_multipart_upload(**told, **summed)
      upload = made['UploadId']

    def send(number):
      begin = (number - 1) * _PART
      with _opened(content) as body:
        if isinstance(body, bytes):
          part = body[begin : begin + _PART]
        else:
          body.seek(begin)
          part = body.read(_PART)
      with self._translated(key, of_bucket=True):
        sent = self._client.upload_part(
          **target, UploadId=upload, PartNumber=number, Body=part, **summed
        )
      told = ('ETag', f'Checksum{_SUM}')
      known = {name: sent[name] for name in told if name in sent}
      return {'PartNumber': number, **known}

    try:
      parts = [
        failures.persist(
          f'{self._root}/{key}', lambda _, number=number: send(number)
        )
        for number in range(1, -(-size // _PART) + 1)
      ]
      with self._translated(key, of_bucket=True):
        made = self._client.complete_multipart_upload(
          **target, UploadId=upload, MultipartUpload={'Parts': parts}, **only
        )
    except BaseException:
      with contextlib.suppress(Exception):
        self._client.abort_multipart_upload(**target, UploadId=upload)
      raise
    return stores.Entry(key, size, 0, made['ETag'].strip('"'), token)

  def page(self, prefix, flat, at, most):
    told: dict[str, Any] = {'Prefix': prefix} if prefix else {}
    if not flat:
      told['Delimiter'] = '/'
    if at is not None:
      told['ContinuationToken'] = at
    if most:
      told['MaxKeys'] = most
    with self._translated(prefix, of_bucket=True):
      found = self._client.list_objects_v2(Bucket=self._name, **told)
    entries = [_entry(one['Key'], one) for one in found.get('Contents', ())]
    folders = [one['Prefix'] for one in found.get('CommonPrefixes', ())]
    return [*entries, *folders], found.get('NextContinuationToken')

  def copy(self, key, target):
    source = {'Bucket': self._name, 'Key': key}
    with self._translated(key):
      try:
        # One request, and the copy keeps its sum and its metadata.
        self._client.copy_object(
          CopySource=source, Bucket=self._name, Key=target
        )
      except boto_exceptions.ClientError as error:
        if error.response.get('Error', {}).get('Code') not in _TOO_LARGE:
          raise
        self._client.copy(source, self._name, target)  # in parts

  def delete(self, key):
    with self._translated(key):
      self._client.delete_object(Bucket=self._name, Key=key)


def _meaning(error, where, root, of_bucket) -> Exception:
  """What an error of the libraries says of a request."""
  told = getattr(error, 'response', None)
  told = told if isinstance(told, dict) else {}
  status = told.get('ResponseMetadata', {}).get('HTTPStatusCode')
  code = told.get('Error', {}).get('Code', '')
  if code == 'NoSuchUpload':
    return failures.Transient('upload')  # it is begun again
  if code == 'NoSuchBucket' or (status == 404 and of_bucket):
    return failures.Missing(root, 'no such bucket')
  if status == 404:
    return failures.Missing(where, 'no such object')
  if code in _EXPIRED or status == 401:
    return failures.Denied(
      where, f'the credentials are no longer good ({translation.told(error)})'
    )
  if status == 403:
    return failures.Denied(
      where, f'no permission for it ({translation.told(error)})'
    )
  if status in (304, 412):
    return failures.Occupied(where, 'it is another object now than it was')
  if status == 416:
    return translation.PastEnd()
  if status in _PASSING or code.startswith(_SLOW):
    headers = told.get('ResponseMetadata', {}).get('HTTPHeaders', {})
    return failures.Transient(str(status), translation.pause(headers))
  if status is not None:
    return failures.StoreError(
      where, f'the store answered {status} ({translation.told(error)})'
    )
  if isinstance(
    error,
    (
      *(boto_exceptions.NoCredentialsError, boto_exceptions.ProfileNotFound),
      boto_exceptions.PartialCredentialsError,
      boto_exceptions.TokenRetrievalError,
    ),
  ):
    return failures.Denied(
      where, f'no good credentials ({translation.told(error)})'
    )
  if isinstance(
    error,
    (
      *(boto_exceptions.ConnectTimeoutError, boto_exceptions.ReadTimeoutError),
      urllib3.exceptions.TimeoutError,
    ),
  ):
    return failures.Transient('time-out')
  if isinstance(
    error,
    (
      *(boto_exceptions.IncompleteReadError, urllib3.exceptions.HTTPError),
      boto_exceptions.ResponseStreamingError,
      boto_exceptions.FlexibleChecksumError,
    ),
  ):
    return failures.Transient('cut')
  if isinstance(
    error,
    (
      *(boto_exceptions.HTTPClientError, boto_exceptions.ConnectionError),
      ConnectionError,
    ),
  ):
    return failures.Transient('connection')
  if isinstance(error, OSError):
    return error  # of a file of this machine
  return failures.StoreError(where, translation.told(error))


def _opened(content: bytes | pathlib.Path):
  if isinstance(content, bytes):
    return contextlib.nullcontext(content)
  return open(content, 'rb')


def _entry(key: str, found: Any) -> stores.Entry:
  return stores.Entry(
    key=key,
    size=int(found.get('ContentLength', found.get('Size', 0))),
    changed=int(found['LastModified'].timestamp() * 1e9),
    version=found['ETag'].strip('"'),
    token=(found.get('Metadata') or {}).get(stores.TOKEN, ''),
    sum=f'etag:{found["ETag"].strip(chr(34))}',
  )
