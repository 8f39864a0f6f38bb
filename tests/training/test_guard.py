"""The spike guard against a plain Python one."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.training import guard

CONFIG = guard.SpikeConfig(
  factor=3.0, window=5, warmup=3, give_up=9, patience=2
)


@jax.jit
def judge(history, accepted, norm, loss):
  return guard.judge(CONFIG, history, accepted, norm, loss)


def plain(norms, losses):
  """(taken, gradient's factor, skipped or cut in a row) of a guard of lists."""
  kept, out, skipped, cut = [], [], 0, 0
  for norm, loss in zip(norms, losses):
    recent = sorted(kept[-CONFIG.window :])
    median = recent[(len(recent) - 1) // 2] if recent else 0.0
    limit = np.inf
    if len(kept) >= CONFIG.warmup and median > 0:
      limit = np.float32(CONFIG.factor) * np.float32(median)
    finite = bool(np.isfinite(norm) and np.isfinite(loss))
    ordinary = finite and norm <= limit
    spike = finite and not ordinary
    taken = ordinary or spike and (cut > 0 or skipped >= CONFIG.patience)
    skipped = 0 if taken else skipped + 1
    cut = cut + 1 if taken and spike else 0
    if taken:
      kept.append(min(norm, limit))
    out.append(
      (taken, limit / norm if taken and spike else 1.0, skipped or -cut)
    )
  return out


NORM = st.one_of(
  st.floats(0.0, 8.0, width=32),
  st.sampled_from([0.0, 50.0, 60.0, float('nan'), float('inf')]),
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(
  st.lists(st.tuples(NORM, st.sampled_from([1.0, 1.0, np.nan])), max_size=20)
)
def test_the_guard_is_the_plain_one(steps):
  history, accepted, got = guard.empty_history(CONFIG), jnp.int32(0), []
  for norm, loss in steps:
    ok, scale, history, told = judge(
      history, accepted, jnp.float32(norm), jnp.float32(loss)
    )
    accepted += ok.astype(jnp.int32)
    verdict = guard.read(told)
    got.append((bool(ok), float(scale), verdict.in_a_row))
    assert verdict.taken == bool(ok)
    assert verdict.skipped == sum(not taken for taken, _, _ in got)
    # A gradient that is taken is never longer than an ordinary one.
    assert not ok or float(scale) * norm <= verdict.limit * (1 + 1e-6)
  expected = plain([norm for norm, _ in steps], [loss for _, loss in steps])
  assert [(t, n) for t, _, n in got] == [(t, n) for t, _, n in expected]
  np.testing.assert_allclose(
    [s for _, s, _ in got], [s for _, s, _ in expected], rtol=1e-6
  )
  assert int(accepted) == sum(taken for taken, _, _ in got)


def walk(norms):
  """Which of the steps are taken."""
  return [taken for taken, _, _ in plain(norms, [1.0] * len(norms))]


def test_single_bad_batches_do_nothing():
  assert walk([1, 1, 1, 50, 1, 50, 50, 1]) == [
    True, True, True, False, True, False, False, True,
  ]  # fmt: skip


def test_a_sharp_point_is_left():
  """Batch after batch spikes: the third is taken, and all behind it."""
  assert walk([1, 1, 1, *[50] * 4, 1, 50]) == [
    *[True] * 3, False, False, True, True, True, False,
  ]  # fmt: skip


def test_one_bad_batch_at_a_sharp_point_does_not_end_the_run():
  """Only skipped steps count towards `give_up`, not those that were cut."""
  config = guard.SpikeConfig(warmup=8, window=64)
  history, accepted = guard.empty_history(config), jnp.int32(0)
  verdicts = []
  for norm in [1.0] * 50 + [50.0] * 20 + [np.nan, 50.0, 1.0]:
    ok, _, history, told = guard.judge(
      config, history, accepted, jnp.float32(norm), jnp.float32(1.0)
    )
    accepted += ok.astype(jnp.int32)
    verdicts.append(guard.read(told))
  assert not any(guard.must_stop(config, verdict) for verdict in verdicts)
  assert [v.in_a_row for v in verdicts[50:54]] == [1, 2, 3, -1]
  assert [v.in_a_row for v in verdicts[-4:]] == [-17, 1, 2, 0]
  assert verdicts[-1].skipped == 5


def test_what_is_not_finite_is_never_taken():
  assert walk([1, 1, 1, *[np.nan] * 12]) == [*[True] * 3, *[False] * 12]
  told = guard.Verdict(12, 9, float('nan'), 3.0, taken=False)
  assert guard.must_stop(CONFIG, told)
  assert not guard.must_stop(CONFIG, told._replace(in_a_row=8))
  assert not guard.must_stop(CONFIG, told._replace(taken=True))


def test_a_level_that_creeps_up_is_followed():
  norms = [1.05**i for i in range(100)]
  assert all(walk(norms))
  history, accepted = guard.empty_history(CONFIG), jnp.int32(0)
  for norm in norms:
    ok, _, history, _ = judge(
      history, accepted, jnp.float32(norm), jnp.float32(1)
    )
    accepted += 1
    assert ok
  limit = guard.norm_limit(CONFIG, history, accepted)
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
  told = guard.read(np.array([3.0, 2.0, norm, limit, 0.0], np.float32))
  assert guard.reason(told) == words and told.skipped == 3


def test_giving_up_names_step_and_rows():
  class Feed:
    def row_ids(self, step):
      return [f'a/{step}', 'b/2']

  verdict = guard.Verdict(7, 5, float('nan'), 1.0, False)
  text = str(guard.stop_error(41, verdict, Feed()))
  assert text.startswith('step 41: skipped, the last of 5 in a row')
  assert 'found the rows a/40, b/2. To pass over more batches raise' in text
  assert 'found another. To' in str(guard.stop_error(41, verdict, object()))


def test_of_a_sharp_point_the_first_cut_step_is_told():
  def said(in_a_row, taken):
    verdict = guard.Verdict(2, in_a_row, 55.0, 5.0, taken)
    return guard.notice(CONFIG, 9, verdict)

  assert said(0, True) == ''
  assert said(2, False).startswith('warning: step 9 is skipped: its gradient')
  assert said(-1, True).startswith('note: from step 9 on gradients are cut to ')
  assert '2 batches in a row had more (55 now)' in said(-1, True)
  assert said(-2, True) == ''


@pytest.mark.parametrize(
  'wrong, words',
  [
    ({'factor': 1.0}, 'factor is 1.0, expected more than 1'),
    ({'window': 3, 'warmup': 4}, 'warmup is 4, expected 1 to window'),
    ({'give_up': 0}, 'give_up is 0'),
    ({'patience': -1}, 'patience is -1'),
  ],
)
def test_numbers_without_sense_are_refused(wrong, words):
  with pytest.raises(errors.UserError, match=words):
    guard.SpikeConfig(**wrong)
