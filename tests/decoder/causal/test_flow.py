"""The causal flow: causality, streams against one-shot, flat cost."""

import functools
import itertools
import time

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.causal import flow
from step_audio_jax.decoder.causal import layout
from step_audio_jax.decoder.causal import stream as causal_stream
from step_audio_jax.decoder.flow import matching
from step_audio_jax.models.causal_flow import causal_flow as model_lib
from tests import compilations
from tests.decoder.causal import tiny_causal

CONFIG, STEPS = tiny_causal.CONFIG, tiny_causal.STEPS
GROUPS = 7  # 21 steps, 42 frames; with a prompt in the first bucket
FIRST, LATER = CONFIG.chunks


def stream(*voices, **settings):
  return causal_stream.CausalFlowStream(
    tiny_causal.decoder(), voices, steps=STEPS, **settings
  )


@functools.cache
def expected(groups, prompt, seed=0):
  return tiny_causal.one_shot(
    tiny_causal.ids(groups), tiny_causal.voice(prompt), seed
  )


def pushed(live, tokens, sizes):
  """Frames of each push, with the sizes of the pieces going round."""
  out, begin = [], 0
  for size in itertools.cycle(sizes):
    end = min(len(tokens), begin + size)
    out.append(live.push(tokens[begin:end], final=end == len(tokens)))
    begin = end
    if end == len(tokens):
      return out


# --- the schedule of chunks ---------------------------------------------------


def test_chunks_follow_the_schedule():
  ends = layout.chunk_ends(CONFIG, 14)
  wanted = [(0, 2)] * 2 + [(2, 7)] * 5 + [(7, 12)] * 5 + [(12, 17)] * 2
  np.testing.assert_array_equal(ends, wanted)


def test_a_chunk_goes_out_when_its_look_ahead_is_known():
  live = stream(tiny_causal.voice(0))
  tokens, frames = tiny_causal.ids(4), []
  for number in range(20):
    frames.append(len(live.push(tokens[number : number + 1])))
  # Steps come three a group; 2 + 3 are there with the second group, 7 + 3
  # with the fourth.
  wanted = [0] * 20
  wanted[9], wanted[19] = 4, 10
  assert frames == wanted
  rest = live.push((), final=True)
  assert len(rest) == 2 * (12 - 7)


# --- streams are the one-shot mel ---------------------------------------------


@pytest.mark.parametrize('prompt', [0, 3, 7])
def test_a_stream_is_the_one_shot_mel(prompt):
  """Prompts shorter and longer than what is used of them."""
  tokens = tiny_causal.ids(GROUPS)
  wanted = expected(GROUPS, prompt)
  assert wanted.shape == (6 * GROUPS, CONFIG.bands)
  assert np.isfinite(wanted).all() and wanted.std() > 0.3
  got = np.concatenate(pushed(stream(tiny_causal.voice(prompt)), tokens, [7]))
  np.testing.assert_allclose(got, wanted, atol=1e-4)
  assert np.abs(got - wanted).max() < 1e-5


@hypothesis.settings(max_examples=12)
@hypothesis.given(
  groups=st.integers(1, GROUPS),
  prompt=st.sampled_from([0, 2]),
  sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6),
)
def test_any_pieces_of_any_length_give_it(groups, prompt, sizes):
  live = stream(tiny_causal.voice(prompt))
  got = pushed(live, tiny_causal.ids(groups), [*sizes, 5])
  np.testing.assert_allclose(
    np.concatenate(got), expected(groups, prompt), atol=1e-4
  )


