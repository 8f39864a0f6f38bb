"""Leaks of corpora: split, text, overlap, speaker."""

import pytest

from data_pipelines.factory.leaks import held_out as lib
from step_audio_jax import errors
from step_audio_jax.corpus import manifest


def line(id, split, text, speaker=None):
  return manifest.Utterance(
    id=id, kind='speech', split=split, text=text, speaker=speaker
  )


@pytest.fixture
def corpora(tmp_path):
  first, second = tmp_path / 'first', tmp_path / 'second'
  for folder in (first, second):
    folder.mkdir()
  manifest.write(
    first,
    [
      line('a', 'train', 'the small red cat sees a very old dog', 'ann'),
      line('b', 'dev', 'the blue dog runs into the old house', 'ann'),
      line('c', 'test', 'What is the capital of France?', 'ann'),
      line('d', 'test_unseen_voice', 'every bird has two wings', 'eve'),
      line('e', 'test', 'yes', 'ann'),
    ],
  )
  turns = (
    {'role': 'user', 'text': 'Which animal barks at night?'},
    {'role': 'assistant', 'text': '狗在晚上叫得很大声。'},
  )
  manifest.write(
    second,
    [
      manifest.Utterance(id='q', kind='chat', split='test_asked', turns=turns),
      line('r', 'train', 'one', 'bob'),
    ],
  )
  return first, second


def test_each_kind_of_leak_names_its_line(corpora):
  held_out = lib.HeldOut(corpora)
  first, second = (str(folder / 'manifest.jsonl') for folder in corpora)
  assert (held_out.lines, held_out.texts) == (5, 5)
  lines = [
    lib.Line('1', 'WHAT is the capital of france'),
    lib.Line('2', 'Tell me: what is the capital of France today, please'),
    lib.Line('3', 'what is the captial of france?'),
    lib.Line('4', 'what is the capital of Spain', 'eve'),
    lib.Line('5', 'a new text', 'ann'),
    lib.Line('6', 'yes'),
    lib.Line('7', 'a new text', 'ann', 'test'),
    lib.Line('8', 'which animal barks at night'),
    lib.Line('9', '狗在晚上叫得很大聲'),
    lib.Line('10', None, None, 'train'),
    lib.Line('11', 'the small red cat sees a very old dog'),
    lib.Line('12', 'the blue dog runs into the old house'),
  ]
  found = held_out.find(lines)
  told = [leak and (leak.kind, leak.where, leak.item) for leak in found]
  assert told == [
    ('text', first, 3),
    ('overlap', first, 3),
    None,  # three n-grams of the two that were swapped are too many
    ('speaker', first, 4),
    None,
    None,
    ('split', '', 0),
    ('text', second, 1),
    ('overlap', second, 1),
    None,
    None,
    ('text', first, 2),
  ]
  assert found[0].sentence() == (
    f"the text 'WHAT is the capital of france' is held out by {first}: item 3."
  )
  assert '100% of its n-grams' in found[1].sentence()
  assert found[3].sentence() == f"speaker 'eve' is held out by {first}: item 4."
  assert found[6].sentence() == "'test' is a split that is held out."
  with pytest.raises(errors.UserError, match=r'1: the text .* \(6 more\)'):
    held_out.refuse(lines)
  held_out.refuse(lines[4:6])


def test_rules_are_kept(corpora):
  first = corpora[0]
  near = [lib.Line('x', 'and what is the capital of France'),
          lib.Line('y', 'new words', 'ann'), lib.Line('z', 'other', 'eve'),
          lib.Line('d', 'the blue dog runs into the old house')]  # fmt: skip

  def kinds(**rules):
    held_out = lib.HeldOut([first], lib.Rules(**rules))
    return [leak and leak.kind for leak in held_out.find(near)]

  assert kinds() == ['overlap', None, 'speaker', 'text']
  assert kinds(overlap=None) == [None, None, 'speaker', 'text']
  assert kinds(speakers='all') == ['overlap', 'speaker', 'speaker', 'text']
  assert kinds(speakers='none') == ['overlap', None, None, 'text']
  assert kinds(fewest=100) == [None, None, 'speaker', 'text']
  assert kinds(training=('train', 'dev')) == ['overlap', None, 'speaker', None]


@pytest.mark.parametrize('together', [1, 3, 4096])
def test_a_corpus_is_looked_through(corpora, tmp_path, together):
  made = tmp_path / 'made'
  made.mkdir()
  manifest.write(
    made,
    [
      line('a', 'train', 'quite another thing', 'zoe'),
      line('b', 'train', 'What is the capital of France?', 'zoe'),
      line('c', 'test', 'What is the capital of France?', 'zoe'),
      line('d', 'train', 'nothing new', 'eve'),
    ],
  )
  held_out = lib.HeldOut(corpora)
  found = list(lib.leaks_of(made, held_out, together))
  assert [(leak.id, leak.kind) for leak in found] == [
    ('b', 'text'), ('d', 'speaker'),
  ]  # fmt: skip


def test_corpora_that_hold_nothing_out(corpora, tmp_path):
  with pytest.raises(errors.UserError, match='no such file'):
    lib.HeldOut([tmp_path / 'nowhere'])
  folder = tmp_path / 'all'
  folder.mkdir()
  manifest.write(folder, [line('a', 'train', 'something')])
  with pytest.raises(errors.UserError, match='no split .* it has train'):
    lib.HeldOut([corpora[0], folder])
  (folder / 'manifest.jsonl').write_text('{"id": 3}\n')
  with pytest.raises(errors.UserError, match='item 1 .* id: found 3'):
    lib.HeldOut([folder])
  assert lib.HeldOut([]).find([lib.Line('x', 'a text of some length')]) == [
    None
  ]


@pytest.mark.parametrize(
  'rules, message',
  [
    ({'training': ()}, 'training: found'),
    ({'training': 'train'}, "training: found 'train', expected names"),
    ({'overlap': 0.0}, 'overlap: found 0.0'),
    ({'overlap': float('nan')}, 'overlap: found nan'),
    ({'overlap': 1.5}, 'overlap: found 1.5'),
    ({'ngram': 0}, 'ngram is 0'),
    ({'fewest': 0}, 'fewest is 0'),
    ({'speakers': 'some'}, "speakers: found 'some', expected unseen"),
  ],
)
def test_bad_rules(rules, message):
  with pytest.raises(errors.UserError, match=message):
    lib.Rules(**rules)
