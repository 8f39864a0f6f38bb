"""The tokenizer comparison's own logic: toy sizes, our side, no torch."""

import json

import numpy as np
import pytest

from benchmarks.tokenizers import tokenizer
from tests.benchmarks import scripts

speech_peers = tokenizer.speech_peers


def run(*flags):
  return scripts.run('tokenizers/tokenizer', *flags)


def test_our_side_runs_without_torch():
  flags = (
    '--what=semantic',
    '--tiny',
    '--no_peer',
    '--rounds=2',
    '--threads=1',
  )
  done = run(*flags)
  assert done.returncode == 0, done.stderr
  result = json.loads(done.stdout.splitlines()[-1])
  assert result['what'] == 'semantic' and 'ratio' not in result
  assert result['ours_times_real_time'] > 0 and result['distinct_codes'] > 1


def test_a_live_session_compiles_nothing_after_warm_up():
  done = run('--what=streaming', '--tiny', '--no_peer', '--threads=1')
  assert done.returncode == 0, done.stderr
  result = json.loads(done.stdout.splitlines()[-1])
  assert result['chunks'] == 12 and result['compiled_after_warm_up'] == 0
  assert all(ms > 0 for ms in result['ms_per_chunk'])


def test_help_is_the_docstring():
  done = run('--help')
  assert (
    'python benchmarks/tokenizers/tokenizer.py --what=linguistic' in done.stdout
  )


def test_sides_that_differ_are_refused():
  def answers(codes):
    return [{'value': [codes]}]

  same = {'ours': answers([1, 2]), 'peer': answers([1, 2])}
  assert tokenizer.agreement(same)['equal_codes'] == 1.0
  other = {'ours': answers([1, 2]), 'peer': answers([1, 3])}
  with pytest.raises(SystemExit, match=r'50\.00% of the codes are equal'):
    tokenizer.agreement(other)


def test_valid_codes_of_rows_and_pieces_are_joined():
  codes = np.arange(12).reshape(2, 2, 3)
  assert tokenizer.flat(codes, np.array([[3, 1], [2, 0]])) == [0, 1, 2, 3, 6, 7]
  assert tokenizer.flat(codes[0], np.array([2, 1])) == [0, 1, 3]


def test_sound_is_the_same_on_both_sides_and_fills_the_range():
  one, two = (speech_peers.sound(0.5, 2, 7) for _ in range(2))
  np.testing.assert_array_equal(one, two)
  assert one.shape == (2, 8000) and one.dtype == np.float32
  np.testing.assert_allclose(np.abs(one).max(axis=1), 0.999, rtol=1e-6)
  assert (one != speech_peers.sound(0.5, 2, 8)).any()


def test_weights_depend_on_the_seed_and_start_norms_at_one():
  shapes = {'encoder.a.norm1.weight': (400,), 'encoder.b.weight': (8, 100)}
  found = speech_peers.weights(shapes)
  assert abs(found['encoder.a.norm1.weight'].mean() - 1) < 0.05
  assert abs(found['encoder.b.weight'].std() - 0.1) < 0.02
