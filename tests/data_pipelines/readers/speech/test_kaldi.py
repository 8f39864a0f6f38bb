"""Kaldi directories and AISHELL: joined tables, segments, commands."""

import json

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines.ingestion import ingest
from data_pipelines.readers.common import base
from data_pipelines.readers.common import tables
from data_pipelines.readers.speech import kaldi
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested


@pytest.fixture
def source(tmp_path):
  trees.put(tmp_path / 'in' / 'r.wav', trees.tone(1.0))
  trees.put(tmp_path / 'in' / 'wav.scp', 'r r.wav\n')
  trees.put(tmp_path / 'in' / 'text', 'a one\nb two\n')
  trees.put(tmp_path / 'in' / 'segments', 'a r 0.0 0.5\nb r 0.5 -1\n')
  return tmp_path / 'in'


def reasons(left):
  return {one['id']: one['reason'] for one in left}


def piped(source, output):
  options = base.Options(allow_pipes=True)
  result = ingest.ingest(source, output, format='kaldi', options=options)
  kept = {u.id: u for u in manifest.read(output)}
  left = list(files.read_jsonl(output / 'quarantine.jsonl'))
  assert result['read'] == len(kept) + len(left)
  return kept, reasons(left)


def test_what_tables_say_of_each_other(source, tmp_path):
  (source / 'segments').write_text(
    'a r 0.0 0.5\nb r 0.5 -1.00\nc r 0 1\nd gone 0 1\ne r 0\nf r x 1\n'
    'a r 0.5 1\ng r 0 -2\n'
  )
  (source / 'text').write_text(
    'a one\nb  two  words \nd four\ne five\nf six\ng seven\nz last\n'
    'a again\nh\n'
  )
  (source / 'utt2spk').write_text('a s1\nb s2\nb s3\n')
  kept, left = ingested(source, tmp_path / 'out', 'kaldi')
  told = [
    (u.id, u.text, u.speaker, u.offset, u.duration) for u in kept.values()
  ]
  assert told == [
    ('a', 'one', 's1', 0.0, 0.5),
    ('b', 'two words', 's2', 0.5, 0.5),
  ]
  found = [(one['id'], one['reason']) for one in left]
  for name, words in (
    ('a', 'occurs twice'),
    ('b', 'occurs twice'),
    ('c', 'text: missing'),
    ('d', "'gone' has no line in wav.scp"),
    ('e', 'expected RECORDING begin end'),
    ('f', 'expected seconds'),
    ('g', 'duration: found -2'),
    ('h', 'a transcript without a line in segments'),
    ('z', 'a transcript without a line in segments'),
  ):
    assert any(n == name and words in said for n, said in found), (name, found)
  assert len(found) == 10  # `a` twice: in segments and in text


def test_languages_and_channels(source, tmp_path):
  (source / 'segments').write_text(
    'a r 0.0 0.5 0\nb r 0.5 -1 -1\nc r 0 0.5 B\n'
    'd r 0 0.5 left\ne r 0 0.5 0 0\nf\n'
  )
  (source / 'text').write_text(''.join(f'{k} {k}{k}\n' for k in 'abcdef'))
  (source / 'utt2lang').write_text('a de\nb\tzh_CN\na fr\n')
  found, left = {}, {}
  for one in kaldi.read(source, base.Options()):
    if isinstance(one, base.Item):
      found[one.fields['id']] = one.fields
    else:
      left.setdefault(one.id, one.reason)
  # As they are written; admission normalises them.
  assert {k: v.get('language') for k, v in found.items()} == {
    'a': 'de', 'b': 'zh_CN', 'c': None,
  }  # fmt: skip
  assert {k: v.get('channel') for k, v in found.items()} == {
    'a': 0, 'b': None, 'c': 1,
  }  # fmt: skip
  assert "'a' occurs twice" in left['a']  # of utt2lang
  assert "segments: found 'left', expected the number of a ch" in left['d']
  for name in 'ef':
    assert 'RECORDING begin end and maybe a channel' in left[name]
  # AISHELL-2 is Chinese unless its table says something else.
  (tmp_path / 'b').mkdir()
  chinese, _ = trees.aishell2(tmp_path / 'b')
  (chinese / 'utt2lang').write_text('IC0001W0001 yue\n')
  kept, _ = ingested(chinese, tmp_path / 'out', 'aishell2')
  assert [u.language for u in kept.values()] == ['yue', 'zh']


def test_a_split_by_the_name_of_the_folder(source, tmp_path):
  for name, split in (
    ('dev_clean', 'dev'),
    ('test', 'test'),
    ('train_960', 'train'),
  ):
    source = source.rename(tmp_path / name)
    kept, _ = ingested(source, tmp_path / f'{name}-out', 'kaldi')
    assert {u.split for u in kept.values()} == {split}


