"""What `files` does in a bucket is what it does on a disk: the oracle."""

import contextlib
import json
import random
import time

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.storage.buckets import claims
from step_audio_jax.storage.buckets import publishing
from step_audio_jax.storage.buckets import reading

NAMES = ('a', 'b.json', 'c d/e.x', 'c d/ü/f', 'c d/ü/g.json', '.h/i', 'a+%b')


@pytest.fixture
def both(root, tmp_path):
  """A folder of a disk, and one of a bucket."""
  return tmp_path / 'x', root


def tree(folder):
  found = files.list_files(folder)
  return sorted(
    (path.relative_to(folder).as_posix(), files.read_bytes(path))
    for path in found
  )


def same(both, function):
  """What a function gives on both, or the errors that it raises."""
  told = []
  for folder in both:
    try:
      found = function(folder)
    except OSError as error:
      found = next(
        kind
        for kind in (FileNotFoundError, FileExistsError, OSError)
        if isinstance(error, kind)
      )
    except errors.UserError as error:
      found = str(error).replace(str(folder), 'FOLDER')
    told.append(found)
  assert told[0] == told[1]
  return told[0]


def fill(folder):
  for place, name in enumerate(NAMES):
    files.make_folder((folder / name).parent)
    files.write_bytes(folder / name, b'x' * place)


def relative(folder, found):
  return sorted(path.relative_to(folder).as_posix() for path in found)


def test_what_lies_where(both):
  for folder in both:
    fill(folder)
  for name in (*NAMES, 'c d', 'c d/ü', 'c', 'missing', 'a/b', ''):
    for look in (files.exists, files.is_file, files.is_dir, files.is_named):
      same(both, lambda f, look=look, name=name: look(f / name))
  for name in (*NAMES, 'missing'):
    same(both, lambda f, name=name: files.size(f / name))
    same(both, lambda f, name=name: files.state(f / name).size)
    same(both, lambda f, name=name: files.look(f'{f / name}')[1:])
  for name in ('', 'c d', 'missing'):
    same(
      both,
      lambda f, name=name: relative(f, files.list_folder(f / name)),
    )
  for pattern in (
    *('*', '*.json', '**/*', '**/*.json', 'c*/*', '*/*', 'c d/*.x', '.h/*'),
    *('**/g.json', 'a*', '[ab]*', 'a?%b', 'missing/*', '*/ü/f', 'b.json'),
  ):
    found = same(
      both,
      lambda f, pattern=pattern: relative(f, files.glob(f, pattern)),
    )
    assert found or pattern == 'missing/*'
  same(both, lambda f: relative(f, files.list_files(f)))
  same(
    both,
    lambda f: sorted(
      (files.path(a).relative_to(f).as_posix(), sorted(b), sorted(c))
      for a, b, c in files.walk(f)
    ),
  )


def test_what_is_written_is_read(both):
  def work(folder):
    files.write_json(folder / 'a/x.json', {'b': ['ü', 1]})
    files.write_jsonl(folder / 'y.jsonl', [{'n': n} for n in range(100)])
    with files.atomic(folder / 'z.txt', 'w') as handle:
      handle.write('a\r\nb')
    return (
      *(
        files.read_json(folder / 'a/x.json'),
        files.read_text(folder / 'z.txt'),
      ),
      list(files.read_numbered_jsonl(folder / 'y.jsonl'))[-1],
      digests.of_file(folder / 'y.jsonl'),
      tree(folder),
    )

  same(both, work)
  for folder in both:
    with pytest.raises(errors.UserError, match='q: no such'):
      files.read_json(folder / 'q')
    with pytest.raises(FileNotFoundError):
      files.read_bytes(folder / 'q')
    with pytest.raises(errors.UserError, match='z.txt: not valid JSON'):
      files.read_json(folder / 'z.txt')


def test_what_fails_is_not_there(both):
  def work(folder):
    files.write_json(folder / 'x', 1)
    with contextlib.suppress(KeyError), files.atomic(folder / 'x') as handle:
      handle.write(b'2')
      raise KeyError
    with contextlib.suppress(KeyError), files.atomic_folder(folder / 'd') as d:
      files.write_json(d / 'config.json', 1)
      raise KeyError
    return tree(folder)

  assert same(both, work) == [('x', b'1\n')]


def test_a_folder_appears_whole_and_is_replaced_whole(both):
  def make(folder, names, **keywords):
    with files.atomic_folder(folder / 'd', **keywords) as made:
      for name in names:
        files.make_folder((made / name).parent)
        files.write_json(made / name, names)
        assert not files.exists(folder / 'd' / name) or keywords

  def work(folder):
    make(folder, ['config.json', 'x/y', 'z'])
    first = tree(folder)
    with pytest.raises(errors.UserError, match='is there already'):
      make(folder, ['q'])
    make(folder, ['a', 'z', 'config.json'], replace=True)
    second = tree(folder)
    with pytest.raises(errors.UserError, match="holds 'a', expected a new"):
      make(folder, ['q'], replace=True, expected=['z', 'config.json'])
    return first, second, tree(folder)

  first, second, third = same(both, work)
  assert len(first) == len(second) == 3 and second == third


