"""Rows that come and go against rows that begin and end together."""

import functools

import jax
import numpy as np
import pytest

from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import queue
from step_audio_jax.generation import repetition
from step_audio_jax.generation import rows as rows_lib
from step_audio_jax.generation import sampling
from tests.generation import test_decode

State = grammar_lib.State
COUNT, BATCH, LONGEST = 40, 16, 150


@functools.cache
def prompts():
  rng = np.random.default_rng(3)
  lengths = np.exp(rng.uniform(0, np.log(220), COUNT)).astype(int)
  return test_decode.prompts(3, lengths.tolist())


def asked(**changes):
  limits = np.random.default_rng(4).integers(0, LONGEST, COUNT).tolist()
  return {
    'max_new_tokens': limits,
    'grammar': test_decode.GRAMMAR,
    'start': [State.TEXT, State.SPEECH, State.FREE, State.TEXT] * (COUNT // 4),
    'stop_ids': (test_decode.EOT, *range(20, 24)),
    **changes,
  }


@pytest.mark.parametrize(
  'sampler',
  [
    sampling.Sampler(),
    sampling.Sampler(
      1.0, top_p=0.9, repetition=repetition.Repetition(4, 0.3, 'forbid')
    ),
  ],
)
def test_outputs_are_those_of_one_batch(sampler):
  model, variables = test_decode.tiny('rope')
  both = [
    decode.generate_outputs(
      model,
      variables,
      prompts(),
      sampler=sampler,
      shapes=decode.Shapes(batch_size=size),
      **asked(),
    )
    for size in (BATCH, COUNT)
  ]
  lengths = set()
  for one, other in zip(*both, strict=True):
    assert one.tokens.tolist() == other.tokens.tolist()
    assert one.stopped == other.stopped
    np.testing.assert_allclose(one.logprobs, other.logprobs, 1e-4, 1e-4)
    lengths.add(len(one.tokens))
  assert len(lengths) > 8 and max(lengths) > 40


def test_rings_grow_and_batches_shrink(monkeypatch):
  seen = []
  turns = rows_lib.turns

  def watched(model, variables, rows, *rest, **keywords):
    seen.append((len(rows.live_B), rows.cache['positions'].shape[1]))
    return turns(model, variables, rows, *rest, **keywords)

  monkeypatch.setattr(rows_lib, 'turns', watched)
  model, variables = test_decode.tiny('rope')
  decode.generate(
    model,
    variables,
    prompts(),
    shapes=decode.Shapes(batch_size=BATCH),
    **asked(),
  )
  assert {rows for rows, _ in seen} == {BATCH, BATCH // 2}
  places = [places for _, places in seen]
  assert places[0] < max(places) <= queue._ring(220 + LONGEST)


def test_row_settings_draw_what_a_sampler_draws():
  rng = np.random.default_rng(0)
  logits_BV = rng.normal(size=(6, 40)).astype(np.float32)
  logits_BV[:, 7] = sampling.FORBIDDEN
  keys_B = jax.random.split(jax.random.key(1), 6)
  rule = repetition.Repetition(6, 0.2)
  samplers = [
    sampling.Sampler(),
    sampling.Sampler(1.0),
    sampling.Sampler(0.7, top_k=3),
    sampling.Sampler(1.3, top_p=0.6),
    sampling.Sampler(1.0, top_k=9, top_p=0.8, repetition=rule),
    sampling.Sampler(repetition=rule),
  ]
  together = sampling.RowSampler.of(samplers, rule)
  recent_BR = np.tile(np.argmax(logits_BV, axis=1)[:, None], (1, rule.reach))
  classes_V = np.ones(40, np.int32)
  for draw in range(25):
    keys_B = jax.random.split(jax.random.key(draw), 6)
    plain = np.asarray(together(logits_BV, keys_B))
    ruled = np.asarray(together.choose(logits_BV, keys_B, recent_BR, classes_V))
    for row, one in enumerate(samplers):
      some = slice(row, row + 1)
      assert plain[row] == one(logits_BV[some], keys_B[some])[0]
      expected = one(logits_BV[some], keys_B[some])
      if one.repetition.window:
        expected = one.choose(
          logits_BV[some], keys_B[some], recent_BR[some], classes_V
        )
      assert ruled[row] == expected[0]
