"""Tasks as data: examples, documents, digests; neither SeqIO nor TensorFlow."""

import dataclasses
import itertools
import os

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import tokenizers

from data_pipelines.interleaving import builders
from data_pipelines.synthesis import drawing
from data_pipelines.tasks import definitions
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files
from tests.data_pipelines import tiny

BOS, EOT, AUDIO, TEXT = 1, 3, 31, 33


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return tiny.make(tmp_path_factory.mktemp('tiny') / 'corpus')


@pytest.fixture
def own(tmp_path):
  """A corpus that a test may spoil."""
  return tiny.make(tmp_path / 'corpus')


def tasks_of(root, name='tiny', **settings):
  model = root / 'text.model'
  found = [
    *definitions.speech(
      name, root / 'speech', root / 'codes', model, **settings
    ),
    *definitions.text(name, root / 'text', model),
    *definitions.image_text(name, root / 'images', model),
  ]
  return {task.name.removeprefix(f'{name}_'): task for task in found}


def documents_of(task, split='train', examples=None):
  """(documents by id, what was left out)."""
  left_out = []
  found = task.documents(
    task.examples(split) if examples is None else examples,
    lambda *told: left_out.append(told),
  )
  return {document.id: document for document in found}, left_out


def test_a_corpus_gives_the_tasks_of_its_kind(root):
  tasks = tasks_of(root)
  assert {name: task.kind for name, task in tasks.items()} == {
    'continuation': 'continuation', 'interleaved': 'interleaved',
    'asr': 'asr', 'tts': 'tts', 'sft_asr': 'asr', 'sft_tts': 'tts',
    'text': 'text', 'image_text': 'image_text',
  }  # fmt: skip
  assert {name: task.prompt_loss for name, task in tasks.items()} == {
    name: 0.0 if name.startswith('sft') else 1.0 for name in tasks
  }
  # What the caller says is stronger than the table.
  given = tasks_of(root, prompt_loss=0.25)
  assert given['asr'].prompt_loss == given['sft_tts'].prompt_loss == 0.25
  weights = {'asr': 0.5, 'sft_tts': 0}
  given = tasks_of(root, prompt_loss=weights)
  assert {name: task.prompt_loss for name, task in given.items()} == {
    name: 0.0 if name.startswith('sft') else 1.0 for name in tasks
  } | weights
  kinds = {name: task.corpus_kind for name, task in tasks.items()}
  assert kinds.pop('text') == 'text'
  assert kinds.pop('image_text') == 'image_text'
  assert set(kinds.values()) == {'speech'}


@pytest.mark.parametrize('name', ['a-b', 'a/b', '../up', 'a b', '', '小-'])
def test_names_that_the_registry_cannot_hold_are_refused(name):
  with pytest.raises(errors.UserError) as caught:
    definitions.Definition(name, 'text', 'corpus', 'text.model')
  assert f'name: found {name!r}, expected letters' in str(caught.value)
  assert definitions.Definition('a.b_c1', 'text', 'c', 'm').name == 'a.b_c1'


@pytest.mark.parametrize(
  ('weights', 'said'),
  [
    (-0.5, 'found -0.5, expected a weight >= 0'),
    (float('nan'), 'found nan'),
    ({'asr': float('inf')}, 'found inf'),
    ({'ars': 1.0}, "no task 'ars', expected continuation, interleaved, asr"),
  ],
)
def test_wrong_loss_weights_are_refused(root, weights, said):
  with pytest.raises(errors.UserError) as caught:
    tasks_of(root, prompt_loss=weights)
  assert str(caught.value).startswith(f'prompt_loss: {said}')


def test_examples_are_the_lines_of_the_manifest_with_their_codes(root):
  codes = speech_codes.read_codes(root / 'codes')
  told = manifest.read(root / 'speech', splits=['dev'])
  found = list(tasks_of(root)['asr'].examples('dev'))
  for example, utterance in zip(found, told, strict=True):
    assert example['id'] == utterance.id
    assert example['text'] == utterance.text
    assert example['speaker'] == utterance.speaker
    assert example['file'] == utterance.audio
    assert example['words'] == utterance.words
    for got, want in zip(
      (example['linguistic'], example['semantic']), codes[utterance.id]
    ):
      assert got.dtype == np.uint16
      np.testing.assert_array_equal(got, want)
  (first, *_) = tasks_of(root)['image_text'].examples('train')
  assert first['file'] == 'img/0.png' and first['words'] == ()
  assert len(first['linguistic']) == 0 and first['speaker'] == ''


