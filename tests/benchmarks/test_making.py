"""The count of leaks that shares nothing with what refuses them."""

import json

import pytest

from benchmarks.making import independent
from benchmarks.making import kills
from benchmarks.making import material
from data_pipelines.factory.leaks import held_out


def line(text, split='train', speaker=None, name='x'):
  return {'id': name, 'text': text, 'split': split, 'speaker': speaker}


@pytest.mark.parametrize(
  'one, other, share',
  [
    ('abcdefghijklmno', 'ABC, def; ghi. jklmno', 1.0),
    ('abcdefghijklmno', 'Ａｂｃｄｅｆｇｈｉｊｋｌｍｎｏ', 1.0),
    ('abcdefghijklmno', 'abcdefghijklmnoxyz', 1.0),
    ('abcdefghijklmno', 'abcdefghijklmno'[::-1], 0.0),
    ('abcdefghijklmnx', 'abcdefghijklmno', 0.9),
    ('abcdefghijklmn', 'abcdefghijklmn', 0.0),  # nine n-grams
    # A character is two letters: of 11 n-grams the last two have another end.
    ('一二三四五六七八', '一二三四五六七九', 9 / 11),
  ],
)
def test_overlaps(one, other, share):
  assert independent.overlap(one, other) == pytest.approx(share)
  assert independent.overlap(other, one) == pytest.approx(share)


def test_leaks():
  held = [
    line('abcdefghijklmno', 'test', 'ann'),
    line('other things are said', 'test', 'bob'),
    line('nobody minds this one', 'train', 'bob'),
  ]
  made = [
    line('Abcdefghijklmno!', speaker='bob'),
    line('abcdefghijklmnx', speaker='ann'),
    line('nobody minds this one', speaker='eve'),
  ]
  assert independent.leaks(made, held) == {
    'same': 1, 'overlapping': 2, 'speakers': 1, 'highest_overlap': 1.0,
  }  # fmt: skip
  assert independent.leaks(made[2:], held)['highest_overlap'] < 0.5


def test_what_is_there_twice(tmp_path):
  (tmp_path / 'wav').mkdir()
  for name in ('a', 'b', 'left'):
    (tmp_path / f'wav/{name}.wav').touch()
  made = [
    {'id': 'a', 'audio': 'wav/a.wav'},
    {'id': 'b', 'audio': 'wav/b.wav'},
    {'id': 'b', 'audio': 'wav/b.wav'},
    {'id': 'c', 'audio': 'wav/c.wav'},
  ]
  (tmp_path / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, made)))
  (tmp_path / 'quarantine.jsonl').write_text('{"id": "a"}\n{"id": "d"}\n')
  assert independent.twice(tmp_path) == {
    'items_twice': 2, 'kept_and_refused': 1, 'files_unnamed': 1,
    'files_missing': 1,
  }  # fmt: skip


def test_every_disguise_is_found_by_both(tmp_path):
  planted = material.write(tmp_path, 120)
  texts = independent.lines(tmp_path / 'texts')
  tests = independent.lines(tmp_path / 'tests')
  assert len(texts) == 120 == len({one['id'] for one in texts})
  hidden = [one for one in texts if one['id'].startswith('planted-')]
  assert len(hidden) == planted > 40
  places = [texts.index(one) for one in hidden]
  assert min(places) < 5 and places[-1] > 90
  for one in hidden:
    (found,) = [independent.leaks([one], tests)]
    assert found['same'] or found['overlapping'], one
  known = held_out.HeldOut([tmp_path / 'tests'])
  lines = [held_out.Line(one['id'], one['text']) for one in hidden]
  assert None not in known.find(lines)
  assert list(known.speakers) == [material.UNSEEN]


def test_files_that_differ(tmp_path):
  for name, text in (('a', 'x'), ('b', 'y')):
    (tmp_path / name / 'wav').mkdir(parents=True)
    (tmp_path / name / 'wav' / '1').write_text('same')
    (tmp_path / name / 'manifest.jsonl').write_text(text)
  left, right = (kills.contents(tmp_path / name) for name in 'ab')
  assert list(left) == ['manifest.jsonl', 'wav/1']
  assert kills._differing(left, right) == ['manifest.jsonl']
