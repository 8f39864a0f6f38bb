"""What answers are worth: by rule, by judge, written and heard."""

import dataclasses

import pytest

from step_audio_jax.chats import conversation as chats
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import answered
from step_audio_jax.evaluation.benchmarks.answers import following
from step_audio_jax.evaluation.benchmarks.answers import options
from step_audio_jax.evaluation.benchmarks.answers import questions
from step_audio_jax.evaluation.benchmarks.answers import ratings
from step_audio_jax.evaluation.benchmarks.answers import tools
from tests.evaluation.benchmarks.answers import made

SPEECH = chats.Speech(path='a.wav', text='What is it?')
Answer = benchmark.Answer


def of(base, **fields):
  """A benchmark over a base that reads nothing."""

  @dataclasses.dataclass(frozen=True)
  class Made(base):
    def read(self):
      raise NotImplementedError

  return Made('made', '/nowhere', **fields)


def asked(*ids, references=('red',), **about):
  return [benchmark.heard(id, SPEECH, *references, **about) for id in ids]


def test_written_and_heard_stand_apart():
  items = asked('a', 'b', 'c')
  said = [
    Answer('It is red', wav='a.wav'),
    Answer('red', wav='b.wav'),
    Answer(None, fault='too long'),
  ]
  heard = {'a.wav': 'it is read', 'b.wav': 'red'}
  means = benchmark.Means(
    judge=made.Judge({'a': '{"judgment": "correct"}', 'b': 'Yes!'}),
    ear=lambda wav, language: heard[wav] if language == 'en' else '',
  )
  one = of(questions.Questions, aloud=True)
  found = one.score(items, said, means)
  values = made.values(found)
  assert list(values)[0] == 'judge'
  # Of three: right, not to be parsed, and no answer, which is parsed as wrong.
  assert (values['judge'], values['judge_parsed']) == (0.3333, 0.5)
  assert values['judge_unparsed'] == 0.3333
  assert values['exist_match'] == 0.6667
  assert values['exist_match_speech'] == 0.3333
  assert found.cut[answered.UNSPOKEN] == 1
  assert found.cut['judge without a verdict: not_json'] == 1
  assert found.cut['judge without a verdict: not_json, as heard'] == 1
  assert [row['heard'] for row in found.rows] == ['it is read', 'red', None]
  assert found.rows[0]['speech']['exist_match'] == 0.0
  assert 'heard' in found.figures['exist_match_speech'].by
  assert found.figures['judge'].by == 'made, step_accuracy@1'
  assert found.figures['judge'].of == 3

  deaf = one.score(items, said, benchmark.Means())
  assert deaf.not_computed['exist_match_speech'] == 'no ear is named'
  assert deaf.not_computed['judge'] == 'no judge is named'
  assert deaf.not_computed['judge_speech'] == 'no ear is named'
  assert list(deaf.figures) == ['exist_match']
  written = of(questions.Questions).score(items, said, means)
  assert not any(name.endswith('_speech') for name in written.figures)
  assert not written.not_computed


def test_a_judge_that_does_not_answer_is_no_other_figure():
  silent = made.Judge(why='the judge x did not answer: 503')
  means = benchmark.Means(judge=silent)
  told = {
    questions.Questions: ('judge', ()),
    ratings.Ratings: ('judge', ()),
    ratings.Chats: ('chat', ('factuality', 'relevance')),
  }
  for base, (first, more) in told.items():
    found = of(base).score(asked('a'), [Answer('red')], means)
    assert set(found.not_computed) == {first, *more}
    assert '503' in found.not_computed[first]
    assert first not in found.figures and len(found.rows) == 1
  items = asked('a', criteria=[following.criterion(0, 'Is it?')])
  found = of(following.Criteria).score(items, [Answer('red')], means)
  assert set(found.not_computed) == {'judge', 'judge_all'}
  choice = of(options.Options, prompt='step_accuracy@1')
  item = choice.item('a', SPEECH, '?', ['x', 'y'], 'x')
  found = choice.score([item], [Answer('x')], means)
  assert found.figures['accuracy'].value == 1 and 'judge' in found.not_computed


def test_all_turns_are_shown_to_the_judge():
  call = chats.Call('clock', {'zone': 'x'})
  item = benchmark.Item(
    'a',
    chats.Conversation(
      (
        chats.Turn('user', (chats.Speech(text='What time is it?'),)),
        chats.Turn('assistant', calls=(call,)),
        chats.Turn('tool', ('12:30',)),
        chats.Turn('assistant', ('Half past twelve.',)),
        chats.Turn('user', (chats.Speech(text='Thanks'),)),
      )
    ),
  )
  judge = made.Judge(other='4')
  means = benchmark.Means(judge=judge)
  of(ratings.Ratings).score([item], [Answer('Bye')], means)
  shown = judge.asked['a']
  for text in (
    'user: What time is it?',
    '"clock"',
    'tool: 12:30',
    'assistant: Half past twelve.',
    'user: Thanks',
    'Bye',
  ):
    assert text in shown


