"""Chains are drawn by name, written down, and done again to the bit."""

import json

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import chain as chain_lib
from step_audio_jax.audio.augmentation import codecs
from step_audio_jax.audio.augmentation import levels
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import pauses
from step_audio_jax.audio.augmentation import pools
from step_audio_jax.audio.augmentation import rooms
from step_audio_jax.audio.augmentation import speed
from step_audio_jax.commands import gin_files
from tests.audio.augmentation import speech

RATE = speech.RATE
Step = chain_lib.Step


@pytest.fixture
def pool(tmp_path):
  folder = tmp_path / 'pool'
  (folder / 'deep').mkdir(parents=True)
  for name in ('a.wav', 'deep/b.flac'):
    wave = speech.speech(0.4, seed=len(name))
    soundfile.write(folder / name, wave, RATE)
  return pools.Folder(str(folder))


def everything(pool):
  return chain_lib.Chain(
    (
      Step(speed.Speed()),
      Step(speed.Tempo()),
      Step(rooms.Tail()),
      Step(rooms.Room(0.1, 2.5, 2.6, 2.5, 0.5)),
      Step(rooms.Impulse(pool)),
      Step(noise.Noise(noise.COLOURS)),
      Step(noise.Recordings(pool, (1, 2))),
      Step(codecs.Telephone()),
      Step(codecs.Compression()),
      Step(levels.Gain()),
      Step(levels.Clipping()),
      Step(levels.Ceiling()),
    ),
    seed=4,
  )


def test_everything_is_done_again_to_the_bit(pool):
  wave = speech.speech(0.5)
  changed = everything(pool).apply(wave, RATE, 'one')
  told = changed.provenance
  assert [one['kind'] for one in told['operations']] == [
    'speed', 'tempo', 'tail', 'room', 'impulse', 'noise', 'recordings',
    'telephone', 'compression', 'gain', 'clipping', 'ceiling',
  ]  # fmt: skip
  assert np.isfinite(changed.samples).all()
  assert np.abs(changed.samples).max() <= 1
  assert len(changed.samples) == pytest.approx(
    len(wave) * told['time_scale'], abs=2
  )
  kept = json.loads(json.dumps(told))
  np.testing.assert_array_equal(
    chain_lib.replay(wave, RATE, kept), changed.samples
  )
  again = everything(pool).apply(wave, RATE, 'one')
  assert again.provenance == told
  assert everything(pool).draw('two') != everything(pool).draw('one')


def test_probabilities_and_independence():
  steps = (Step(noise.Noise(), 0.3), Step(levels.Gain(), 0.6))
  chain = chain_lib.Chain(steps, seed=1)
  names = [f'u{n}' for n in range(400)]
  drawn = {name: chain.draw(name) for name in names}
  share = {
    kind: np.mean([any(o.kind == kind for o in one) for one in drawn.values()])
    for kind in ('noise', 'gain')
  }
  assert share['noise'] == pytest.approx(0.3, abs=0.07)
  assert share['gain'] == pytest.approx(0.6, abs=0.07)
  # What comes before does not change what a later step draws.
  other = chain_lib.Chain((Step(noise.Noise('pink'), 0.9), steps[1]), seed=1)
  for name in names[:50]:
    gains = [
      [o for o in one.draw(name) if o.kind == 'gain'] for one in (chain, other)
    ]
    assert gains[0] == gains[1]


def test_nothing_drawn_changes_nothing():
  wave = speech.speech(0.1)
  changed = chain_lib.Chain().apply(wave, RATE, 'x')
  np.testing.assert_array_equal(changed.samples, wave)
  assert changed.provenance['input'] == changed.provenance['output']
  np.testing.assert_array_equal(
    chain_lib.replay(wave, RATE, changed.provenance), wave
  )


