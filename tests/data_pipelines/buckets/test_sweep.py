"""What killed jobs leave is named, and goes only where nobody needs it."""

import json

import pytest

from step_audio_jax.storage import files
from step_audio_jax.storage.buckets import claims
from step_audio_jax.training.checkpoints import remote

LEFT = {
  '.stats.json.4711.tmp': 'temporary',
  'run/.metrics.1f2e3d4c-17.tmp/a/b': 'temporary',
  'run/.x.17.old.tmp/y': 'temporary',
  'corpora/speech/.parts-0f1e2d/000000.jsonl': 'unfinished',
  'rows/q_asr/.train.parts/00000-of-00002/stats.json': 'unfinished',
  'mine/.ingest/audio/a.wav': 'unfinished',
  'codes/codes-00000-of-00002.journal': 'unfinished',
  'codes/.complaints/00000.error.json': 'unfinished',
}
OURS = (
  *('codes/codes-00001-of-00002.json', 'corpora/speech/wav/a.wav', '.tmp'),
  *('a.tmp', '.hidden/x', 'notes.journal', 'run/x.parts/y', 'rows/parts'),
)


@pytest.fixture(autouse=True)
def short_leases(monkeypatch):
  monkeypatch.setattr(claims.Lease, 'seconds', 3.0)


def fill(folder):
  for name in (*LEFT, *OURS):
    path = folder / name
    files.make_folder(path.parent)
    files.write_bytes(path, name.encode())


def all_of(folder):
  return {p.relative_to(folder).as_posix() for p in files.list_files(folder)}


def places(told, folder):
  return {
    one['path'].removeprefix(f'{folder}/'): (one['why'], bool(one['kept']))
    for one in told['left']
  }


def check_sweeping(call, folder):
  fill(folder)
  status, told = call('inspect', '--sweep', f'--path={folder}')
  assert status == 0 and told['deleted'] == told['removable'] == 0
  assert len(told['left']) == len(LEFT)
  assert all('not long ago' in one['kept'] for one in told['left'])
  flags = ['--sweep', f'--path={folder}', '--hours=0']
  status, told = call('inspect', *flags)
  found = places(told, folder)
  assert told['removable'] == len(LEFT) and told['deleted'] == 0
  assert told['bytes'] == sum(map(len, LEFT))
  for name, why in LEFT.items():
    (place,) = (p for p in found if name == p or name.startswith(f'{p}/'))
    assert found[place] == (why, False)
  assert all_of(folder) == {*LEFT, *OURS}
  assert call('inspect', *flags, '--delete', '--dry_run')[1]['deleted'] == 0
  assert call('inspect', *flags, '--delete')[1]['deleted'] == len(LEFT)
  assert all_of(folder) == set(OURS)
  assert call('inspect', *flags)[1]['left'] == []


def check_held(call, folder):
  """What a living process holds stays, whatever its age."""
  fill(folder)
  journal = folder / 'codes/codes-00000-of-00002.journal'
  with files.only_one(folder / 'mine/.ingest'), files.only_one(folder / 'run'):
    with files.claim_file(journal):
      flags = ['--sweep', f'--path={folder}', '--hours=0', '--delete']
      _, told = call('inspect', *flags)
      kept = {name for name, (_, is_kept) in places(told, folder).items()
              if is_kept and not name.endswith('.lock')}  # fmt: skip
      assert kept == {
        *('mine/.ingest', 'codes/codes-00000-of-00002.journal'),
        *('run/.metrics.1f2e3d4c-17.tmp', 'run/.x.17.old.tmp'),
      }
  assert files.exists(folder / 'mine/.ingest/audio/a.wav')
  assert call('inspect', *flags)[1]['deleted'] >= len(kept)
  assert not files.exists(folder / 'mine/.ingest/audio')


def test_a_disk_is_swept(call, tmp_path):
  check_sweeping(call, tmp_path / 'a')
  check_held(call, tmp_path / 'b')


def test_a_bucket_is_swept(call, root):
  check_sweeping(call, root / 'a')


def test_what_is_held_in_a_bucket_stays(call, root):
  check_held(call, root)


@pytest.mark.parametrize('root', ['gs'], indirect=True)
def test_a_lease_that_nobody_renews_goes(call, root, monkeypatch):
  monkeypatch.setattr(claims.Lease, 'seconds', 0.3)
  other = {'host': 'far', 'user': 'me', 'process': 7, 'token': 'z'}
  files.write_bytes(root / 'run/.lock', json.dumps(other).encode())
  flags = ['--sweep', f'--path={root}']
  assert places(call('inspect', *flags)[1], root) == {
    'run/.lock': ('lease', False)
  }
  assert call('inspect', *flags, '--delete')[1]['deleted'] == 1
  assert not files.exists(root)


@pytest.mark.parametrize('where', ['disk', 'bucket'])
@pytest.mark.parametrize('root', ['gs'], indirect=True)
def test_steps_that_were_not_saved_to_their_end(call, root, tmp_path, where):
  run = (root if where == 'bucket' else tmp_path) / 'run'
  half = '20' if where == 'bucket' else '20.orbax-checkpoint-tmp'
  for name in ('10/variables/a', f'10/{remote.COMMIT}', f'{half}/variables/a'):
    files.make_folder((run / 'checkpoints' / name).parent)
    files.write_bytes(run / 'checkpoints' / name, b'x')
  flags = ['--sweep', f'--path={run.parent}', '--hours=0', '--delete']
  with files.only_one(run):
    found = places(call('inspect', *flags)[1], run.parent)
    assert found[f'run/checkpoints/{half}'] == ('checkpoint', True)
  assert places(call('inspect', *flags)[1], run.parent) == {
    f'run/checkpoints/{half}': ('checkpoint', False)
  }
  left = {name for name in all_of(run) if name != '.lock'}
  assert left == {
    'checkpoints/10/variables/a',
    f'checkpoints/10/{remote.COMMIT}',
  }


def test_sweeping_says_what_is_wrong(call, tmp_path):
  for flags, said in {
    ('--sweep', f'--path={tmp_path}/gone'): 'gone: no such folder',
    ('--sweep', f'--path={tmp_path}', '--hours=-1'): '--hours: found -1.0',
    ('--delete', f'--path={tmp_path}'): '--delete: expected it with --sweep',
  }.items():
    status, told = call('inspect', *flags)
    assert status == 2 and said in told
