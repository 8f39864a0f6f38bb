"""Damaged corpora of every format: nothing is lost, nothing gets out.

Whatever a file holds, ingestion ends with a corpus whose counts add up, or in
one sentence and no corpus; only the corpus folder is written to.
"""

import contextlib
import functools
import gzip
import os
import pathlib
import re
import shutil
import tempfile
import zlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines.ingestion import admission
from data_pipelines.ingestion import ingest
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.readers import trees

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
NUMBERS = (b'-1', b'-0.5', b'0', b'NaN', b'Infinity', b'1e999', b'9' * 5000)
TEXTS = (
  b'',
  b'../../etc/passwd',
  b'/etc/passwd',
  b'x' * 300,
  b'\\ud800',
  b'a|b',
)


def harm(kind, what=st.just(None)):
  return st.tuples(st.just(kind), st.floats(0, 1), what)


DAMAGE = st.lists(
  st.tuples(
    st.floats(0, 0.999),
    st.one_of(
      harm('flip', st.integers(1, 255)),
      harm('cut'),
      harm('insert', st.sampled_from(LINES)),
      harm('twice', st.floats(0, 1)),
      harm('line twice'),
      harm('line gone'),
      harm('number', st.sampled_from(NUMBERS)),
      harm('text', st.sampled_from(TEXTS)),
      harm('line ends'),
      harm('encoding', st.sampled_from(['latin-1', 'utf-16', 'gb18030'])),
      harm('remove'),
      harm('link'),
      harm('pipe'),
      harm('folder'),
    ),
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


def replaced(raw, pattern, place, new):
  """One of the matches, by its share, becomes `new`."""
  found = list(re.finditer(pattern, raw))
  if not found:
    return raw
  one = found[int(place * (len(found) - 1))]
  return raw[: one.start(1)] + new + raw[one.end(1) :]


def spoil(path, change, secret, source):
  """Damages a file."""
  kind, place, what = change
  if kind == 'pipe' and path == source:
    return  # whom the user names may well be a pipe
  if not path.is_file() or path.is_symlink():
    return
  raw = path.read_bytes()
  zipped = path.suffix == '.gz' and kind in ('number', 'text', 'line twice')
  with contextlib.suppress(OSError, EOFError, zlib.error):
    raw = gzip.decompress(raw) if zipped else raw
  at = int(place * max(len(raw) - 1, 0))
  if kind in ('remove', 'link', 'pipe', 'folder'):
    path.unlink()
    if kind == 'link':
      path.symlink_to(secret)
    elif kind == 'pipe':
      os.mkfifo(path)  # whoever opens it waits for ever
    elif kind == 'folder':
      path.mkdir()
    return
  if kind == 'flip' and raw:
    raw = raw[:at] + bytes([raw[at] ^ what]) + raw[at + 1 :]
  elif kind == 'cut':
    raw = raw[:at]
  elif kind == 'insert':
    raw = raw[:at] + what + raw[at:]
  elif kind == 'twice':
    raw = raw[: at + int(what * len(raw)) + 1] + raw[at:]
  elif kind.startswith('line '):
    lines = raw.splitlines(keepends=True)
    number = int(place * (len(lines) - 1)) if lines else 0
    if kind == 'line ends':
      raw = raw.replace(b'\n', b'\r\n')
    elif kind == 'line twice':
      raw = b''.join(lines[: number + 1] + lines[number:])
    else:
      raw = b''.join(lines[:number] + lines[number + 1 :])
  elif kind == 'number':
    raw = replaced(raw, rb'(?<![\w"-])(\d+\.?\d*)', place, what)
  elif kind == 'text':
    raw = replaced(raw, rb'(?:"|[ \t|,])([^"\n |,]*)["\n |,]', place, what)
  elif kind == 'encoding':
    with contextlib.suppress(UnicodeError):
      raw = raw.decode().encode(what, 'replace')
  path.write_bytes(gzip.compress(raw) if zipped else raw)


def state(root):
  """What is in a folder: names, and sizes of files."""
  return {
    os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_size
    for folder, _, names in os.walk(root)
    for name in names
  }


@pytest.mark.parametrize('name', [n for n in trees.TREES if n != 'tfds'])
@settings(
  max_examples=20,
  deadline=None,
  derandomize=True,
)
@given(damage=DAMAGE, trust=st.booleans())
def test_damage_costs_items_and_never_more(name, damage, trust):
  survives(name, damage, trust)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(damage=DAMAGE)
def test_damage_of_a_prepared_data_set(damage):
  survives('tfds', damage, False)


def survives(name, damage, trust):
  template, below = whole(name)
  with tempfile.TemporaryDirectory() as scratch:
    scratch = pathlib.Path(scratch)
    secret = scratch / 'secret.wav'
    secret.write_bytes(trees.tone(0.25))
    shutil.copytree(template, scratch / 'in')
    for share, change in damage:
      paths = sorted(p for p in (scratch / 'in').rglob('*') if p.is_file())
      if paths:
        path = paths[int(share * len(paths))]
        spoil(path, change, secret, scratch / 'in' / below)
    before = state(scratch)
    output = scratch / 'out'
    try:
      rules = admission.Rules(trust_durations=trust)
      result = ingest.ingest(
        scratch / 'in' / below, output, format=name, rules=rules
      )
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
      assert {p.name for p in output.iterdir()} <= {
        'manifest.jsonl', 'notes.jsonl', 'quarantine.jsonl', 'stats.json',
        'audio', 'images',
      }  # fmt: skip
      assert files.read_json(output / 'stats.json') == result
    after = state(scratch)
    assert before.items() <= after.items()
    new = set(after) - set(before)
    assert all(pathlib.Path(path).is_relative_to(output) for path in new)
