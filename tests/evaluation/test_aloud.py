"""Answers made to sound, by stand-ins of the model and of the decoder."""

import numpy as np
import pytest

from step_audio_jax.audio import io
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.evaluation import aloud
from step_audio_jax.tokenizers.speech import seal


@pytest.fixture
def said(monkeypatch):
  """What was asked of the stand-ins."""
  told = {}
  monkeypatch.setattr(seal, 'code_counts', lambda folder: (64, 512))
  monkeypatch.setattr(
    text_to_codes, 'layout_of', lambda run: {'R': 'document'}[run]
  )
  monkeypatch.setattr(text_to_codes, 'starts_of', lambda run: False)

  class Writer:
    def write(self, texts, voice):
      told['texts'], told['voice'] = texts, voice
      return [
        text_to_codes.SpokenSentence(
          text, np.arange(0 if text == 'mute' else 5 * len(text)), True
        )
        for text in texts
      ]

  def load(options):
    told['options'] = options
    return Writer()

  class Decoder:
    def chosen(self, voice):
      assert voice is None
      return 'own'

    def decode(self, ids, voice, seed):
      assert voice == 'own'
      return np.full(100 * len(ids), 0.25, np.float32), 16000

  told['writer'] = load
  monkeypatch.setattr(speech.SpeechDecoder, 'load', lambda _: Decoder())
  return told


def row(answer, speech_id='q'):
  return {'answer': answer, 'speech': speech_id}


def test_the_first_spoken_answers_of_each_split_are_spoken(said, tmp_path):
  answers = {
    'a': [row('red'), row('written', None), row(''), row('mute'), row('more')],
    'b': [row('the <|EOT|>'), row('the cat')],
  }
  aloud.speak(
    answers,
    run='R',
    writer=said['writer'],
    decoder='D',
    tokenizer='T',
    folder=tmp_path / 'answers.wav',
    count=3,
  )
  assert said['texts'] == ['red', 'mute', 'the cat']
  options = said['options']
  assert (options.linguistic_codes, options.semantic_codes) == (64, 512)
  found = {
    one['answer']: one['wav']
    for rows in answers.values()
    for one in rows
    if 'wav' in one
  }
  assert found == {
    'red': 'answers.wav/a-000.wav', 'the cat': 'answers.wav/b-001.wav'
  }  # fmt: skip
  samples, _ = io.read_audio(tmp_path / found['the cat'])
  assert len(samples) == 100 * 5 * len('the cat')
  np.testing.assert_allclose(samples, 0.25, atol=1e-3)


def test_nothing_to_say_loads_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(seal, 'code_counts', None)
  aloud.speak(
    {'a': [row('')]},
    run='R',
    writer=None,
    decoder='D',
    tokenizer='T',
    folder=tmp_path / 'x',
    count=3,
  )
