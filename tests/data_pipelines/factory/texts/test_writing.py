"""Texts that a model writes: how it is asked, and what is made of it."""

import collections

import pytest

from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.factory.texts import checks as checks_lib
from data_pipelines.factory.texts import source as source_lib
from data_pipelines.factory.texts import writing
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat

TEXTS = [
  ('train', 'en', 'The red cat sees a small ball.'),
  ('test', 'en', 'this is of a test'),
  ('train', 'zh', '红猫看见一个小球。'),
  ('train', 'en', 'What is the  capital of {topic}?'),
  ('train', 'en', '…'),
]


class Model:
  """Answers what it was told to."""

  name, identity = 'a model', {'sha256': 'ab'}

  def __init__(self, answer):
    self.asked, self._answer = [], answer

  def answers(self, questions, kept, counts=None):
    for question in questions:
      self.asked.append(question)
      told = self._answer(question.messages[-1][1], question.sample)
      key = f'key{len(self.asked)}'
      if isinstance(told, chat.Reply):
        yield told._replace(key=key)
      else:
        yield chat.Reply(key, told, model='tiny-2')


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('texts')
  lines = [
    manifest.Utterance(
      id=f't{n}', kind='text', split=split, language=language, text=text
    )
    for n, (split, language, text) in enumerate(TEXTS)
  ]
  manifest.write(folder, lines)
  return folder


def read(corpus, writers, tmp_path, held_out=None, most=None):
  given = source_lib.Corpora([corpus] if corpus else [], most)
  kept = answers_lib.Answers(tmp_path)
  written = writing.Written(given, writers, kept, held_out)
  return list(written.read()), written


def test_texts_of_corpora(corpus):
  texts = list(source_lib.Corpora([corpus]).read())
  assert texts == [
    source_lib.Text('t0', TEXTS[0][2], 'en', 't0'),
    source_lib.Text('t2', TEXTS[2][2], 'zh', 't2'),
    source_lib.Text('t3', 'What is the capital of {topic}?', 'en', 't3'),
  ]
  assert list(source_lib.Corpora([corpus], most=2).read()) == texts[:2]


def test_given_texts_in_other_words(corpus, tmp_path):
  said = {
    'en, English: The red cat sees a small ball.': [
      '"A small ball is seen by the cat."',
      'the red cat sees a small BALL',
    ],
    'zh, Chinese: 红猫看见一个小球。': ['小球被红猫看见了。', 'A ball, red.'],
    'en, English: What is the capital of {topic}?': [
      'Which city governs France?',
      chat.Reply('', None, 'html', 'found HTML.'),
    ],
  }
  model = Model(
    lambda text, sample: {
      key.partition(', ')[2]: answers for key, answers in said.items()
    }[text][sample]
  )
  writer = writing.Rewriter(
    model, '{language}: {text}', system='Be brief.', each=2, name='again'
  )
  found, written = read(corpus, [writer], tmp_path)
  given = list(source_lib.Corpora([corpus]).read())
  assert found[:3] == given
  assert found[3] == source_lib.Text(
    *('t0.again0', 'A small ball is seen by the cat.', 'en', 't0'),
    *('again', 'key1'),
  )
  told = [(one.id, getattr(one, 'reason', '')) for one in found[4:]]
  assert told == [
    ('t0.again1', "text: found the words of 't0', expected new ones."),
    ('t2.again0', ''),
    ('t2.again1', "language: found 0 of 8 letters in the script Hans of 'zh', "
                  'expected at least 60%.'),
    ('t3.again0', ''),
    ('t3.again1', 'found HTML.'),
  ]  # fmt: skip
  assert [found[4].outcome, found[8].outcome] == ['failed', 'unmeasured']
  assert found[5].language == 'zh' and found[5].source == 't2'
  assert model.asked[0].messages[0] == ('system', 'Be brief.')
  told = written.writers()['again']
  assert told['answered_by'] == ['tiny-2'] and told['model'] == model.identity
  assert told['prompt'] == '{language}: {text}' and told['each'] == 2
  assert len(told['prompt_sha256']) == 64
  assert written.counts['replies/refused'] == 2