def test_rows_do_not_know_each_other():
  """Other voices, lengths and pieces; one row begins anew in between."""
  voices = [tiny_causal.voice(0), tiny_causal.voice(3)]
  live = stream(*voices, seeds=[4, 5])
  plans = {0: [2, 6], 1: [GROUPS]}
  wanted = {
    row: [
      tiny_causal.one_shot(tiny_causal.ids(n, n), voices[row], 4 + row)
      for n in plan
    ]
    for row, plan in plans.items()
  }
  left = {
    row: [[list(tiny_causal.ids(n, n)) for n in plan], []]
    for row, plan in plans.items()
  }
  rng = np.random.default_rng(0)
  while any(queue for queue, _ in left.values()):
    tokens, final = {}, set()
    for row, (queue, _) in left.items():
      if not queue or rng.random() < 0.3:
        continue
      size = int(rng.integers(0, 14))
      tokens[row], queue[0] = queue[0][:size], queue[0][size:]
      if not queue[0]:
        final.add(row)
        queue.pop(0)
    for row, mel in live.push_rows(tokens, final).items():
      left[row][1].append(mel)
  for row, (_, got) in left.items():
    np.testing.assert_allclose(
      np.concatenate(got), np.concatenate(wanted[row]), atol=1e-4
    )


def test_seeds():
  tokens, who = tiny_causal.ids(5), tiny_causal.voice(3)
  live = stream(who, seeds=[8])
  first = live.push(tokens, final=True)
  live.set_seed(9)
  second = live.push(tokens, final=True)
  for got, seed in ((first, 8), (second, 9)):
    wanted = tiny_causal.one_shot(tokens, who, seed)
    np.testing.assert_allclose(got, wanted, atol=1e-4)
  assert np.abs(first - second).max() > 0.1


# --- causality ----------------------------------------------------------------


@pytest.mark.parametrize('changed', [2, 4, 6])
def test_what_comes_later_than_the_look_ahead_changes_nothing(changed):
  """Groups from `changed` on are others; frames before them come out equal."""
  tokens, who = tiny_causal.ids(GROUPS), tiny_causal.voice(3)
  other = tokens.copy()
  other[5 * changed :] = tiny_causal.ids(GROUPS, 77)[5 * changed :]
  wanted = tiny_causal.one_shot(tokens, who)
  got = tiny_causal.one_shot(other, who)
  # Chunks that end, with their look-ahead, before the first changed step.
  ends = layout.chunk_ends(CONFIG, 3 * GROUPS)[:, 1]
  safe = int(ends[ends + CONFIG.look_ahead <= 3 * changed].max())
  np.testing.assert_array_equal(got[: 2 * safe], wanted[: 2 * safe])
  assert np.abs(got[2 * safe :] - wanted[2 * safe :]).max() > 1e-2
  live = stream(who)
  early = live.push(tokens[: 5 * changed])
  assert len(early) == 2 * safe
  np.testing.assert_allclose(early, got[: 2 * safe], atol=1e-5)


def test_the_whole_utterance_may_be_in_sight():
  tokens, who = tiny_causal.ids(GROUPS), tiny_causal.voice(3)
  other = tokens.copy()
  other[-1] = 1024 + (other[-1] - 1023) % 4096
  one, two = (
    tiny_causal.one_shot(given, who, whole=True) for given in (tokens, other)
  )
  assert np.abs(one[:4] - two[:4]).max() > 1e-6
  assert np.abs(one - expected(GROUPS, 3)).max() > 1e-2


def test_the_past_beyond_the_window_is_not_attended_to():
  """A single block, so that nothing comes through others."""
  place = np.arange(40)[None]
  begin = place // 4 * 4
  masks = model_lib.full_masks(
    CONFIG, place, np.full((1, 40), 2), begin - CONFIG.step_window, begin + 4
  )
  visible = np.asarray(masks[1].visible_BTS[0])
  for frame in (0, 9, 50, 79):
    keys = np.flatnonzero(visible[frame])
    chunk = frame // 8 * 8
    assert keys.min() == max(0, chunk - CONFIG.window)
    assert keys.max() == chunk + 7


# --- noise, guidance, prompts -------------------------------------------------


def test_noise_is_an_input_and_counts_frames():
  tokens, who = tiny_causal.ids(4), tiny_causal.voice(2)
  pieces = flow.Noise(3, CONFIG.bands)
  target = np.concatenate([pieces.next(n) for n in (5, 0, 19)])
  np.testing.assert_array_equal(target, flow.Noise(3, CONFIG.bands).next(24))
  noise = [flow.prompt_noise(12, CONFIG.bands), target]
  got = tiny_causal.one_shot(tokens, who, noise_TM=np.concatenate(noise))
  np.testing.assert_array_equal(got, tiny_causal.one_shot(tokens, who, 3))