def test_a_folder_of_a_bucket_is_absent_until_it_is_whole(root, monkeypatch):
  with files.atomic_folder(root / 'd') as made:
    for name in ('config.json', 'a', 'b'):
      files.write_json(made / name, 'old')
  calls, copy = [], publishing.stores.Bucket.copy

  def dying(self, key, target):
    calls.append(target)
    if len(calls) == 2:
      raise KeyboardInterrupt
    copy(self, key, target)

  with monkeypatch.context() as patch:
    patch.setattr(publishing.stores.Bucket, 'copy', dying)
    patch.setattr(reading, 'in_parallel', map)
    with pytest.raises(KeyboardInterrupt):
      with files.atomic_folder(root / 'd', replace=True) as made:
        for name in ('config.json', 'a', 'b'):
          files.write_json(made / name, 'new')
  assert not files.exists(root / 'd/config.json')
  with files.atomic_folder(root / 'd', replace=True) as made:
    files.write_json(made / 'config.json', 'newer')
  assert tree(root) == [('d/config.json', b'"newer"\n')]


def test_moving_and_removing(both):
  def work(folder):
    fill(folder)
    files.move(folder / 'a', folder / 'b.json')
    files.make_folder(folder / 'n')
    files.move(folder / 'c d', folder / 'n/m')
    files.put(b'1', folder / 'p/q')
    with pytest.raises(FileExistsError):
      files.put(b'2', folder / 'p/q')
    files.put(folder / 'p/q', folder / 'p/r', copy=True)
    files.merge(folder / 'n', folder / 'p')
    files.remove(folder / 'missing')
    files.remove(folder / 'a+%b')
    files.remove_tree(folder / '.h')
    files.remove_tree(folder / 'missing')
    files.remove_empty(folder / 'p')
    return tree(folder)

  same(both, work)


def test_between_a_disk_and_a_bucket(both):
  here, there = both
  fill(here)
  files.put(here / 'c d/e.x', there / 'e')
  files.move(here / 'c d', there / 'c')
  assert [name for name, _ in tree(there)] == [
    'c/e.x',
    'c/ü/f',
    'c/ü/g.json',
    'e',
  ]
  assert not files.exists(here / 'c d')
  files.move(there / 'c', here / 'back')
  assert relative(here, files.list_files(here / 'back')) == [
    *('back/e.x', 'back/ü/f', 'back/ü/g.json'),
  ]


def test_reading_is_that_of_a_file(both, monkeypatch):
  monkeypatch.setattr(reading, '_FIRST', 1000)
  monkeypatch.setattr(reading, '_BLOCK', 700)
  monkeypatch.setattr(reading, '_AFTER_JUMP', 300)
  monkeypatch.setattr(reading, '_BUFFER', 64)
  rng = random.Random(0)
  for size in (0, 1, 999, 1000, 1001, 5000):
    content = rng.randbytes(size)
    for folder in both:
      files.write_bytes(folder / 'x', content)
      assert files.read_bytes(folder / 'x') == content
    with (
      files.open_read(both[0] / 'x') as a,
      files.open_read(both[1] / 'x') as b,
    ):
      for _ in range(60):
        if rng.random() < 0.4:
          told = rng.choice([(rng.randrange(size + 5), 0), (0, 1), (-1, 2)])
          if told[1] == 2 and not size:
            continue
          assert a.seek(*told) == b.seek(*told)
        many = rng.choice([1, 10, 100, 900])
        assert a.read(many) == b.read(many)
        assert a.tell() == b.tell()
    ranged = [files.ranged(folder / 'x') for folder in both]
    spans = [sorted(rng.choices(range(size + 1), k=2)) for _ in range(9)]
    assert ranged[0].size == ranged[1].size == size
    assert ranged[0].read_many(spans) == ranged[1].read_many(spans)


def test_an_object_that_changes_while_it_is_read(root, monkeypatch):
  monkeypatch.setattr(reading, '_FIRST', 10)
  monkeypatch.setattr(reading, '_BLOCK', 10)
  monkeypatch.setattr(reading, '_BUFFER', 1)
  files.write_bytes(root / 'x', bytes(100))
  with files.open_read(root / 'x') as handle:
    handle.read(5)
    files.write_bytes(root / 'x', bytes(range(100)))
    with pytest.raises(errors.UserError, match='another object now'):
      handle.read()