def test_documents_are_written_out_id_by_id(root):
  tasks = tasks_of(root, prompt_loss=0.5)
  table = tasks['asr'].vocabulary()
  codes = speech_codes.read_codes(root / 'codes')
  want = {}
  for utterance in manifest.read(root / 'speech', splits=['train']):
    linguistic, semantic = codes[utterance.id]
    groups = min(len(linguistic) // 2, len(semantic) // 3)
    audio = [
      int(i)
      for g in range(groups)
      for i in (
        *(linguistic[2 * g : 2 * g + 2] + table.text_size),
        *(semantic[3 * g : 3 * g + 3].astype(int) + table.text_size + 1024),
      )
    ]
    words = table.text.encode(utterance.text)
    want[utterance.id] = audio, words
  layouts = {
    'continuation': lambda a, t: [BOS, AUDIO, *a, EOT],
    'asr': lambda a, t: [BOS, 36, AUDIO, *a, TEXT, *t, EOT],
    'tts': lambda a, t: [BOS, 35, TEXT, *t, AUDIO, *a, EOT],
  }
  for name, layout in layouts.items():
    found, left_out = documents_of(tasks[name])
    assert list(found) == list(want) and not left_out
    for key, document in found.items():
      assert document.tokens.tolist() == layout(*want[key])
      assert (0.5 in document.loss_weights) == (name != 'continuation')
  found, _ = documents_of(tasks['image_text'])
  for k in range(3):
    image = drawing.load(root / 'images' / 'img' / f'{k}.png')
    np.testing.assert_array_equal(found[f'i{k}'].images, image[None])


def test_interleaving_is_decided_by_the_seed_and_the_id_alone(root):
  task = tasks_of(root)['interleaved']
  examples = list(task.examples('train'))
  first, _ = documents_of(task, examples=examples)
  turned, _ = documents_of(task, examples=examples[::-1])
  alone, _ = documents_of(task, examples=examples[2:3])
  for name, document in first.items():
    np.testing.assert_array_equal(document.tokens, turned[name].tokens)
  (name,) = alone
  np.testing.assert_array_equal(alone[name].tokens, first[name].tokens)
  others = [
    documents_of(tasks_of(root, seed=seed)['interleaved'], examples=examples)[0]
    for seed in range(1, 6)
  ]
  different = [
    not np.array_equal(other[name].tokens, first[name].tokens)
    for other in others
    for name in first
  ]
  assert any(different)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
  st.lists(
    st.tuples(st.sampled_from('abc'), st.sampled_from(['', '', '', 'x'])),
    min_size=1, max_size=25,
  )
)  # fmt: skip
def test_segments_are_runs_of_one_speaker(root, lines):
  task = tasks_of(root)['interleaved']
  pair = speech_codes.read_codes(root / 'codes')['u0']
  examples = [
    {
      'id': f'v{k}', 'text': '' if bad else 'a cat', 'speaker': speaker,
      'file': '', 'words': (), 'linguistic': pair[0], 'semantic': pair[1],
    }
    for k, (speaker, bad) in enumerate(lines)
  ]  # fmt: skip
  found, left_out = documents_of(task, examples=examples)
  good = [e for e in examples if e['text']]
  want = []
  for _, run in itertools.groupby(good, lambda e: e['speaker']):
    names = [e['id'] for e in run]
    want += [
      '+'.join(names[k : k + builders.Segments().most])
      for k in range(0, len(names), builders.Segments().most)
    ]
  assert list(found) == want
  assert [told[0] for told in left_out] == [
    e['id'] for e in examples if not e['text']
  ]
  assert all('text: missing' in reason for _, _, reason in left_out)


def test_what_cannot_be_a_document_is_reported_with_its_file(own):
  lines = list(files.read_jsonl(own / 'speech' / 'manifest.jsonl'))
  train = [line for line in lines if line['split'] == 'train']
  train[0]['words'] = None  # others have words: no segments for one line
  train[1]['audio'] = None
  for key in ('duration', 'sample_rate'):
    train[1].pop(key)
  codes = speech_codes.read_codes(own / 'codes')
  del codes[train[1]['id']]
  codes[train[2]['id']] = codes[train[2]['id']][0], [4096, 1, 2, 3]
  tiny.write_codes(own / 'codes', codes, 'second')
  files.write_jsonl(own / 'speech' / 'manifest.jsonl', lines)
  found, left_out = documents_of(tasks_of(own)['interleaved'])
  reasons = {name: (file, reason) for name, file, reason in left_out}
  assert len(found) + len(left_out) == len(train)
  file, reason = reasons[train[0]['id']]
  assert file == train[0]['audio'] and 'words: there are none' in reason
  file, reason = reasons[train[1]['id']]
  assert file is None and f'{own}/codes/quarantine.jsonl' in reason
  _, reason = reasons[train[2]['id']]
  assert 'code 4096 at position 0, expected 0..4095' in reason


def test_an_image_behind_a_link_out_of_the_corpus_is_left_out(own, tmp_path):
  picture = own / 'images' / 'img' / '1.png'
  os.rename(picture, tmp_path / 'outside.png')
  picture.symlink_to(tmp_path / 'outside.png')
  found, left_out = documents_of(tasks_of(own)['image_text'])
  assert list(found) == ['i0', 'i2']
  ((name, file, reason),) = left_out
  assert (name, file) == ('i1', 'img/1.png')
  assert 'leads out of the corpus folder' in reason


