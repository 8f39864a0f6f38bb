"""Tables of transcripts: a line is a record, whatever its cells begin with."""

import csv
import functools
import gzip
import io
import pathlib
import re

import pytest

from data_pipelines.readers.common import base
from data_pipelines.readers.common import delimited
from data_pipelines.readers.common import tables
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

FIELDS = ('file', 'text', 'speaker')
ingested = functools.partial(ingesting.ingested, format='folder')


def parted(found):
  """({line: what is kept}, {line: reason})."""
  kept, left = {}, {}
  for one in found:
    if isinstance(one, base.Rejected):
      assert one.line not in left
      left[one.line] = one.reason
    else:
      kept[one[0]] = one[1]
  assert not kept.keys() & left.keys()
  return kept, left


def table(folder, raw, name='metadata.csv', **keywords):
  raw = raw.encode() if isinstance(raw, str) else raw
  path = folder / name
  path.write_bytes(gzip.compress(raw) if name.endswith('.gz') else raw)
  return parted(delimited.Table(path, FIELDS, **keywords).rows())


def texts(kept):
  return {line: fields.get('text') for line, fields in kept.items()}


QUOTE = (
  'file,text\n0.wav,"to be or not\n1.wav,second\n2.wav,third\n'
  '3.wav,that is it"\n'
)


def test_an_opening_quotation_mark_swallows_no_rows(tmp_path):
  for k in range(4):
    trees.put(tmp_path / 'in' / f'{k}.wav', trees.tone(0.25))
  trees.put(tmp_path / 'in' / 'metadata.csv', QUOTE)
  kept, (left,) = ingested(tmp_path / 'in', tmp_path / 'out')
  assert {name: u.text for name, u in kept.items()} == {
    '1': 'second', '2': 'third', '3': 'that is it"',
  }  # fmt: skip
  assert left['line'] == 2 and 'write one line a recording' in left['reason']
  # The way on: quotation marks that are text.
  kept, left = ingested(tmp_path / 'in', tmp_path / 'two', quotes='literal')
  assert left == [] and kept['0'].text == '"to be or not'
  with pytest.raises(errors.UserError, match="found 'no', expected csv or li"):
    ingested(tmp_path / 'in', tmp_path / 'three', quotes='no')


def test_the_end_of_a_text_of_two_lines_is_no_transcript(tmp_path):
  """In front of the name of a file, it looks like one."""
  exists = {'0.wav', '1.wav', '2.wav', '3.wav'}.__contains__
  raw = 'text,file\n"hello there,\nand then\nhow are you",0.wav\n'
  raw += 'second,1.wav\n"say ""hi""\nto ""her""",2.wav\n"fine",3.wav\n'
  kept, left = table(tmp_path, raw, exists=exists)
  assert texts(kept) == {5: 'second', 8: 'fine'}
  assert list(left) == [2, 3, 4, 6, 7]
  assert 'line 2 does not close' in left[4]
  # A mark that stands alone costs its line, and no other.
  raw = 'text,file\n"to be or not,0.wav\nsecond,1.wav\nthat is it",2.wav\n'
  kept, left = table(tmp_path, raw, exists=exists)
  assert texts(kept) == {3: 'second', 4: 'that is it"'} and list(left) == [2]


def test_a_spreadsheet_with_lines_inside_of_cells(tmp_path):
  """Each line of such a cell is told; none becomes a transcript."""
  out = io.StringIO(newline='')
  writer = csv.writer(out)
  writer.writerow(['file', 'text'])
  writer.writerows(
    [['0.wav', 'one\ntwo, too\n\nthree'], ['1.wav', 'a "quoted" one, yes'],
     ['2.wav', 'a\rb'], ['3.wav', 'plain']]
  )  # fmt: skip
  names = {'0.wav', '1.wav', '2.wav', '3.wav'}
  kept, left = table(tmp_path, out.getvalue(), exists=names.__contains__)
  assert texts(kept) == {6: 'a "quoted" one, yes', 9: 'plain'}
  assert set(left) == {2, 3, 5, 7, 8}  # line 4 is empty
  for line in (3, 5):
    assert 'quotation mark that line 2 does not close' in left[line]
    assert 'metadata.jsonl' in left[line]