def test_marks_are_multiplied_and_lost_ones_are_the_worst():
  judge = made.Judge({'a': '5', 'b': 'four'}, other='2')
  means = benchmark.Means(judge=judge)
  items = asked('a', 'b', category='x') + asked('c', category='y')
  said = [Answer('r'), Answer('r'), Answer('')]
  found = of(ratings.Ratings, times=20.0, votes=3).score(items, said, means)
  values = made.values(found)
  assert values == {
    'judge': 46.6667,  # 100, 20 of the scale's worst, 20 of no answer
    'judge_parsed': 60.0,
    'judge_unparsed': 0.3333,
    'judge/x': 60.0,
    'judge/y': 20.0,
  }
  assert found.figures['judge'].unit == 'score'
  assert found.figures['judge'].by == 'made, voicebench_open@1, 3 votes'
  assert found.figures['judge'].low == 20 < found.figures['judge'].high <= 100
  low = found.figures['judge_unparsed']
  assert low.better == 'lower' and low.of == 3


def test_options_are_placed_by_seed_and_read_strictly():
  texts = ['rain', 'wind', 'hail', 'snow']
  shown = {}
  for seed in (0, 0, 1, None):
    one = of(options.Options, seed=seed)
    items = [
      one.item(str(k), SPEECH, 'Which?', texts, 'hail', category='w')
      for k in range(40)
    ]
    orders = [tuple(item.about['options']) for item in items]
    assert shown.setdefault(seed, orders) == orders
    assert all(item.references == ('hail',) for item in items)
  assert len(set(shown[0])) > 10 and shown[0] != shown[1]
  assert set(shown[None]) == {tuple(texts)}
  item = items[0]
  assert item.text.startswith('Which?\nA. rain\nB. wind\nC. hail\nD. snow\n')
  assert item.about['letter'] == 'C'
  said = [
    'C',
    'hail',
    'The answer is C.',
    'B. wind',
    'B or C',
    'Some rain?',
    '',
  ]
  answers = [Answer(text) for text in said] + [Answer(None, fault='broken')]
  found = one.score(items[:8], answers, benchmark.Means())
  values = made.values(found)
  assert values == {
    'accuracy': 0.375, 'accuracy_parsed': 0.5, 'unparsed': 0.25,
  }  # fmt: skip
  assert found.cut == {
    'not to be parsed: contradictory': 1,
    'not to be parsed: prose': 1,
  }
  assert [row['accuracy'] for row in found.rows] == [1, 1, 1, 0, 0, 0, 0, 0]
  english = of(options.Options).item('z', SPEECH, '?', ['是', '否'], 'A', 'zh')
  assert english.references == ('是',) and '只回答' in english.text


@pytest.mark.parametrize(
  'names, right, said, value',
  [
    (('yes', 'no'), 'No', 'No, he would not.', 1.0),
    (('yes', 'no'), 'no', 'Yes', 0.0),
    (('yes', 'no'), 'no', 'There is no way to know', None),
    (('yes', 'no'), 'yes', 'The answer is yes.', 1.0),
    (('valid', 'invalid'), 'invalid', 'This one is invalid.', 1.0),
    (('valid', 'invalid'), 'valid', 'This one is invalid.', 0.0),
    (('valid', 'invalid'), 'valid', 'Is it valid or invalid?', None),
    (('A', 'B'), 'B', '(b)', 1.0),
    (('A', 'B'), 'B', 'A man', None),
    ((), '12', 'I count twelve, all told.', 1.0),
    ((), '12', 'Seven and five', None),
    ((), '12', 'One plus two, so the answer is 12.', 1.0),
    (('yes', 'no'), 'no', '  ', 0.0),
  ],
)
def test_spoken_options_are_not_guessed(names, right, said, value):
  items = asked('a', references=(right,), options=list(names))
  found = of(options.Spoken).score(items, [Answer(said)], benchmark.Means())
  assert made.values(found)['accuracy'] == (value or 0.0)
  assert made.values(found)['unparsed'] == float(value is None)


def chat(id, wanted='', avoided='', arguments=None):
  calls = [{'name': wanted, 'arguments': arguments or {}}] if wanted else []
  about = {
    'category': wanted or avoided, 'wanted': wanted, 'avoided': avoided,
    'expected_calls': calls,
  }  # fmt: skip
  return benchmark.heard(id, SPEECH, **about)


