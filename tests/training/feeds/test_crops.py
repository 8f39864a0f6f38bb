"""Feeds of recordings: the order of crops, and what cannot be read."""

import collections

import numpy as np
import pytest

from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.training.feeds import crops
from step_audio_jax.training.feeds import recordings

RATE = 16000


def utterances(count):
  return [manifest.Utterance(id=f'u{i}', text='a') for i in range(count)]


@pytest.mark.parametrize('count, size', [(7, 3), (3, 5), (12, 4), (1, 1)])
def test_every_utterance_once_an_epoch(count, size):
  order = crops.Crops(utterances(count), size, seed=4)
  assert len(order) == max(1, count // size)
  rows = [
    row for step in range(3 * count) for row in order.rows(step, 0, size)[0]
  ]
  for epoch in range(3):
    shown = rows[epoch * count : (epoch + 1) * count]
    names = [crop.utterance.id for crop in shown]
    assert sorted(names) == sorted(f'u{i}' for i in range(count))
  places = collections.defaultdict(set)
  for crop in rows[: 3 * count]:
    assert 0 <= crop.share < 1
    places[crop.utterance.id].add(crop.share)
  assert all(len(found) == 3 for found in places.values())


def test_the_order_is_a_pure_function_of_seed_and_row():
  one, same, other = (crops.Crops(utterances(9), 4, s) for s in (0, 0, 1))
  assert one.rows(5, 0, 4) == same.rows(5, 0, 4)
  # Any host sees its part of the same batch.
  assert one.rows(5, 2, 4) == (one.rows(5, 0, 4)[0][2:], 0)
  assert one.rows(0, 0, 4) != other.rows(0, 0, 4)


@pytest.fixture
def corpus(tmp_path):
  """A ramp: each sample says where it lies."""
  ramp = np.arange(RATE, dtype=np.float32) / RATE
  io.write_audio(tmp_path / 'ramp.wav', ramp)
  return tmp_path


def utterance(name='u', **fields):
  fields = {'audio': 'ramp.wav', 'duration': 0.5, **fields}
  return manifest.Utterance(id=name, sample_rate=RATE, text='a', **fields)


def test_parts_of_an_utterance_that_is_part_of_a_file(corpus):
  read = recordings.Recordings(corpus).read
  inner = utterance(offset=0.25)
  whole = read(inner)
  assert len(whole) == RATE // 2
  assert whole[0] == pytest.approx(0.25, abs=1e-4)
  part = read(inner, 0.125, 0.25)
  np.testing.assert_array_equal(part, whole[2000:6000])
  # Never beyond the utterance, though the file goes on.
  np.testing.assert_array_equal(read(inner, 0.375, 9.0), whole[6000:])
  assert len(recordings.Recordings(corpus, 8000).read(inner)) == 4000


def test_what_cannot_be_read_is_told_once(corpus, capsys):
  reader = recordings.Recordings(corpus)
  (corpus / 'bad.wav').write_bytes(b'no audio')
  bad = utterance('bad', audio='bad.wav')
  long = utterance('long', duration=2.0)
  for _ in range(2):
    assert reader.read(bad) is None and reader.read(long) is None
  assert reader.read(utterance()) is not None
  assert list(reader.quarantine) == ['bad', 'long']
  assert 'bad.wav' in reader.quarantine['bad']
  assert '1.00 s of audio, expected 2.00 s' in reader.quarantine['long']
  told = capsys.readouterr().err
  assert told.count('bad is left out') == told.count('long is left out') == 1
