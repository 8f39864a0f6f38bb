"""Rows and records on disk: round trips, counts, every kind of fault."""

import collections
import dataclasses
import hashlib
import json
import shutil

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines import records
from data_pipelines.inspection import inspect
from data_pipelines.rows import build
from data_pipelines.rows import folders
from data_pipelines.rows import packing
from data_pipelines.rows import parts
from data_pipelines.rows import verify
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.storage import array_records
from step_audio_jax.storage import files

TABLE = vocabulary.Vocabulary(
  text_size=100, linguistic_size=8, semantic_size=16
)
LENGTH = 48
PATCH = vocabulary.CONTROL['<im_patch>']


def document(k, kind, size):
  """A continuation, a text, or an image with a caption, of ragged length."""
  rng = np.random.default_rng([k, size])
  words = rng.integers(68, 100, size)
  slots, images, header, cut = np.zeros(0, np.int32), None, 0, 0
  if kind == 'speech':
    codes = rng.integers(0, 8, 2 * size), rng.integers(0, 16, 3 * size)
    tokens = [1, 31, *TABLE.interleave(*codes), 3]
    header, cut = 2, 5
  elif kind == 'image':
    tokens = [1, 14, PATCH, PATCH, 15, 33, *words, 3]
    slots = np.array([2], np.int32)
    images = rng.integers(0, 255, (1, 2, 2, 3)).astype(np.uint8)
  else:
    tokens, header, cut = [1, *words, 3], 1, 1
  weights = np.ones(len(tokens), np.float32)
  weights[: max(header, 1)] = 0
  return documents.Document(
    f'{kind}{k}', np.array(tokens, np.int32), weights, slots, images,
    header, cut,
  )  # fmt: skip


def write(folder, packed, **settings):
  return folders.write(
    folder, packed, table=TABLE, length=LENGTH, about={'task': 't'},
    quarantine=[], **settings,
  )  # fmt: skip


def one_a_row(count):
  return [
    packing.make_row([document(k, 'speech', 8)], LENGTH) for k in range(count)
  ]


@pytest.fixture(scope='module')
def good(tmp_path_factory):
  """Three shards; every row has speech, an image, text and some padding."""
  folder = tmp_path_factory.mktemp('rows') / 'good'
  packed = [
    packing.make_row(
      [
        document(k, 'text', 1 + k % 4),
        document(k, 'speech', 3 + k % 3),
        document(k, 'image', 1 + k % 5),
      ],
      LENGTH,
    )
    for k in range(8)
  ]
  write(folder, packed, shard_rows=3)
  return folder


ARRAYS = st.builds(
  lambda dtype, shape, seed: (
    np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
  ),
  st.sampled_from(['int32', 'float32', 'uint8', 'uint16', 'int64']),
  st.lists(st.integers(0, 4), max_size=4),
  st.integers(0, 99),
)


@hypothesis.given(
  st.dictionaries(st.text('abcxyz/_', min_size=1), ARRAYS, max_size=4),
  st.dictionaries(st.text('abc小', min_size=1), st.text('a小"\\\n{}')),
)
def test_a_record_comes_back_as_it_was(tensors, metadata):
  again, told = array_records.unpack(records.pack(tensors, metadata))
  assert told == metadata and set(again) == set(tensors)
  for name, value in tensors.items():
    assert again[name].dtype == value.dtype
    assert again[name].shape == value.shape
    np.testing.assert_array_equal(again[name], value)


def test_arrays_that_are_views_are_packed_by_value():
  whole = np.arange(24).reshape(4, 6)
  view = whole[::2, 1::2].T
  again, _ = array_records.unpack(records.pack({'x': view}))
  np.testing.assert_array_equal(again['x'], view)


@hypothesis.settings(max_examples=25)
@hypothesis.given(st.lists(st.binary(max_size=40), max_size=12))
def test_shards_give_back_any_bytes(tmp_path_factory, blobs):
  folder = tmp_path_factory.mktemp('shards')
  path = folder / 'deeper' / records.shard_name('x', 0, 1)
  blobs = [b'.' + blob for blob in blobs]  # ArrayRecord has no empty record
  assert records.write_shard(path, iter(blobs)) == len(blobs)
  assert records.read_shard(path) == blobs
  assert records.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
  assert list(path.parent.iterdir()) == [path]
  shutil.rmtree(folder)


