"""Speech rows from letters: whose they become, and the door."""

import json

import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.generation import restore
from step_audio_jax.interop import spelling
from tests.generation import test_complete

source, run = test_complete.source, test_complete.run
LETTERS = 'acdegot'
WORDS = 'cat dog goat toad cod date ace dot gate coat'.split()


def spoken(rng, word, jitter=0):
  """Two codes a letter, or a few more or less; code 3 k or 3 k + 1 or + 2."""
  codes = []
  for letter in word:
    times = 2 + rng.integers(-jitter, jitter + 1)
    codes += [3 * LETTERS.index(letter) + rng.integers(3) for _ in range(times)]
  return np.array(codes), word


@pytest.mark.parametrize('jitter', [0, 1])
def test_codes_find_their_letters(jitter):
  rng = np.random.default_rng(0)
  words = [spoken(rng, word, jitter) for word in WORDS for _ in range(20)]
  counts = spelling.count(words, 30, LETTERS)
  assert not counts[21:].any()  # codes that nothing sounds
  found = counts[:21].argmax(1)
  np.testing.assert_array_equal(found, np.arange(21) // 3)
  share = counts[:21].max(1) / counts[:21].sum(1)
  assert share.mean() > 0.9


def test_words_have_the_codes_of_their_time():
  utterance = manifest.Utterance(
    id='a',
    text="It's I",
    audio='a.wav',
    duration=1.0,
    sample_rate=16000,
    words=(("It's", 0.12, 0.36), ('-', 0.36, 0.5), ('I', 0.5, 0.5)),
  )
  codes = {'a': (np.arange(16), np.arange(25))}
  found = dict(spelling.words_of([utterance], codes))
  assert [word for _, word in found.values()] == ['its', 'its']
  np.testing.assert_array_equal(found[0][0], [2, 3, 4, 5])
  np.testing.assert_array_equal(found[1][0], [3, 4, 5, 6, 7, 8])
  assert not list(spelling.words_of([utterance], {}))
  with pytest.raises(errors.UserError, match='no word of it'):
    spelling.spelt_rows(np.zeros((9, 2)), None, [])


def test_the_door_sets_rows_of_codes_alone(run, tmp_path, capsys, monkeypatch):
  base, out = str(tmp_path / 'base'), str(tmp_path / 'start')

  def door(*argv):
    return cli.dispatch('x', doors.DOORS, ['-', *argv])

  given = f'--from={tmp_path}/m.gguf'
  assert door('convert', given, f'--to={base}', '--speech') == 0
  manifest.write(
    tmp_path / 'data',
    [
      manifest.Utterance(
        id='a',
        text='cat',
        audio='a.wav',
        duration=1.0,
        sample_rate=16000,
        words=(('cat', 0.0, 0.24),),
      )
    ],
  )
  codes = {'a': (np.array([7, 7, 9, 9]), np.array([1, 2, 3, 4, 5, 6]))}
  monkeypatch.setattr(speech_codes, 'read_codes', lambda _: codes)
  argv = ['spell', f'--from={base}', f'--to={out}', f'--corpus={tmp_path}/data']
  argv += [f'--codes={tmp_path}/codes', '--alike=<|BOT|>=<|end|>', '--json']
  capsys.readouterr()
  assert door(*argv, '--dry_run') == 0 and not (tmp_path / 'start').exists()
  assert door(*argv) == 0
  told = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert told['rows'] == 2 + 6 and told['alike'] == 1
  _, before, table = restore.load_model(base)
  _, after, _ = restore.load_model(out)
  before, after = (
    np.asarray(v['params']['transformer']['embedding']) for v in (before, after)
  )
  changed = np.flatnonzero((before != after).any(1))
  wanted = [table.linguistic_offset + np.array([7, 9])]
  wanted += [table.semantic_offset + np.arange(1, 7)]
  bot = vocabulary.CONTROL['<|BOT|>']
  np.testing.assert_array_equal(changed, [bot, *np.concatenate(wanted)])
  names = {piece: i for i, (piece, _) in enumerate(table.text.pieces)}
  np.testing.assert_array_equal(after[bot], before[names['<|end|>']])
  # The first code sounds c and perhaps a, no other letter.
  rows = np.stack([before[table.encode_text(c)].mean(0) for c in 'cat'])
  weights, *_ = np.linalg.lstsq(
    rows.T, after[table.linguistic_offset + 7], rcond=None
  )
  assert weights.sum() == pytest.approx(1, abs=1e-3) and weights[2] < 1e-3
  assert door(*argv) == 2
  assert 'or --overwrite' in capsys.readouterr().err
  assert door(*argv, '--overwrite') == 0
  other = [word.replace('start', 'other') for word in argv]
  other[-2] = '--alike=x=y'
  assert door(*other) == 2
  assert 'expected CONTROL=PIECE' in capsys.readouterr().err
  assert door('spell', f'--from={run}', *other[2:]) == 2
  assert 'no speech rows' in capsys.readouterr().err
