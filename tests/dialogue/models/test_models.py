"""Ear, mind and mouth on an engine, by a model that makes no mistake."""

import asyncio

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.models import ear as ear_lib
from step_audio_jax.dialogue.models import mind as mind_lib
from step_audio_jax.dialogue.models import mouth as mouth_lib
from step_audio_jax.vocabulary import CONTROL
from tests.dialogue.models import talker
from tests.evaluation import parrot


@pytest.fixture
def models(tmp_path, monkeypatch):
  found = talker.models(tmp_path, monkeypatch)
  yield found
  found.close()


async def every(iterator):
  return [one async for one in iterator]


async def given(*texts):
  for text in texts:
    yield text


def test_what_is_said_is_heard_and_may_go_on(models):
  async def listen():
    hearing = models.ear.listen()
    wave = talker.recording('a cat')
    for begin in range(0, len(wave), 700):
      hearing.push(wave[begin : begin + 700])
    first = await hearing.finish(), await hearing.partial()
    hearing.push(talker.recording(' ran'))
    return first, (await hearing.finish(), await hearing.transcript())

  (short, words), (whole, more) = asyncio.run(listen())
  assert (words, more) == ('a cat', 'a cat ran')
  assert short.seconds == pytest.approx(0.6)
  assert len(whole.linguistic) == 18 and whole.text is None


def test_recordings_of_any_length_are_written_down_in_parts(
  models, monkeypatch
):
  monkeypatch.setattr(ear_lib, '_LONGEST', 0.12 * 9)
  monkeypatch.setattr(ear_lib, '_SEARCHED', 0.12 * 3)
  wave = talker.recording('many words of it')
  *texts, ended = asyncio.run(every(models.ear.transcribe(wave)))
  assert len(texts) > 1
  said = ''.join(one.text for one in texts).replace(' ', '')
  assert said == 'manywordsofit'
  assert ended.usage.reply >= len(said)
  parts = ear_lib.pieces(wave)
  np.testing.assert_array_equal(np.concatenate(parts), wave)
  assert max(map(len, parts)) <= 0.12 * 9 * 16000


@pytest.mark.parametrize('wave', [np.zeros(9), np.full(9, np.nan)])
def test_what_cannot_be_heard_is_told(models, wave):
  with pytest.raises(errors.UserError, match='file: found'):
    asyncio.run(every(models.ear.transcribe(wave)))


def test_a_text_is_spoken_sentence_by_sentence(models):
  texts = ['a c', 'at\n', 'big dogs run', '\n…']
  sounds = asyncio.run(every(models.mouth.speak(given(*texts))))
  assert ''.join(one.text for one in sounds) == ''.join(texts)
  spoken = np.concatenate([one.ids for one in sounds])
  expected = parrot.codes('a cat')[0], parrot.codes('big dogs run')[0]
  linguistic, _ = voice_lib.IDS.deinterleave(spoken)
  np.testing.assert_array_equal(linguistic, np.concatenate(expected))
  assert [one.ends for one in sounds if one.text] == [True] * 3
  samples = sum(len(one.samples_S) for one in sounds)
  seconds = samples / models.mouth.sample_rate
  assert seconds == pytest.approx(17 * 0.12 + 0.2, abs=0.1)


def test_speed_changes_the_length_alone(models):
  plain, fast = (
    asyncio.run(
      every(models.mouth.speak(given('big dogs run'), services.Manner(speed=s)))
    )
    for s in (1.0, 1.25)
  )
  lengths = [sum(len(s.samples_S) for s in some) for some in (plain, fast)]
  assert lengths[0] / lengths[1] == pytest.approx(1.25, rel=0.01)
  np.testing.assert_array_equal(
    *(np.concatenate([s.ids for s in some]) for some in (plain, fast))
  )


def test_codes_are_given_a_sound(models):
  ids = voice_lib.IDS.interleave(*parrot.codes('big dogs run again'))

  async def groups():
    for begin in range(0, len(ids), 15):
      yield ids[begin : begin + 15]

  sounds = asyncio.run(every(models.mouth.sound(groups())))
  np.testing.assert_array_equal(np.concatenate([s.ids for s in sounds]), ids)
  assert sounds[-1].ends and len(sounds) > 1


