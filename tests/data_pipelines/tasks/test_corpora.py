"""SeqIO's side: examples cross unchanged, names collide, mixtures mix."""

import dataclasses

import numpy as np
import pytest
import seqio
import tensorflow as tf

from data_pipelines.rows import build
from data_pipelines.rows import folders
from data_pipelines.rows import verify
from data_pipelines.tasks import corpora
from data_pipelines.tasks import datasets
from data_pipelines.tasks import sources
from data_pipelines.tasks import text_models
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.corpus import stages
from step_audio_jax.storage import files
from tests.data_pipelines import tiny


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return tiny.make(tmp_path_factory.mktemp('tiny') / 'corpus')


@pytest.fixture
def own(tmp_path):
  """A corpus that a test may spoil."""
  return tiny.make(tmp_path / 'corpus')


@pytest.fixture(autouse=True)
def clean():
  """Leaves the registries as they were."""
  registries = seqio.TaskRegistry, seqio.MixtureRegistry
  before = [set(registry.names()) for registry in registries]
  yield
  for registry, names in zip(registries, before):
    for name in set(registry.names()) - names:
      registry.remove(name)
      corpora.DEFINITIONS.pop(name, None)


def register_all(root, name='reg'):
  model = str(root / 'text.model')
  return [
    *corpora.register_speech_corpus(
      name, str(root / 'speech'), codes=str(root / 'codes'), text_model=model
    ),
    *corpora.register_text_corpus(name, str(root / 'text'), text_model=model),
    *corpora.register_image_text_corpus(
      name, str(root / 'images'), text_model=model
    ),
  ]


def handmade(name, tokens, **columns):
  """A task of fixed token lists, as a user might write it."""
  signature = {'tokens': tf.TensorSpec([None], tf.int32)}
  signature |= {k: tf.TensorSpec([None], tf.float32) for k in columns}

  def source(split, shuffle_files=False, seed=None):
    return tf.data.Dataset.from_generator(
      lambda: (
        dict(zip(signature, values))
        for values in zip(tokens, *columns.values())
      ),
      output_signature=signature,
    )

  feature = seqio.Feature(seqio.PassThroughVocabulary(100), add_eos=False)
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(source, splits=['train']),
    output_features={'tokens': feature},
  )


READ = {
  'reg_asr': ('dev',), 'reg_interleaved': ('train',),
  'reg_image_text': ('train',),
}  # fmt: skip


def test_the_registry_gives_the_documents_of_the_definition(root):
  for task in register_all(root):
    definition = corpora.DEFINITIONS[task.name]
    assert set(task.splits) == set(definition.splits())
    for split in READ.get(task.name, ()):
      want = list(definition.documents(definition.examples(split), print))
      dataset = task.get_dataset(None, split, shuffle=False)
      found = [sources.to_document(e) for e in datasets.examples_of(dataset)]
      assert len(found) == len(want) > 0
      for got, one in zip(found, want):
        assert (got.id, got.header, got.cut) == (one.id, one.header, one.cut)
        np.testing.assert_array_equal(got.tokens, one.tokens)
        np.testing.assert_array_equal(got.loss_weights, one.loss_weights)
        np.testing.assert_array_equal(got.image_slots, one.image_slots)
        assert (got.images is None) == (one.images is None)
        if one.images is not None:
          np.testing.assert_array_equal(got.images, one.images)


def test_targets_are_the_transcripts(root):
  (task,) = [t for t in register_all(root) if t.name == 'reg_asr']
  told = {u.id: u for u in manifest.read(root / 'speech', splits=['train'])}
  for example in task.get_dataset(None, 'train', shuffle=False):
    example = {k: v.numpy() for k, v in example.items()}
    target = task.postprocess_fn(None, example=example, is_target=True)
    utterance = told.pop(example['id'].decode())
    learnt = float(example['loss_weights'].sum())
    assert target == (utterance.text, 'en', learnt) and learnt > 10
    assert task.postprocess_fn('heard', example=example) == 'heard'
  assert not told


def test_all_tasks_have_the_same_features(root):
  first, *others = (task.output_features for task in register_all(root))
  assert all(features == first for features in others)
  assert {name: (f.dtype, f.rank) for name, f in first.items()} == {
    'tokens': (tf.int32, 1), 'loss_weights': (tf.float32, 1),
    'image_slots': (tf.int32, 1), 'images': (tf.uint8, 4),
  }  # fmt: skip


def test_the_vocabulary_of_the_registry(root, tmp_path):
  path = str(root / 'text.model')
  one, same = sources.TextAndSpeech(path), sources.TextAndSpeech(path)
  other = sources.TextAndSpeech(str(tmp_path / 'later.model'))  # not opened
  assert one == same and hash(one) == hash(same) and one != other
  assert one != seqio.PassThroughVocabulary(0, 3)
  assert 'later.model' in str(other)
  table = text_models.load(path)
  assert one.vocab_size == one.size == table.table_size
  assert one.eos_id == 3
  ids = one.encode('<|ASR|>the cat<audio_7><|EOT|>')
  assert ids[0] == 36 and ids[-1] == 3 and ids[-2] == table.text_size + 7
  assert one.decode(ids) == 'the cat'
  assert one.decode([*ids, *table.text.encode('dog')]) == 'the cat'
  with pytest.raises(errors.UserError, match='later.model: no such file'):
    _ = other.vocab_size