def test_recordings_lie_elsewhere(source, tmp_path):
  (tmp_path / 'corpora' / 'deep').mkdir(parents=True)
  (source / 'r.wav').rename(tmp_path / 'corpora' / 'deep' / 'r.wav')
  absolute = tmp_path / 'corpora' / 'deep' / 'r.wav'
  for value in (str(absolute), 'deep/r.wav', './deep//r.wav'):
    (source / 'wav.scp').write_text(f'r {value}\n')
    out = tmp_path / f'out-{len(value)}'
    kept, _ = ingested(source, out, 'kaldi', root=tmp_path / 'corpora')
    assert {u.audio for u in kept.values()} == {'audio/deep/r.wav'}
    assert (out / 'audio' / 'deep' / 'r.wav').samefile(absolute)
  (source / 'wav.scp').write_text(f'r {absolute}\n')
  with pytest.raises(errors.UserError, match='--audio_root names another'):
    ingested(source, tmp_path / 'out', 'kaldi')


@pytest.mark.parametrize(
  'command, reason',
  [
    ('cat r.wav |', None),
    ("cat 'r.wav' |", None),
    ('head -c 100 r.wav |', 'not readable as audio|cut short'),
    ('cat gone.wav |', 'exit status 1'),
    ('no-such-program r.wav |', 'No such file'),
    ('cat r.wav > /tmp/x |', "found '>'"),
    ('cat r.wav | sox - - |', "found '|'"),
    ('cat $HOME/r.wav |', "found '$'"),
    ('cat `ls` |', "found '`'"),
    ('cat r.wav; ls |', "found ';'"),
    ("cat 'r.wav |", 'No closing quotation'),
    ('echo words |', 'begin with'),
    ('true |', 'it is empty'),
    ('|', 'wav.scp'),
  ],
)
def test_commands(command, reason, source, tmp_path):
  trees.put(source / 'good.wav', trees.tone(0.25))
  (source / 'wav.scp').write_text(f'r {command}\ngood good.wav\n')
  (source / 'segments').unlink()
  (source / 'text').write_text('r one\ngood two\n')
  kept, left = ingested(source, tmp_path / 'refused', 'kaldi')
  assert list(kept) == ['good']
  assert '--allow_pipes runs it' in reasons(left)['r']
  kept, left = piped(source, tmp_path / 'out')
  if reason is None:
    assert kept['r'].duration == 1.0 and left == {}
    path = kept['r'].audio_path(tmp_path / 'out')
    assert path.read_bytes() == (source / 'r.wav').read_bytes()
  else:
    assert list(kept) == ['good']
    assert any(one in left['r'] for one in reason.split('|')), left


def test_a_command_runs_once_for_the_segments_of_its_recording(
  source, tmp_path
):
  script = trees.put(
    source / 'say', '#!/bin/sh\necho called >> calls\ncat r.wav\n'
  )
  script.chmod(0o755)
  (source / 'wav.scp').write_text('r ./say |\n')
  kept, left = piped(source, tmp_path / 'out')
  assert set(kept) == {'a', 'b'} and left == {}
  assert (source / 'calls').read_text() == 'called\n'
  assert {u.audio for u in kept.values()} == {'audio/r.wav'}


def test_a_command_that_never_ends(source, tmp_path, monkeypatch):
  monkeypatch.setattr(kaldi, '_COMMAND_SECONDS', 0.2)
  (source / 'wav.scp').write_text('r sleep 60 |\nq cat r.wav |\n')
  (source / 'segments').write_text('a r 0 1\nb q 0 1\n')
  kept, left = piped(source, tmp_path / 'out')
  assert list(kept) == ['b'] and 'exit status -9' in left['a']
  monkeypatch.setattr(kaldi.tars, 'MEMBER_BYTES', 100_000)
  (source / 'wav.scp').write_text('r yes |\nq cat r.wav |\n')
  kept, left = piped(source, tmp_path / 'two')
  assert list(kept) == ['b'] and 'gave 100001 bytes' in left['a']


@pytest.mark.parametrize('missing', ['wav.scp', 'text'])
def test_a_table_that_is_missing(missing, source, tmp_path):
  (source / missing).unlink()
  with pytest.raises(errors.UserError, match=f'{missing}: no such file'):
    ingested(source, tmp_path / 'out', 'kaldi')


