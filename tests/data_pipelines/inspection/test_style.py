"""`inspect --style`: levels that were made are found in a corpus."""

import json
import re

import numpy as np
import pytest
import soundfile

from data_pipelines import __main__ as doors
from data_pipelines.inspection import style
from step_audio_jax.audio.prosody import making
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.styles import markup
from tests.audio.meters import sounds

TEXT = 'one two three'
WORDS = [('one', 0.0, 0.4), ('two', 0.4, 0.8), ('three', 0.8, 1.2)]


@pytest.fixture
def call(capsys):
  def go(*flags):
    argv = ['data_pipelines', 'inspect', '--style', '--json', *map(str, flags)]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    if status:
      return status, out.err
    return json.loads(out.out.splitlines()[-1]), out.out

  return go


def corpus(folder, marked, speakers=(('a', 110.0), ('b', 210.0)), count=3):
  """Each marked text by each speaker, `count` times a little differently."""
  rng = np.random.default_rng(0)
  (folder / 'wav').mkdir(parents=True)
  lines = []
  for text in marked:
    for speaker, hertz in speakers:
      for _ in range(count):
        each = 0.2 * rng.uniform(0.97, 1.03)
        hertz = hertz * rng.uniform(0.99, 1.01)
        wave = sounds.syllables(6, each, hertz)
        made = making.make(wave, sounds.RATE, markup.parse(text), words=WORDS)
        name = f'{len(lines):03}'
        soundfile.write(folder / f'wav/{name}.wav', made.samples, sounds.RATE)
        lines.append(
          manifest.Utterance(
            id=name,
            audio=f'wav/{name}.wav',
            duration=len(made.samples) / sounds.RATE,
            sample_rate=sounds.RATE,
            text=TEXT,
            speaker=speaker,
            marked=text if text != TEXT else None,
          )
        )
  manifest.write(folder, lines)
  return folder


@pytest.fixture(scope='module')
def styled(tmp_path_factory):
  marked = [
    TEXT,
    *(f'({name}){TEXT}' for name in ('slow 2', 'fast 1', 'fast 3')),
    *(f'({name}){TEXT}' for name in ('low pitch 2', 'high pitch 2')),
    *(f'({name}){TEXT}' for name in ('quiet 3', 'loud 3')),
    *(f'one (pause {level})two three' for level in (1, 4)),
    f'(loud 1)(fast 1){TEXT}',
  ]
  return corpus(tmp_path_factory.mktemp('styled') / 'corpus', marked)


def test_levels_separate(styled, call, tmp_path):
  page = tmp_path / 'levels.html'
  found, out = call(f'--path={styled}', f'--html={page}')
  assert (found['measured'], found['mixed']) == (66, 6)
  axes = found['axes']
  assert {axis: told['levels'] for axis, told in axes.items()} == {
    'speed': [-2, 0, 1, 3],
    'pitch': [-2, 0, 2],
    'volume': [-3, 0, 3],
    'pause': [0, 1, 4],
  }
  for axis, told in axes.items():
    assert told['separate'] and told['ordered'], axis
    assert set(told['counts']) == {6} and told['by_speaker']
    assert f'{axis}: ' in out
  medians = axes['pitch']['medians']
  assert np.diff(medians) == pytest.approx([2, 2], abs=0.4)
  rates = axes['speed']['medians']
  assert rates[2] / rates[1] == pytest.approx(1.12, rel=0.03)
  assert axes['volume']['medians'][1] == pytest.approx(-28, abs=0.3)
  text = page.read_text(encoding='utf-8')
  assert text.count('<svg') == 4 and 'levels separate' in text
  assert 'http' not in text


