"""From corpora through SeqIO to rows, and what happens on the way."""

import json
import os
import shutil

import numpy as np
import pytest
import seqio

from data_pipelines import __main__ as doors
from data_pipelines import records
from data_pipelines.rows import build
from data_pipelines.rows import folders
from data_pipelines.rows import packing
from data_pipelines.rows import parts
from data_pipelines.rows import verify
from data_pipelines.tasks import corpora
from data_pipelines.tasks import definitions
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.corpus import stages
from step_audio_jax.storage import array_records
from step_audio_jax.storage import files
from step_audio_jax.storage import publishing
from step_audio_jax.tokenizers.text import vocabularies

TASKS = (
  'continuation', 'interleaved', 'asr', 'tts', 'sft_asr', 'sft_tts', 'text',
  'image_text',
)  # fmt: skip
LENGTH = 192


def all_tasks(root, name):
  model = str(root / 'text.model')
  found = [
    *definitions.speech(name, root / 'speech', root / 'codes', model),
    *definitions.text(name, root / 'text', model),
    *definitions.image_text(name, root / 'images', model),
  ]
  return {definition.name: definition for definition in found}


@pytest.fixture(scope='module')
def built(made, tmp_path_factory):
  """Rows of every task for train and dev."""
  output = tmp_path_factory.mktemp('rows')
  result = build.build(
    all_tasks(made, 'small'), ['train', 'dev'], output, build.Settings(LENGTH)
  )
  return output, result


def documents_in(folder):
  """(id, tokens, loss weights) of every segment of a folder of rows."""
  for row, names in folders.open_folder(folder):
    for number, name in enumerate(names, start=1):
      here = row['segment_ids'] == number
      yield name, row['tokens'][here], row['loss_weights'][here]


def test_every_task_and_split_has_rows(built):
  output, result = built
  assert set(result) == {f'small_{t}/{s}' for t in TASKS for s in (
    'train', 'dev'
  )}  # fmt: skip
  for name, stats in result.items():
    folder = folders.open_folder(output / name)
    assert list(verify.faults(folder)) == []
    assert folder.stats['rows'] == stats['rows'] > 0
    assert folder.stats['tokens'] == stats['rows'] * LENGTH
    assert folder.stats['dropped'] == 0
    (shard,) = folder.stats['sha256']
    assert shard == 'rows-00000-of-00001.array_record'


def test_rows_hold_the_documents_that_the_manifest_says(built, made):
  table = vocabularies.load(text_model=str(made / 'text.model'))
  codes = speech_codes.read_codes(made / 'codes')
  told = {u.id: u for u in manifest.read(made / 'speech', splits=['train'])}
  for task, prompt in (('asr', 1.0), ('sft_asr', 0.0)):
    found = {
      name: (tokens, weights)
      for name, tokens, weights in documents_in(
        built[0] / f'small_{task}' / 'train'
      )
    }
    assert set(found) == set(told)
    for name, (tokens, weights) in found.items():
      audio = table.interleave(*codes[name])
      text = table.text.encode(told[name].text)
      assert tokens.tolist() == [1, 36, 31, *audio, 33, *text, 3]
      assert weights.tolist() == [
        *[0.0] * 3, *[prompt] * (len(audio) + 1), *[1.0] * (len(text) + 1)
      ]  # fmt: skip
      assert table.decode(text) == told[name].text


def test_text_and_continuation_lose_nothing(built, made):
  table = vocabularies.load(text_model=str(made / 'text.model'))
  for task, kind, count in (
    ('text', 'text', 80),
    ('continuation', 'speech', 24),
  ):
    folder = built[0] / f'small_{task}' / 'train'
    pieces = {}
    for name, tokens, _ in documents_in(folder):
      pieces.setdefault(name, []).append(tokens)
    assert len(pieces) == count
    stats = folders.open_folder(folder).stats
    header = 1 if kind == 'text' else 2
    learnt = sum(len(t) - header for found in pieces.values() for t in found)
    assert stats['loss_tokens'] == learnt
    assert stats['documents'] == count
  lines = {u.id: u.text for u in manifest.read(made / 'text', splits=['train'])}
  folder = built[0] / 'small_text' / 'train'
  for name, tokens, _ in documents_in(folder):
    assert table.decode(tokens) in lines[name]