@pytest.mark.parametrize(
  'line, text',
  [
    ('a.wav,plain', 'plain'),
    ('a.wav,"a ""quoted"" cell, with comma"', 'a "quoted" cell, with comma'),
    ('"a.wav","x"', 'x'),
    ('a.wav,say "hi"', 'say "hi"'),
    ('a.wav,5\'6" tall', '5\'6" tall'),
    ('a.wav,"', None),
    ('a.wav,""', ''),
    ('a.wav,"""', None),
    ('a.wav,""""', '"'),
    ('a.wav,"open', None),
    ('a.wav,"a" b', None),
    ('a.wav,"a"b"', None),
    ('a.wav,"a,b', None),
    ('"a.wav,b"', None),
    ('a.wav,one,two', None),
    ('a.wav,one,', None),
    ('a.wav', None),
    ('a.wav,\u2028one\u2028two\x85three\x0bfour\x0cfive\x1c', ...),
    ("a.wav,'one", "'one"),
    ('a.wav,x\0y', None),
    ('a.wav,' + 'x' * 200_000, ...),
    ('a.wav,"' + 'x,' * 100_000 + '"', 'x,' * 100_000),
  ],
)
def test_quotes_are_those_of_the_line(line, text, tmp_path):
  raw = f'file,text\n0.wav,before\n{line}\n1.wav,behind\n'
  kept, left = table(tmp_path, raw)
  found = texts(kept)
  assert (found[2], found[4]) == ('before', 'behind')
  if text is None:
    assert set(left) == {3}
  else:
    text = line.partition(',')[2] if text is ... else text
    assert left == {} and (found[3] or '') == text


@pytest.mark.parametrize(
  'line, text',
  [
    ('a.wav\t"Hello," he said', '"Hello," he said'),
    ('a.wav\t"open', '"open'),
    ('a.wav\t"all of it"', '"all of it"'),
    ('a.wav\tone, two | three', 'one, two | three'),
    ('a.wav\tone\ttwo', None),
    ('a.wav\tone\t', None),
  ],
)
def test_quotes_are_text_between_tabs(line, text, tmp_path):
  raw = f'file\ttext\n0.wav\tbefore\n{line}\n1.wav\tbehind\n'
  for name in ('metadata.tsv', 'metadata.tsv.gz'):
    kept, left = table(tmp_path, raw, name)
    found = texts(kept)
    assert (found[2], found[4]) == ('before', 'behind')
    assert (found.get(3), set(left)) == (text, set() if text else {3})
  kept, left = table(
    tmp_path, 'file|text\na.wav|"one\nb.wav|tw"o\n', 'metadata.psv'
  )
  assert texts(kept) == {2: '"one', 3: 'tw"o'} and left == {}
  # Spreadsheets quote between tabs, too.
  raw = 'file\ttext\na.wav\t"a ""b"""\n'
  kept, _ = table(tmp_path, raw, 'metadata.tsv', quotes='csv')
  assert texts(kept) == {2: 'a "b"'}


@pytest.mark.parametrize('sign', [',', ';', '\t', '|'])
def test_what_is_between_cells_is_told_by_the_names(sign, tmp_path):
  raw = sign.join(FIELDS) + '\n' + sign.join(['a.wav', 'x', 's']) + '\n'
  kept, left = table(tmp_path, raw)
  assert kept == {2: {'file': 'a.wav', 'text': 'x', 'speaker': 's'}}
  raw = sign.join(f'"{one}"' for one in FIELDS) + f'\n"a"{sign}"x"{sign}"s"'
  kept, left = table(tmp_path, raw)
  assert kept == {2: {'file': 'a', 'text': 'x', 'speaker': 's'}} and not left


def test_columns_without_names_are_empty(tmp_path):
  raw = 'file,text,,\na.wav,x,,\nb.wav,y,,z\nc.wav,z\n'
  kept, left = table(tmp_path, raw)
  assert texts(kept) == {2: 'x'} and set(left) == {3, 4}
  assert "found 'z' in a column without a name" in left[3]


def test_ends_of_lines(tmp_path):
  rows = ['file,text', 'a.wav,one', '', 'b.wav,"two', 'c.wav,three']
  for end in ('\n', '\r\n', '\r'):
    for last in ('', end):
      kept, left = table(tmp_path, end.join(rows) + last)
      assert texts(kept) == {2: 'one', 5: 'three'} and set(left) == {4}
  # Ends that were translated twice: every second line is empty.
  kept, left = table(tmp_path, '\r\r\n'.join(rows))
  assert texts(kept) == {3: 'one', 9: 'three'} and set(left) == {7}
  # Of one file: a record may end with a CR where one stands behind it.
  raw = 'file,text\ra.wav,one\rb.wav,two\nc.wav,three\r\nd.wav,fo\rur\n'
  kept, left = table(tmp_path, raw)
  assert texts(kept) == {2: 'one', 3: 'two', 4: 'three'}
  assert set(left) == {5, 6} and 'a carriage return (CR) inside' in left[5]
  # What stands behind it looks like a record, and is none.
  raw = 'file,text\na.wav,well\rthen, yes\nc.wav,three\n'
  names = {'a.wav', 'c.wav'}
  kept, left = table(tmp_path, raw, exists=names.__contains__)
  assert texts(kept)[4] == 'three' and set(left) == {2}


