"""What goes wrong in a store, or is meant to, harms nothing that is whole."""

import contextlib
import threading
import time

from google.auth import exceptions as auth_exceptions
import pytest

from benchmarks.buckets import rules as rules_lib
from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage.buckets import claims
from step_audio_jax.storage.buckets import copies
from step_audio_jax.storage.buckets import libraries
from step_audio_jax.storage.buckets import publishing
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import gcs
from step_audio_jax.storage.clients import s3
from step_audio_jax.storage.clients import stores as stores_lib
from tests import stores


@pytest.fixture
def proxy(root, bucket_servers, monkeypatch):
  """A proxy in front of the store of `root`, through which all goes."""
  with stores.behind_proxy(root, bucket_servers, monkeypatch) as one:
    yield one


def test_an_outage_is_no_absence(root, proxy):
  files.write_bytes(root / 'x', b'1')
  system = libraries._Google() if root.scheme == 'gs' else libraries._Amazon()
  asked = (system.exists, system.isfile, system.isdir)
  assert [ask(str(root / 'x')) for ask in asked] == [True, True, False]
  assert [ask(str(root)) for ask in asked] == [True, False, True]
  assert not any(ask(str(root / 'y')) for ask in asked)
  proxy.set(rules=[rules_lib.Rule('answer', times=-1)])
  for ask in (*asked, files.exists, files.is_file, files.is_dir):
    with pytest.raises(failures.StoreError, match='no answer after'):
      ask(str(root / 'x'))


def test_who_may_not_list_a_bucket_may_find_nothing(root, proxy):
  proxy.set(
    rules=[rules_lib.Rule('answer', op='list', times=-1, status=403)],
  )
  assert not files.is_file(root / 'x')
  with pytest.raises(failures.Missing, match='no such object'):
    files.read_bytes(root / 'x')


def test_a_copy_inside_a_bucket_is_one_request(root, proxy):
  files.write_bytes(root / 'x', bytes(9 * 2**20))
  before = files.entries(root)['x'].sum
  proxy.set(forget=True)
  files.put(root / 'x', root / 'y')
  assert proxy.count('copy') == 1 and proxy.count('start') == 0
  assert files.entries(root)['y'].sum == before


def test_parts_are_sent_with_the_sums_that_the_store_asks_for(
  root, monkeypatch
):
  if root.scheme != 's3':
    pytest.skip('parts are a matter of S3')
  monkeypatch.setattr(s3, '_WHOLE', 5 * 2**20)
  monkeypatch.setattr(s3, '_PART', 5 * 2**20)
  content, told = bytes(range(256)) * (6 * 2**12), []
  client = stores_lib.bucket_of(root)._client._client
  client.meta.events.register(
    'provide-client-params.s3.*',
    lambda params, model, **_: told.append((model.name, params)),
  )
  files.write_bytes(root / 'x', content)
  assert files.read_bytes(root / 'x') == content
  told = dict(told)
  algorithm = told['CreateMultipartUpload']['ChecksumAlgorithm']
  parts = told['CompleteMultipartUpload']['MultipartUpload']['Parts']
  assert len(parts) == 2 and all(f'Checksum{algorithm}' in p for p in parts)


def test_a_claim_outlives_answers_that_are_late_or_lost(
  root, proxy, monkeypatch
):
  monkeypatch.setattr(claims.Lease, 'seconds', 1.5)
  with files.only_one(root / 'run'):
    rule = rules_lib.Rule('late', op='put', name='lock', seconds=5.0)
    proxy.set(rules=[rule])
    time.sleep(2.5)
    files.write_json(root / 'run/x', 1)
    monkeypatch.setattr(failures.LIMITS, 'tries', 1)
    proxy.set(rules=[rules_lib.Rule('lose', op='put', name='lock', times=2)])
    time.sleep(2.0)
    files.write_json(root / 'run/x', 2)
  assert not files.exists(root / 'run/.lock')


def test_the_claim_of_the_next_one_is_not_taken_back(root, monkeypatch):
  lease = claims.Lease(root / '.lock', root)
  lease.take(wait=False)
  client = lease._bucket._client
  delete = client.delete

  def unheard(key):
    monkeypatch.setattr(client, 'delete', delete)
    delete(key)
    files.write_bytes(root / '.lock', b'{"token": "of the next"}')
    raise failures.Transient('lost')

  monkeypatch.setattr(client, 'delete', unheard)
  lease.release()
  assert files.read_json(root / '.lock') == {'token': 'of the next'}


