"""What was played, to the group."""

import dataclasses
import math
import random

import numpy as np
import pytest

from benchmarks.dialogue import interruptions
from step_audio_jax import errors
from step_audio_jax.dialogue.context import played
from tests.dialogue.context import minds

sound = minds.sound


def two_sentences():
  """One of 4 words in 8 groups, a pause of .5 s, one of 2 words in 4."""
  ledger = played.Ledger(24000)
  ledger.add(sound(0.48, 4, 'one two six ten.'))
  ledger.add(sound(0.48, 4, ends=True))
  ledger.add(sound(0.5, silent=True))
  ledger.add(sound(0.48, 4, ' you too.', ends=True))
  return ledger


def test_words_and_ids_up_to_a_time():
  ledger = two_sentences()
  assert ledger.sent_ms == pytest.approx(1940)

  def at(ms):
    found = ledger.upto(ms)
    assert len(found.ids) == 5 * found.groups
    return found.text, found.groups

  assert at(0) == ('', 0)
  assert at(119) == ('', 0) and at(120) == ('', 1)
  assert at(240) == ('one', 2) and at(359) == ('one', 2)
  assert at(720) == ('one two six', 6)
  assert at(960) == at(1200) == at(1460) == ('one two six ten.', 8)
  assert at(1700) == ('one two six ten. you', 10)
  assert at(1940) == ('one two six ten. you too.', 12)
  assert ledger.upto(1940).is_whole and not ledger.upto(1900).is_whole
  assert ledger.played == ledger.played and ledger.played.groups == 12


def test_ids_are_those_of_the_sound():
  ledger = two_sentences()
  first = np.arange(20)
  np.testing.assert_array_equal(
    ledger.upto(600).ids, np.concatenate([first, first[:5]])
  )
  assert ledger.upto(0).ids.shape == (0,)


def test_more_than_was_sent_is_refused():
  ledger = two_sentences()
  for ms in (1941, 1e9, -1, math.nan, math.inf, 10**400, '5', None, True):
    with pytest.raises(errors.UserError, match='audio_end_ms: found'):
      ledger.cut(ms)
  assert not ledger.is_cut and ledger.played.groups == 12
  with pytest.raises(errors.UserError, match='at most the 0 ms'):
    played.Ledger(24000).cut(1)
  assert played.Ledger(24000).cut(0).text == ''


def test_a_client_rounds():
  ledger = played.Ledger(22050)
  ledger.add(minds.sound(0.1234, 1, 'Hello', ends=True, rate=22050))  # 123.4 ms
  assert ledger.upto(123).is_whole and ledger.upto(124).text == 'Hello'


def test_what_was_cut_is_gone_and_what_was_assumed_is_not():
  ledger = two_sentences()
  assert ledger.cut(700, final=False).groups == 5
  assert ledger.cut(1200, final=False).groups == 8  # a better guess
  assert ledger.cut(1460).text == 'one two six ten.'
  assert ledger.cut(300, final=False).groups == 8  # the client has spoken
  assert ledger.cut(400).groups == 3
  with pytest.raises(errors.UserError, match='at most the 400 ms'):
    ledger.cut(700)
  assert ledger.played.groups == 3 and ledger.sent_ms == pytest.approx(400)
  ledger.add(sound(0.48, 4, ' Late.', ends=True))  # was on its way
  assert ledger.played.text == 'one'


def test_reports_only_grow():
  ledger = two_sentences()
  for ms in (500, 300, 900, 0):
    ledger.report(ms)
  assert ledger.reported_ms == 900
  with pytest.raises(errors.UserError):
    ledger.report(5000)


def test_stretched_sound_and_a_part_that_is_not_whole():
  ledger = played.Ledger(24000, speed=2.0)
  ledger.add(sound(0.15, 2, 'one two six ten'))  # 2.5 groups of 60 ms
  assert ledger.upto(149).groups == 2
  ledger.add(sound(0.33, 6, ends=True))
  assert [ledger.upto(ms).groups for ms in (59, 60, 240, 479)] == [0, 1, 4, 7]
  assert ledger.upto(240).text == 'one two'
  # A style has made it slower than was asked for.
  slow = played.Ledger(24000)
  slow.add(sound(2.4, 10, 'one two six ten', ends=True))
  assert slow.upto(1200).text == 'one two'


def test_a_sentence_that_was_never_finished():
  pace = played.Pace()
  pace.add(12, 8)  # 1.5 letters a group
  ledger = played.Ledger(24000, pace=pace)
  ledger.add(sound(0.48, 4, 'one two six ten'))
  # All that was made of it was played, and it is not the whole sentence.
  assert ledger.cut(480).text == 'one two'
  assert ledger.played.groups == 4
  ledger.close()
  assert ledger.played.text == 'one two'  # it was cut: it stays unfinished
  whole = played.Ledger(24000)
  whole.add(sound(0.48, 4, 'one two six ten'))
  whole.close()
  assert whole.played.text == 'one two six ten'


def behind_a_pause():
  """As mouths do: a pause in the first part, the text in the last."""
  first = sound(0.48, 4)
  pause = np.zeros(4800, np.float32)
  return [
    dataclasses.replace(
      first, samples_S=np.concatenate([pause, first.samples_S])
    ),
    sound(0.48, 4, ' one two six ten', ends=True),
  ]


def test_a_pause_in_front_of_a_sentence():
  ledger = played.Ledger(24000)
  ledger.add(sound(0.48, 4, 'Well.', ends=True))
  for part in behind_a_pause():
    ledger.add(part)
  at = [ledger.upto(480 + ms).groups for ms in (0, 200, 319, 320, 1159, 1160)]
  assert at == [4, 4, 4, 5, 11, 12]
  assert ledger.upto(480 + 200 + 480).text == 'Well. one two'


