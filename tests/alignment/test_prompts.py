"""Prompts: those that doors ask, in an order that is a function of the step."""

import numpy as np
import pytest

from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax.alignment import prompts
from step_audio_jax.chats import rendering
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import questions
from step_audio_jax.storage import bindings
from step_audio_jax.tokenizers.speech import seal
from tests.data_pipelines import letters

QUESTIONS = ('the cat', 'a dog', 'the red cat sees a dog')


@pytest.fixture
def table():
  return letters.TABLE


@pytest.fixture
def corpus(tmp_path, monkeypatch):
  lines, codes = [], {}
  for n, question in enumerate(QUESTIONS):
    said = f'q{n}-said'
    codes[said] = np.arange(2 * (n + 1)), np.arange(3 * (n + 1))
    lines += [
      manifest.Utterance(
        id=said,
        text=question,
        audio='x.wav',
        duration=1.0,
        sample_rate=16000,
        language='en',
      ),
      manifest.Utterance(
        id=f'q{n}',
        kind='chat',
        language='en',
        turns=(
          {'role': 'user', 'speech': said},
          {'role': 'assistant', 'text': 'yes'},
        ),
      ),
    ]
  lines.append(
    manifest.Utterance(
      id='written',
      kind='chat',
      turns=(
        {'role': 'user', 'text': 'a dog'},
        {'role': 'assistant', 'text': 'no'},
      ),
    )
  )
  manifest.write(tmp_path / 'talk', lines)
  (tmp_path / 'codes').mkdir()
  monkeypatch.setattr(speech_codes, 'read_codes', lambda _: codes)
  monkeypatch.setattr(speech_codes, 'list_shards', lambda _: [])
  monkeypatch.setattr(bindings, 'of_codes', lambda _: None)
  return str(tmp_path / 'talk'), codes


def feed(corpus, table, **settings):
  given = {'batch_size': 6, 'group': 2, 'longest': 64} | settings
  return prompts.PromptFeed(
    corpus=corpus[0], codes='codes', vocabulary=table, **given
  )


def test_a_prompt_is_what_a_door_asks(corpus, table):
  it = feed(corpus, table)
  assert [one.id for one in it.prompts] == ['q0', 'q1', 'q2']
  for one in it.prompts:
    pair = corpus[1][f'{one.id}-said']
    wanted, _ = rendering.prompt(
      table, [('user', documents.speech_ids(table, *pair))]
    )
    assert one.ids.tolist() == list(wanted)
    assert (one.expected, one.language) == ('yes', 'en')
  assert sum(it.passed.values()) == 1  # the written one has nothing to hear


def test_views(corpus, table):
  chat = feed(corpus, table, view='chat')
  assert [one.id for one in chat.prompts] == ['q0', 'q1', 'q2', 'written']
  read = feed(corpus, table, view='tqta')
  wanted, _ = rendering.prompt(table, [('user', 'the cat')])
  assert read.prompts[0].ids.tolist() == list(wanted)
  said = feed(corpus, table, view='tts')
  layout = documents.LAYOUTS['tts']
  assert said.prompts[1].ids.tolist() == list(
    layout.prompt(table, text='a dog')
  )
  assert said.prompts[1].expected == 'a dog'


def test_answers_to_a_prompt_lie_side_by_side_and_epochs_are_whole(
  corpus, table
):
  it = feed(corpus, table)
  orders = set()
  for step in range(4):
    rows = [one.id for one in it.rows(step)]
    assert rows[::2] == rows[1::2]
    assert sorted(rows[::2]) == ['q0', 'q1', 'q2']
    orders.add(tuple(rows))
  assert len(orders) > 1
  again = feed(corpus, table)
  assert [one.id for one in again.rows(3)] == [one.id for one in it.rows(3)]
  other = feed(corpus, table, seed=1)
  assert any(
    [one.id for one in other.rows(step)] != [one.id for one in it.rows(step)]
    for step in range(4)
  )