def test_speakers_are_set_off_only_where_they_are_known(tmp_path):
  one = style.Spoken('a', style.levels_of(''), measured(f0_semitones=1.0))
  two = style.Spoken('b', style.levels_of(''), measured(f0_semitones=13.0))
  high = style.levels_of('(high pitch 1)x')
  ups = [
    style.Spoken('a', high, measured(f0_semitones=2.0)),
    style.Spoken('b', high, measured(f0_semitones=14.0)),
  ]
  told = style.compare([one, two, *ups])['axes']['pitch']
  assert told['by_speaker'] and told['medians'] == [7.0, 8.0]
  assert told['steps'] == [None]  # no spread is left
  ups.append(style.Spoken('c', high, measured(f0_semitones=5.0)))
  told = style.compare([one, two, *ups])['axes']['pitch']
  assert not told['by_speaker'] and told['medians'] == [7.0, 5.0]
  assert not told['ordered']


def measured(**fields):
  return style.measure_lib.Measured(1.0, **fields)


def test_what_cannot_be_compared_is_told():
  fast = style.levels_of('(fast 1)x')
  some = [style.Spoken('a', fast, measured(rate=4.0))]
  told = style.compare(some)['axes']['speed']
  assert 'found 1 level, expected at least two' in told['why']
  some += [style.Spoken('a', style.levels_of(''), measured())] * 3
  told = style.compare(some)['axes']['speed']
  assert 'could be computed' in told['why']


@pytest.mark.parametrize(
  'marked, expected',
  [
    (None, {}),
    ('(快速2)a', {'speed': 2}),
    (
      '(低音1)(大声3)a (停顿1)b (停顿4)c',
      {'pitch': -1, 'volume': 3, 'pause': 4},
    ),
    ('(四川话)a', {}),
    ('(快速2)a (慢速1)b', None),
  ],
)
def test_levels_of_a_text(marked, expected):
  found = style.levels_of(marked)
  if expected is None:
    assert found is None
  else:
    assert found == dict.fromkeys(style.AXES, 0) | expected


def test_a_corpus_without_tags_is_measured(tmp_path, call):
  folder = corpus(tmp_path / 'plain', [TEXT], count=2)
  found, out = call(f'--path={folder}', '--most=3')
  assert found['measured'] == 3 and not found['axes']
  assert len(found['neutral']['rate']) == 3
  assert 'without tags, rate' in out


def test_one_recording_is_measured(styled, call):
  found, out = call(f'--path={styled / "wav/000.wav"}')
  assert found['kind'] == 'recording' and found['f0_hz'] > 50
  assert 'f0_semitones' in out


def test_silence_is_not_computed(tmp_path, call):
  path = tmp_path / 'silent.wav'
  soundfile.write(path, np.zeros(16000), 16000)
  found, out = call(f'--path={path}')
  assert found['rate'] is None and 'not computed' in out


@pytest.mark.parametrize(
  'harm, message',
  [
    ('wav', 'holds no rows, codes or manifest'),
    ('nan', 'bad: 000: .*(NaN|nan)'),
    ('gone', 'bad: 000: .*000.wav: no such file'),
    ('text', 'no speech with recordings in it'),
  ],
)
def test_bad_corpora_are_one_sentence(harm, message, tmp_path, call):
  folder = corpus(tmp_path / 'bad', [TEXT], count=1)
  path = folder
  if harm == 'wav':
    path = folder / 'wav'
  elif harm == 'nan':
    wave = np.full(16000, np.nan, np.float32)
    soundfile.write(folder / 'wav/000.wav', wave, 16000, 'FLOAT')
  elif harm == 'gone':
    (folder / 'wav/000.wav').unlink()
  else:
    manifest.write(folder, [manifest.Utterance(id='t', kind='text', text='a')])
  status, told = call(f'--path={path}')
  assert status == 2 and len(told.strip().splitlines()) == 1
  assert re.search(message, told), told


def test_flags_that_do_not_belong_together(styled, call, capsys):
  status, told = call(
    f'--path={styled / "wav/000.wav"}', '--html=/tmp/never.html'
  )
  assert status == 2 and 'is a file, expected a corpus' in told
  argv = ['data_pipelines', 'inspect', f'--path={styled}', '--most=3']
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 2
  assert '--most: expected it with --style' in capsys.readouterr().err


def test_a_dry_run_measures_nothing(styled, call):
  found, _ = call(f'--path={styled}', '--dry_run')
  assert found == {'dry_run': True, 'kind': 'corpus'}