def test_a_lost_claim_is_of_its_folder_alone(root):
  with files.only_one(root / 'run'):
    lease = claims.Lease.held[f'{root / "run"}']
    lease._over.set()
    lease._thread.join()
    lease._good_until = 0.0
    files.write_json(root / 'run2', 1)
    for name in ('run/x', 'run'):
      with pytest.raises(errors.UserError, match='the claim on it was lost'):
        files.write_json(root / name, 1)


def test_a_busy_server_of_credentials_is_asked_again():
  busy = auth_exceptions.RefreshError('no answer')
  busy.__cause__ = auth_exceptions.TransportError('503')
  gone = auth_exceptions.RefreshError('revoked')
  kinds = [type(gcs._meaning(one, '', '', False)) for one in (busy, gone)]
  assert kinds == [failures.Transient, failures.Denied]


def test_limits_of_one_thread_end_with_their_block(monkeypatch):
  before = failures.limits()
  with contextlib.suppress(ZeroDivisionError), failures.within(2.0):
    assert failures.limits().read <= 1.0
    raise ZeroDivisionError
  assert failures.limits() == before
  # Nor does the thread keep what held for all then.
  monkeypatch.setattr(failures, 'LIMITS', failures.Limits(tries=3))
  assert failures.limits().tries == 3


def test_what_no_path_can_name_is_not_lost_by_a_move(root, tmp_path):
  bucket = stores_lib.bucket_of(root)
  for name in ('a', 'b/c', 'b//odd', 'b/'):
    bucket.put(f'{root.key}/from/{name}', b'' if name == 'b/' else b'1')
  files.move(root / 'from', root / 'to')
  names = sorted(one.key[len(root.key) :] for one in bucket.list(root.key))
  assert names == ['/from/b//odd', '/to/a', '/to/b/c']


def test_a_folder_that_moves_is_known_last_and_forgotten_first(root, proxy):
  for name in ('stats.json', 'z/commit_success.txt', 'z/a', 'rows'):
    files.write_bytes(root / 'from' / name, b'1')
  proxy.set(forget=True)
  files.move(root / 'from', root / 'to')
  short = [(one.op, one.name.rpartition('/')[2]) for one in proxy.asked]
  known = ['commit_success.txt', 'stats.json']
  assert [name for op, name in short if op == 'copy'][2:] == known
  gone = [name for op, name in short if op == 'delete']
  assert set(gone[:2]) == set(known) and set(gone[2:]) == {'a', 'rows'}


def test_half_a_download_is_no_file(root, proxy, tmp_path):
  files.write_bytes(root / 'x', bytes(5 * 2**20))
  (tmp_path / 'x').write_bytes(b'before')
  rule = rules_lib.Rule('answer', op='get', skip=1, times=-1)
  proxy.set(rules=[rule])
  with pytest.raises(failures.StoreError):
    files.move(root / 'x', tmp_path / 'x')
  assert [path.read_bytes() for path in tmp_path.iterdir()] == [b'before']


def test_a_bucket_is_no_folder_to_replace(root):
  whole = files.path(f'{root.scheme}://{root.bucket}')
  with pytest.raises(errors.UserError, match='found a whole bucket, expected'):
    with files.atomic_folder(whole, replace=True):
      pass


def test_what_a_neighbour_writes_is_not_taken_for_left_over(root):
  with files.atomic_folder(root / 'rows.v2') as part:
    files.write_json(part / 'stats.json', 2)
    with files.atomic_folder(root / 'rows', replace=True) as other:
      files.write_json(other / 'stats.json', 1)
  assert files.read_json(root / 'rows.v2/stats.json') == 2


def test_copies_of_somebody_else_are_not_read(root, tmp_path, monkeypatch):
  monkeypatch.setenv('STEP_AUDIO_JAX_COPIES', str(tmp_path))
  files.write_bytes(root / 'x', b'1')
  with files.as_local(root / 'x') as one:
    assert one.read_bytes() == b'1'
  monkeypatch.setattr(copies.os, 'getuid', lambda: 2**20)
  with pytest.raises(errors.UserError, match='belongs to somebody else'):
    with files.as_local(root / 'x'):
      pass


def test_a_log_may_grow_while_it_is_sent(root, monkeypatch):
  monkeypatch.setattr(publishing, '_IN_MEMORY', 0)
  handle = files.open_log(root / 'log', 'wb')
  over = threading.Event()

  def grow():
    for _ in range(200):
      handle.write(b'x' * 2**16)
      handle.flush()
      if over.wait(0.002):
        return

  thread = threading.Thread(target=grow)
  thread.start()
  try:
    for _ in range(3):
      files.persist(handle)
  finally:
    over.set()
    thread.join()
    handle.close()
  assert set(files.read_bytes(root / 'log')) == {ord('x')}
