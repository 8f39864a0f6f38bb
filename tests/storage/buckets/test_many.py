"""Many requests at once: in order, bounded, and none waits for another."""

import threading

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage.buckets import reading
from step_audio_jax.storage.clients import failures

COUNT = reading._IN_FLIGHT + 12


@pytest.mark.parametrize('root', ['gs'], indirect=True)
def test_more_large_objects_are_copied_than_there_are_threads(
  root, tmp_path, monkeypatch
):
  for name in ('_FIRST', '_BLOCK', '_AFTER_JUMP'):
    monkeypatch.setattr(reading, name, 100)
  monkeypatch.setattr(reading, '_BUFFER', 10)
  monkeypatch.setenv('STEP_AUDIO_JAX_COPIES', str(tmp_path))
  for k in range(COUNT):
    files.write_bytes(root / f'{k}', bytes([k]) * 350)

  def copied():
    with files.as_local(root) as folder:
      told.extend(files.read_bytes(one) for one in files.list_files(folder))

  told = []
  thread = threading.Thread(target=copied, daemon=True)
  thread.start()
  thread.join(60)
  assert sorted(told) == [bytes([k]) * 350 for k in range(COUNT)]


@pytest.mark.parametrize('place', ['.', 'gs://bucket/x'])
def test_a_stream_is_mapped_in_order_and_not_taken_whole(place):
  taken = []

  def items():
    for k in range(10 * COUNT):
      taken.append(k)
      yield k

  found = files.ahead(place, lambda k: k * k, items())
  assert [next(found) for _ in range(5)] == [0, 1, 4, 9, 16]
  assert len(taken) <= (5 if place == '.' else COUNT)
  assert list(found) == [k * k for k in range(5, 10 * COUNT)]

  def fails(k):
    if k == 3:
      raise KeyError(k)
    return k

  found = files.ahead(place, fails, range(9))
  assert [next(found) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(KeyError, match='3'):
    next(found)


@pytest.mark.parametrize('place', ['.', 'gs://bucket/x'])
def test_what_is_done_in_the_background_is_done_at_the_end(place):
  done = []
  with files.background(place) as call:
    for k in range(3 * COUNT):
      call(done.append, k)
  assert sorted(done) == list(range(3 * COUNT))
  with pytest.raises(ZeroDivisionError), files.background(place) as call:
    call(divmod, 1, 0)
  with pytest.raises(KeyError), files.background(place) as call:
    call(done.append, -1)
    raise KeyError


def test_only_what_nobody_answered_for_is_an_outage():
  gone = failures.StoreError('gs://b/x', 'no answer after 12 tries')
  wrapped = errors.UserError('x: no answer.')
  wrapped.__cause__ = gone
  for error in (gone, wrapped):
    with pytest.raises(errors.UserError) as raised:
      files.raise_outage(error)
    assert raised.value is error
  for kind in (failures.Missing, failures.Denied, failures.Occupied):
    files.raise_outage(kind('gs://b/x', 'no'))
  files.raise_outage(errors.UserError('no audio'))
  files.raise_outage(OSError(2, 'no such file'))
