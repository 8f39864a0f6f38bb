"""What a page asks: every system and item, under names that say nothing."""

import collections
import io
import itertools

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio.meters import activity
from step_audio_jax.evaluation.listening import design as design_lib
from step_audio_jax.evaluation.listening import page as page_lib
from step_audio_jax.evaluation.listening import stimuli
from step_audio_jax.storage import digests
from tests.evaluation.listening import made

Config = design_lib.DesignConfig


def samples(sound):
  return soundfile.read(io.BytesIO(sound.content))


def test_every_system_and_item_is_asked(tmp_path):
  names, items = ('x', 'y', 'z'), ('a', 'b', 'c')
  design = design_lib.make(
    made.systems(tmp_path, names, items),
    Config(questions=('mos', 'ab'), catches=2, anchor='y'),
  )
  key = design.key
  asked = collections.defaultdict(list)
  for trial in design.page['trials']:
    name = trial['trial']
    assert key['trials'][name] == {k: trial[k] for k in trial if k != 'trial'}
    owners = [key['sounds'][one] for one in trial['sounds']]
    assert {owner['item'] for owner in owners} == {trial['item']}
    item = key['items'][trial['item']]
    systems = tuple(owner['system'] for owner in owners)
    asked[trial['question'], trial['catch']].append((item, systems))
  every = [(item, (name,)) for item in items for name in names]
  assert sorted(asked['mos', '']) == sorted(every)
  pairs = itertools.combinations(names, 2)
  both = [(item, pair) for pair in pairs for item in items]
  assert sorted(asked['ab', '']) == sorted(both)
  for question, degraded, repeated in (
    ('mos', (None,), ('y',)),
    ('ab', ('y', None), ('y', 'y')),
  ):
    assert [s for _, s in asked[question, 'degraded']] == [degraded] * 2
    assert [s for _, s in asked[question, 'repeated']] == [repeated] * 2
  path = tmp_path / 'x' / 'a.wav'
  (mine,) = [
    one for one in key['sounds'].values() if one.get('wav') == str(path)
  ]
  assert mine['sha256'] == digests.of_file(path)


def test_sounds_are_alike_but_for_how_they_sound():
  design = made.small()
  for name, sound in design.sounds.items():
    wave_S, rate = samples(sound)
    assert rate == made.RATE and wave_S.ndim == 1
    assert digests.of_bytes(sound.content) == design.page['sounds'][name]
    level = activity.decibels(activity.frame_powers(wave_S, rate).mean())
    assert level == pytest.approx(stimuli.LEVEL_DB, abs=1)


def test_rates_and_levels(tmp_path):
  wave_S = 0.5 * np.sin(np.arange(4800) / 5)
  soundfile.write(tmp_path / 'a.wav', wave_S, 24000)
  assert stimuli.common_rate([tmp_path / 'a.wav']) == 24000
  loud_S = stimuli.load(tmp_path / 'a.wav', 48000, 6.0)
  assert len(loud_S) == 9600 and np.abs(loud_S).max() <= 0.99
  as_it_is = stimuli.load(tmp_path / 'a.wav', 24000, None)
  np.testing.assert_allclose(as_it_is, wave_S, atol=1e-4)
  bad_S = stimuli.degraded(as_it_is, 24000, 0)
  spectrum = np.abs(np.fft.rfft(bad_S))
  hz = np.fft.rfftfreq(len(bad_S), 1 / 24000)
  assert spectrum[hz > 3500].max() < 1e-3 * spectrum.max()
  assert np.sqrt((bad_S**2).mean()) == pytest.approx(
    np.sqrt((as_it_is**2).mean()), rel=0.01
  )
  # Noise within the band is not far below the tone.
  tone = spectrum[np.abs(hz - 764).argmin()] ** 2
  assert (spectrum**2).sum() > 1.1 * tone
  with pytest.raises(errors.UserError, match='silence'):
    stimuli.encode(np.zeros(100, np.float32), 16000)


def test_a_seed_decides_all(tmp_path):
  systems = made.systems(tmp_path)
  one, two, other = (
    design_lib.make(systems, Config(seed=seed, catches=1)) for seed in (1, 1, 2)
  )
  assert one.page == two.page and one.key == two.key
  assert not set(one.sounds) & set(other.sounds)
  drawn = [design_lib.make(systems, Config(catches=1)) for _ in range(2)]
  assert not set(drawn[0].sounds) & set(drawn[1].sounds)
  # A page is known by all that it holds.
  renamed = design_lib.make(systems, Config(seed=1, catches=1, title='Other'))
  assert renamed.page['page'] != one.page['page']


def test_items_are_those_that_all_have(tmp_path):
  systems = made.systems(tmp_path, items=('a', 'b', 'c'))
  del systems['sekret']['b']
  items, lacking = design_lib.chosen(systems, Config())
  assert items == ['a', 'c']
  assert lacking == {'reference': [], 'sekret': ['b']}
  assert len(design_lib.chosen(systems, Config(items=1))[0]) == 1
  design = design_lib.make(systems, Config(catches=0))
  assert design.key['lacking'] == {'sekret': ['b']}
  assert len(design.page['trials']) == 4


@pytest.mark.parametrize(
  'config, names, told',
  [
    ({'questions': ('abx',)}, ('x', 'y'), 'questions: found abx'),
    ({'questions': ()}, ('x', 'y'), 'questions: found none'),
    ({'catches': -1}, ('x', 'y'), 'catches -1'),
    ({'anchor': 'q'}, ('x', 'y'), "--anchor: found 'q'"),
    ({'questions': ('ab',)}, ('x',), 'found 1, expected at least 2'),
  ],
)
def test_what_cannot_be_asked(tmp_path, config, names, told):
  with pytest.raises(errors.UserError, match=told):
    design_lib.chosen(made.systems(tmp_path, names), Config(**config))


def test_no_common_item(tmp_path):
  systems = made.systems(tmp_path / '1', ('x',), ('a',))
  systems |= made.systems(tmp_path / '2', ('y',), ('b',))
  with pytest.raises(errors.UserError, match='whose name all of x, y have'):
    design_lib.chosen(systems, Config())


def test_a_page_has_a_limit(tmp_path):
  with pytest.raises(errors.UserError, match=r'are 0\.0 MB .* most 0\.001;'):
    page_lib.write(made.small(), tmp_path / 'out', most_megabytes=0.001)
  assert not (tmp_path / 'out').exists()