@pytest.mark.parametrize('stage', sorted(set(stages.STAGES) - stages.OPTIONAL))
def test_mixtures_have_the_shares_of_the_table(root, stage):
  register_all(root)
  corpora.register_stages('reg')
  mixture = seqio.MixtureRegistry.get(f'reg_{stage}_mix')
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  table = stages.STAGES[stage]
  assert sum(rates.values()) == pytest.approx(1)
  assert rates == pytest.approx(
    {f'reg_{name}': float(share) for name, share in table.items()}
  )


def test_stages_can_be_registered_twice_and_need_all_tasks(root):
  register_all(root)
  assert corpora.register_stages('reg') == corpora.register_stages('reg')
  seqio.TaskRegistry.remove('reg_tts')
  with pytest.raises(errors.UserError) as caught:
    corpora.register_stages('reg')
  assert "stage 'stage3' needs the task 'reg_tts'" in str(caught.value)


def test_a_mixture_draws_from_every_task_by_its_share(root):
  register_all(root)
  corpora.register_stages('reg')
  lengths = dict.fromkeys(('tokens', 'loss_weights', 'image_slots'), 400)
  dataset = seqio.MixtureRegistry.get('reg_sft_mix').get_dataset(
    {**lengths, 'images': 4}, 'train', shuffle=False, num_epochs=None, seed=1
  )
  marks = [int(e['tokens'][1]) for e in dataset.take(300).as_numpy_iterator()]
  assert set(marks) == {35, 36}  # <|TTS|>, <|ASR|>
  assert abs(marks.count(36) / 300 - 0.5) < 0.12  # four deviations


@pytest.mark.parametrize(
  'change',
  [{'seed': 1}, {'prompt_loss': 0.5}, {'corpus': 'elsewhere'}, {'patches': 4}],
)
def test_a_name_means_one_definition(root, change):
  register_all(root)
  definition = corpora.DEFINITIONS['reg_asr']
  assert corpora.register(definition) is seqio.TaskRegistry.get('reg_asr')
  with pytest.raises(errors.UserError, match="'reg_asr' is registered already"):
    corpora.register(dataclasses.replace(definition, **change))
  assert corpora.DEFINITIONS['reg_asr'] == definition


def test_a_handmade_task_keeps_its_name(root):
  task = handmade('reg_text', [[1, 5, 3]])
  with pytest.raises(errors.UserError, match="'reg_text' is registered"):
    corpora.register_text_corpus(
      'reg', str(root / 'text'), text_model=str(root / 'text.model')
    )
  assert seqio.TaskRegistry.get('reg_text') is task
  assert 'reg_text' not in corpora.DEFINITIONS


def test_a_corpus_may_be_made_after_it_was_registered(tmp_path):
  later = tmp_path / 'later'
  tasks = register_all(later)
  assert {tuple(task.splits) for task in tasks} == {('train', 'dev', 'test')}
  dataset = tasks[-2].get_dataset(None, 'train', shuffle=False)
  with pytest.raises(errors.UserError, match='text.model: no such file'):
    list(datasets.examples_of(dataset))
  tiny.make(later)
  found = [example['id'] for example in datasets.examples_of(dataset)]
  assert found == ['t0', 't1', 't3', 't4', 't6']


def test_what_is_left_out_goes_to_the_innermost_list(own, monkeypatch):
  (own / 'images' / 'img' / '1.png').write_bytes(b'no image')
  task = register_all(own)[-1]
  warned = []
  monkeypatch.setattr(
    sources.logging, 'warning', lambda text, *args: warned.append(text % args)
  )

  def read():
    dataset = task.get_dataset(None, 'train', shuffle=False)
    return [example['id'] for example in datasets.examples_of(dataset)]

  assert read() == ['i0', 'i2']
  (said,) = warned
  assert said.startswith('reg_image_text: left out i1: not a readable image')
  with sources.quarantine() as outer:
    with sources.quarantine() as inner:
      read()
    assert not outer
    read()
  assert inner == outer and len(inner) == 1 and len(warned) == 1
  assert inner[0]['id'] == 'i1' and inner[0]['file'] == 'img/1.png'


