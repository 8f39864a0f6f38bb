"""Answers that were drawn become preferences of a corpus."""

import collections
import json

import pytest

from data_pipelines import __main__ as doors
from data_pipelines.factory import provenance
from data_pipelines.factory.leaks import held_out
from data_pipelines.factory.ranking import door
from data_pipelines.factory.ranking import pairs
from data_pipelines.inspection import inspect
from data_pipelines.rows import verify
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.storage import files
from tests.data_pipelines.factory.deafness import corpora

BOTH = ('train', 'dev')


@pytest.fixture
def corpus(tmp_path):
  return corpora.make(tmp_path / 'corpus')


def sample(corpus, prompt, number, text, right=0.0, brief=0.0, **more):
  """A line as `sample` writes it, to a question of the corpus."""
  asked, _ = quiz.questions(str(corpus), ('train', 'dev', 'test'))
  known = {one.id: one for some in asked.values() for one in some}
  line = {'prompt': prompt, 'run': 'runs/sft', 'step': 8, 'number': number}
  if prompt in known:
    question = known[prompt]
    line |= {
      'question': question.question,
      'expected': question.expected,
      'digest': question.digest,
    }
  scores = {'right': right, 'brief': brief}
  return {**line, 'text': text, 'stopped': True, 'scores': scores, **more}


def drawn(corpus, path, *rest):
  """Four answers to each of three questions, and what else is given."""
  lines = [
    sample(corpus, name, number, text, right, brief)
    for name in ('q0', 'q2', 'q4')
    for number, (text, right, brief) in enumerate(
      (('blue', 1, 1), ('it is blue', 1, 0.5), ('red', 0, 1), ('blue ', 1, 1))
    )
  ]
  return put(path, *lines, *rest)


def put(path, *lines):
  raw = [one if isinstance(one, str) else json.dumps(one) for one in lines]
  path.write_text('\n'.join(raw), encoding='utf-8')
  return path


def made(corpus):
  return {
    one.id: one for one in manifest.read(corpus) if pairs.is_made(one)
  }  # fmt: skip


def text_of(corpus):
  return (corpus / 'manifest.jsonl').read_bytes()


def test_pairs_stand_behind_their_chats_and_are_not_added_twice(
  corpus, tmp_path
):
  before = manifest.read(corpus)
  path = drawn(corpus, tmp_path / 'samples.jsonl')
  config = pairs.Config(splits=BOTH, weights={'right': 1.0, 'brief': 0.2})
  told = door.add(corpus, [path], config)
  lines = manifest.read(corpus)
  assert [one for one in lines if not pairs.is_made(one)] == before
  found = made(corpus)
  assert list(found) == [
    f'{name}-ranked-{k}' for name in ('q0', 'q2', 'q4') for k in range(3)
  ]
  chats = {one.id: one for one in before}
  places = {one.id: n for n, one in enumerate(lines)}
  for name in ('q0', 'q2', 'q4'):
    some = [found[f'{name}-ranked-{k}'] for k in range(3)]
    assert [(p.chosen['text'], p.rejected['text']) for p in some] == [
      ('blue', 'red'), ('it is blue', 'red'), ('blue', 'it is blue'),
    ]  # fmt: skip
    assert [(p.margin, p.category) for p in some] == [
      (1.0, 'right'), (0.9, 'right'), (0.1, 'brief'),
    ]  # fmt: skip
    for pair in some:
      assert pair.turns == chats[name].turns[:-1]
      assert (pair.split, pair.language) == (
        chats[name].split, chats[name].language,
      )  # fmt: skip
    assert [places[p.id] - places[name] for p in some] == [1, 2, 3]
  assert told == files.read_json(corpus / 'rank.json')
  assert (told['preferences'], told['answers'], told['same']) == (9, 12, 3)
  assert told['categories'] == {'brief': 3, 'right': 6}
  assert (told['by'], told['left_out'], told['ties']) == ('scores', {}, 0)
  assert not list(verify.corpus_faults(corpus, collections.Counter()))
  assert inspect.show_corpus(corpus)['splits']['train'] > 10
  state = text_of(corpus)
  assert door.add(corpus, [path], config) == told and text_of(corpus) == state
  # Other settings take the place of the first ones.
  few = pairs.Config(splits=BOTH, pairs='best_worst', gap=0.5, margin=2.0)
  assert door.add(corpus, [path], few)['preferences'] == 3
  assert [p.margin for p in made(corpus).values()] == [2.0, 2.0, 2.0]
  door.add(corpus, [path], config)
  assert text_of(corpus) == state


