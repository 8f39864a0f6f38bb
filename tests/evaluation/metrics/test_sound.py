"""Codes → sound → codes → text, with a decoder whose sound is its codes."""

import types

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.speaker import embeddings
from step_audio_jax.evaluation.metrics import sound
from step_audio_jax.evaluation.metrics import speech
from tests.evaluation import parrot

RATE, GROUP = 8000, 960  # samples of 120 ms
TEXTS = ('a cat', 'bird', 'zebra zoo')


class Levels:
  """Each group is a constant whose height says the letter."""

  sample_rate = RATE
  mel = types.SimpleNamespace(bands=4)
  vocoder = types.SimpleNamespace(name='levels')

  def __init__(self, deaf_to=None):
    self.deaf_to, self.calls = deaf_to, []

  def chosen(self, voice):
    assert voice is None
    return 'its own'

  def decode(self, ids, voice, seed, steps):
    self.calls.append((voice, seed, steps))
    ids = np.asarray(ids).reshape(-1, 5)
    letters = ids[:, 0]
    assert (ids[:, 1] == letters).all() and (ids[:, 2:] == 1024).all()
    if self.deaf_to is not None:
      letters = np.where(letters == self.deaf_to, 26, letters)
    return np.repeat((letters + 1) / 64, GROUP).astype(np.float32), RATE


class Ears:
  """The tokenizer that hears levels."""

  def encode_batch(self, waves):
    found = []
    for wave in waves:
      groups = wave[: len(wave) // 1920 * 1920].reshape(-1, 1920)
      letters = np.round(groups[:, 600:1300].mean(axis=1) * 64 - 1)
      letters = letters.astype(np.uint16)
      zeros = np.zeros(3 * len(letters), np.uint16)
      found.append((np.repeat(letters, 2), zeros))
    return found


@pytest.fixture
def parts(monkeypatch):
  """Puts the stand-ins where the folders would be loaded."""
  decoder = Levels()
  monkeypatch.setattr(
    sound.decoder_lib.SpeechDecoder, 'load', lambda folder: decoder
  )
  monkeypatch.setattr(sound.dual.DualTokenizer, 'load', lambda folder: Ears())
  return decoder


def spoken():
  """A speaker, and what it says of the texts."""
  speaker = speech.Speaker(
    parrot.Parrot(),
    parrot.VARIABLES,
    parrot.VOCABULARY,
    speech.SpeechConfig(batch_size=4, max_text_tokens=16, max_speech_groups=16),
  )
  utterances = [
    manifest.Utterance(id=f'u{n}', text=text, language='en')
    for n, text in enumerate(TEXTS)
  ]
  return speaker, speech.tts(speaker, parrot.VOCABULARY, {'test': utterances})


def run(folder, corpus=None, **settings):
  speaker, said = spoken()
  config = sound.SoundConfig(decoder='d', tokenizer='t', **settings)
  return sound.score(speaker, parrot.VOCABULARY, said, config, folder, corpus)[
    'test'
  ]


def test_faultless_sound_is_read_without_errors(parts, tmp_path):
  scores = run(tmp_path, seed=3, steps=7)
  assert scores['cer'] == 0 and scores['utterances'] == 3
  assert scores['vocoder'] == 'levels'
  assert [h['hypothesis'] for h in scores['hypotheses']] == list(TEXTS)
  assert parts.calls == [('its own', 3, 7)] * 3
  for item, text in zip(scores['hypotheses'], TEXTS):
    wave, rate = io.read_audio(tmp_path / item['wav'], sample_rate=RATE)
    assert rate == RATE and len(wave) == len(text) * GROUP
  seconds = 0.12 * sum(map(len, TEXTS))
  assert scores['seconds'] == pytest.approx(seconds, abs=0.02)


def test_what_the_sound_loses_is_an_error(parts, tmp_path):
  parts.deaf_to = parrot.LETTERS.index('z')
  scores = run(tmp_path)
  assert scores['hypotheses'][1]['cer'] == 0
  heard = scores['hypotheses'][2]['hypothesis']
  assert heard.split() == ['ebra', 'oo']
  errors_in = sum(scores['errors'][k] for k in ('deletions', 'substitutions'))
  assert errors_in == 2  # spaces that follow each other count as one
  assert scores['cer'] == pytest.approx(2 / sum(map(len, TEXTS)), abs=0.02)


def test_only_as_many_as_asked_for(parts, tmp_path):
  assert run(tmp_path, utterances=2)['utterances'] == 2
  assert len(list((tmp_path / 'test').iterdir())) == 2


def test_bad_numbers_are_told():
  with pytest.raises(errors.UserError, match='utterances is -1'):
    sound.SoundConfig(decoder='d', tokenizer='t', utterances=-1)


def corpus_of(folder, lines):
  manifest.write(
    folder,
    [
      manifest.Utterance(id=name, text='a', split=split, speaker=speaker)
      for name, split, speaker in lines
    ],
  )
  return str(folder)


def test_every_utterance_is_spoken_in_its_speakers_voice(parts, tmp_path):
  corpus = corpus_of(
    tmp_path / 'corpus',
    [
      ('u0', 'test', 'ann'),
      ('u1', 'test', 'bob'),
      ('u2', 'test', None),
      ('t0', 'train', 'ann'),
      ('t1', 'train', 'ann'),
      ('t2', 'train', 'bob'),  # left out of the embeddings
    ],
  )
  rows = {
    'u0': [9, 9], 'u1': [5, 0], 'u2': [0, 5], 't0': [1, 2], 't1': [3, 4],
  }  # fmt: skip
  vectors = {name: np.array(row, np.float32) for name, row in rows.items()}
  embeddings.write(tmp_path / 'e.npz', vectors)
  run(tmp_path / 'out', corpus, embeddings=str(tmp_path / 'e.npz'))
  voices = [voice for voice, _, _ in parts.calls]
  # Ann as in training; Bob, whom it lacks, and nobody as they are.
  assert [v.speaker_D.tolist() for v in voices] == [[2, 3], [5, 0], [0, 5]]
  assert all(not v.tokens.size and v.mel_TM.shape == (0, 4) for v in voices)


def test_an_utterance_without_any_embedding_is_told(parts, tmp_path):
  corpus = corpus_of(tmp_path / 'corpus', [('u0', 'test', 'ann')])
  embeddings.write(tmp_path / 'e.npz', {'x': np.zeros(2, np.float32)})
  with pytest.raises(errors.UserError, match="no embedding of 'u0'"):
    run(tmp_path / 'out', corpus, embeddings=str(tmp_path / 'e.npz'))
