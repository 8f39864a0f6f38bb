"""Rows built in parts, by any number of workers, killed and continued."""

import dataclasses
import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from data_pipelines import __main__ as doors
from data_pipelines import records
from data_pipelines.documents import examples as corpus_examples
from data_pipelines.rows import build
from data_pipelines.rows import folders
from data_pipelines.rows import parts as row_parts
from data_pipelines.rows import verify
from data_pipelines.tasks import corpora
from data_pipelines.tasks import definitions
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from step_audio_jax.storage import publishing
from tests.data_pipelines import tiny

LENGTH = 96
COUNT = 45
WANTED = ('interleaved', 'asr', 'text', 'image_text')
BEAM = {
  'one': ['--direct_num_workers=1'],
  'three': ['--direct_num_workers=3', '--direct_running_mode=multi_threading'],
}


def tasks_of(root, name='parts'):
  model = root / 'text.model'
  found = [
    *definitions.speech(name, root / 'speech', root / 'codes', model),
    *definitions.text(name, root / 'text', model),
    *definitions.image_text(name, root / 'images', model),
  ]
  return {one.name: one for one in found if one.name.split('_', 1)[1] in WANTED}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  root = tiny.make(tmp_path_factory.mktemp('tiny') / 'corpus', COUNT)
  lines = list(files.read_jsonl(root / 'speech' / 'manifest.jsonl'))
  lines[4]['text'] = ''  # something is left out of the first and last part
  lines[-1]['text'] = ''
  files.write_jsonl(root / 'speech' / 'manifest.jsonl', lines)
  return root


@pytest.fixture(autouse=True, scope='module')
def clean():
  before = set(seqio.TaskRegistry.names())
  yield
  for name in set(seqio.TaskRegistry.names()) - before:
    seqio.TaskRegistry.remove(name)
    corpora.DEFINITIONS.pop(name, None)


def pieces_of(folder):
  """Id → all (ids, weights) of a folder of rows."""
  found = {}
  for row, names in folders.open_folder(folder):
    for number, name in enumerate(names, start=1):
      here = row['segment_ids'] == number
      told = row['tokens'][here].tolist(), row['loss_weights'][here].tolist()
      found.setdefault(name, []).append(told)
  return {name: sorted(told) for name, told in found.items()}


def stats_of(folder):
  """`stats.json` without what depends on the clock."""
  stats = dict(folders.open_folder(folder).stats)
  if 'interleaving' in stats:
    stats['interleaving'] = {
      k: v for k, v in stats['interleaving'].items() if 'second' not in k
    }
  return stats


@pytest.fixture(scope='module')
def built(root, tmp_path_factory):
  """Output folders by how they were made."""
  made = {}
  for how, parts, options in (
    ('whole', 1, None), ('here', 4, None),
    ('one', 4, BEAM['one']), ('three', 4, BEAM['three']),
  ):  # fmt: skip
    output = tmp_path_factory.mktemp(how)
    more = {}
    if options:
      more = {'runner': 'DirectRunner', 'beam_options': options}
    settings = build.Settings(LENGTH, shard_rows=3, parts=parts)
    tasks = tasks_of(root)
    del tasks['parts_image_text']
    said = build.build(tasks, ['train'], output, settings, **more)
    made[how] = output, said
  return made


def test_parts_hold_the_documents_of_the_whole(root, built):
  for name in built['whole'][1]:
    whole, parted = (built[how][0] / name for how in ('whole', 'here'))
    assert list(verify.faults(folders.open_folder(parted))) == []
    one, many = pieces_of(whole), pieces_of(parted)
    if '_asr' in name:  # the others may be cut
      assert one == many
    told = [
      sorted(f['id'] for f in files.read_jsonl(x / 'quarantine.jsonl'))
      for x in (whole, parted)
    ]
    assert told[0] == told[1]
    a, b = stats_of(whole), stats_of(parted)
    for key in ('documents', 'dropped', 'loss_tokens', 'images', 'corpus'):
      assert a[key] == b[key], key
    assert a['rows'] <= b['rows'] <= a['rows'] + 3
    if 'interleaved' in name:
      # No word is lost where a document ends because its part does.
      assert a['interleaving']['words'] == b['interleaving']['words']
      assert (
        sum(b['interleaving']['histogram'].values())
        == (b['interleaving']['spoken_spans'])
      )
  lines = manifest.read(root / 'speech', splits=['train'])
  said = built['here'][1]['parts_asr/train']
  assert said['documents'] + said['dropped'] == len(lines)