def test_the_solver_written_out():
  """Euler steps of guided velocities, with dense conditions, in numpy."""
  decoder, who = tiny_causal.decoder(), tiny_causal.voice(2)
  tokens = tiny_causal.ids(3)
  given, total = 6, 6 + 9
  pairs = np.concatenate(
    [layout.steps_of(part, CONFIG) for part in (who.tokens, tokens)]
  )
  place = np.arange(total, dtype=np.int32)[None] - given
  segment = np.where(place < 0, 1, 2).astype(np.int32)
  ends = layout.chunk_ends(CONFIG, 9)
  first, end = np.zeros((2, 1, total), np.int32)
  first[0, given:] = ends[:, 0] - CONFIG.step_window
  end[0, given:] = ends[:, 1]
  masks = model_lib.full_masks(CONFIG, place, segment, first, end)
  condition = np.zeros((1, 2 * total, CONFIG.bands), np.float32)
  condition[0, : 2 * given] = who.mel_TM
  x = np.random.default_rng(5).normal(size=condition.shape).astype(np.float32)
  noise = x[0]
  # The module as it is trained, parameters in one piece.
  model = model_lib.CausalFlow(CONFIG)
  velocity = jax.jit(model.apply)
  spans = matching.schedule(STEPS)
  for t, dt in zip(spans, np.diff(spans)):
    with_all, with_none = (
      np.asarray(
        velocity(
          {'params': tiny_causal.params()},
          pairs[None],
          segment,
          masks,
          who.speaker_D[None],
          condition,
          x,
          np.array([t]),
          np.array([kept]),
        )
      )
      for kept in (True, False)
    )
    x = x + dt * (1.7 * with_all - 0.7 * with_none)
  got = tiny_causal.one_shot(tokens, who, noise_TM=noise)
  np.testing.assert_allclose(got, x[0, 2 * given :], atol=2e-5)
  assert decoder.config.guidance == 0.7


def test_a_long_prompt_is_its_end():
  """Nine steps are used of it, whatever was before."""
  long, tokens = tiny_causal.voice(7), tiny_causal.ids(4)
  short = type(long)(long.tokens[-15:], long.mel_TM[-18:], long.speaker_D)
  np.testing.assert_array_equal(
    tiny_causal.one_shot(tokens, long), tiny_causal.one_shot(tokens, short)
  )


def test_a_prompt_is_cut_to_what_ids_and_mel_have():
  ids, who = tiny_causal.ids(3), tiny_causal.voice(3, more_frames=7)
  prompt = layout.prompt(CONFIG, ids, who.mel_TM, who.speaker_D)
  assert len(prompt.ids_S2) == 9 and len(prompt.mel_TM) == 18
  prompt = layout.prompt(CONFIG, ids, who.mel_TM[:15], who.speaker_D)
  assert len(prompt.ids_S2) == 7
  np.testing.assert_array_equal(prompt.mel_TM, who.mel_TM[:14])


# --- cost ---------------------------------------------------------------------


def test_a_minute_costs_what_it_costs_at_first():
  """Nothing is compiled after warm-up, no state grows, no frame is missing."""
  live = stream(tiny_causal.voice(3))
  with compilations.Compilations() as before:
    jax.jit(lambda x: x + 43)(np.float32(1.0))
  assert before.messages  # the count does count
  live.warm_up()
  tokens = tiny_causal.ids(500)  # 60 s
  seconds, sizes, count = [], set(), 0
  with compilations.Compilations() as during:
    for begin in range(0, len(tokens), 25):
      start = time.perf_counter()
      count += len(
        live.push(tokens[begin : begin + 25], final=begin + 25 >= len(tokens))
      )
      seconds.append(time.perf_counter() - start)
      sizes.add(sum(x.nbytes for x in jax.tree.leaves(live._memory)))
  assert not during.messages
  assert len(sizes) == 1
  assert count == 6 * 500
  # The fastest of many: what other programs take is not in it.
  assert min(seconds[-40:]) < 2 * min(seconds[:40])


# --- what is refused ----------------------------------------------------------

SPEAKER = np.ones(CONFIG.speaker_size, np.float32)


