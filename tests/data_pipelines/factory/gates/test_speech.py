"""Rates of speech, recognisers and voices, with stand-ins."""

import numpy as np
import pytest

from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import speech
from step_audio_jax import errors
from tests.data_pipelines.factory import takes


def told(gate, *made):
  return gate.judge(list(made))


def test_speaking_rate_leaves_silence_out():
  quiet = takes.silence(1.0)
  english = takes.take(quiet, takes.tone(2.0), quiet, text='Ten letters.')
  # 10 letters in 2 s; frames that overlap the edges are active.
  assert speech.SpeakingRate().score(english) == pytest.approx(5, abs=0.15)
  chinese = takes.take(takes.tone(2.0), text='你好，世界 A1', language='zh')
  assert speech.SpeakingRate().score(chinese) == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize('text', [None, '', '…!'])
def test_no_text_has_no_rate(text):
  (verdict,) = told(speech.SpeakingRate(), takes.take(text=text))
  assert verdict.outcome == base.UNMEASURED
  assert verdict.reason == (
    'speaking_rate: could not be measured: text: no letter or digit in it.'
  )
  mute = takes.take(takes.silence(1.0), text='a b')
  (verdict,) = told(speech.SpeakingRate(), mute)
  assert 'nothing is heard' in verdict.reason


def test_errors_of_a_recogniser():
  heard = {'a': 'the red cat', 'b': 'The red, cat!', 'c': 'a dog'}

  def transcribe(waves, languages):
    assert languages == ['en'] * len(waves)
    return [heard[chr(ord('a') + int(wave[0]))] for wave in waves]

  made = [
    takes.take(np.full(9, n, 'f'), text='the red cat', id=str(n))
    for n in range(3)
  ]
  verdicts = told(speech.Recognised(transcribe=transcribe), *made)
  assert [v.outcome for v in verdicts] == [
    base.PASSED, base.PASSED, base.FAILED,
  ]  # fmt: skip
  assert verdicts[0].score == verdicts[1].score == 0
  assert verdicts[2].score == pytest.approx(9 / 11)
  assert verdicts[2].reason == 'cer: 0.818, expected at most 0.1.'


def test_a_recogniser_hears_sixteen_kilohertz():
  def hear(wave, language):
    assert len(wave) == 16000 and language == 'fr'
    return 'oui'

  made = takes.take(
    takes.tone(1.0, rate=22050), rate=22050, text='oui', language='fr'
  )
  gate = speech.Recognised(transcribe=speech.each(hear))
  assert told(gate, made)[0].score == 0


def test_one_bad_take_does_not_spoil_the_others():
  def hear(wave, language):
    if wave[0] == 1:
      raise ValueError('out of\nmemory')
    return None if wave[0] == 2 else 'yes'

  made = [
    takes.take(np.full(9, n, 'f'), text='yes', id=str(n)) for n in range(4)
  ] + [takes.take(text=None)]
  verdicts = told(speech.Recognised(transcribe=speech.each(hear)), *made)
  assert [v.outcome for v in verdicts] == [
    base.PASSED, base.UNMEASURED, base.UNMEASURED, base.PASSED,
    base.UNMEASURED,
  ]  # fmt: skip
  assert verdicts[1].reason == (
    'cer: could not be measured: ValueError: out of memory.'
  )
  assert 'gave None, no text' in verdicts[2].reason
  assert 'none to compare with' in verdicts[4].reason


def test_a_recogniser_that_loses_some():
  made = [takes.take(text='yes'), takes.take(text='no')]
  gate = speech.Recognised(transcribe=lambda waves, tags: ['yes'][: len(waves)])
  verdicts = told(gate, *made)  # asked again, one by one
  assert [v.outcome for v in verdicts] == [base.PASSED, base.FAILED]


def test_the_voice_of_a_speaker():
  vectors = {'ann': np.array([1.0, 0.0]), 'bob': np.array([0.0, 2.0])}

  def embed(waves):
    return [np.array([1.0, 0.1]) * len(wave) for wave in waves]

  gate = speech.SameSpeaker(embed=embed, reference=vectors.__getitem__)
  names = ('ann', 'bob', 'eve', None)
  verdicts = told(gate, *(takes.take(speaker=name) for name in names))
  assert [v.outcome for v in verdicts] == [
    base.PASSED, base.FAILED, base.UNMEASURED, base.UNMEASURED,
  ]  # fmt: skip
  assert verdicts[0].score == pytest.approx(1 / np.hypot(1, 0.1))
  assert verdicts[1].score == pytest.approx(0.1 / np.hypot(1, 0.1))
  assert "nobody knows 'eve'" in verdicts[2].reason
  assert 'nobody is meant' in verdicts[3].reason
  gate = speech.SameSpeaker(embed=embed, reference=vectors.get)
  assert told(gate, takes.take(speaker='eve'))[0].outcome == base.UNMEASURED


def test_nan_is_never_a_pass():
  for value in (float('nan'), np.float32('nan'), None, 'x'):

    class Odd(speech.SpeakingRate):
      def score(self, take, value=value):
        return value

    (verdict,) = told(Odd(), takes.take(text='a'))
    assert verdict.outcome == base.UNMEASURED and verdict.score is None


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: speech.Recognised(), 'cer: transcribe: found None'),
    (
      lambda: speech.SameSpeaker(embed=len),
      'speaker: reference: found None, expected a function',
    ),
    (lambda: speech.SameSpeaker(embed=3, reference=len), 'embed: found 3'),
  ],
)
def test_bad_settings(make, message):
  with pytest.raises(errors.UserError, match=message):
    make()