def test_what_is_no_pair_is_counted(corpus, tmp_path):
  path = drawn(
    corpus,
    tmp_path / 'samples.jsonl',
    sample(corpus, 'q1', 0, 'one', 0.5),
    sample(corpus, 'q1', 1, 'two', 0.5),
    sample(corpus, 'q1', 2, 'three', 0.4),
    sample(corpus, 'q1', 3, ' '),
    sample(corpus, 'q1', 4, 'four', stopped=False),
    sample(corpus, 'q1', 5, 'five', float('nan')),
    sample(corpus, 'q1', 6, 'six', '1'),
    sample(corpus, 'q1', 7, 'six', scores=None),
    sample(corpus, 'q1', 8, 'six', asked={'silenced': True}),
    sample(corpus, 'q1', 9, 'six', digest='0' * 64),
    sample(corpus, 'q1', 9, 'six', digest=None, question='was it otherwise'),
    sample(corpus, 'q1', 9, 'six', expected='was otherwise'),
    sample(corpus, 'q6', 0, 'of another split'),
    sample(corpus, 'broken', 0, 'six'),
    sample(corpus, 'nowhere', 0, 'six'),
    sample(corpus, 'q1', '9', 'six'),
    sample(corpus, 'q1', True, 'six'),
    sample(corpus, 'q1', 9, 3),
    {'text': 'six'},
    [],
    json.dumps(sample(corpus, 'q1', 9, 'six'))[:-20],
  )
  told = door.add(corpus, [path], pairs.Config(gap=0.2))
  assert told['left_out'] == {
    'broken': 2,
    'empty': 1,
    'no_sample': 4,
    'other_question': 3,
    'other_split': 5,
    'silenced': 1,
    'unfinished': 1,
    'unknown_prompt': 1,
    'unscored': 3,
  }
  assert (told['ties'], told['near'], told['preferences']) == (1, 2, 6)
  left = list(files.read_jsonl(corpus / 'rank.jsonl'))
  assert len(left) == sum(told['left_out'].values())
  reasons = [line['reason'] for line in left]
  for reason in reasons:
    assert reason.startswith(f'{path}:') and reason.endswith('.'), reason
  for want in (
    ':18: scores.right: found nan, expected a number.',
    ":19: scores.right: found '1', expected a number.",
    ':20: scores.brief: found None, expected a number.',
    ":22: digest: found '000000000000', but '",
    ":23: question: found 'was it otherwise', but 'which number comes behind",
    ":24: expected: found 'was otherwise', but 'answer 1' in the corpus,",
    ":25: prompt: found 'q6', expected a chat of train that ends",
    ":28: number: found '9', expected a whole number >= 0.",
    ':30: text: found 3, expected a string.',
    ':32: found list, expected a JSON object.',
    ':33: not a JSON line: ',
  ):
    assert any(want in reason for reason in reasons), want
  whole = pairs.Config(gap=0.2, unfinished=True)
  assert 'unfinished' not in door.add(corpus, [path], whole)['left_out']


