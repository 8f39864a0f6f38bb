"""Fuzzed tables: nothing is lost or mixed without a word, and it is noticed."""

import csv
import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks.pipelines import fuzz_tables
from data_pipelines.readers.common import base
from data_pipelines.readers.common import delimited

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'


def test_damaged_tables_of_every_kind():
  result = fuzz_tables.run(300, seed=1)
  assert [(name, found) for name, _, found in result['faults']] == []
  for kind, counts in result['kinds'].items():
    assert counts['cases'] > 15 and counts['kept'] > 20, kind
    assert counts['quarantined'] > 5, kind


def splitting_anywhere(path, is_record=None):
  """Lines as `str.splitlines` sees them, in any encoding."""
  text = pathlib.Path(path).read_text(encoding='utf-8-sig', errors='replace')
  for number, line in enumerate(text.splitlines(), 1):
    if line.strip():
      yield number, line


def joining_lines(table):
  """A reader for which a quoted cell spans lines."""
  with open(table.path, encoding='utf-8', errors='replace', newline='') as file:
    reader = csv.reader(file)
    next(reader, None)
    for row in reader:
      if len(row) == 2:
        yield reader.line_num, dict(zip(('file', 'text'), row))


@pytest.mark.parametrize(
  'owner, name, broken',
  [
    (base, 'table_lines', splitting_anywhere),
    (delimited.Table, 'rows', joining_lines),
  ],
)
def test_readers_with_faults_are_found_out(owner, name, broken, monkeypatch):
  monkeypatch.setattr(owner, name, broken)
  assert fuzz_tables.run(80, seed=1)['silent'] > 3


def test_what_is_expected_of_bytes():
  raw = b'\xef\xbb\xbfa\r\n\nb\rc \r \nd\r'
  assert fuzz_tables.physical(raw) == [
    (1, b'a', None), (3, b'b', b'c '), (4, b'c ', None), (6, b'd', None),
  ]  # fmt: skip
  assert fuzz_tables.physical(b'a\rb\r') == [(1, b'a', None), (2, b'b', None)]
  raw = b'file,text\nr1.wav,"a ""b"""\nr2.wav,c\rd\nr1.wav,x'
  assert dict(fuzz_tables.allowed('csv', raw)) == {
    'r1': ['"a ""b"""', 'a "b"', 'x'],
  }  # fmt: skip


def test_one_json_line():
  done = subprocess.run(
    [sys.executable, 'pipelines/fuzz_tables.py', '--cases=20'],
    cwd=FOLDER,
    env={'PYTHONPATH': str(FOLDER.parent), 'PATH': ''},
    capture_output=True,
    text=True,
    check=True,
  )
  told = json.loads(done.stdout.splitlines()[-1])
  assert told['cases'] == 20 and told['met'] and told['kept'] > 0
