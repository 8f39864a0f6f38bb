"""The spike guard against a plain Python one."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.training import guard

CONFIG = guard.SpikeConfig(factor=3.0, window=5, warmup=3, give_up=2)


@jax.jit
def judge(history, accepted, norm, loss):
  return guard.judge(CONFIG, history, accepted, norm, loss)


def plain(norms, losses):
  """Which steps a guard written with lists accepts."""
  kept, out = [], []
  for norm, loss in zip(norms, losses):
    recent = sorted(kept[-CONFIG.window :])
    median = recent[(len(recent) - 1) // 2] if recent else 0.0
    spike = (
      len(kept) >= CONFIG.warmup
      and median > 0
      and norm > np.float32(CONFIG.factor) * np.float32(median)
    )
    ok = bool(np.isfinite(norm) and np.isfinite(loss) and not spike)
    if ok:
      kept.append(norm)
    out.append(ok)
  return out


NORM = st.one_of(
  st.floats(0.0, 8.0, width=32),
  st.sampled_from([0.0, 50.0, float('nan'), float('inf')]),
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(
  st.lists(st.tuples(NORM, st.sampled_from([1.0, np.nan])), max_size=20)
)
def test_the_guard_is_the_plain_one(steps):
  norms = [norm for norm, _ in steps]
  losses = [loss for _, loss in steps]
  history, accepted, got, rows = guard.empty(CONFIG), jnp.int32(0), [], 0
  for norm, loss in steps:
    ok, history, told = judge(
      history, accepted, jnp.float32(norm), jnp.float32(loss)
    )
    accepted += ok.astype(jnp.int32)
    got.append(bool(ok))
    rows = 0 if ok else rows + 1
    verdict = guard.read(told)
    assert verdict.in_a_row == rows
    assert verdict.skipped == got.count(False)
  assert got == plain(norms, losses)
  assert int(accepted) == got.count(True)


def test_a_level_that_creeps_up_is_followed():
  norms = [1.05**i for i in range(100)]
  assert all(plain(norms, [1.0] * 100))
  history, accepted = guard.empty(CONFIG), jnp.int32(0)
  for norm in norms:
    ok, history, _ = judge(history, accepted, jnp.float32(norm), jnp.float32(1))
    accepted += 1
    assert ok
  limit = guard.limit_of(CONFIG, history, accepted)
  assert float(limit) == pytest.approx(3 * norms[-3], rel=1e-5)


@pytest.mark.parametrize(
  'norm, limit, words',
  [
    (np.nan, np.inf, 'its gradient norm is nan'),
    (30.0, 4.0, 'its gradient norm is 30, expected at most 4'),
    (1.0, 4.0, 'its loss is not finite'),
  ],
)
def test_the_reason_is_told(norm, limit, words):
  told = guard.read(np.array([3.0, 2.0, norm, limit], np.float32))
  assert guard.reason(told) == words and told.skipped == 3


def test_giving_up_names_step_and_rows():
  class Feed:
    def row_ids(self, step):
      return [f'a/{step}', 'b/2']

  verdict = guard.Verdict(7, 5, float('nan'), 1.0)
  text = str(guard.give_up(41, verdict, Feed()))
  assert text.startswith('step 41: skipped, the last of 5 in a row')
  assert text.endswith('found the rows a/40, b/2.')
  assert str(guard.give_up(41, verdict, object())).endswith('found another.')


@pytest.mark.parametrize(
  'wrong, words',
  [
    ({'factor': 1.0}, 'factor is 1.0, expected more than 1'),
    ({'window': 3, 'warmup': 4}, 'warmup is 4, expected 1 to window'),
    ({'give_up': 0}, 'give_up is 0'),
  ],
)
def test_numbers_without_sense_are_refused(wrong, words):
  with pytest.raises(errors.UserError, match=words):
    guard.SpikeConfig(**wrong)