def test_text_that_comes_behind_its_sound():
  pace = played.Pace()
  pace.add(12, 8)
  ledger = played.Ledger(24000, pace=pace)
  ledger.announce('one two')
  ledger.announce(' six ten. Then more')
  assert ledger.played.text == ''
  ledger.add(sound(0.48, 4))
  # 13 letters up to the end of the sentence, 21 in all: 14 groups.
  assert ledger.played.text == 'one two'
  assert ledger.upto(240).text == 'one'
  ledger.add(sound(0.48, 4, 'one two six ten.', ends=True))
  ledger.add(sound(0.48, 4))
  assert ledger.cut(1440).text == 'one two six ten. Then'
  assert ledger.cut(960).text == 'one two six ten.'
  spaced = played.Ledger(24000, pace=pace)
  spaced.announce('Hm,  yes.\n\nNo, not')
  spaced.add(sound(0.48, 4, 'Hm, yes.', ends=True))
  spaced.add(sound(0.24, 2))
  assert spaced.played.text == 'Hm, yes.\n\nNo,'
  other = played.Ledger(24000, pace=pace)
  other.announce('Something else')
  other.add(sound(0.48, 4, 'One.', ends=True))
  other.add(sound(0.48, 4))
  assert other.played.text == 'One.'  # nobody knows what that was


def test_a_mouth_that_tells_no_text():
  ledger = played.Ledger(24000)
  ledger.announce('one two six ten')
  ledger.add(sound(0.48, 4))
  ledger.add(sound(0.48, 4, ends=True))
  assert ledger.upto(480).text == 'one two'
  assert ledger.played.text == 'one two six ten'
  ledger.add(sound(0.2, silent=True))
  assert ledger.played.groups == 8


def test_ids_that_are_ahead_of_their_sound():
  ledger = played.Ledger(24000)
  ledger.announce('one two six ten')
  ledger.add(sound(0.48, 8))  # of 8 groups 4 can be heard
  assert [ledger.upto(ms).groups for ms in (120, 360, 480)] == [1, 3, 4]
  ledger.add(sound(0.48, 0, 'one two six ten', ends=True))
  assert [ledger.upto(ms).groups for ms in (120, 480, 960)] == [1, 4, 8]


def test_a_reply_that_was_given_up():
  ledger = played.Ledger(24000)
  ledger.announce('one two six ten')
  ledger.add(sound(0.48, 4))
  ledger.close(is_whole=False)
  assert ledger.played.text == 'one two'


def test_a_mouth_without_codes():
  ledger = played.Ledger(24000)
  ledger.add(sound(0.5, 0, 'one two six ten', ends=False))
  ledger.add(sound(0.46, 0, ends=True))
  ledger.add(sound(0.5, silent=True))
  ledger.add(sound(0.48, 0, ' you too', ends=True))
  assert ledger.upto(480).text == 'one two'
  assert ledger.upto(1300).text == 'one two six ten'
  assert ledger.upto(1700).text == 'one two six ten you'
  assert ledger.played.groups == 12 and not len(ledger.played.ids)


def test_silence_alone_and_sentences_without_sound():
  ledger = played.Ledger(24000)
  ledger.add(sound(0.48, silent=True, text='one two six ten', ends=True))
  assert ledger.upto(240).text == 'one two'  # nothing else to go by
  ledger.add(sound(0, text=' 🙂', ends=True))
  assert ledger.played.text == 'one two six ten 🙂'
  assert ledger.upto(240).text == 'one two'


def test_groups_are_whole():
  with pytest.raises(errors.UserError, match='found 3 ids, expected whole'):
    played.Ledger(24000).add(
      minds.services.Sound(np.zeros(9, np.float32), ids=np.arange(3))
    )


def test_a_hundred_random_interruptions():
  found = interruptions.measure(100, seed=7)
  assert found['interruptions'] == 100
  assert found['ids_error_groups_max'] <= 1
  assert found['history_error_groups_max'] <= 1
  assert found['never_played_in_history'] == 0
  # The half of them that came while no more was made.
  assert found['unfinished_sentences'] > 10
  assert found['unfinished_error_groups_max'] <= 1
  guessed = interruptions.measure(100, seed=7, gives_up=True)
  assert guessed['unfinished_error_groups_max'] > 1


def test_positions_never_run_back():
  rng = random.Random(3)
  for _ in range(20):
    reply = interruptions.reply(rng)
    ledger = reply.ledger()
    last = ledger.upto(0)
    for ms in np.linspace(0, ledger.sent_ms, 60):
      found = ledger.upto(float(ms))
      assert found.text.startswith(last.text)
      assert found.groups >= last.groups
      last = found
    assert last.text == reply.text


def test_the_rest_of_a_cut_sentence_says_where_its_words_lie():
  ledger = played.Ledger(24000)
  ledger.announce('one two six ten ')
  ledger.add(sound(0.48, 4))
  ledger.cut(480, final=False)
  assert ledger.is_within_sentence
  ledger.add(sound(1.44, 12, 'one two six ten ', ends=True), is_sent=False)
  assert not ledger.is_within_sentence
  # It has 16 groups, of which 4 were heard: a word of 4.
  assert ledger.played.text == 'one' and ledger.played.groups == 4
  assert ledger.sent_ms == 480
  with pytest.raises(errors.UserError, match='at most the 480 ms'):
    ledger.cut(600)