@pytest.mark.parametrize(
  'manner, message',
  [
    (services.Manner(voice='x'), "voice: found 'x', expected one of default"),
    (services.Manner(style='(RAP)'), r'found .rap.'),
    (services.Manner(speed=9.0), 'speed'),
  ],
)
def test_a_voice_that_there_is_not_is_told(models, manner, message):
  with pytest.raises(errors.UserError, match=message):
    asyncio.run(every(models.mouth.speak(given('a cat'), manner)))


def test_who_leaves_early_frees_the_engine(models):
  (run,) = models.runs.values()

  async def leave():
    speaking = models.mouth.speak(given('a very long text that goes on'))
    async for _ in speaking:
      break
    await speaking.aclose()

  asyncio.run(leave())
  assert run.engine.drain(10)
  assert run.engine.live == 0


def test_a_reply_has_a_limit_and_says_what_it_cost(models):
  turns = [chats.Turn(chats.USER, ('what is it',))]
  manner = services.Manner(most=7)
  *texts, ended = asyncio.run(every(models.mind.reply(turns, manner)))
  assert ended.reason == services.CUT
  assert ended.usage.reply == 7
  assert ended.usage.prompt == models.mind.length(turns)
  assert ''.join(one.text for one in texts) == 'a' * 7
  with pytest.raises(errors.UserError, match='expected fewer than'):
    long = [chats.Turn(chats.USER, ('a' * 300,))]
    asyncio.run(every(models.mind.reply(long)))


def test_files_of_this_machine_are_not_for_clients(models, tmp_path):
  turn = chats.Turn(chats.USER, (chats.Speech(path=str(tmp_path / 'x.wav')),))
  with pytest.raises(errors.UserError, match='input_audio: found no sound'):
    asyncio.run(every(models.mind.reply([turn])))


def test_sentences_come_as_soon_as_they_are_whole():
  async def texts():
    for letter in 'One. Two is longer. 三。四':
      yield letter

  found = asyncio.run(every(mouth_lib.sentences(texts())))
  assert found == ['One.', ' Two is longer.', ' 三。', '四']


def ids_of(text):
  return [68 + parrot.LETTERS.index(letter) for letter in text]


CALL, CALLED = CONTROL['<|CALL_START|>'], CONTROL['<|CALL_END|>']


@pytest.mark.parametrize('size', [1, 3, 100])
def test_pieces_of_a_reply_come_when_they_are_whole(size, monkeypatch):
  call = chats.Call('clock', {})
  monkeypatch.setattr(mind_lib.rendering, 'call_of', lambda text: call)
  group = parrot.VOCABULARY.interleave(*parrot.codes('b'))
  ids = [*ids_of('one '), *group, *ids_of('two'), CALL, *ids_of('x'), CALLED]
  reading = mind_lib.Reading(parrot.VOCABULARY)
  found = []
  for begin in range(0, len(ids), size):
    found += reading.take(ids[begin : begin + size])
  found += reading.rest()
  text = ''.join(one.text for one in found if isinstance(one, services.Text))
  assert text == 'one two'
  (spoken,) = (one for one in found if isinstance(one, services.Ids))
  np.testing.assert_array_equal(
    spoken.ids, voice_lib.IDS.interleave(*parrot.codes('b'))
  )
  assert found[-1] == services.Called(call)


@pytest.mark.parametrize('size', [1, 2, 100])
def test_a_text_that_ends_replies_is_not_shown(size):
  reading = mind_lib.Reading(parrot.VOCABULARY, ('stop', 'never'))
  ids, found = ids_of('go to the stone and stop here'), []
  for begin in range(0, len(ids), size):
    found += reading.take(ids[begin : begin + size])
  found += reading.rest()
  assert ''.join(one.text for one in found) == 'go to the stone and '
  assert reading.stopped