def test_handmade_tasks_are_checked_before_they_are_packed(tmp_path):
  good = [[1, 5, 3], [1, 70655, 3], [1] * 32]
  bad = [[], [1, -7, 3], [1, 70656, 3], [1] * 33, [1, 2]]
  tokens = [np.array(t, np.int32) for t in good + bad]
  weights = [np.ones(len(t), np.float32) for t in tokens]
  weights[-1] = weights[-1][:1]
  handmade('hand', tokens, loss_weights=weights)
  found = build.build({'hand': ('train',)}, [], tmp_path, build.Settings(32))
  assert found['hand/train']['documents'] == 3
  assert found['hand/train']['dropped'] == 5
  folder = tmp_path / 'hand' / 'train'
  told = {
    line['id']: line['reason']
    for line in files.read_jsonl(folder / 'quarantine.jsonl')
  }
  assert told == {
    'hand-3': 'the document is empty.',
    'hand-4': 'tokens: id -7 is out of range, expected 0..70655.',
    'hand-5': 'tokens: id 70656 is out of range, expected 0..70655.',
    'hand-6': '33 tokens, expected at most 32, the row length; build with a '
    'larger --length.',
    'hand-7': 'loss_weights: 1 of them, expected 2, one for each token.',
  }
  # 70655 is a semantic id without its group: packed, and told by `inspect`.
  (fault,) = verify.faults(folders.open_folder(folder))
  assert 'expected a multiple of 5' in fault


@pytest.mark.parametrize('parts', [1, 3])
def test_chats_become_rows_that_learn_the_assistant(own, tmp_path, parts):
  said = manifest.read(own / 'speech')
  turns = [
    [('system', 'text', 'a dog'), ('user', 'speech', 'u0'),
     ('assistant', 'text', 'the cat')],
    [('user', 'text', 'a cat'), ('assistant', 'speech', 'u1'),
     ('user', 'speech', 'u0'), ('assistant', 'text', 'big')],
    [('user', 'text', 'who speaks')],
    [('user', 'speech', 'unheard'), ('assistant', 'text', 'a')],
  ]  # fmt: skip
  chats = [
    manifest.Utterance(
      id=f'c{k}', kind='chat', turns=[{'role': r, f: v} for r, f, v in some]
    )
    for k, some in enumerate(turns)
  ]
  manifest.write(own / 'speech', [*said, *chats])
  (task,) = corpora.register_chat_corpus(
    'reg', str(own / 'speech'), text_model=str(own / 'text.model'),
    codes=str(own / 'codes'),
  )  # fmt: skip
  assert task.name in seqio.TaskRegistry.names()
  build.build(
    {task.name: corpora.DEFINITIONS[task.name]}, ['train'], tmp_path,
    build.Settings(256, parts=parts),
  )  # fmt: skip
  folder = folders.open_folder(tmp_path / 'reg_chat' / 'train')
  assert list(verify.faults(folder)) == []
  codes, table = speech_codes.read_codes(own / 'codes'), task.output_features[
    'tokens'
  ].vocabulary.table  # fmt: skip
  names = {'system': 'system', 'user': 'human', 'assistant': 'assistant'}
  found = {}
  for row, ids in folder:
    for number, name in enumerate(ids, start=1):
      here = row['segment_ids'] == number
      found[name] = row['tokens'][here], row['loss_weights'][here]
  assert set(found) == {'c0', 'c1'}
  for k in (0, 1):
    tokens, weights = found[f'c{k}']
    # Step-Audio-Chat's template: <s>, then <|BOT|>role, content, <|EOT|>.
    at = 1
    assert tokens[0] == 1 and weights[0] == 0
    for role, field, value in turns[k]:
      head = table.text.encode(f'{names[role]}\n')
      assert tokens[at : at + 1 + len(head)].tolist() == [4, *head]
      assert not weights[at : at + 1 + len(head)].any()
      at += 1 + len(head)
      if field == 'speech':
        content = table.interleave(*codes[value]).tolist()
      else:
        content = table.text.encode(f'{names[role]}\n{value}')[len(head) :]
      assert tokens[at : at + len(content) + 1].tolist() == [*content, 3]
      learnt = float(role == 'assistant')
      assert (weights[at : at + len(content) + 1] == learnt).all()
      at += len(content) + 1
    assert at == len(tokens)
  told = {
    line['id']: line['reason']
    for line in files.read_jsonl(folder.path / 'quarantine.jsonl')
  }
  assert set(told) == {'c2', 'c3'}
  assert 'none of the assistant' in told['c2']
  assert "no codes of 'unheard'" in told['c3']


@pytest.mark.parametrize('parts', [1, 2])
def test_what_long_chats_lose_is_counted(own, tmp_path, parts):
  said = [('user', 'the cat sees a dog'), ('assistant', 'a big dog')]
  turns = [{'role': role, 'text': text} for role, text in said]
  manifest.write(
    own / 'speech',
    [
      manifest.Utterance(
        id=f'c{k}', kind='chat', turns=turns * (1 + 2 * (k == 1))
      )
      for k in range(3)
    ],
  )
  (task,) = corpora.register_chat_corpus(
    'cut', str(own / 'speech'), text_model=str(own / 'text.model')
  )
  found = build.build(
    {task.name: corpora.DEFINITIONS[task.name]}, ['train'], tmp_path,
    build.Settings(128, parts=parts),
  )  # fmt: skip
  folder = folders.open_folder(tmp_path / 'cut_chat' / 'train')
  assert list(verify.faults(folder)) == []
  told = found['cut_chat/train']
  assert (told['documents'], told['dropped']) == (3, 0)
  assert (
    told['cut']
    == folder.stats['cut']
    == {'documents': 1, 'turns': 2, 'tokens': 47}
  )