def test_prompts_are_known_in_silence(corpus, table, monkeypatch):
  asked = []

  def silence(tokenizer, seconds):
    asked.append((tokenizer, seconds))
    return {
      name: tuple(np.zeros_like(part) for part in corpus[1][name])
      for name in seconds
    }

  monkeypatch.setattr(questions, 'silence', silence)
  monkeypatch.setattr(seal, 'identity', lambda _: None)
  it = feed(corpus, table, view='chat', tokenizer='mute', batch_size=8)
  assert asked == [('mute', {f'q{n}-said': 1.0 for n in range(3)})]
  known, found = it.batch(0), it.silenced(0)
  for row, one in enumerate(it.rows(0)):
    ids = found['tokens'][row, found['starts'][row] :]
    if one.id == 'written':  # nothing is heard
      assert not len(ids)
      continue
    assert found['starts'][row] == known['starts'][row]
    codes = silence('', [f'{one.id}-said'])[f'{one.id}-said']
    wanted, _ = rendering.prompt(
      table, [('user', documents.speech_ids(table, *codes))]
    )
    assert ids.tolist() == list(wanted) != one.ids.tolist()
  part = it.silenced(0, 2, 5)
  np.testing.assert_array_equal(part['tokens'], found['tokens'][2:5])
  # Nothing that a resume compares.
  other = feed(corpus, table, view='chat', batch_size=8)
  assert other.silenced(0) is None and other.settings() == it.settings()
  monkeypatch.setattr(
    seal, 'identity', lambda _: {'folder': 'm', 'sha256': 'b'}
  )
  monkeypatch.setattr(
    bindings, 'of_codes', lambda _: {'folder': 'c', 'sha256': 'a'}
  )
  with pytest.raises(errors.UserError, match='name the tokenizer that made th'):
    feed(corpus, table, tokenizer='mute')


def test_hosts_read_their_rows_alone(corpus, table):
  it = feed(corpus, table)
  whole, part = it.batch(1), it.batch(1, 2, 5)
  for name in ('tokens', 'starts'):
    np.testing.assert_array_equal(part[name], whole[name][2:5])


def test_prompts_are_padded_on_the_left(corpus, table):
  it = feed(corpus, table)
  batch = it.batch(0)
  for row, one in enumerate(it.rows(0)):
    start = batch['starts'][row]
    assert batch['tokens'][row, start:].tolist() == one.ids.tolist()
    assert not batch['tokens'][row, :start].any()


def test_long_ones_are_passed_over_and_counted(corpus, table, capsys):
  shortest = min(len(one.ids) for one in feed(corpus, table).prompts)
  it = feed(corpus, table, longest=shortest)
  assert [one.id for one in it.prompts] == ['q0']
  assert it.describe()['passed_over'] == 3
  assert 'chats give no prompt' in capsys.readouterr().err
  with pytest.raises(errors.UserError, match='gives a prompt of at most 2 ids'):
    feed(corpus, table, longest=2)


@pytest.mark.parametrize(
  'settings, said',
  [
    ({'group': 4}, 'group is 4, expected a divisor of batch_size .6'),
    ({'view': 'tqta', 'tokenizer': 'm'}, "tokenizer is 'm', expected none wh"),
    ({'view': 'song'}, "view is 'song', expected one of aqta"),
    ({'splits': ['test']}, "split 'test' ends with"),
  ],
)
def test_settings(corpus, table, settings, said):
  with pytest.raises(errors.UserError, match=said):
    feed(corpus, table, **settings)


def test_a_view_that_hears_needs_codes(corpus, table):
  with pytest.raises(errors.UserError, match='codes is missing, the view aqta'):
    prompts.collect(corpus[0], table, splits=['train'], codes=None)


def test_a_resume_sees_what_was_read(corpus, table):
  one = feed(corpus, table)
  assert one.contents() == feed(corpus, table).contents()
  assert one.settings() != feed(corpus, table, seed=2).settings()
  assert one.vocabulary == table.describe()