WORD = st.text(
  st.characters(codec='utf-8', categories=['L', 'N', 'P', 'S']), min_size=1,
  max_size=6,
)  # fmt: skip
LINES = st.lists(
  st.tuples(WORD, st.lists(WORD, max_size=4).map(' '.join)), max_size=8
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(LINES, st.booleans(), st.sampled_from(['\n', '\r\n']), st.randoms())
def test_tables_join_like_dictionaries(
  tmp_path_factory, lines, mark, end, random
):
  path = tmp_path_factory.getbasetemp() / 'joined'
  text = ''.join(f'{key}\t{value}{end}' for key, value in lines)
  path.write_bytes(b'\xef\xbb\xbf' * mark + text.encode())
  if lines and lines[0][0].startswith('\ufeff'):
    return
  first = {}
  for key, value in lines:
    first.setdefault(key, value)
  with tables.Lookup(path) as found:
    refused = list(found.load())
    assert len(refused) == len(lines) - len(first)
    asked = [key for key in first if random.random() < 0.5]
    for key in asked:
      assert found.get(key) == first[key]
    assert found.get('no such key') is None
    left = [one.id for one in found.left('nobody asked.')]
  assert left == [key for key in first if key not in asked]


def test_aishell_1_without_and_beyond_transcripts(tmp_path):
  source, _ = trees.aishell1(tmp_path)
  speaker = source / 'wav' / 'dev' / 'S0724'
  trees.put(speaker / 'BAC009S0724W0121.wav', trees.tone(0.25))
  trees.put(source / 'wav' / 'S0002.tar.gz', b'as it is downloaded')
  table = source / 'transcript' / 'aishell_transcript_v0.8.txt'
  with open(table, 'a', encoding='utf-8') as out:
    out.write('BAC009S0999W0001 没有 录音\n')
  kept, left = ingested(source, tmp_path / 'out', 'aishell1')
  assert len(kept) == 2
  found = reasons(left)
  assert 'text: missing' in found['BAC009S0724W0121']
  assert 'a transcript without a recording' in found['BAC009S0999W0001']
  (source / 'wav').rename(source / 'wave')
  with pytest.raises(errors.UserError, match='wav: no such folder'):
    ingested(source, tmp_path / 'two', 'aishell1')


def test_aishell_2_names_its_split(tmp_path):
  (tmp_path / 'iOS').mkdir()
  source, _ = trees.aishell2(tmp_path / 'iOS')
  for name, split in (('data', 'train'), ('dev', 'dev'), ('test', 'test')):
    source = source.rename(tmp_path / name)
    kept, _ = ingested(source, tmp_path / f'{name}-out', 'aishell2')
    assert {u.split for u in kept.values()} == {split}
    assert {u.speaker for u in kept.values()} == {'C0001'}


def test_chapters_with_equal_names_of_recordings(tmp_path):
  source = tmp_path / 'in'
  for place in ('train-x/1/1', 'train-x/1/2', 'dev-x/2/1'):
    folder = source / place
    trees.put(folder / '0001.flac', trees.tone(0.25, form='FLAC'))
    trees.put(folder / f'{place[-3:-2]}-own.wav', trees.tone(0.25))
    trees.put(folder / 'x.trans.txt', f'0001 {place}\n')
  trees.put(source / 'dev-x/2/1/only.wav', trees.tone(0.25))
  trees.put(source / 'dev-x/2/1/only.flac', trees.tone(0.25))
  trees.put(source / 'dev-x/2/1/y.trans.txt', 'only here\n')
  kept, left = ingested(source, tmp_path / 'out', 'librispeech')
  assert {name: u.text for name, u in kept.items()} == {
    'train-x/1/1/0001': 'train-x/1/1', 'train-x/1/2/0001': 'train-x/1/2',
    'dev-x/2/1/0001': 'dev-x/2/1', 'only': 'here',
  }  # fmt: skip
  assert any('only.flac has the same name' in one['reason'] for one in left)


def test_librispeech_parts_and_what_has_no_partner(tmp_path):
  source, expected = trees.librispeech(tmp_path / 'in')
  chapter = source / 'LibriSpeech' / 'dev-other' / '84' / '121'
  trees.put(chapter / '84-121-0001.flac', trees.tone(0.25, form='FLAC'))
  with open(chapter / '84-121.trans.txt', 'a') as out:
    out.write('84-121-0002 SILENCE\n84-121-0000 TWICE\n')
  kept, left = ingested(source, tmp_path / 'out', 'librispeech')
  assert set(kept) == set(expected)
  found = reasons(left)
  assert 'no line of a *.trans.txt' in found['84-121-0001']
  assert 'no recording 84-121-0002' in found['84-121-0002']
  assert 'occurs twice' in found['84-121-0000'] and len(left) == 3
  for start, part in ((source, 'dev-other'), (chapter.parents[1], None)):
    kept, _ = ingested(
      start, tmp_path / f'part-{part}', 'librispeech', subset=part
    )
    assert set(kept) == {'84-121-0000'}
    assert {u.split for u in kept.values()} == {'dev'}
  for start, part in ((source, 'dev-clean'), (tmp_path / 'out', None)):
    with pytest.raises(errors.UserError, match='found no folder'):
      ingested(start, tmp_path / 'none', 'librispeech', subset=part)
  path = trees.put(tmp_path / 'file', json.dumps({}))
  with pytest.raises(errors.UserError, match='a file, expected a folder'):
    ingested(path, tmp_path / 'none', 'librispeech')