def test_shards_are_listed_in_order_and_by_their_stem(tmp_path):
  names = [records.shard_name('rows', k, 12) for k in (11, 0, 10, 2)]
  for name in [*names, 'rows.txt', 'codes-00000-of-00001.array_record',
               '.rows-00003-of-00012.array_record.7.tmp']:  # fmt: skip
    (tmp_path / name).write_bytes(b'')
  found = [path.name for path in records.shards_of(tmp_path, 'rows')]
  assert found == sorted(names) and len(found) == 4
  assert names[0] == 'rows-00011-of-00012.array_record'


@hypothesis.settings(max_examples=25)
@hypothesis.given(
  st.lists(
    st.tuples(
      st.sampled_from(['speech', 'text', 'image']), st.integers(1, 30)
    ),
    min_size=1, max_size=25,
  ),
  st.integers(1, 5),
)  # fmt: skip
def test_stats_count_what_is_there(tmp_path_factory, plan, shard_rows):
  folder = tmp_path_factory.mktemp('counted') / 'rows'
  made = [document(k, kind, size) for k, (kind, size) in enumerate(plan)]
  made = [one for one in made if packing.fits(one, LENGTH)]
  packed = list(packing.pack(made, LENGTH))
  stats = write(folder, packed, shard_rows=shard_rows)
  read = list(folders.open_folder(folder))
  assert list(verify.faults(folders.open_folder(folder))) == []
  assert stats == folders.open_folder(folder).stats
  assert [tuple(names) for _, names in read] == [row.ids for row in packed]
  counts = collections.Counter()
  for (row, names), told in zip(read, packed, strict=True):
    np.testing.assert_array_equal(row['tokens'], told.tokens)
    np.testing.assert_array_equal(row['loss_weights'], told.loss_weights)
    slots = row.get('image_slots', ())
    assert list(slots) == told.image_slots.tolist()
    if told.images is not None:
      np.testing.assert_array_equal(row['images'], told.images)
    for token, segment in zip(row['tokens'], row['segment_ids']):
      counts['pad'] += segment == 0
      counts['text'] += segment > 0 and token < 100
      counts['linguistic'] += 100 <= token < 108
      counts['semantic'] += 108 <= token < 124
    counts['pieces'] += len(names)
    counts['learnt'] += sum(w > 0 for w in row['loss_weights'].tolist())
    counts['images'] += len(slots)
  assert stats['rows'] == len(packed)
  assert stats['tokens'] == len(packed) * LENGTH
  assert stats['pad_tokens'] == counts['pad']
  assert stats['padding'] == pytest.approx(
    counts['pad'] / max(1, stats['tokens']), abs=1e-6
  )
  assert stats['pieces'] == counts['pieces']
  assert stats['loss_tokens'] == counts['learnt']
  assert stats['images'] == counts['images']
  for kind in ('text', 'linguistic', 'semantic'):
    assert stats['tokens_by_kind'].get(kind, 0) == counts[kind]
  assert len(stats['sha256']) == -(-len(packed) // shard_rows)
  shutil.rmtree(folder.parent)


def test_rows_with_and_without_images_share_a_shard(tmp_path):
  # The first row has no image: those of the others must not be lost.
  made = [document(0, 'text', 40), document(1, 'image', 36)]
  packed = [packing.make_row([one], LENGTH) for one in made]
  stats = write(tmp_path / 'rows', packed)
  (first, _), (second, _) = folders.open_folder(tmp_path / 'rows')
  assert first['images'].shape == (0, 2, 2, 3)
  assert first['image_slots'].shape == (0,)
  np.testing.assert_array_equal(second['images'], made[1].images)
  assert second['image_slots'].tolist() == [2] and stats['images'] == 1


def tree(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.mark.parametrize('at', [0, 1, 4, 7])
def test_a_failure_at_any_row_leaves_the_old_folder(tmp_path, at):
  packed = one_a_row(8)
  write(tmp_path / 'rows', packed)
  before = tree(tmp_path)

  def broken():
    for k, row in enumerate(packed):
      if k == at:
        raise RuntimeError('stop')
      yield row

  with pytest.raises(RuntimeError, match='stop'):
    folders.write(
      tmp_path / 'rows', broken(), table=TABLE, length=LENGTH, about={},
      quarantine=[], shard_rows=3,
    )  # fmt: skip
  assert tree(tmp_path) == before


def test_what_was_left_out_is_read_behind_the_rows(tmp_path):
  left_out, about = [], {}

  def source():
    for row in packing.pack([document(0, 'speech', 4)], LENGTH):
      left_out.append({'id': 'x', 'file': None, 'reason': '小: no.'})
      about['documents'] = 1
      yield row

  stats = folders.write(
    tmp_path / 'rows', source(), table=TABLE, length=LENGTH, about=about,
    quarantine=left_out,
  )  # fmt: skip
  assert (stats['documents'], stats['dropped'], stats['rows']) == (1, 1, 1)
  found = list(files.read_jsonl(tmp_path / 'rows' / 'quarantine.jsonl'))
  assert found == left_out


def test_no_rows_are_a_folder_without_shards(tmp_path):
  stats = write(tmp_path / 'rows', [])
  assert (stats['rows'], stats['padding'], stats['sha256']) == (0, 0.0, {})
  assert list(folders.open_folder(tmp_path / 'rows')) == []
  assert list(verify.faults(folders.open_folder(tmp_path / 'rows'))) == []


def test_a_new_folder_replaces_all_of_the_old_one(tmp_path):
  write(tmp_path / 'rows', one_a_row(9), shard_rows=1)
  (tmp_path / 'rows' / 'more.txt').write_text('x')
  write(tmp_path / 'rows', one_a_row(1))
  assert set(tree(tmp_path)) == {
    'rows/quarantine.jsonl', 'rows/stats.json',
    'rows/rows-00000-of-00001.array_record',
  }  # fmt: skip


def test_done_means_made_from_the_same_inputs(tmp_path):
  assert not folders.is_done(tmp_path, 'a')
  files.write_json(tmp_path / 'stats.json', {'inputs': 'a'})
  assert folders.is_done(tmp_path, 'a') and not folders.is_done(tmp_path, 'b')
  (tmp_path / 'stats.json').write_text('{"inputs": "a"')
  with pytest.raises(errors.UserError, match='stats.json: not valid JSON'):
    folders.is_done(tmp_path, 'a')


def spoil(folder, number, change):
  """Changes the arrays of one row; digests are set right again."""
  stats = files.read_json(folder / 'stats.json')
  seen = 0
  for name in sorted(stats['sha256']):
    packed = []
    for record in records.read_shard(folder / name):
      tensors, metadata = array_records.unpack(record)
      tensors = {key: value.copy() for key, value in tensors.items()}
      if seen == number:
        change(tensors)
      packed.append(records.pack(tensors, metadata))
      seen += 1
    records.write_shard(folder / name, packed)
    stats['sha256'][name] = records.sha256(folder / name)
  files.write_json(folder / 'stats.json', stats)


def first_speech(row):
  return int(np.argmax(row['tokens'] >= 100))


def swap_codes(row):
  at = first_speech(row) + 1  # the second linguistic and first semantic id
  row['tokens'][[at, at + 1]] = row['tokens'][[at + 1, at]]


def drop_code(row):
  row['tokens'][first_speech(row)] = 70


def text_inside(row):
  row['tokens'][first_speech(row) + 3] = 70


@pytest.mark.parametrize(
  'change, said',
  [
    (swap_codes, 'breaks the pattern of 2 linguistic and 3 semantic'),
    (drop_code, 'expected a multiple of 5'),
    (text_inside, 'expected a multiple of 5'),
    (lambda r: r['image_slots'].__setitem__(0, 9999), 'not at an <im_patch>'),
    (lambda r: r['image_slots'].__setitem__(0, -1), 'not at an <im_patch>'),
    (lambda r: r['tokens'].__setitem__(0, 124), 'id 124 at 0, expected 0..123'),
    (
      lambda r: r['segment_ids'].fill(0),
      'segment_ids: 0 at 0 behind',
    ),
    (lambda r: r['loss_weights'].__setitem__(-1, 1), 'padding holds'),
    (lambda r: r.update(loss_weights=r['loss_weights'][1:]), 'expected 48'),
    (lambda r: r.update(segment_ids=r['segment_ids'][1:]), 'expected 48'),
  ],
)
def test_every_kind_of_fault_is_found_and_placed(good, tmp_path, change, said):
  folder = shutil.copytree(good, tmp_path / 'rows')
  spoil(folder, 4, change)
  found = list(verify.faults(folders.open_folder(folder)))
  assert said in found[0] and 'row 4: ' in found[0], found
  with pytest.raises(errors.UserError):
    inspect_verify(folder)


def inspect_verify(folder):
  fv = inspect.cli.parse(
    'inspect', inspect.DOOR, [f'--path={folder}', '--verify']
  )
  return inspect.DOOR.main(fv)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.data())
def test_one_changed_id_of_speech_is_always_found(good, tmp_path_factory, data):
  folder = tmp_path_factory.mktemp('changed') / 'rows'
  shutil.copytree(good, folder)
  all_rows = [row['tokens'] for row, _ in folders.open_folder(folder)]
  number = data.draw(st.integers(0, len(all_rows) - 1))
  tokens = all_rows[number]
  place = data.draw(st.sampled_from(np.flatnonzero(tokens >= 100).tolist()))
  others = (108, 123) if tokens[place] < 108 else (100, 107)
  other = st.integers(*others)
  wrong = data.draw(st.one_of(other, st.integers(68, 99), st.just(124)))
  spoil(folder, number, lambda r: r['tokens'].__setitem__(place, wrong))
  found = list(verify.faults(folders.open_folder(folder)))
  assert found and all(f'row {number}: ' in fault for fault in found)
  shutil.rmtree(folder.parent)


@pytest.mark.parametrize('key', ['rows', 'pad_tokens', 'loss_tokens'])
def test_wrong_counts_are_found(good, tmp_path, key):
  folder = shutil.copytree(good, tmp_path / 'rows')
  stats = files.read_json(folder / 'stats.json')
  files.write_json(folder / 'stats.json', {**stats, key: stats[key] + 1})
  (fault,) = verify.faults(folders.open_folder(folder))
  assert f'{key} is {stats[key] + 1}, found {stats[key]}' in fault
  files.write_jsonl(folder / 'quarantine.jsonl', [{'id': 'x'}])
  assert any(
    'dropped is 0, found 1 lines' in fault
    for fault in verify.faults(folders.open_folder(folder))
  )
  # A smaller table, as of another model, makes its ids faults.
  found = list(verify.faults(folders.open_folder(folder), table_size=110))
  assert any('expected 0..109' in fault for fault in found)


@pytest.mark.parametrize('keep', [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_shard_that_was_cut_short_is_one_sentence(good, tmp_path, keep):
  folder = shutil.copytree(good, tmp_path / 'rows')
  path = records.shards_of(folder, 'rows')[1]
  raw = path.read_bytes()
  path.write_bytes(raw[: int(len(raw) * keep)])
  (fault,) = verify.faults(folders.open_folder(folder))
  assert fault == f'{path}: its sha256 is not the one of stats.json.'
  with pytest.raises(errors.UserError) as caught:
    list(folders.open_folder(folder))
  assert str(path) in str(caught.value)
  assert len(str(caught.value).splitlines()) == 1


def test_a_record_that_is_no_row_is_named(good, tmp_path):
  folder = shutil.copytree(good, tmp_path / 'rows')
  path = records.shards_of(folder, 'rows')[0]
  records.write_shard(path, [*records.read_shard(path)[:1], b'nonsense'])
  with pytest.raises(errors.UserError, match='record 1 is not a row'):
    list(folders.open_folder(folder))
  with pytest.raises(errors.UserError, match='stats.json: no such file'):
    folders.open_folder(tmp_path)


# What `build` decides before SeqIO is needed.


def test_jobs_are_planned_by_task_and_split(tmp_path):
  tasks = {'a': ('train', 'dev', 'odd'), 'b': ('train',)}
  settings = build.Settings(64)

  def planned(splits):
    jobs = build.plan(tasks, splits, tmp_path, settings)
    assert all(j.folder == tmp_path / j.task / j.split for j in jobs)
    assert not any(j.is_done() for j in jobs)  # handmade: nobody knows
    return [(j.task, j.split) for j in jobs]

  assert planned([]) == [('a', 'train'), ('a', 'dev'), ('b', 'train')]
  assert planned(['odd']) == [('a', 'odd')]
  assert planned(['dev', 'train']) == [
    ('a', 'dev'), ('a', 'train'), ('b', 'train')
  ]  # fmt: skip
  with pytest.raises(errors.UserError, match="the split 'x'; there are dev"):
    planned(['train', 'x'])


def test_tasks_are_selected_by_name():
  known = ['mine_asr', 'mine_tts', 'mine_text']
  assert build.select([], known) == known
  assert build.select(['mine_tts', 'mine_asr'], known) == [
    'mine_tts', 'mine_asr'
  ]  # fmt: skip
  with pytest.raises(errors.UserError) as caught:
    build.select(['mine_asr', 'mine_txt'], known)
  said = str(caught.value)
  assert "no task 'mine_txt'; did you mean 'mine_text'?" in said
  assert all(name in said for name in known)
  with pytest.raises(errors.UserError, match='Known: none'):
    build.select(['x'], [])


@pytest.mark.parametrize(
  'settings, said',
  [
    ({'length': 15}, '--length: found 15, expected at least 16'),
    ({'window': 1}, '--window: found 1, expected at least 2'),
    ({'shard_rows': 0}, '--shard_rows: found 0, expected at least 1'),
    ({'parts': 0}, '--parts: found 0, expected at least 1'),
  ],
)
def test_settings_have_limits(settings, said):
  with pytest.raises(errors.UserError, match=said):
    build.Settings(**settings)
  ((name, value),) = settings.items()
  assert getattr(build.Settings(**{name: value + 1}), name) == value + 1


@hypothesis.given(
  st.lists(st.integers(-2, 130), max_size=70), st.integers(0, 2), st.booleans()
)
def test_a_document_is_packed_or_has_a_reason(ids, missing, cut):
  one = documents.Document(
    'x',
    np.array(ids, np.int32),
    np.ones(max(0, len(ids) - missing), np.float32),
    header=int(cut),
    cut=int(cut),
  )
  reason = parts.fault(one, TABLE.table_size, LENGTH)
  bad = [i for i in ids if not 0 <= i < 124]
  if not ids:
    assert reason == 'the document is empty.'
  elif missing:
    assert f'expected {len(ids)}, one for each token' in reason
  elif bad:
    assert f'id {min(ids) if min(ids) < 0 else max(ids)} is out of' in reason
    assert 'expected 0..123' in reason
  elif len(ids) > LENGTH and not cut:
    assert f'{len(ids)} tokens, expected at most {LENGTH}' in reason
  else:
    assert reason is None
    packed = list(packing.pack([one], LENGTH))
    assert packed and all(row.ids == ('x',) for row in packed)


def test_jobs_know_when_they_are_done(tmp_path):
  job = build.Job('t', 'train', tmp_path / 'rows', 'digest')
  assert not job.is_done()
  files.write_json(tmp_path / 'rows' / 'stats.json', {'inputs': 'digest'})
  assert job.is_done()
  assert not dataclasses.replace(job, inputs='').is_done()
  assert json.loads((tmp_path / 'rows' / 'stats.json').read_text())