def test_images_stand_before_their_captions(built, made):
  folder = folders.open_folder(built[0] / 'small_image_text' / 'train')
  from data_pipelines.synthesis import drawing

  told = {u.id: u for u in manifest.read(made / 'images', splits=['train'])}
  seen = 0
  for row, names in folder:
    assert len(row['images']) == len(row['image_slots']) == len(names)
    for image, slot, name in zip(row['images'], row['image_slots'], names):
      assert row['tokens'][slot - 1 : slot + 17].tolist() == [
        14, *[13] * 16, 15
      ]  # fmt: skip
      assert not row['loss_weights'][slot - 1 : slot + 18].any()
      path = told[name].image_path(made / 'images')
      np.testing.assert_array_equal(image, drawing.load(path))
      seen += 1
  assert seen == 20 and folder.stats['images'] == 20
  assert folder.stats['images_per_row'] >= 3


def test_tokens_by_kind_add_up(built):
  for name in built[1]:
    stats = folders.open_folder(built[0] / name).stats
    kinds = stats['tokens_by_kind']
    assert sum(kinds.values()) + stats['pad_tokens'] == stats['tokens']
    if 'continuation' in name:
      assert kinds['linguistic'] * 3 == kinds['semantic'] * 2 > 0


def test_nothing_is_built_twice(built, made):
  output, result = built
  times = {p: p.stat().st_mtime_ns for p in output.rglob('*')}
  again = build.build(
    all_tasks(made, 'small'), ['train', 'dev'], output, build.Settings(LENGTH)
  )
  assert again == result
  assert times == {p: p.stat().st_mtime_ns for p in output.rglob('*')}


def test_a_change_rebuilds_what_depends_on_it(corpus, tmp_path):
  settings = build.Settings(LENGTH)

  def left(settings=settings, **changes):
    tasks = {
      name: definitions.dataclasses.replace(task, **changes)
      for name, task in all_tasks(corpus, 'x').items()
      if name in ('x_asr', 'x_text', 'x_image_text')
    }
    jobs = build.plan(tasks, ['dev'], tmp_path / 'rows', settings)
    stale = {job.task for job in jobs if not job.is_done()}
    for job in jobs:  # as if it had been built
      files.write_json(job.folder / 'stats.json', {'inputs': job.inputs})
    return stale

  everything = {'x_asr', 'x_text', 'x_image_text'}
  assert left() == everything
  assert left() == set()
  assert left(build.Settings(LENGTH + 1)) == everything
  assert left() == everything
  assert left(prompt_loss=0.5) == everything
  left()
  line = manifest.Utterance(id='new', kind='text', split='dev', text='a cat')
  manifest.write(corpus / 'text', [*manifest.read(corpus / 'text'), line])
  assert left() == {'x_text'}
  stats = files.read_json(corpus / 'codes' / 'stats.json')
  files.write_json(corpus / 'codes' / 'stats.json', {**stats, 'digest': 'b'})
  assert left() == {'x_asr'}
  picture = corpus / 'images' / 'img' / 'dev-00000.png'
  shutil.copy(corpus / 'images' / 'img' / 'dev-00001.png', picture)
  assert left() == {'x_image_text'}
  with open(corpus / 'text.model', 'ab') as handle:
    handle.write(b'\0')
  assert left() == everything


def one(root, name, task):
  return {f'{name}_{task}': all_tasks(root, name)[f'{name}_{task}']}