@pytest.mark.parametrize('how', ['one', 'three'])
def test_workers_change_nothing(built, how):
  """Byte by byte, whoever made the parts and in whatever order."""
  assert built[how][1] == built['here'][1]
  for name in built['here'][1]:
    here, there = (built[x][0] / name for x in ('here', how))
    assert stats_of(here) == stats_of(there)
    for path in sorted(here.iterdir()):
      if path.name != 'stats.json':
        assert path.read_bytes() == (there / path.name).read_bytes()
    assert [p.name for p in there.parent.iterdir()] == ['train']
    assert len(records.shards_of(here, 'rows')) >= 1


def test_finished_parts_are_not_made_again(root, built, tmp_path, monkeypatch):
  task = {'parts_asr': tasks_of(root)['parts_asr']}
  settings = build.Settings(LENGTH, shard_rows=3, parts=4)
  make, made = row_parts.make, []

  def killed(work):
    if work.part.index == 2:
      raise KeyboardInterrupt
    made.append(work.part.index)
    return make(work)

  monkeypatch.setattr(row_parts, 'make', killed)
  with pytest.raises(KeyboardInterrupt):
    build.build(task, ['train'], tmp_path, settings)
  assert made == [0, 1] and not (tmp_path / 'parts_asr/train').exists()
  monkeypatch.setattr(
    row_parts, 'make', lambda work: made.append(work.part.index) or make(work)
  )
  monkeypatch.setattr(
    publishing, 'replace_folder', killed_while_joining(publishing)
  )
  with pytest.raises(KeyboardInterrupt):
    build.build(task, ['train'], tmp_path, settings)
  assert made == [0, 1, 2, 3]
  monkeypatch.undo()
  monkeypatch.setattr(row_parts, 'make', None)
  build.build(task, ['train'], tmp_path, settings)  # only joins
  want = built['here'][0] / 'parts_asr' / 'train'
  found = tmp_path / 'parts_asr' / 'train'
  for path in want.iterdir():
    assert path.read_bytes() == (found / path.name).read_bytes()
  assert [p.name for p in found.parent.iterdir()] == ['train']


def killed_while_joining(module):
  replace = module.replace_folder

  def stop(new, folder):
    if folder.name == 'train':
      raise KeyboardInterrupt
    replace(new, folder)

  return stop


def test_a_split_with_fewer_lines_than_parts(root, tmp_path):
  task = {'parts_image_text': tasks_of(root)['parts_image_text']}
  settings = build.Settings(LENGTH, parts=7)
  said = build.build(task, ['train'], tmp_path, settings)
  assert said['parts_image_text/train']['documents'] == 3
  folder = folders.open_folder(tmp_path / 'parts_image_text' / 'train')
  assert list(verify.faults(folder)) == []
  assert len(folder.shards()) == 3 and folder.stats['images'] == 3


def test_the_digest_knows_the_parts_and_one_part_is_as_before(root, tmp_path):
  def inputs(**settings):
    (job,) = build.plan(
      {'parts_asr': tasks_of(root)['parts_asr']}, ['dev'], tmp_path,
      build.Settings(LENGTH, **settings),
    )  # fmt: skip
    return job.inputs

  assert len({inputs(), inputs(parts=2), inputs(parts=3)}) == 3
  assert inputs(parts=1) == inputs()
  assert build.Settings().to_json() == {
    'length': 256, 'window': 4096, 'shard_rows': 4096
  }  # fmt: skip


def test_how_all_are_interleaved_does_not_depend_on_the_part(tmp_path):
  # Word times only in the first lines: the last part has none of them.
  root = tiny.make(tmp_path / 'corpus', 24)
  lines = list(files.read_jsonl(root / 'speech' / 'manifest.jsonl'))
  for line in lines[6:]:
    line['words'] = None
  files.write_jsonl(root / 'speech' / 'manifest.jsonl', lines)
  task = tasks_of(root, 'some')['some_interleaved']
  left_out = []
  part = corpus_examples.Part(3, 4)
  examples = list(task.examples('train', part))
  assert examples and not any(e['words'] for e in examples)
  made = task.documents(examples, lambda *t: left_out.append(t), 'train')
  assert not list(made) and len(left_out) == len(examples)
  assert all('words: there are none' in reason for *_, reason in left_out)


