"""Windows of a flow against the whole of it."""

import dataclasses

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import windows
from tests.decoder import tiny_decoder as tiny

GROUPS = [1, 2, 5, 6, 9, 10, 11, 14, 23, 40]
CONFIG = windows.WindowConfig(groups=6, context=1, overlap=2)


def known(**settings):
  flow = tiny.Painted(**settings)
  return speech.SpeechDecoder(flow, tiny.Steps(), None, tiny.MEL)


def pushed(stream, ids, size):
  """Frames of ids that come `size` groups at a time."""
  parts = []
  for begin in range(0, len(ids), 5 * size):
    end = begin + 5 * size
    parts.append(stream.push(ids[begin:end], end >= len(ids)))
  return np.concatenate(parts), [len(part) for part in parts]


@pytest.mark.parametrize('groups', GROUPS)
@pytest.mark.parametrize('size', [1, 3, 50])
@pytest.mark.parametrize('first', [None, 4])
def test_windows_of_a_local_flow_are_the_whole(groups, size, first):
  # Frames of `Painted` know only their own id and their own noise, so what is
  # faded is equal on both sides, but for a frame at the border of two ids.
  decoder = known(noise=0.1)
  voice, ids = tiny.voice(2), tiny.ids(groups)
  config = dataclasses.replace(CONFIG, first=first)
  stream = windows.MelWindows(decoder, voice, windows=config, seed=5)
  found, _ = pushed(stream, ids, size)
  whole = decoder.mel_of(ids, voice, seed=5)
  assert found.shape == whole.shape
  close = np.abs(found - whole).max(axis=1) < 1e-5
  assert close.mean() > 0.85


def test_a_stream_answers_early_and_in_whole_steps():
  stream = windows.MelWindows(known(), tiny.voice(), windows=CONFIG)
  found, lengths = pushed(stream, tiny.ids(16), 1)
  frames = tiny.Painted().frames
  # The first after 6 groups, which are 4 without the overlap; then every 3.
  assert lengths[:6] == [0] * 5 + [frames(20)]
  assert [n for n, length in enumerate(lengths) if length] == [5, 8, 11, 14, 15]
  assert lengths[8] == frames(35) - frames(20)
  assert len(found) == frames(80)


def test_every_window_has_one_shape():
  decoder = known()
  stream = windows.MelWindows(decoder, tiny.voice(3), windows=CONFIG)
  pushed(stream, tiny.ids(31), 2)
  assert set(decoder.flow.calls) == {(15, 30)}
  assert stream.frames_computed == len(decoder.flow.calls) * (
    45 + decoder.flow.frames(30)
  )


def test_the_overlap_is_faded():
  # Two flows that differ by a constant: what is between must be between.
  decoder = known()
  stream = windows.MelWindows(decoder, tiny.voice(), windows=CONFIG)
  ids = np.tile(tiny.ids(1), 9)
  first = stream.push(ids[:30])
  plain = decoder.flow.mel

  def louder(*arguments, **keywords):
    return plain(*arguments, **keywords) + 1.0

  decoder.flow.mel = louder
  second = stream.push(ids[30:], final=True)
  decoder.flow.mel = plain
  whole = decoder.mel_of(ids, tiny.voice())
  count = decoder.flow.frames(20)
  np.testing.assert_allclose(first, whole[:count], atol=0.7)
  rise = (second - whole[count:]).mean(axis=1)
  faded = decoder.flow.frames(30) - count
  expected = (np.arange(faded) + 0.5) / faded
  np.testing.assert_allclose(rise[:faded], expected, atol=0.45)
  assert rise[: faded // 4].mean() < 0.4 < 0.6 < rise[faded // 2 : faded].mean()
  np.testing.assert_allclose(rise[faded:].mean(), 1.0, atol=0.1)


def test_a_shorter_first_window_answers_sooner():
  config = dataclasses.replace(CONFIG, first=4)
  stream = windows.MelWindows(known(), tiny.voice(), windows=config)
  _, lengths = pushed(stream, tiny.ids(16), 1)
  # 4 groups are 2 without the overlap; the next window begins at 1.
  heard = [n for n, length in enumerate(lengths) if length]
  assert heard == [3, 6, 9, 12, 15]
  with pytest.raises(errors.UserError, match='first is 2, expected more than'):
    windows.WindowConfig(groups=6, context=1, overlap=2, first=2)


def test_streams_can_be_used_again_and_end_on_a_window():
  decoder = known(noise=0.1)
  stream = windows.MelWindows(decoder, tiny.voice(), windows=CONFIG, seed=2)
  ids = tiny.ids(9)
  one, _ = pushed(stream, ids, 1)
  calls = len(decoder.flow.calls)
  parts = [stream.push(ids), stream.push([], final=True)]
  assert len(decoder.flow.calls) == 2 * calls
  np.testing.assert_array_equal(np.concatenate(parts), one)


def test_memory_does_not_grow_with_the_speech():
  stream = windows.MelWindows(known(), tiny.voice(), windows=CONFIG)
  sizes = []
  for n in range(60):
    stream.push(tiny.ids(3, seed=n))
    sizes.append(
      len(stream._ids) + len(stream._noise_TM) + len(stream._tail_TM)
    )
  assert max(sizes[30:]) <= max(sizes[:30])


def test_the_real_flow_is_close_to_its_whole():
  decoder = tiny.decoder(tiny.voice(2))
  ids = tiny.ids(14)
  config = windows.WindowConfig(groups=9, context=3, overlap=2)
  stream = windows.MelWindows(decoder, windows=config)
  found, _ = pushed(stream, ids, 4)
  whole = decoder.mel_of(ids)
  assert found.shape == whole.shape
  apart = np.abs(found - whole).mean() / np.abs(whole).mean()
  assert 0 < apart < 0.5  # not equal: the flow looks at the whole


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'groups': 0}, 'groups is 0'),
    ({'overlap': 0}, 'overlap is 0'),
    ({'groups': 4, 'context': 3, 'overlap': 1}, 'expected some of the window'),
    ({'context': -1}, 'context -1'),
  ],
)
def test_bad_sizes_are_named(settings, message):
  with pytest.raises(errors.UserError, match=message):
    windows.WindowConfig(**settings)


def test_wrong_ids_and_no_speech_are_named():
  stream = windows.MelWindows(known(), tiny.voice())
  with pytest.raises(errors.UserError, match='expected at least one group'):
    stream.push([], final=True)
  with pytest.raises(errors.UserError, match='found 4 ids'):
    stream.push([1, 2, 1100, 1200])
  with pytest.raises(errors.UserError, match='no voice'):
    windows.MelWindows(known())


@pytest.mark.parametrize('groups', [1, 6, 17])
def test_samples_are_as_many_as_those_of_the_whole(groups):
  decoder = known()
  stream = windows.WindowStream(decoder, tiny.voice(), windows=CONFIG)
  ids = tiny.ids(groups)
  parts = [
    stream.push(ids[begin : begin + 10], begin + 10 >= len(ids))
    for begin in range(0, len(ids), 10)
  ]
  whole, _ = decoder.decode(ids, tiny.voice())
  assert len(np.concatenate(parts)) == len(whole)