def test_what_cannot_be_built_is_quarantined(corpus, tmp_path):
  lines = list(files.read_jsonl(corpus / 'speech' / 'manifest.jsonl'))
  train = [k for k, line in enumerate(lines) if line['split'] == 'train']
  lines[train[0]]['text'] = ''
  lines[train[1]]['id'] = 'without-codes'
  lines[train[2]]['text'] = 'the cat ' * 40
  lines[train[3]]['words'][1][0] = 'another'
  files.write_jsonl(corpus / 'speech' / 'manifest.jsonl', lines)
  ids = [lines[k]['id'] for k in train]
  output = tmp_path / 'rows'
  result = build.build(
    one(corpus, 'bad', 'asr') | one(corpus, 'bad', 'interleaved'),
    ['train'], output, build.Settings(LENGTH),
  )  # fmt: skip
  asr = result['bad_asr/train']
  assert (asr['documents'], asr['dropped']) == (21, 3)
  found = {
    line['id']: line
    for line in files.read_jsonl(output / 'bad_asr/train/quarantine.jsonl')
  }
  assert set(found) == {ids[0], 'without-codes', ids[2]}
  assert 'has no ids' in found[ids[0]]['reason']
  assert 'codes: none for this utterance' in found['without-codes']['reason']
  assert found['without-codes']['file'].endswith('.wav')
  assert f'expected at most {LENGTH}' in found[ids[2]]['reason']
  found = {
    line['id']: line['reason']
    for line in files.read_jsonl(
      output / 'bad_interleaved/train/quarantine.jsonl'
    )
  }
  assert "'another' does not occur" in found[ids[3]]
  assert 'without-codes' in found


def test_unreadable_images_are_quarantined(corpus, tmp_path):
  (corpus / 'images' / 'img' / 'train-00003.png').write_bytes(b'no')
  (corpus / 'images' / 'img' / 'train-00004.png').unlink()
  build.build(
    one(corpus, 'blind', 'image_text'), ['train'], tmp_path,
    build.Settings(LENGTH),
  )  # fmt: skip
  found = files.read_jsonl(
    tmp_path / 'blind_image_text' / 'train' / 'quarantine.jsonl'
  )
  assert [line['id'] for line in found] == ['train-00003', 'train-00004']


def test_nothing_at_all_is_an_error_and_leaves_nothing(corpus, tmp_path):
  with pytest.raises(errors.UserError, match='no document could be packed'):
    build.build(
      one(corpus, 'tiny', 'asr'), ['dev'], tmp_path, build.Settings(16)
    )
  assert not (tmp_path / 'tiny_asr').exists()


def test_a_killed_build_leaves_the_old_rows(built, monkeypatch):
  folder = built[0] / 'small_asr' / 'dev'
  before = {p.name: p.read_bytes() for p in folder.iterdir()}
  stale = folder.with_name('.dev.77.tmp')
  stale.mkdir()

  def stop(*_, **__):
    raise KeyboardInterrupt

  job = build.Job('small_asr', 'dev', folder, 'other')
  (work,) = build.works_of(
    job, corpora.DEFINITIONS['small_asr'], build.Settings(LENGTH)
  )
  monkeypatch.setattr(publishing, 'replace_folder', stop)
  with pytest.raises(KeyboardInterrupt):
    parts.make(work)
  assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
  assert {p.name for p in folder.parent.iterdir()} == {'dev', 'train'}


def test_corpora_without_word_times_are_interleaved_by_segments(
  corpus, tmp_path
):
  lines = list(files.read_jsonl(corpus / 'speech' / 'manifest.jsonl'))
  for line in lines:
    line['words'] = None
    line['speaker'] = 'one'
  files.write_jsonl(corpus / 'speech' / 'manifest.jsonl', lines)
  build.build(
    one(corpus, 'seg', 'interleaved'), ['train'], tmp_path,
    build.Settings(400),
  )  # fmt: skip
  names = [
    name for name, *_ in documents_in(tmp_path / 'seg_interleaved' / 'train')
  ]
  assert len(names) == 6
  assert sorted(part for name in names for part in name.split('+')) == sorted(
    line['id'] for line in lines if line['split'] == 'train'
  )


