"""Damaged corpora of every format: nothing is lost, nothing gets out.

Whatever a file holds, ingestion ends with a corpus whose counts add up, or in
one sentence and no corpus; only the corpus folder is written to.
"""

import functools
import os
import pathlib
import shutil
import tempfile

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import trees

from data_pipelines import ingest
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest

LINES = (
  b'\xef\xbb\xbf',
  b'\r\n',
  b'\0',
  b'\xff\xfe',
  b'../../etc/passwd ',
  b'{"text": ',
  b'[[[[[[[[',
  b'{"audios": 3}\n',
  b'|rm -rf x|\n',
  b'\n' * 50,
  b'u1 u1 -5 NaN\n',
  b'"duration": -3, ',
  '\u2028\ud7ff'.encode(),
)

FLIP = st.tuples(st.just('flip'), st.floats(0, 1), st.integers(1, 255))
CUT = st.tuples(st.just('cut'), st.floats(0, 1), st.just(None))
INSERT = st.tuples(st.just('insert'), st.floats(0, 1), st.sampled_from(LINES))
TWICE = st.tuples(st.just('twice'), st.floats(0, 1), st.floats(0, 1))
REMOVE = st.tuples(st.just('remove'), st.just(0.0), st.just(None))
LINK = st.tuples(st.just('link'), st.just(0.0), st.just(None))
DAMAGE = st.lists(
  st.tuples(
    st.floats(0, 0.999),
    st.one_of(FLIP, CUT, INSERT, TWICE, REMOVE, LINK),
  ),
  min_size=1,
  max_size=4,
)


@functools.lru_cache
def whole(name):
  """A corpus that is copied for each example."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}-'))
  source, _ = trees.TREES[name](folder)
  return folder, source.relative_to(folder)


@pytest.fixture(scope='module', autouse=True)
def gone_afterwards():
  yield
  for name in trees.TREES:
    shutil.rmtree(whole(name)[0], ignore_errors=True)


def spoil(path, change, secret):
  kind, place, what = change
  if not path.is_file() or path.is_symlink():
    return
  raw = bytearray(path.read_bytes())
  at = int(place * max(len(raw) - 1, 0))
  if kind == 'remove':
    path.unlink()
    return
  if kind == 'link':
    path.unlink()
    path.symlink_to(secret)
    return
  if kind == 'flip' and raw:
    raw[at] ^= what
  elif kind == 'cut':
    del raw[at:]
  elif kind == 'insert':
    raw[at:at] = what
  elif kind == 'twice':
    raw[at:at] = raw[at : at + int(what * len(raw)) + 1]
  path.write_bytes(raw)


def state(root):
  """What is in a folder: names, and sizes of files."""
  return {
    os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_size
    for folder, _, names in os.walk(root)
    for name in names
  }


@pytest.mark.parametrize('name', [n for n in trees.TREES if n != 'tfds'])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(damage=DAMAGE)
def test_damage_costs_items_and_never_more(name, damage):
  survives(name, damage)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(damage=DAMAGE)
def test_damage_of_a_prepared_data_set(damage):
  survives('tfds', damage)


def survives(name, damage):
  template, below = whole(name)
  with tempfile.TemporaryDirectory() as scratch:
    scratch = pathlib.Path(scratch)
    secret = scratch / 'secret.wav'
    secret.write_bytes(trees.tone(0.25))
    shutil.copytree(template, scratch / 'in')
    for share, change in damage:
      paths = sorted(p for p in (scratch / 'in').rglob('*') if p.is_file())
      if paths:
        spoil(paths[int(share * len(paths))], change, secret)
    before = state(scratch)
    output = scratch / 'out'
    try:
      result = ingest.ingest(scratch / 'in' / below, output, format=name)
    except errors.UserError as error:
      assert str(error).strip() and not output.exists()
    else:
      kept = manifest.read(output)
      left = list(files.read_jsonl(output / 'quarantine.jsonl'))
      assert result['read'] == len(kept) + len(left)
      assert (result['kept'], result['quarantined']) == (len(kept), len(left))
      assert all(line['reason'] for line in left)
      for utterance in kept:
        for path in (utterance.audio, utterance.image):
          if path is not None:
            found = (output / path).resolve()
            assert found.is_file() and found.is_relative_to(output.resolve())
            assert not found.samefile(secret)
      temporary = [p for p in output.rglob('*') if p.name.endswith('.tmp')]
      assert temporary == []
    after = state(scratch)
    assert before.items() <= after.items()
    new = set(after) - set(before)
    assert all(pathlib.Path(path).is_relative_to(output) for path in new)
