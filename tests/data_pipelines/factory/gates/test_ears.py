"""Recognisers and voices for gates, loaded once and named by digest."""

import pickle

import numpy as np
import pytest

from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import ears
from data_pipelines.factory.gates import speech
from data_pipelines.factory.making import items
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.speaker import embeddings
from step_audio_jax.evaluation.metrics import judge as judge_lib
from tests.data_pipelines.factory import takes
from tests.evaluation import ear as stand_in


@pytest.fixture(autouse=True)
def forget():
  for known in (ears._own, ears._stranger, ears._encoder, ears._means,
                ears._identity_of_own, ears._identity_of_stranger,
                ears._digest_of_encoder):  # fmt: skip
    known.cache_clear()
  stand_in.Ear.made.clear()


def gate_of(ear):
  return speech.Recognised(transcribe=pickle.loads(pickle.dumps(ear)))


@pytest.fixture
def stranger(tmp_path, monkeypatch):
  monkeypatch.setattr(judge_lib, 'Judge', stand_in.Ear)
  monkeypatch.setattr(judge_lib, 'check_library', lambda: None)
  return ears.Stranger(str(stand_in.write_folder(tmp_path / 'whisper')))


def test_a_stranger_hears(stranger):
  made = [
    takes.take(stand_in.wave(text), text=text, id=text, language=language)
    for text, language in (('abc', 'en'), ('bad', 'en-US'), ('abc', 'fr'))
  ]
  made.append(takes.take(stand_in.wave('abc'), text='abd', id='wrong'))
  verdicts = gate_of(stranger).judge(made)
  assert [one.outcome for one in verdicts] == [
    base.PASSED, base.PASSED, base.UNMEASURED, base.FAILED,
  ]  # fmt: skip
  assert "knows no 'fr'" in verdicts[2].reason
  assert len(stand_in.Ear.made) == 1  # loaded once
  told = stranger.identity
  assert told['name'] == 'whisper' and told['beam'] == 1
  (settings,) = items.Recipe(
    gates=items.line_lib.Gates((gate_of(stranger),))
  ).settings['gates']
  assert settings['transcribe'] == told


def test_a_stranger_that_is_not_there(stranger, tmp_path):
  with pytest.raises(errors.UserError, match='no such folder'):
    _ = ears.Stranger(str(tmp_path / 'nowhere')).identity
  other = ears.Stranger(stranger.model, sha256='ab' * 32)
  with pytest.raises(errors.UserError, match='expected abababababab'):
    _ = other.identity


class Tokenizer:
  def encode_batch(self, waves):
    return [(np.arange(len(wave)), None) for wave in waves]


class Reader:
  def heard(self, linguistic, semantic):
    return linguistic[: len(linguistic) // 5 * 5]

  def transcribe(self, speech):
    assert all(len(one) for one in speech)
    return [f'{len(one)} ids' for one in speech]


def test_our_own_reads_what_has_a_group(monkeypatch):
  monkeypatch.setattr(ears, '_own', lambda ear: (Tokenizer(), Reader()))
  ear = pickle.loads(pickle.dumps(ears.Own('run', 'tokenizer')))
  waves = [np.zeros(size, 'f') for size in (4, 12, 5)]
  assert ear(waves, ['en'] * 3) == ['', '10 ids', '5 ids']


def test_our_own_that_is_not_there(tmp_path):
  with pytest.raises(errors.UserError):
    _ = ears.Own(str(tmp_path / 'run'), str(tmp_path / 'tokenizer')).identity
  with pytest.raises(errors.UserError):
    ears.Own(str(tmp_path / 'run'), str(tmp_path))([np.zeros(9, 'f')], ['en'])
  with pytest.raises(errors.UserError, match='config.json: no such file'):
    _ = ears.Voices(str(tmp_path)).identity


def test_voices_and_their_references(tmp_path, monkeypatch):
  class Encoder:
    params = {'params': {'w': np.ones(3, np.float32)}}

    def embed_batch(self, waves):
      return np.stack([np.array([wave[0], 1.0]) for wave in waves])

  opened = []

  def open_encoder(path):
    opened.append(path)
    return Encoder()

  monkeypatch.setattr(ears, '_encoder', ears.functools.cache(open_encoder))
  monkeypatch.setattr(ears._encoder, 'cache_clear', lambda: None, raising=False)
  manifest.write(
    tmp_path,
    [
      manifest.Utterance(id=name, split=split, speaker=speaker)
      for name, split, speaker in (
        ('a', 'train', 'ann'),
        ('b', 'train', 'ann'),
        ('c', 'test', 'ann'),
        ('d', 'train', 'bob'),
        ('e', 'train', None),
        ('f', 'test', 'eve'),
      )
    ],  # fmt: skip
  )
  table = tmp_path / 'speakers.npz'
  vectors = {'a': [1, 0], 'b': [1, 2], 'c': [9, 9], 'd': [-1, 0], 'f': [1, 1]}
  embeddings.write(table, {k: np.array(v, 'f') for k, v in vectors.items()})
  reference = ears.Speakers(str(table), str(tmp_path))
  np.testing.assert_array_equal(reference('ann'), [1.0, 1.0])
  assert reference('eve') is None
  gate = speech.SameSpeaker(embed=ears.Voices('run'), reference=reference)
  wave = np.ones(16000, np.float32)
  verdicts = gate.judge(
    [takes.take(wave, speaker=name) for name in ('ann', 'bob', 'eve')]
  )
  assert [one.outcome for one in verdicts] == [
    base.PASSED, base.FAILED, base.UNMEASURED,
  ]  # fmt: skip
  assert opened == ['run']
  assert len(reference.identity['manifest']) == 64
  assert len(ears.Voices('run').identity['encoder']) == 64
  embeddings.write(table, {'z': np.ones(2, 'f')})
  ears._means.cache_clear()
  with pytest.raises(errors.UserError, match='no speaker of the training spl'):
    reference('ann')