def test_a_log_is_there_while_it_grows_and_goes_on(root, monkeypatch):
  from step_audio_jax.storage.buckets import logs

  monkeypatch.setattr(logs, '_SECONDS', 0.05)
  with files.open_log(root / 'log') as log:
    log.write('one\n')
    log.flush()
    assert log.fileno() > 2
    deadline = 100
    while deadline and not (
      files.exists(root / 'log') and files.size(root / 'log')
    ):
      time.sleep(0.05)
      deadline -= 1
    assert files.read_text(root / 'log') == 'one\n'
    log.write('two\n')
  with files.open_log(root / 'log', 'a') as log:
    log.write('three\n')
  assert files.read_text(root / 'log') == 'one\ntwo\nthree\n'


def test_a_copy_is_made_once_for_each_version(
  root, tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('STEP_AUDIO_JAX_COPIES', str(tmp_path))
  fill(root / 'd')
  with (
    files.as_local(root / 'd/b.json') as one,
    files.as_local(root / 'd') as all_,
  ):
    assert one.read_bytes() == b'x' and tree(all_) == tree(root / 'd')
    before = one.stat().st_ino
  assert f'{one}.' in capsys.readouterr().err
  with files.as_local(root / 'd/b.json') as one:
    assert one.stat().st_ino == before
  files.write_bytes(root / 'd/b.json', b'yy')
  with files.as_local(root / 'd/b.json') as two:
    assert two.read_bytes() == b'yy' and one.read_bytes() == b'x'
  with pytest.raises(errors.UserError, match='nothing is there'):
    with files.as_local(root / 'missing'):
      pass


def test_outputs_are_tried_before_the_work(root):
  assert files.check_writable(root / 'x', '--o', folder=True) == root / 'x'
  assert not files.exists(root)
  files.write_json(root / 'x', 1)
  with pytest.raises(
    errors.UserError, match='--o=.*found an object, expected a'
  ):
    files.check_writable(root / 'x', '--o', folder=True)
  with pytest.raises(errors.UserError, match='found a folder, expected an obj'):
    files.check_writable(root, '--o')
  away = files.path(f'{root.scheme}://no-such-bucket/x')
  for take in (
    lambda: files.check_writable(away),
    lambda: files.read_json(away),
    lambda: files.exists(away),
    lambda: files.write_json(away, 1),
    lambda: list(files.glob(away, '*')),
  ):
    with pytest.raises(
      errors.UserError, match='no-such-bucket.*: no such bucket'
    ):
      take()


def test_one_process_at_a_time(root, monkeypatch):
  monkeypatch.setattr(claims.Lease, 'seconds', 0.6)
  with files.only_one(root / 'run'):
    files.write_json(root / 'run/x', 1)
    with pytest.raises(
      errors.UserError, match='another process is writing here'
    ):
      with files.only_one(root / 'run'):
        pass
    files.empty(root / 'run')
    assert files.exists(root / 'run/.lock')
  assert not files.exists(root / 'run')


def test_the_claim_of_a_dead_job_is_taken(root, monkeypatch):
  monkeypatch.setattr(claims.Lease, 'seconds', 0.5)
  other = json.dumps({'host': 'far', 'user': 'me', 'process': 7, 'token': 'z'})
  files.write_bytes(root / 'run/.lock', other.encode())
  with files.only_one(root / 'run'):
    assert files.read_json(root / 'run/.lock')['token'] != 'z'
  dead = {**claims._self(), 'process': 2**22 + 1, 'token': 'z'}
  files.write_bytes(root / 'run/.lock', json.dumps(dead).encode())
  monkeypatch.setattr(claims.Lease, 'seconds', 60.0)
  with files.only_one(root / 'run'):
    pass  # at once: it was a process of this machine


def test_nothing_is_written_under_a_claim_that_was_lost(root, monkeypatch):
  monkeypatch.setattr(claims.Lease, 'seconds', 0.3)
  with files.only_one(root / 'run'):
    lease = claims.Lease.held[f'{root / "run"}']
    lease._over.set()
    lease._thread.join()
    lease._good_until = 0.0
    with pytest.raises(errors.UserError, match='the claim on it was lost'):
      files.write_json(root / 'run/x', 1)
    files.write_json(root / 'elsewhere', 1)
  assert [name for name, _ in tree(root)] == ['elsewhere', 'run/.lock']


def test_a_journal_outlives_its_process(both):
  from data_pipelines.codes import journal

  def work(folder):
    files.make_folder(folder)
    with journal.open_journal(folder / 'j', 'digest') as book:
      book.append(b'1')
      book.append(b'22')
    with journal.open_journal(folder / 'j', 'digest') as book:
      found = book.entries
      book.append(b'3')
    with journal.open_journal(folder / 'j', 'digest') as book:
      more = book.entries
      book.done()
    return found, more, tree(folder)

  assert same(both, work) == ([b'1', b'22'], [b'1', b'22', b'3'], [])
