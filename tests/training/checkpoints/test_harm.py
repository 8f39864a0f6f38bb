"""What a store does to a run on a bad day costs no checkpoint."""

import dataclasses
import hashlib
import json

import pytest

from benchmarks.buckets import rules as rules_lib
from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage.buckets import libraries
from step_audio_jax.storage.clients import s3
from step_audio_jax.training import loop
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import sums
from tests import stores
from tests.training import toy_regression
from tests.training.checkpoints.test_checkpoints import empty
from tests.training.checkpoints.test_checkpoints import save


@pytest.fixture
def proxy(root, bucket_servers, monkeypatch):
  """A proxy in front of the store of `root`, through which all goes."""
  with stores.behind_proxy(root, bucket_servers, monkeypatch) as one:
    yield one


def restored(run):
  store = checkpoints.Checkpoints(run)
  try:
    return store.restore(*empty())[0]
  finally:
    store.close()


@pytest.mark.parametrize(
  'rule',
  [
    rules_lib.Rule('answer', name='/2/sha256', times=-1),
    rules_lib.Rule('answer', name='/2/variables/', op='get', status=403),
  ],
  ids=['sums', 'arrays'],
)
def test_a_step_that_nobody_answers_for_stays(root, proxy, rule, capsys):
  root = root / rule.name.strip('/').replace('/', '.')
  save(root, [1, 2])
  proxy.set(rules=[dataclasses.replace(rule, times=-1)])
  with pytest.raises(errors.UserError) as caught:
    restored(root)
  assert str(caught.value).count('\n') == 0
  proxy.set(rules=[])
  assert restored(root) == 2
  assert checkpoints.all_steps(root) == [1, 2]
  assert 'moved to' not in capsys.readouterr().err


def test_only_the_first_process_clears_after_a_save_that_failed(
  root, monkeypatch
):
  store = checkpoints.Checkpoints(root)
  half = root / 'checkpoints/7/variables/manifest'
  files.write_bytes(half, b'of a job that lives')
  with monkeypatch.context() as patch:
    patch.setattr(checkpoints.jax, 'process_index', lambda: 1)
    told = store._failed(RuntimeError('cut'))
  assert 'could not be written' in str(told)
  assert files.exists(half)


def test_lines_of_a_step_are_there_before_it_is(root, monkeypatch):
  save_ = checkpoints.Checkpoints.save
  seen = []

  def watched(self, step, *rest):
    told = files.read_text(root / 'metrics.jsonl').splitlines()
    seen.append((step, json.loads(told[-1])['step'] if told else 0))
    return save_(self, step, *rest)

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', watched)
  made = toy_regression.trainer(steps=4, log_every=1, checkpoint_every=2)
  loop.run(made, root)
  assert seen == [(2, 2), (4, 4)]


def test_a_copy_that_was_made_in_parts_is_the_same_step(root):
  path = root / 'x'
  files.write_bytes(path, b'abc')
  expected = f'etag:{hashlib.md5(b"abc").hexdigest()}'
  entry = dataclasses.replace(files.entries(root)['x'], sum='etag:0a-2')
  assert sums._sum(path, expected, entry, True) == expected
  files.write_bytes(path, b'abd')
  assert sums._sum(path, expected, entry, True) != expected


def test_a_copied_step_whose_sums_are_not_of_the_content(root, monkeypatch):
  # So S3 answers where a service holds the key that a bucket is encrypted with.
  def encrypted(folder):
    return {
      name: dataclasses.replace(
        one, sum=f'etag:{hashlib.md5(one.version.encode()).hexdigest()}'
      )
      for name, one in entries(folder).items()
    }

  entries = files.entries
  monkeypatch.setattr(files, 'entries', encrypted)
  for name in ('x', 'params/y'):
    files.write_bytes(root / '7' / name, name.encode())
  sums.write(root / '7')
  sums.check(root / '7')
  for name in ('x', 'params/y', sums.NAME):
    files.write_bytes(root / '8' / name, files.read_bytes(root / '7' / name))
  sums.check(root / '8')  # where it was copied to, nothing can be compared
  files.write_bytes(root / '7/params/y', b'other')
  with pytest.raises(errors.UserError, match='params/y: not the bytes'):
    sums.check(root / '7')


def test_arrays_go_to_the_server_that_all_else_goes_to(tmp_path, monkeypatch):
  config = tmp_path / 'config'
  config.write_text(
    '[default]\nregion = far-1\nendpoint_url = http://127.0.0.1:9\n'
  )
  for name in ('ENDPOINT_URL', 'ENDPOINT_URL_S3', 'REGION', 'DEFAULT_REGION'):
    monkeypatch.delenv(f'AWS_{name}', raising=False)
  monkeypatch.setenv('AWS_CONFIG_FILE', str(config))
  stores.forget()
  found = libraries.kvstore(files.path('s3://bucket/x'))
  assert (found['endpoint'], found['aws_region']) == (
    'http://127.0.0.1:9',
    'far-1',
  )
  config.write_text('[default]\nregion = us-west-2\n')
  stores.forget()
  assert 'endpoint' not in libraries.kvstore(files.path('s3://bucket/x'))
  assert s3.endpoint() == ('', 'us-west-2')
  stores.forget()