def test_given_texts_may_be_left_out_and_translated(corpus, tmp_path):
  model = Model(lambda text, _: f'红猫看见{len(text)}个小球，还有大球。')
  writer = writing.Rewriter(model, '{text}', language='zh', keep=False)
  found, _ = read(corpus, [writer], tmp_path, most=1)
  (one,) = found
  assert (one.id, one.language, one.source) == ('t0.rewriter0', 'zh', 't0')


def test_new_texts(tmp_path):
  model = Model(
    lambda text, sample: f'{text} say hello {"once" if sample else "twice"}'
  )
  writer = writing.Author(
    *(model, '{language} {number} {topic}'),
    count=3,
    topics=('cats', 'dogs'),
    rules=checks_lib.Rules(marks='%'),
  )
  found, _ = read(None, [writer], tmp_path)
  assert [one.text.partition(' say')[0] for one in found] == [
    'English 1 cats',
    'English 2 dogs',
    'English 3 cats',
  ]
  assert [one.id for one in found] == [f'author-00000{n}' for n in range(3)]
  assert found[0].source == '' and found[0].language == 'en'
  # The same prompt is asked with another seed.
  asked = [question.sample for question in model.asked]
  assert asked == [0, 1, 2]


def test_no_model_is_shown_what_leaks(corpus, tmp_path):
  manifest.write(
    tmp_path,
    [
      manifest.Utterance(
        id='q', kind='text', split='test', text='the red cat sees a small ball'
      )
    ],
  )
  model = Model(lambda text, _: f'{text[:9]} and something else.')
  writer = writing.Rewriter(model, '{text}', each=2)
  held_out = held_out_lib.HeldOut([tmp_path])
  found, _ = read(corpus, [writer], tmp_path, held_out)
  refused = [one for one in found if isinstance(one, source_lib.Refused)][:2]
  assert [one.id for one in refused] == ['t0.rewriter0', 't0.rewriter1']
  assert "made of 't0', a leak: the text 'The red cat" in refused[0].reason
  assert not any('cat' in q.messages[-1][1] for q in model.asked)
  assert len(model.asked) == 4


def test_two_writers(corpus, tmp_path):
  model = Model(lambda text, sample: f'{text[:12]} number {sample + 1} again')
  writers = [
    writing.Rewriter(model, '{text}', name='a'),
    writing.Author(model, 'Say something', count=2, name='b'),
  ]
  found, written = read(corpus, writers, tmp_path, most=1)
  assert [one.id for one in found] == ['t0', 't0.a0', 'b-000000', 'b-000001']
  assert list(written.writers()) == ['a', 'b']
  with pytest.raises(errors.UserError, match="2 are called 'a'"):
    read(corpus, [writers[0], writers[0]], tmp_path)


@pytest.mark.parametrize(
  'kind, settings, message',
  [
    (writing.Rewriter, {'prompt': 'Say it'}, r'found no \{text\}'),
    (writing.Rewriter, {'prompt': '{text} {topic}'}, 'a Rewriter has not'),
    (writing.Author, {'prompt': '{text}'}, 'which a Author has not'),
    (writing.Author, {'prompt': '{topic}'}, 'topics: found 0'),
    (writing.Author, {'prompt': 'x', 'topics': ('a',)}, 'topics: found 1'),
    (writing.Author, {'prompt': 'x', 'count': 0}, 'count is 0'),
    (writing.Author, {'prompt': 'x', 'language': 'english'}, 'expected a subt'),
    (writing.Author, {'prompt': 'x', 'name': 'a b'}, "name: found 'a b'"),
  ],
)  # fmt: skip
def test_bad_writers(kind, settings, message):
  with pytest.raises(errors.UserError, match=message):
    kind(Model(None), **settings)


def test_texts_are_read_once_and_counted(corpus, tmp_path):
  counts = collections.Counter(
    type(one).__name__ for one in read(corpus, [], tmp_path)[0]
  )
  assert counts == {'Text': 3}