def test_a_replay_of_something_else_is_refused(pool, tmp_path):
  wave = speech.speech(0.2)
  chain = chain_lib.Chain((Step(noise.Recordings(pool, 2, 5.0)),))
  told = chain.apply(wave, RATE, 'x').provenance
  with pytest.raises(errors.UserError, match='input: found .* another wave'):
    chain_lib.replay(wave * 2, RATE, told)
  with pytest.raises(errors.UserError, match='sample_rate: found 8000'):
    chain_lib.replay(wave, 8000, told)
  other = tmp_path / 'other'
  (other / 'deep').mkdir(parents=True)
  for name in ('a.wav', 'deep/b.flac'):
    soundfile.write(other / name, speech.speech(0.3, seed=9), RATE)
  with pytest.raises(errors.UserError, match='is another than then'):
    chain_lib.replay(wave, RATE, told, pools.Folder(str(other)))
  changed = {**told, 'output': '0' * 64}
  with pytest.raises(errors.UserError, match='something else comes out'):
    chain_lib.replay(wave, RATE, changed)


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda o: [], 'found list, expected a JSON object'),
    (lambda o: {**o, 'output': None}, 'output: found None'),
    (lambda o: {**o, 'operations': [{}]}, 'operation 0: found None'),
    (lambda o: {**o, 'operations': [{'kind': 'os'}]}, "found 'os', expected"),
    (
      lambda o: {**o, 'operations': [{'kind': 'gain'}]},
      'gain: gain_db: found nothing',
    ),
    (
      lambda o: {**o, 'operations': [{'kind': 'gain', 'gain_db': [1, 2]}]},
      'gain_db: found .* expected one value',
    ),
    (
      lambda o: {**o, 'operations': [{**o['operations'][0], 'more': 1}]},
      'more: found an unknown field',
    ),
    (
      lambda o: {**o, 'operations': [{**o['operations'][0], 'seed': None}]},
      'noise: seed: found None, expected one value',
    ),
  ],
)
def test_damaged_provenance(change, message):
  wave = speech.speech(0.1)
  told = chain_lib.Chain((Step(noise.Noise()),)).apply(wave, RATE, 'x')
  with pytest.raises(errors.UserError, match=message):
    chain_lib.replay(wave, RATE, change(told.provenance))


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: noise.Noise(snr_db=(9.0, 3.0)), 'noise: snr_db: found'),
    (lambda: noise.Noise(snr_db=float('nan')), 'snr_db: found nan'),
    (lambda: noise.Noise(snr_db=(1.0, 2.0, 3.0)), 'lowest, highest'),
    (lambda: noise.Noise(snr_db=True), 'snr_db: found True'),
    (lambda: noise.Noise('brown'), "colour: found 'brown', expected white"),
    (lambda: noise.Noise(()), 'colour: found ()'),
    (lambda: noise.Noise(seed=-1), 'seed: found -1'),
    (lambda: noise.Noise(seed=1.5), 'seed: found 1.5'),
    (lambda: rooms.Tail(rt60=0.0), 'tail: rt60: found 0.0'),
    (lambda: rooms.Room(rt60=3), 'from 0.1 to 0.8 s'),
    (lambda: speed.Speed(3), 'speed: factor: found 3'),
    (lambda: levels.Clipping(0), 'clipping: limit: found 0'),
    (lambda: codecs.Compression('aac'), "found 'aac', expected mp3, opus"),
    (lambda: noise.Recordings(None, 1.5), 'count: .* expected a whole number'),
    (lambda: Step(noise.Noise(), 1.5), 'noise: probability: found 1.5'),
    (lambda: Step(noise.Noise), 'operation: found'),
  ],
)
def test_bad_settings(make, message):
  with pytest.raises(errors.UserError, match=message):
    make()


@pytest.mark.parametrize(
  'wave, rate, message',
  [
    (np.zeros((2, 5), 'f'), RATE, r'shape \(2, 5\)'),
    (np.zeros(5, np.int16), RATE, 'found int16'),
    (np.array([0, np.nan], 'f'), RATE, 'sample 1 is nan'),
    (np.array([np.inf], 'f'), RATE, 'sample 0 is inf'),
    (np.zeros(5, 'f'), 0, 'sample_rate: found 0'),
    (np.zeros(5, 'f'), 16000.0, 'sample_rate: found 16000.0'),
  ],
)
def test_bad_waveforms(wave, rate, message):
  with pytest.raises(errors.UserError, match=message):
    chain_lib.Chain().apply(wave, rate, 'x')


def test_ranges_are_drawn_inside():
  rng = np.random.default_rng(0)
  for _ in range(50):
    one = noise.Noise(noise.COLOURS, (3.0, 4.0)).drawn(rng)
    assert one.colour in noise.COLOURS and 3 <= one.snr_db <= 4
    told = json.loads(json.dumps(one.to_json()))
    assert noise.Noise.from_json(told) == one


def test_words_follow():
  words = (('a', 0.0, 0.5), ('b', 0.5, 1.0))
  assert chain_lib.scaled(words, 0.5) == (('a', 0.0, 0.25), ('b', 0.25, 0.5))
  assert chain_lib.scaled(None, 0.5) is None
  done = (speed.Speed(2.0), noise.Noise(), pauses.Pauses((0.25,), (1.0,)))
  assert chain_lib.moved(words, done) == (
    ('a', 0.0, 0.25), ('b', 1.25, 1.5),
  )  # fmt: skip
  assert chain_lib.moved(None, done) is None


def test_a_chain_of_gin():
  text = """
from __gin__ import dynamic_registration
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import rooms

chain.Chain.seed = 7
chain.Chain.steps = (@echo/chain.Step(), @noisy/chain.Step())
echo/chain.Step.operation = @rooms.Tail()
echo/chain.Step.probability = 0.5
rooms.Tail.rt60 = [0.2, 0.3]
noisy/chain.Step.operation = @noise.Noise()
noise.Noise.colour = ['white', 'pink']
noise.Noise.snr_db = 10
"""
  made = gin_files.configure([], [text], chain_lib.Chain)()
  assert made == chain_lib.Chain(
    (
      Step(rooms.Tail(rt60=(0.2, 0.3)), 0.5),
      Step(noise.Noise(('white', 'pink'), 10.0)),
    ),
    seed=7,
  )
  assert made.draw('x') == made.draw('x')