def handmade(name, tokens):
  def source(split, shuffle_files=False, seed=None):
    return tf.data.Dataset.from_generator(
      lambda: ({'tokens': t} for t in tokens),
      output_signature={'tokens': tf.TensorSpec([None], tf.int32)},
    )

  feature = seqio.Feature(seqio.PassThroughVocabulary(100), add_eos=False)
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(source, splits=['train']),
    output_features={'tokens': feature},
  )


def test_handmade_tasks_are_parted_too(tmp_path):
  rng = np.random.default_rng(0)
  tokens = [rng.integers(1, 9, size) for size in rng.integers(2, 30, 41)]
  tokens[11] = np.array([-4])
  handmade('parts_hand', tokens)
  for parts in (1, 3):
    said = build.build(
      {'parts_hand': ('train',)}, [], tmp_path / str(parts),
      build.Settings(32, parts=parts),
    )['parts_hand/train']  # fmt: skip
    folder = tmp_path / str(parts) / 'parts_hand' / 'train'
    assert (said['documents'], said['dropped']) == (40, 1)
    (bad,) = files.read_jsonl(folder / 'quarantine.jsonl')
    assert bad['id'] == 'parts_hand-11'
    want = {
      f'parts_hand-{k}': [(t.tolist(), [1.0] * len(t))]
      for k, t in enumerate(tokens)
      if k != 11
    }
    assert pieces_of(folder) == want


@pytest.mark.parametrize('parts', [1, 2])
def test_a_worker_passes_on_what_a_user_can_mend(root, tmp_path, parts):
  task = {'parts_asr': tasks_of(root)['parts_asr']}
  settings = build.Settings(16, parts=parts)  # nothing fits
  for runner in ('local', 'DirectRunner'):
    with pytest.raises(errors.UserError) as caught:
      build.build(task, ['dev'], tmp_path, settings, runner=runner)
    said = str(caught.value)
    assert said.startswith("parts_asr, split 'dev': no document could be")
    assert 'expected at most 16' in said
    assert not [p for p in tmp_path.rglob('*.error.json')]
    assert not (tmp_path / 'parts_asr' / 'dev').exists()


def test_the_door_builds_a_module_with_beam(
  root, tmp_path, capsys, monkeypatch
):
  (tmp_path / 'parted_corpora_.py').write_text(f"""
from data_pipelines.tasks import corpora
corpora.register_text_corpus(
  'parted', {str(root / 'text')!r}, text_model={str(root / 'text.model')!r})
""")
  monkeypatch.chdir(tmp_path)
  argv = [
    'data_pipelines', 'build', '--json', f'--output={tmp_path}/rows',
    '--gin_file=gin/pretrain/rows.gin',
    '--gin.MODULES=["parted_corpora_"]', '--gin.LENGTH=32', '--parts=3',
    '--splits=train', '--runner=DirectRunner',
  ]  # fmt: skip
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  said = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert said['parted_text/train']['documents'] == COUNT - COUNT // 3
  (shard, *_) = folders.open_folder(
    tmp_path / 'rows/parted_text/train'
  ).shards()
  assert shard == 'rows-00000-of-00003.array_record'


def test_work_is_told_apart_and_knows_when_it_is_done(tmp_path):
  job = build.Job('t', 'train', tmp_path / 't' / 'train', 'digest')
  works = build.works_of(job, ('train',), build.Settings(parts=3), ['m'])
  assert len({w.inputs for w in works} | {job.inputs}) == 4
  assert len({w.folder for w in works}) == 3
  assert all(w.folder.parent.name == '.train.parts' for w in works)
  assert not works[1].is_done() and works[0].modules == ('m',)
  files.write_json(works[1].folder / 'stats.json', {'inputs': works[1].inputs})
  assert works[1].is_done() and not works[0].is_done()
  hand = dataclasses.replace(job, inputs='')
  (work,) = build.works_of(hand, ('train',), build.Settings())
  assert work.folder == job.folder and not work.inputs and not work.is_done()