def test_splits_are_those_of_the_tasks_kind(own):
  mixed = [
    manifest.Utterance(id='a', kind='text', split='test', text='x'),
    manifest.Utterance(id='b', split='odd'),
    manifest.Utterance(id='c', kind='text', split='dev', text='x'),
    manifest.Utterance(id='d', kind='text', split='test', text='x'),
  ]
  manifest.write(own / 'speech', mixed)
  manifest.write(own / 'text', mixed)
  tasks = tasks_of(own)
  assert tasks['text'].splits() == ['test', 'dev']
  assert tasks['asr'].splits() == ['odd']
  assert [e['id'] for e in tasks['text'].examples('test')] == ['a', 'd']


def test_documents_of_a_limited_tokenizer_are_whole(tmp_path):
  """Nothing is cut, filled or framed, and no text is a control piece."""
  table = {word: i for i, word in enumerate(['the', 'cat', '[UNK]', '<end>'])}
  model = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(table, unk_token='[UNK]')
  )
  model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  model.add_special_tokens(['<end>'])
  model.enable_truncation(2000)
  model.enable_padding(length=8, pad_token='<end>', pad_id=3)
  path = tmp_path / 'tokenizer.json'
  model.save(str(path))
  texts = {'long': 'the cat ' * 5000, 'short': 'cat <end>'}
  manifest.write(
    tmp_path / 'c',
    [manifest.Utterance(k, kind='text', text=v) for k, v in texts.items()],
  )
  (task,) = definitions.text('x', tmp_path / 'c', path)
  found, left_out = documents_of(task)
  assert not left_out
  assert found['long'].tokens.tolist() == [BOS, *[68, 69] * 5000, EOT]
  assert found['short'].tokens.tolist() == [BOS, 69, 70, EOT]


def test_a_digest_changes_with_every_setting(root):
  base = tasks_of(root)['asr']
  seen = {base.digest('train'), base.digest('dev')}
  changes = {
    'name': 'other', 'kind': 'tts', 'prompt_loss': 0.5, 'image_size': 16,
    'patches': 4, 'seed': 1,
  }  # fmt: skip
  for field, value in changes.items():
    seen.add(dataclasses.replace(base, **{field: value}).digest('train'))
  assert len(seen) == 2 + len(changes)
  assert dataclasses.replace(base).digest('train') in seen


def test_rows_of_a_tokenizer_json_know_how_it_was_read(own, monkeypatch):
  (own / 'tokenizer.json').write_text('{}')
  pieces = tasks_of(own)['asr']
  theirs = dataclasses.replace(pieces, text_model=str(own / 'tokenizer.json'))
  before = pieces.digest('train'), theirs.digest('train')
  monkeypatch.setattr(definitions, 'TOKENIZER_JSON_VERSION', 1)
  after = pieces.digest('train'), theirs.digest('train')
  assert before[0] == after[0] and before[1] != after[1]


def test_a_digest_follows_the_files_and_not_their_times(own):
  task = tasks_of(own)['image_text']
  first = task.digest('train')
  for path in own.rglob('*'):
    os.utime(path, (1, 1))
  assert task.digest('train') == first
  (own / 'images' / 'img' / '2.png').unlink()
  assert task.digest('train') != first


def test_codes_are_read_again_when_they_were_made_again(own):
  task = tasks_of(own)['continuation']
  before, _ = documents_of(task)
  codes = speech_codes.read_codes(own / 'codes')
  codes['u0'] = [5] * 4, [6] * 6
  tiny.write_codes(own / 'codes', codes, 'second')
  after, _ = documents_of(task)
  size = task.vocabulary().text_size
  group = [size + 5] * 2 + [size + 1024 + 6] * 3
  assert after['u0'].tokens.tolist() == [BOS, AUDIO, *group, *group, EOT]
  np.testing.assert_array_equal(after['u1'].tokens, before['u1'].tokens)


def test_what_a_digest_needs_is_named_when_it_is_missing(own):
  task = tasks_of(own)['asr']
  (own / 'codes' / 'stats.json').unlink()
  with pytest.raises(errors.UserError, match='codes/stats.json: no such file'):
    task.digest('train')
  (own / 'text.model').unlink()
  with pytest.raises(errors.UserError, match='text.model: no such file, exp'):
    task.digest('train')


def test_asr_and_chats_may_hear_the_linguistic_codes_alone(root):
  both, one = tasks_of(root), tasks_of(root, streams='linguistic')
  changed = {
    name
    for name in both
    if both[name].digest('train') != one[name].digest('train')
  }
  assert changed == {'asr', 'sft_asr'}
  table = one['asr'].vocabulary()
  whole, _ = documents_of(both['sft_asr'])
  heard, left_out = documents_of(one['sft_asr'])
  assert not left_out and set(heard) == set(whole)
  for name, document in heard.items():
    tokens = whole[name].tokens
    kept = ~table.is_semantic(tokens)
    np.testing.assert_array_equal(document.tokens, tokens[kept])
    np.testing.assert_array_equal(
      document.loss_weights, whole[name].loss_weights[kept]
    )
  with pytest.raises(errors.UserError, match="streams: found 'odd'"):
    dataclasses.replace(one['asr'], streams='odd')