def test_of_key_and_value_a_carriage_return_is_told(tmp_path):
  path = tmp_path / 'text'
  # Whatever blank lines stand at the file's end.
  for last in (b'', b'\r', b'\n', b'\r\n', b'\n\r', b'\r\n\r', b'\n\r\n\n'):
    path.write_bytes(b'u1 one\ru2 two\ru3 three' + last)
    assert list(tables.pairs(path)) == [
      (1, 'u1', 'one'), (2, 'u2', 'two'), (3, 'u3', 'three'),
    ]  # fmt: skip
  path.write_bytes(b'u1 one\ru2 two\nu3 th\0ree\r\nu4 four\r\r\nu5 five')
  kept, left = parted((k, v) if not isinstance(k, base.Rejected) else k for k, v
                      in _keyed(tables.pairs(path)))  # fmt: skip
  assert kept == {2: ('u2', 'two'), 4: ('u4', 'four'), 6: ('u5', 'five')}
  assert 'carriage return' in left[1] and 'a NUL at character 5' in left[3]


def _keyed(found):
  for one in found:
    if isinstance(one, base.Rejected):
      yield one, None
    else:
      yield one[0], one[1:]


def test_encodings_of_lines_and_files(tmp_path):
  lines = [b'file,text', 'a.wav,caf\xe9'.encode('latin-1'), 'b.wav,é'.encode()]
  kept, left = table(tmp_path, b'\xef\xbb\xbf' + b'\n'.join(lines))
  assert texts(kept) == {3: 'é'} and 'not UTF-8' in left[2]
  for encoding in ('utf-16', 'utf-32', 'utf-16-le', 'utf-16-be', 'cp037'):
    raw = 'file,text\na.wav,one\nb.wav,"two\n'.encode(encoding)
    with pytest.raises(errors.UserError, match='not a CSV file|the columns'):
      table(tmp_path, raw)
  path = tmp_path / 'text'
  path.write_bytes('u1 one\r\nu2 two\r\n'.encode('utf-16'))
  kept, left = parted(base.table_lines(path))
  assert kept == {} and set(left) == {1, 2}
  assert 'byte order mark of UTF-16; save it as UTF-8' in left[1]


def test_a_table_of_any_name_is_a_source(tmp_path):
  trees.put(tmp_path / 'in' / 'a.wav', trees.tone(0.25))
  path = trees.put(tmp_path / 'in' / 'my.tsv', 'file\ttext\na.wav\t"hi\n')
  kept, _ = ingesting.ingested(path, tmp_path / 'out', 'auto')
  assert kept['a'].text == '"hi'


def test_the_guide_says_which_lines_are_kept(tmp_path):
  guide = pathlib.Path(__file__).parents[4] / 'docs' / 'new_corpus.md'
  text = guide.read_text(encoding='utf-8')
  section = text.split('### Tables and names')[1].split('\n### ')[0]
  (raw,) = re.findall(r'^```csv\n(.*?)^```', section, re.M | re.S)
  refused = re.search(r'Of these (.*) are refused', section)[1]
  refused = set(re.findall(r'`(\d)\.wav`', refused))
  trees.put(tmp_path / 'in' / 'metadata.csv', raw)
  names = {str(k) for k in range(1, 6)}
  for name in names:
    trees.put(tmp_path / 'in' / f'{name}.wav', trees.tone(0.25))
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert {name: u.text for name, u in kept.items()} == {
    '1': 'plain words',
    '2': 'commas, and "quotes", inside',
    '4': 'said "so"',
  }
  assert set(kept) == names - refused
  assert {one['line'] for one in left} == {int(k) + 1 for k in refused}
  for word in ('--reader_option=quotes=literal', '--format=wenet_shards',
               '--reader_option=speaker=folder', 'git lfs pull'):  # fmt: skip
    assert word in section