def test_calls_of_tools():
  weather = {'location': 'Chengdu, CN', 'days': 3}
  items = [
    *(chat(f'p{k}', 'weather', arguments=weather) for k in range(5)),
    *(chat(f'n{k}', avoided='weather') for k in range(3)),
  ]
  call = {'name': 'weather', 'arguments': {'days': 3, 'location': 'chengdu cn'}}
  wrong = {'name': 'weather', 'arguments': {'location': 'Chengdu, CN'}}
  said = {
    'p0': [call],
    'p1': [wrong],
    'p2': [call, {'name': 'search', 'arguments': {}}],  # and no other
    'p3': ['<tool_call>{'],
    'p4': 'It rains.',
    'n0': [{'name': 'search', 'arguments': {}}],
    'n1': [call],
    'n2': 'Hello',
  }
  judge = made.Judge(other='yes')
  means = benchmark.Means(judge=judge)
  answers = made.answers(items, said)
  found = of(tools.ToolCalls).score(items, answers, means)
  assert made.values(found) == {
    'trigger_precision': 0.8,  # of 4 and one that it should not have made
    'trigger_recall': 0.8,
    'type_accuracy': 0.5,
    'argument_match': 0.5,
    'argument_accuracy': 1.0,
    'argument_accuracy_parsed': 1.0,
    'argument_accuracy_unparsed': 0.0,
  }
  assert sorted(judge.asked) == ['p0', 'p1']
  assert '"days": 3' in judge.asked['p1']
  assert found.cut == {'with a call that is no JSON': 1}
  assert [row.get('false_trigger') for row in found.rows[5:]] == [
    False, True, False,
  ]  # fmt: skip
  alone = of(tools.ToolCalls).score(items, answers, benchmark.Means())
  assert alone.not_computed == {'argument_accuracy': 'no judge is named'}
  nobody = [Answer(None, fault='broken') for _ in items]
  lost = of(tools.ToolCalls).score(items, nobody, means)
  values = made.values(lost)
  assert values['trigger_recall'] == 0.0
  assert values['trigger_precision'] is None and values['type_accuracy'] is None
  assert 'argument_accuracy' in lost.not_computed


def test_conditions_wait_for_others():
  chain = [
    following.criterion(0, 'one?'),
    following.criterion(1, 'two?', [0]),
    following.criterion(2, 'three?', [1]),
    following.criterion(3, 'circle?', [4]),
    following.criterion(4, 'back?', [3]),
    following.criterion(5, 'lost?', [9]),
  ]
  items = asked('a', criteria=chain) + asked('b', criteria=chain[:3])
  replies = {'a/0': 'yes', 'a/1': 'no', 'a/2': 'yes', 'b/1': 'perhaps'}
  means = benchmark.Means(judge=made.Judge(replies, other='yes'))
  said = [Answer('r'), Answer('r')]
  found = of(following.Criteria).score(items, said, means)
  assert [row['met'] for row in found.rows] == [
    [True, False, False, False, False, False],
    [True, False, False],
  ]
  values = made.values(found)
  assert values == {
    'judge': 0.2222, 'judge_all': 0.0, 'judge_unparsed': 0.1111,
  }  # fmt: skip
  assert found.cut == {'judge without a verdict: prose': 1}


def test_instructions_that_cannot_be_told_are_counted():
  known = ['punctuation:no_comma', {}]
  strange = ['rhyme:sonnet', {}]
  items = asked('a', instructions=[known]) + asked(
    'b', instructions=[known, strange]
  )
  said = [Answer('no comma'), Answer('none here either')]
  found = of(following.Following).score(items, said, benchmark.Means())
  values = made.values(found)
  assert values['instruction_strict'] == 0.6667
  assert values['prompt_strict'] == 0.5 and values['unparsed'] == 0.3333
  (why,) = found.cut
  assert why == 'an instruction that cannot be checked: unknown_instruction'
  assert found.rows[1]['strict'] == [1.0, None]


def test_refusals_and_repeats():
  items = asked('a', 'b')
  said = [Answer('I’m sorry, but I can’t.'), Answer('')]
  found = of(questions.Refusals).score(items, said, benchmark.Means())
  assert made.values(found) == {'refusal': 0.5}
  items = asked('a', 'b', references=('say it again',))
  said = [Answer('Say it again'), Answer(None, fault='broken')]
  means = benchmark.Means(conventions=('wenet',))
  found = of(questions.Repeated).score(items, said, means)
  assert made.values(found) == {'wer/wenet': 0.5}
  assert found.figures['wer/wenet'].better == 'lower'