@pytest.mark.parametrize('kind', ['verdict', 'rating'])
def test_a_file_may_say_what_answers_are_worth(kind, corpus, tmp_path):
  path = drawn(corpus, tmp_path / 'samples.jsonl')
  more = put(
    tmp_path / 'more.jsonl',
    sample(corpus, 'q0', 0, 'green', run='runs/ppo'),
    sample(corpus, 'q0', 7, 'grey', expected='edited since'),
  )
  low, high = {'verdict': (0, 1), 'rating': (2, 5)}[kind]
  said = put(
    tmp_path / 'said.jsonl',
    {'prompt': 'q0', 'number': 0, 'run': 'runs/sft', kind: high},
    {'prompt': 'q0', 'number': 0, 'run': 'runs/ppo', 'step': 8, kind: low},
    {'id': 'q0', 'number': 1, kind: high},
    {'id': 'q0', 'number': 1, kind: low},
    {'id': 'q0', 'number': 7, kind: low},
    # Of two answers, of none, and of nothing that can be.
    {'prompt': 'q0', 'number': 0, kind: high},
    {'prompt': 'q9', 'number': 0, kind: high},
    {'prompt': 'q0', 'number': 2, kind: 7},
    {'prompt': 'q0', 'number': 2, kind: 'good'},
    {'prompt': 'q0', 'number': 2, kind: None},
    {'prompt': 'q0', 'number': 2, kind: float('nan')},
    '{"prompt": "q0", "num',
  )
  told = door.add(
    corpus, [path, more], pairs.Config(pairs='best'), judgements=said, kind=kind
  )
  assert told['left_out'] == {
    'broken': 1, 'no_judgement': 6, 'other_split': 4, 'unjudged': 6,
  }  # fmt: skip
  assert told['by'] == kind and told['judgements'] == str(said)
  some = [p for name, p in made(corpus).items() if name.startswith('q0-')]
  half = (high - low) / 2
  assert [(p.chosen['text'], p.rejected['text'], p.margin) for p in some] == [
    ('blue', 'green', 2 * half), ('blue', 'grey', 2 * half),
    ('blue', 'it is blue', half),
  ]  # fmt: skip
  assert {p.category for p in some} == {kind}
  reasons = [
    line['reason']
    for line in files.read_jsonl(corpus / 'rank.jsonl')
    if line['what'] == 'no_judgement'
  ]
  least = {'verdict': '0 to 1', 'rating': '1 to 5'}[kind]
  for reason, want in zip(reasons, (
    "number: found 0 of 'q0', of which there are 2 answers, expected one (`run",
    "number: found 0 of 'q9', of which there are 0 answers, expected one",
    f'{kind}: found 7, expected {least}, the scale.',
    f"{kind}: found 'good', expected a number.",
    f'{kind}: found None, expected a number.',
    f'{kind}: found nan, expected a number.',
  ), strict=True):  # fmt: skip
    assert want in reason


def test_another_corpus_gets_pairs_and_what_they_are_asked_with(
  corpus, tmp_path
):
  path = drawn(corpus, tmp_path / 'samples.jsonl')
  state, other = text_of(corpus), tmp_path / 'preferred'
  manifest.write(other, [corpora.chat('mine', 'train', ['why'], ['so'])])
  config = pairs.Config(splits=BOTH, pairs='best_worst')
  for _ in range(2):
    told = door.add(corpus, [path], config, output=other)
    assert [one.id for one in manifest.read(other)] == [
      'mine', 's0', 's2', 's4', 'q0-ranked-0', 'q2-ranked-0', 'q4-ranked-0',
    ]  # fmt: skip
    assert not list(verify.corpus_faults(other, collections.Counter()))
  assert text_of(corpus) == state and not (corpus / 'rank.json').exists()
  assert told == files.read_json(other / 'rank.json')
  manifest.write(other, [corpora.chat('s0', 'train', ['why'], ['so'])])
  with pytest.raises(errors.UserError, match='s0: another line has this id'):
    door.add(corpus, [path], config, output=other)


def test_samples_of_another_corpus_are_refused(corpus, tmp_path):
  path = put(
    tmp_path / 'samples.jsonl',
    sample(corpus, 'x1', 0, 'one', 1.0),
    sample(corpus, 'q1', 0, 'one', 1.0, digest='1' * 64),
  )
  state = text_of(corpus)
  with pytest.raises(errors.UserError, match='none of the 2 answers is to a'):
    door.add(corpus, [path])
  put(path, sample(corpus, 'q1', 0, 'one'), sample(corpus, 'q1', 1, 'two'))
  with pytest.raises(errors.UserError, match='no pair among 2 .*1 ties'):
    door.add(corpus, [path])
  with pytest.raises(errors.UserError, match="found 'brif', but the samples"):
    door.add(corpus, [path], pairs.Config(weights={'brif': 1.0}))
  put(path, sample(corpus, 'q1', 0, 'one', scores={}))
  with pytest.raises(
    errors.UserError, match="found 'nothing', but the samples"
  ):
    door.add(corpus, [path])
  with pytest.raises(errors.UserError, match='no such file'):
    door.add(corpus, [tmp_path / 'absent.jsonl'])
  assert text_of(corpus) == state and not (corpus / 'rank.json').exists()


def test_what_others_hold_out_is_left_out(corpus, tmp_path):
  path = drawn(
    corpus,
    tmp_path / 'samples.jsonl',
    sample(corpus, 'q1', 0, 'one', 1.0),
    sample(corpus, 'q1', 1, 'two'),
  )
  said = {one.id: one.text for one in manifest.read(corpus, kind='speech')}
  lines = [
    manifest.Utterance(id='x', split='test', text='z', speaker='v0'),
    manifest.Utterance(id='y', split='test', text=said['s1']),
  ]
  manifest.write(tmp_path / 'other', lines)
  rules = held_out.Rules(training=BOTH)
  found = held_out.HeldOut([tmp_path / 'other'], rules)
  config = pairs.Config(splits=BOTH, pairs='best_worst')
  told = door.add(corpus, [path], config, held_out=found)
  assert told['left_out'] == {'held_out': 2}
  assert list(made(corpus)) == ['q2-ranked-0', 'q4-ranked-0']


