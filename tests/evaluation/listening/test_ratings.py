"""Ratings that come back: what counts, and what is counted as no rating."""

import json

import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.listening import design as design_lib
from step_audio_jax.evaluation.listening import ratings
from tests.evaluation.listening import made

GOOD = {'reference': 5, 'sekret': 3}


@pytest.fixture
def key():
  return made.small().key


def saved(tmp_path, key, rater='ada', opinions=GOOD, change=None, **keywords):
  rows = made.answers(key, rater, made.attentive(key, opinions), **keywords)
  if change:
    rows = change(rows)
  return made.save(tmp_path / f'{rater}.csv', rows)


def score(key, question, catch, value, trials=(0, 1, 2, 3)):
  """Changes the scores of some trials of a kind."""

  def change(rows):
    kind = question, catch
    some = [row for row in rows if (row['question'], row['catch']) == kind]
    assert some
    for place in set(trials) & set(range(len(some))):
      some[place]['score'] = value
    return rows

  return change


def test_who_listens_is_kept(tmp_path, key):
  paths = [
    saved(tmp_path, key),
    saved(tmp_path, key, 'bo', swap=True),
  ]
  found = ratings.read(paths, key)
  assert list(found.kept) == ['ada', 'bo'] and found.given == 2
  assert not found.excluded and not found.rows and not found.missing
  assert not found.caught and found.told_apart == 0
  for name, one in found.kept['ada'].items():
    # The side that was offered first changes nothing.
    assert one.winner == found.kept['bo'][name].winner or one.score.isdigit()
    assert one.seconds == 2.5 and set(one.plays) == {1}


@pytest.mark.parametrize(
  'question, catch, value, failed',
  [
    ('mos', 'degraded', '3', 'mos degraded'),
    ('mos', 'degraded', '2', None),
    ('mos', 'repeated', '3', 'mos repeated'),
    ('mos', 'repeated', '4', None),
    ('ab', 'degraded', 'b', 'ab degraded'),
    ('ab', 'degraded', 'same', 'ab degraded'),
    ('ab', 'repeated', 'a', None),
  ],
)
def test_who_does_not_listen_is_left_out(
  tmp_path, key, question, catch, value, failed
):
  path = saved(tmp_path, key, change=score(key, question, catch, value))
  found = ratings.read([path], key)
  if failed:
    assert found.excluded == {'ada': ratings.FAILED}
    assert found.caught == {'ada': [failed]} and not found.kept
    patient = {**key, 'rule': {**key['rule'], 'tolerated': 1}}
    assert list(ratings.read([path], patient).kept) == ['ada']
  else:
    assert list(found.kept) == ['ada']
  assert found.told_apart == (question == 'ab' and catch == 'repeated')


@pytest.mark.parametrize('question', design_lib.QUESTIONS)
@pytest.mark.parametrize('catch', design_lib.CATCHES)
def test_a_catch_trial_left_open_is_failed(tmp_path, key, question, catch):
  kind = question, catch

  def change(rows):
    return [row for row in rows if (row['question'], row['catch']) != kind]

  found = ratings.read([saved(tmp_path, key, change=change)], key)
  assert found.caught == {'ada': [f'{question} {catch}']}


@pytest.mark.parametrize(
  'column, value, reason',
  [
    ('score', '6', ratings.OUT_OF_RANGE),
    ('score', 'a', ratings.OUT_OF_RANGE),
    ('score', '', ratings.OUT_OF_RANGE),
    ('page', 'f' * 64, ratings.OTHER_PAGE),
    ('trial', 't9999', ratings.OTHER_TRIAL),
    ('sounds', 's000000000000', ratings.OTHER_TRIAL),
    ('question', 'ab', ratings.OTHER_TRIAL),
    ('catch', 'degraded', ratings.OTHER_TRIAL),
    ('rater', ' ', ratings.OTHER_TRIAL),
    ('seconds', 'nan', ratings.NO_NUMBER),
    ('seconds', '-1', ratings.NO_NUMBER),
    ('plays', 'x', ratings.NO_NUMBER),
    ('plays', '1 1', ratings.NO_NUMBER),
  ],
)
def test_a_row_that_is_no_rating_is_counted(
  tmp_path, key, column, value, reason
):
  def change(rows):
    # An ordinary one whose loss fails no catch trial.
    for row in rows:
      owner = key['sounds'][row['sounds'].split()[0]]
      if row['question'] == 'mos' and owner['system'] == 'sekret':
        row[column] = value
        return rows

  found = ratings.read([saved(tmp_path, key, change=change)], key)
  assert found.rows == {reason: 1}
  assert found.missing == {'ada': 1}
  whole = ratings.read([tmp_path / 'ada.csv'], key, complete=True)
  assert whole.excluded == {'ada': ratings.INCOMPLETE} and not whole.missing


def test_a_trial_that_is_rated_twice_counts_neither_time(tmp_path, key):
  path = saved(tmp_path, key, change=lambda rows: [*rows, rows[0]])
  found = ratings.read([path], {**key, 'rule': {**key['rule'], 'tolerated': 9}})
  assert found.rows == {ratings.TWICE: 2}
  assert found.missing == {'ada': 1}


def test_raters_with_one_name(tmp_path, key):
  paths = [saved(tmp_path, key)]
  paths.append(tmp_path / 'again.csv')
  paths[1].write_bytes(paths[0].read_bytes())
  assert list(ratings.read(paths, key).kept) == ['ada']
  changed = score(key, 'ab', '', 'same')
  (tmp_path / 'other').mkdir()
  paths.append(saved(tmp_path / 'other', key, change=changed))
  found = ratings.read(paths, key)
  assert found.excluded == {'ada': ratings.TWO_SETS} and found.given == 1


def test_files_that_are_none(tmp_path, key):
  good = saved(tmp_path, key)
  other = saved(
    tmp_path, {**key, 'page': '0' * 64}, 'bo', change=None
  )  # fmt: skip
  found = ratings.read([good, other], key)
  assert found.files == {str(other): ratings.OTHER_PAGE}
  assert found.rows == {ratings.OTHER_PAGE: len(key['trials'])}
  with pytest.raises(errors.UserError, match=r'found no rating of .*another p'):
    ratings.read([other], key)
  (tmp_path / 'x.csv').write_text('rater,score\nada,3\n')
  with pytest.raises(errors.UserError, match='x.csv: found no column page'):
    ratings.read([tmp_path / 'x.csv'], key)
  for content in (b'RIFF\x80\xff', good.read_bytes() + b'a' * 2**18):
    (tmp_path / 'x.csv').write_bytes(content)
    with pytest.raises(errors.UserError, match='x.csv: found .*, expected a'):
      ratings.read([tmp_path / 'x.csv'], key)
  (tmp_path / 'x.csv').write_bytes(good.read_bytes().splitlines()[0])
  assert ratings.read([good, tmp_path / 'x.csv'], key).files == {
    str(tmp_path / 'x.csv'): 'it holds no rating'
  }


def test_keys_that_are_none(tmp_path, key):
  path = tmp_path / 'key.json'
  path.write_text(json.dumps(key))
  assert ratings.read_key(path) == key
  path.write_text(json.dumps({**key, 'format': 9}))
  with pytest.raises(errors.UserError, match='format: found 9, expected 1'):
    ratings.read_key(path)
  path.write_text('[]')
  with pytest.raises(errors.UserError, match='not the key of a listening page'):
    ratings.read_key(path)
