"""Levels that separate, against closed forms."""

import json
import math

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.styles import separation as separation_lib

separation = separation_lib.separation


def test_steps_are_in_pooled_standard_errors():
  # Variances 1 and 4 of three and four values, means as medians.
  one, two = [1.0, 2.0, 3.0], [3.0, 7.0, 5.0, 5.0]
  pooled = (2 * 1.0 + 3 * (8 / 3)) / 5
  wanted = 3.0 / math.sqrt(pooled * (1 / 3 + 1 / 4))
  found = separation({1: one, 2: two})
  assert found.steps == (pytest.approx(wanted),)
  assert (found.levels, found.counts) == ((1, 2), (3, 4))
  assert found.medians == (2.0, 5.0)
  assert found.quartiles[0] == (1.5, 2.5)
  assert found.ordered and found.separate


def test_equal_spread_is_the_usual_form():
  rng = np.random.default_rng(0)
  noise = rng.normal(size=30)
  noise -= np.median(noise)
  found = separation({k: 0.5 * k + noise for k in (2, -2, 0)})
  wanted = 1.0 / (noise.std(ddof=1) * math.sqrt(2 / 30))
  assert found.levels == (-2, 0, 2)
  np.testing.assert_allclose(found.steps, [wanted, wanted])


def test_order_and_separation_are_two_things():
  close = separation({0: [0.0, 1.0], 1: [0.1, 1.1]})
  assert close.ordered and not close.separate
  falling = separation({0: [2.0, 2.1], 1: [1.0, 1.1], 2: [3.0, 3.1]})
  assert not falling.ordered and not falling.separate
  assert falling.steps[0] < 0 < falling.steps[1]
  same = separation({0: [1.0, 1.0], 1: [1.0, 1.0]})
  assert same.steps == (0.0,) and not same.ordered


def test_without_spread_a_step_is_infinite():
  found = separation({0: [1.0, 1.0], 1: [2.0, 2.0], 2: [1.5, 1.5]})
  assert found.steps == (math.inf, -math.inf)
  value = found.to_json()
  assert value['steps'] == [None, None]
  assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_what_was_not_computed_is_left_out():
  found = separation({0: [1.0, None, 2.0], 1: [4.0, 5.0]})
  assert found.counts == (2, 2)


@pytest.mark.parametrize(
  'measured, message',
  [
    ({}, 'speed: found 0 levels, expected at least two'),
    ({1: [1.0, 2.0]}, 'speed: found 1 level, expected'),
    ({1: [1.0, 2.0], 2: [1.0, None]}, 'speed: level 2 has 1 measurements'),
    ({1: [1.0, math.nan], 2: [1.0, 2.0]}, 'speed: level 1: found nan'),
  ],
)
def test_what_cannot_be_compared(measured, message):
  with pytest.raises(errors.UserError, match=message):
    separation(measured, 'speed')