@pytest.mark.parametrize(
  'tokens, pattern',
  [
    ([], 'tokens: found none'),
    ([0, 1, 1024, 1025], 'found 4 ids, expected a multiple of 5'),
    ([0, 1, 1024, 1025, 1023], 'id 1023 at place 4, expected a semantic one'),
    ([0, 1024, 1, 1025, 1026], 'id 1024 at place 1, expected a linguistic'),
    ([0, 1, 1024, 1025, 5120], 'id 5120 at place 4, .*1024..5119'),
    ([-1, 1, 1024, 1025, 1026], 'id -1 at place 0, .*0..1023'),
    ([0.0, 1.0, 1024.0], 'of float64, expected integers'),
    ([[0, 1]], r'array \(1, 2\)'),
  ],
)
def test_bad_ids(tokens, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    tiny_causal.decoder().mel(tokens, speaker_D=SPEAKER)


@pytest.mark.parametrize(
  'settings, pattern',
  [
    ({'speaker_D': np.ones(4)}, r'embedding \(4,\), expected \(5,\)'),
    ({'speaker_D': SPEAKER * np.nan}, 'numbers not finite'),
    ({'prompt_mel_TM': np.ones((18, 7))}, r'\(18, 7\), expected \(frames, 6\)'),
    ({'prompt_mel_TM': np.full((18, 6), np.nan)}, 'prompt mel: it has numbers'),
    ({'prompt_mel_TM': None}, '0.36 s, its mel 0.00 s'),
    ({'prompt_mel_TM': np.ones((60, 6))}, '0.36 s, its mel 1.20 s'),
    ({'prompt_tokens': [3, 4]}, 'prompt tokens: found 2 ids'),
    ({'prompt_tokens': [3, 1024, 1024]}, 'prompt tokens: id 1024 at place 1'),
  ],
)
def test_bad_voices(settings, pattern):
  good = {
    'prompt_tokens': tiny_causal.ids(3),
    'prompt_mel_TM': np.ones((18, 6), np.float32),
    'speaker_D': SPEAKER,
  }
  with pytest.raises(errors.UserError, match=pattern):
    tiny_causal.decoder().mel(tiny_causal.ids(2), **{**good, **settings})


def test_bad_ids_move_no_row():
  live = stream(tiny_causal.voice(0), tiny_causal.voice(2))
  tokens = tiny_causal.ids(6)
  first = live.push_rows({0: tokens[:13], 1: tokens[:3]})
  with pytest.raises(errors.UserError, match='row 1: id 9999 at place 3, '):
    live.push_rows({0: tokens[13:], 1: [9999]})
  with pytest.raises(errors.UserError, match='row 1: found 4 ids.*multiple'):
    live.push_rows({0: tokens[13:], 1: tokens[3:4]}, final=(0, 1))
  rest = live.push_rows({0: tokens[13:], 1: tokens[3:]}, final=(0, 1))
  for row, prompt in ((0, 0), (1, 2)):
    wanted = tiny_causal.one_shot(tokens, tiny_causal.voice(prompt))
    got = np.concatenate([first[row], rest[row]])
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_an_empty_utterance_is_no_frames():
  live = stream(tiny_causal.voice(0))
  mel = live.push((), final=True)
  assert mel.shape == (0, CONFIG.bands) and mel.dtype == np.float32


def test_streams_are_checked():
  with pytest.raises(errors.UserError, match='voices: found none'):
    stream()
  with pytest.raises(errors.UserError, match='seeds: found 2'):
    stream(tiny_causal.voice(0), seeds=[1, 2])
  two = stream(tiny_causal.voice(0), tiny_causal.voice(0))
  with pytest.raises(ValueError, match='use push_rows'):
    two.push([])


@pytest.mark.parametrize(
  'mel, pattern',
  [
    (vocoder_mel.VocoderMel(bands=6), '256 samples of 22050 Hz, expected 50'),
    (flow.MEL, 'the mel has 80 bands, expected 6'),
  ],
)
def test_the_mel_must_be_its_own(mel, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    flow.CausalFlowDecoder(CONFIG, tiny_causal.params(), mel)
