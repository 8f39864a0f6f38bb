"""A corpus that is added to: once, deterministically, and never of tests."""

import collections
import json

import pytest

from data_pipelines import __main__ as doors
from data_pipelines.factory import provenance
from data_pipelines.factory.deafness import door
from data_pipelines.factory.deafness import pairs
from data_pipelines.factory.leaks import held_out
from data_pipelines.inspection import inspect
from data_pipelines.rows import verify
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.factory.deafness import corpora

BOTH = pairs.Config(splits=('train', 'dev'), silences=0.5)


@pytest.fixture
def corpus(tmp_path):
  return corpora.make(tmp_path / 'corpus')


def text_of(corpus):
  return (corpus / 'manifest.jsonl').read_bytes()


def test_pairs_stand_behind_their_chats_and_are_not_added_twice(corpus):
  before = manifest.read(corpus)
  told = door.add(corpus, BOTH)
  lines = manifest.read(corpus)
  assert [one for one in lines if not pairs.is_made(one)] == before
  added = [one for one in lines if one.kind == 'preference']
  counts = collections.Counter(one.category for one in added)
  assert told['deaf'] == counts['deaf'] == 10
  assert told['silence'] == counts['silence'] > told['recordings'] > 0
  assert (told['questions'], told['seed']) == (12, 0)
  assert {one.split for one in added} == {'train', 'dev'}
  assert told == files.read_json(corpus / 'deafness.json')
  places = {one.id: n for n, one in enumerate(lines)}
  for one in added:
    chat = one.id.rpartition('-deaf')[0] or one.id.removesuffix('-silent')
    assert 0 < places[one.id] - places[chat] <= 3
  left = list(files.read_jsonl(corpus / 'deafness.jsonl'))
  assert len(left) == told['left_out'] == 3
  assert {line['id'] for line in left} == {'broken', 'hacked', 'fr'}
  assert not list(verify.corpus_faults(corpus, collections.Counter()))
  state = text_of(corpus)
  assert door.add(corpus, BOTH) == told and text_of(corpus) == state
  # Another seed takes the place of the first one.
  other = door.add(corpus, pairs.Config(seed=1, splits=('train',)))
  assert other['deaf'] == 7 and text_of(corpus) != state
  door.add(corpus, BOTH)
  assert text_of(corpus) == state


def test_a_dry_run_writes_nothing(corpus):
  state = text_of(corpus)
  told = door.add(corpus, BOTH, dry_run=True)
  assert told['deaf'] == 10 and text_of(corpus) == state
  assert not (corpus / 'silence').exists()
  assert not (corpus / 'deafness.json').exists()


def test_what_others_hold_out_is_left_out(corpus, tmp_path):
  other = tmp_path / 'other'
  said = manifest.read(corpus)[2].text
  manifest.write(
    other,
    [manifest.Utterance(id='x', split='test', audio=None, text=said),
     manifest.Utterance(id='y', split='test', text='z', speaker='v0')],
  )  # fmt: skip
  found = held_out.HeldOut([other], held_out.Rules(training=('train', 'dev')))
  told = door.add(corpus, BOTH, held_out=found)
  left = list(files.read_jsonl(corpus / 'deafness.jsonl'))
  reasons = {line['id']: line['reason'] for line in left}
  assert 'is held out by' in reasons['q1'] and "'v0'" in reasons['q0']
  ids = {one.id for one in manifest.read(corpus)}
  assert not ids & {'q0-deaf-0', 'q1-deaf-0'} and 'q2-deaf-0' in ids
  leaks = [name for name, why in reasons.items() if 'held out by' in why]
  assert 'more' in leaks and told['questions'] == 12 - len(leaks)


def test_rollouts_that_do_not_fit_are_told(corpus, tmp_path):
  path = tmp_path / 'rollouts.jsonl'
  lines = [
    {'prompt': 'q0', 'text': 'I did not catch that.'},
    {'id': 'q0', 'text': 'I did not catch that.'},
    {'id': 'q1', 'text': 'Two.'},
    {'id': 'q3', 'text': corpora.DEAF},
    {'id': 'silent', 'text': corpora.DEAF},
    {'id': 'q4'},
    3,
  ]
  path.write_text('\n'.join(map(json.dumps, lines)), encoding='utf-8')
  told = door.add(corpus, BOTH, rollouts=path)
  assert told['deaf'] == 1 and told['rollouts'] == str(path)
  reasons = [
    line['reason']
    for line in files.read_jsonl(corpus / 'deafness.jsonl')
    if str(path) in line['reason']
  ]
  for reason, want in zip(reasons, (
    ":3: text: found 'Two.', which does not say",
    ":4: id: found 'q3', expected a question that can be heard",
    ":5: id: found 'silent', expected a question",
    ':6: found no id with a text',
    ':7: found no id with a text',
  ), strict=True):  # fmt: skip
    assert want in reason


@pytest.mark.parametrize('lines', [[], [{'prompt': 'q1', 'text': 'Two.'}]])
def test_silence_alone_is_not_learnt_of(corpus, tmp_path, lines):
  """Pairs that prefer deaf replies, with none that rejects one: the hack."""
  path, state = tmp_path / 'rollouts.jsonl', text_of(corpus)
  path.write_text(''.join(map(json.dumps, lines)), encoding='utf-8')
  with pytest.raises(errors.UserError, match='found no deaf reply to') as told:
    door.add(corpus, BOTH, rollouts=path)
  assert (':1: text: found' in str(told.value)) == bool(lines)
  assert str(told.value).endswith('.')
  assert text_of(corpus) == state and not (corpus / 'silence').exists()


def test_a_provenance_tells_of_what_was_added(corpus):
  lines = manifest.read(corpus)
  job = provenance.Job(seed=3, counts={'kept': len(lines), 'rejected': 0})
  provenance.write(
    corpus, job, ((one, provenance.Origin(one.id, 3)) for one in lines)
  )
  for config in (BOTH, BOTH, pairs.Config(seed=5)):
    door.add(corpus, config)
    assert not list(provenance.faults(corpus, collections.Counter()))
    origins = {line.id: one for line, one in provenance.read(corpus)[1]}
    assert origins['q0-deaf-0'].sources == ['q0']
    assert origins['q0-deaf-0'].seed == config.seed
    assert origins['q0'].seed == 3


def test_a_corpus_without_questions_is_refused(tmp_path):
  manifest.write(tmp_path, [corpora.chat('c', 'train', ['why'], ['so'])])
  with pytest.raises(errors.UserError, match='no question of train that is'):
    door.add(tmp_path)


def test_the_door_says_its_seed(corpus, capsys):
  words = [
    'data_pipelines',
    'deafness',
    f'--corpus={corpus}',
    '--seed=4',
    '--splits=train,dev',
  ]
  assert cli.dispatch('data_pipelines', doors.DOORS, words) == 0
  assert 'with seed 4' in capsys.readouterr().out
  words = [
    'data_pipelines',
    'deafness',
    f'--corpus={corpus}',
    '--splits=train,test',
  ]
  assert cli.dispatch('data_pipelines', doors.DOORS, words) == 2
  assert "found 'test', a test split" in capsys.readouterr().err
  assert inspect.show_corpus(corpus)['splits']['train'] > 10