def test_a_provenance_tells_of_what_was_added(corpus, tmp_path):
  lines = manifest.read(corpus)
  job = provenance.Job(seed=3, counts={'kept': len(lines), 'rejected': 0})
  provenance.write(
    corpus, job, ((one, provenance.Origin(one.id, 3)) for one in lines)
  )
  path = drawn(corpus, tmp_path / 'samples.jsonl')
  door.add(corpus, [path], pairs.Config(splits=BOTH))
  assert not list(provenance.faults(corpus, collections.Counter()))
  origins = {line.id: one for line, one in provenance.read(corpus)[1]}
  assert origins['q0-ranked-0'].sources == ['q0']


def test_pairs_of_several_corpora_lie_in_one(corpus, tmp_path):
  other = tmp_path / 'together'
  path = drawn(corpus, tmp_path / 'samples.jsonl')
  door.add(corpus, [path], pairs.Config(splits=BOTH), output=other)
  ours = made(other)
  elsewhere = manifest.Utterance(
    id='theirs-ranked-0',
    kind='preference',
    turns=({'role': 'user', 'text': 'hey'},),
    chosen={'role': 'assistant', 'text': 'yes'},
    rejected={'role': 'assistant', 'text': 'no'},
  )
  manifest.write(other, [elsewhere, *manifest.read(other)])
  door.add(corpus, [path], pairs.Config(splits=BOTH), output=other)
  assert elsewhere in manifest.read(other)
  assert len(made(other)) == len(ours) + 1
  # Another recording under a name that is wanted.
  line = next(u for u in manifest.read(other) if u.kind == 'speech')
  sound = line.audio_path(other)
  raw = sound.read_bytes()
  sound.unlink()  # a link to that of the corpus
  sound.write_bytes(raw[:-2] + b'zz')
  with pytest.raises(errors.UserError, match='found another recording than'):
    door.add(corpus, [path], pairs.Config(splits=BOTH), output=other)


def run(*words):
  return cli.dispatch('data_pipelines', doors.DOORS, ['data_pipelines', *words])


def test_the_door(corpus, tmp_path, capsys):
  path = drawn(corpus, tmp_path / 'samples.jsonl')
  state = text_of(corpus)
  words = ['rank', f'--corpus={corpus}', f'--samples={path}', '--json']
  some = ['--splits=train,dev', '--weights=right=1,brief=0.2', '--pairs=best']
  assert run(*words, *some, '--dry_run') == 0
  out = capsys.readouterr().out.splitlines()
  assert 'would add 6 pairs of 12 answers to 3 questions' in out[0]
  assert json.loads(out[-1])['preferences'] == 6
  assert text_of(corpus) == state and not (corpus / 'rank.json').exists()
  assert run(*words, *some) == 0
  assert 'added 6 pairs' in capsys.readouterr().out
  assert len(made(corpus)) == 6
  for wrong, want in (
    (['--splits=train,test'], "found 'test', a test split"),
    (['--weights=right'], "--weights: found 'right', expected NAME=WEIGHT."),
    (['--weights=right=0'], '--weights: found right=0.0, expected a number'),
    (['--weights=right=nan'], '--weights: found right=nan, expected a number'),
    (['--weights=right=1,right=2'], "--weights: found 'right' twice"),
    (['--gap=-1'], '--gap: found -1.0, expected a number >= 0 and below 1e+15'),
    (['--margin=nan'], '--margin: found nan, expected a number >= 0'),
    (['--margin=1e300'], '--margin: found 1e+300, expected a number >= 0'),
    (
      ['--weights=right=1e9', '--margin=1e9'],
      ':1: scores: found a margin of 1e+18 to another answer, expected less',
    ),
    (['--verdicts=a', '--ratings=b'], '--verdicts, --ratings: found both'),
    (['--ratings=b', '--weights=right=1'], '--weights: found some, but a file'),
    ([f'--ratings={tmp_path}/none'], 'none: no such file'),
  ):
    assert run(*words, *wrong) == 2
    assert want in capsys.readouterr().err