def test_seqio_knows_the_tasks_and_mixes_them_by_stage(built, made):
  del built
  task = seqio.TaskRegistry.get('small_asr')
  examples = list(
    task.get_dataset(None, 'dev', shuffle=False).as_numpy_iterator()
  )
  assert len(examples) == 6
  definition = corpora.DEFINITIONS['small_asr']
  left_out = []
  want = list(
    definition.documents(
      definition.examples('dev'), lambda *args: left_out.append(args)
    )
  )
  for example, document in zip(examples, want, strict=True):
    np.testing.assert_array_equal(example['tokens'], document.tokens)
    assert example['images'].shape == (0, 32, 32, 3)
    target = task.postprocess_fn(None, example=example, is_target=True)
    assert target[0] and target[1] in ('en', 'zh')
  assert not left_out
  vocabulary_ = task.output_features['tokens'].vocabulary
  assert vocabulary_.decode(want[0].tokens.tolist())
  mixtures = corpora.register_stages('small')
  assert len(mixtures) == len(stages.STAGES) - len(stages.OPTIONAL)
  stage3 = seqio.MixtureRegistry.get('small_stage3_mix')
  rates = {t.name: stage3.get_rate(t) for t in stage3.tasks}
  total = sum(rates.values())
  for source, share in stages.STAGES['stage3'].items():
    assert rates[f'small_{source}'] / total == pytest.approx(float(share))
  dataset = stage3.get_dataset(
    {'tokens': LENGTH, 'loss_weights': LENGTH, 'images': 4, 'image_slots': 4},
    'dev', shuffle=False, num_epochs=None, seed=0,
  )  # fmt: skip
  assert sum(1 for _ in dataset.take(20)) == 20
  with pytest.raises(errors.UserError, match="needs the task 'nobody_text'"):
    corpora.register_stages('nobody')


def test_registering_twice(made):
  model = str(made / 'text.model')
  (first,) = corpora.register_text_corpus(
    'twice', made / 'text', text_model=model
  )
  (again,) = corpora.register_text_corpus(
    'twice', made / 'text', text_model=model
  )
  assert first is again
  with pytest.raises(errors.UserError, match="'twice_text' is registered"):
    corpora.register_text_corpus('twice', made / 'speech', text_model=model)


def call(capsys, *argv):
  argv = ['data_pipelines', 'build', *argv, '--json']
  status = cli.dispatch('data_pipelines', doors.DOORS, argv)
  out = capsys.readouterr()
  if status:
    assert len(out.err.strip().splitlines()) == 1
    return status, out.err
  return status, json.loads(out.out.splitlines()[-1])


def flags(made, output):
  return [
    '--name=small', f'--speech={made}/speech', f'--codes={made}/codes',
    f'--text={made}/text', f'--images={made}/images',
    f'--text_model={made}/text.model', f'--output={output}',
    f'--length={LENGTH}', '--splits=train,dev',
  ]  # fmt: skip


def test_the_door_finds_what_is_built(built, made, capsys):
  status, said = call(capsys, *flags(made, built[0]), '--dry_run')
  assert status == 0 and said == {'dry_run': True, 'folders': 16, 'left': 0}
  status, said = call(capsys, *flags(made, built[0]))
  assert status == 0 and said == built[1]


def test_modules_register_corpora_and_handmade_tasks(
  made, tmp_path, capsys, monkeypatch
):
  (tmp_path / 'handmade_corpora_.py').write_text(f"""
from data_pipelines.tasks import corpora
import seqio, tensorflow as tf
corpora.register_text_corpus(
  'module', {str(made / 'text')!r}, text_model={str(made / 'text.model')!r})
seqio.TaskRegistry.add(
  'module_hand',
  source=seqio.FunctionDataSource(
    lambda split, shuffle_files: tf.data.Dataset.from_tensor_slices(
      {{'tokens': [[1, 5, 3], [1, 70000, 3], [1, -2, 3], [1, 6, 3]]}}
    ), splits=['train']),
  output_features={{'tokens': seqio.Feature(
    seqio.PassThroughVocabulary(100), add_eos=False)}},
)
""")
  monkeypatch.chdir(tmp_path)
  status, said = call(
    capsys, '--module=handmade_corpora_', f'--output={tmp_path}/rows',
    '--length=32', '--splits=train',
  )  # fmt: skip
  assert status == 0, said
  assert said['module_text/train']['documents'] == 80
  assert said['module_hand/train'] | {'tokens': 0} == {
    'rows': 1, 'tokens': 0, 'padding': 1 - 9 / 32, 'loss_tokens': 9,
    'documents': 3, 'dropped': 1,
  }  # fmt: skip
  quarantine = files.read_jsonl(
    tmp_path / 'rows' / 'module_hand' / 'train' / 'quarantine.jsonl'
  )
  assert 'id -2 is out of range' in next(quarantine)['reason']


