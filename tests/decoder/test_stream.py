"""Live speech: the wave of the one-shot mel, soon, whatever the pieces."""

import itertools

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder import stream as stream_lib
from step_audio_jax.decoder.causal import flow
from step_audio_jax.decoder.vocoder import vocoder
from tests import compilations
from tests.decoder import tiny_decoder
from tests.decoder.causal import test_flow as causal_test
from tests.decoder.causal import tiny_causal

HOP = tiny_causal.MEL.hop
CHUNK = 3  # of the vocoder, in frames


def speech(*voices, **settings):
  return stream_lib.SpeechStream(
    tiny_causal.decoder(),
    tiny_causal.hift_vocoder(),
    voices,
    steps=tiny_causal.STEPS,
    chunk=CHUNK,
    **settings,
  )


def one_shot(groups, prompt, seed=0):
  mel = tiny_causal.one_shot(
    tiny_causal.ids(groups), tiny_causal.voice(prompt), seed
  )
  return tiny_causal.hift_vocoder().wave(mel, seed=seed)


def pushed(live, tokens, sizes):
  return np.concatenate(causal_test.pushed(live, tokens, sizes))


@pytest.mark.parametrize(
  'groups, prompt, sizes', [(1, 0, [5]), (4, 3, [1, 0, 3]), (7, 0, [17, 30])]
)
def test_the_wave_is_that_of_the_whole(groups, prompt, sizes):
  live = speech(tiny_causal.voice(prompt), seeds=[6])
  wanted = one_shot(groups, prompt, 6)
  assert len(wanted) == 6 * groups * HOP and wanted.std() > 1e-3
  for _ in range(2):  # a stream begins anew behind its end
    got = pushed(live, tiny_causal.ids(groups), sizes)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_the_first_chunk_speaks_at_once():
  """Two steps and the look-ahead are four frames: one of them waits."""
  live, tokens = speech(tiny_causal.voice(0)), tiny_causal.ids(3)
  assert not len(live.push(tokens[:9]))
  assert len(live.push(tokens[9:10])) == CHUNK * HOP


def test_rows_end_at_other_times():
  plans = {0: (2, 1), 1: (7, 2)}
  live = speech(
    *(tiny_causal.voice(prompt) for _, prompt in plans.values()), seeds=[2, 3]
  )
  assert live.rows == 2 and live.sample_rate == 24000
  left = {row: tiny_causal.ids(groups) for row, (groups, _) in plans.items()}
  got = {row: [] for row in plans}
  for size in itertools.cycle([4, 11]):
    now = {row: ids[:size] for row, ids in left.items() if len(ids)}
    left = {row: ids[size:] for row, ids in left.items()}
    final = [row for row in now if not len(left[row])]
    for row, wave in live.push_rows(now, final).items():
      got[row].append(wave)
    if not any(map(len, left.values())):
      break
  for row, (groups, prompt) in plans.items():
    wanted = one_shot(groups, prompt, 2 + row)
    np.testing.assert_allclose(np.concatenate(got[row]), wanted, atol=1e-4)


def test_nothing_is_compiled_after_warm_up():
  live = speech(tiny_causal.voice(3))
  live.warm_up()
  with compilations.Compilations() as during:
    pushed(live, tiny_causal.ids(8), [7])
    pushed(live, tiny_causal.ids(2), [4])
  assert not during.messages


def test_without_a_vocoder_pieces_are_put_together():
  live = stream_lib.SpeechStream(
    tiny_causal.decoder(),
    vocoder.GriffinLim(tiny_causal.MEL, rounds=2),
    [tiny_causal.voice(0)],
    steps=tiny_causal.STEPS,
  )
  live.warm_up()
  got = pushed(live, tiny_causal.ids(3), [10])
  assert len(got) == 18 * HOP and np.isfinite(got).all()


def test_a_vocoder_of_another_mel_is_refused():
  with pytest.raises(
    errors.UserError, match='vocoder: sample_rate of griffin-lim is 8000, expec'
  ):
    stream_lib.SpeechStream(
      tiny_causal.decoder(),
      vocoder.GriffinLim(tiny_decoder.MEL),
      [tiny_causal.voice(0)],
    )


def test_broken_weights_make_no_noise():
  params = {**tiny_causal.params()}
  params['last'] = {
    k: np.full_like(v, np.nan) for k, v in params['last'].items()
  }
  live = stream_lib.SpeechStream(
    flow.CausalFlowDecoder(tiny_causal.CONFIG, params, tiny_causal.MEL),
    tiny_causal.hift_vocoder(),
    [tiny_causal.voice(0)],
    steps=tiny_causal.STEPS,
  )
  with pytest.raises(errors.UserError, match='a mel that is not finite'):
    live.push(tiny_causal.ids(3), final=True)


def test_many_rows_are_pushed_as_rows():
  live = speech(tiny_causal.voice(2), tiny_causal.voice(1))
  with pytest.raises(ValueError, match='use push_rows'):
    live.push([])