def spoil(folder, change):
  """Rewrites a folder's only shard after `change(arrays)` of row 0."""
  (path,) = records.shards_of(folder, 'rows')
  packed = []
  for number, record in enumerate(records.read_shard(path)):
    tensors, metadata = array_records.unpack(record)
    tensors = {name: value.copy() for name, value in tensors.items()}
    if number == 0:
      change(tensors)
    packed.append(records.pack(tensors, metadata))
  records.write_shard(path, packed)
  stats = files.read_json(folder / 'stats.json')
  stats['sha256'] = {path.name: records.sha256(path)}
  files.write_json(folder / 'stats.json', stats)


@pytest.mark.parametrize(
  'change, said',
  [
    (lambda r: r['tokens'].__setitem__(5, 99999), 'id 99999 at 5'),
    (lambda r: r['tokens'].__setitem__(5, -1), 'id -1 at 5'),
    (
      lambda r: r['segment_ids'].__setitem__(3, 7),
      'segment_ids: 7 at 3',
    ),
    (
      lambda r: r['segment_ids'].__setitem__(0, 0),
      'segment_ids: 0 at 0',
    ),
    (lambda r: r['segment_ids'].__setitem__(-1, 0), 'padding holds'),
    (lambda r: r['image_slots'].__setitem__(0, 0), 'not at an <im_patch>'),
    (lambda r: r.update(tokens=r['tokens'][:-1]), 'expected 192'),
    (lambda r: r['loss_weights'].fill(0), 'stats.json: loss_tokens is'),
  ],
)
def test_verification_finds_faults(built, tmp_path, change, said):
  folder = shutil.copytree(
    built[0] / 'small_image_text' / 'train', tmp_path / 'train'
  )
  assert list(verify.faults(folders.open_folder(folder))) == []
  spoil(folder, change)
  found = list(verify.faults(folders.open_folder(folder)))
  assert any(said in fault for fault in found), found


def test_verification_finds_changed_files(built, tmp_path):
  folder = shutil.copytree(built[0] / 'small_text' / 'dev', tmp_path / 'dev')
  (path,) = records.shards_of(folder, 'rows')
  raw = bytearray(path.read_bytes())
  raw[len(raw) // 2] ^= 1
  path.write_bytes(raw)
  (fault,) = verify.faults(folders.open_folder(folder))
  assert 'sha256' in fault
  os.unlink(path)
  (fault,) = verify.faults(folders.open_folder(folder))
  assert 'no such file' in fault


def test_shards_hold_all_rows_in_order(tmp_path):
  rng = np.random.default_rng(0)
  table = vocabulary.Vocabulary()
  made = [
    build.definitions_lib.Document(
      f'd{k}', rng.integers(1, 9, 7).astype(np.int32), np.ones(7, np.float32)
    )
    for k in range(11)
  ]
  packed = list(packing.pack(made, 16))
  stats = folders.write(
    tmp_path / 'rows', packed, table=table, length=16,
    about={'task': 't'}, quarantine=[], shard_rows=2,
  )  # fmt: skip
  assert list(stats['sha256']) == [
    f'rows-0000{k}-of-00003.array_record' for k in range(3)
  ]
  found = [row['tokens'] for row, _ in folders.open_folder(tmp_path / 'rows')]
  np.testing.assert_array_equal(found, [row.tokens for row in packed])
