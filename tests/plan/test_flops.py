"""The FLOP counter of the models against the matmuls of their jaxpr."""

import dataclasses
import math

from flax import linen as nn
import jax
import pytest

from step_audio_jax import vocabulary
from step_audio_jax.models.language import speech_text
from step_audio_jax.models.language import transformer
from step_audio_jax.training.feeds import feed
from step_audio_jax.training.objectives import objectives

FAMILIES = {
  'step1': dict(position='sqrt_alibi', heads=8, kv_heads=2),
  'llama': dict(position='rope', heads=4, kv_heads=4),
  'qwen2': dict(position='rope', heads=4, kv_heads=2, qkv_bias=True),
  'qwen3': dict(
    position='rope',
    heads=4,
    kv_heads=1,
    head_dim=48,
    qk_norm=True,
    tied_head=True,
  ),
}


def inner_jaxprs(equation):
  """(jaxpr, times it runs) within an equation."""
  times = (
    equation.params.get('length', 1)
    if equation.primitive.name == ('scan')
    else 1
  )
  for value in equation.params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      item = getattr(item, 'jaxpr', item)
      if hasattr(item, 'eqns'):
        yield item, times


def matmul_flops(jaxpr, causal):
  """FLOPs of every dot; `causal` of those that have batch dimensions.

  Only the products of attention have them (rows and groups); a causal row
  needs half of the dense ones that are counted here.
  """
  total = 0.0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      (contract, _), (batch, _) = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      out = equation.outvars[0].aval.shape
      flops = 2.0 * math.prod(out) * math.prod(left[d] for d in contract)
      total += flops * (causal if batch else 1.0)
    for inner, times in inner_jaxprs(equation):
      total += times * matmul_flops(inner, causal)
  return total


@pytest.mark.parametrize(
  ('family', 'remat'),
  [*((family, 'none') for family in sorted(FAMILIES)), ('step1', 'full')],
)
def test_model_flops_within_one_percent(family, remat):
  config = transformer.TransformerConfig(
    vocab_size=640,
    width=128,
    layers=3,
    mlp_width=352,
    attention='dense',
    remat='none',
    **FAMILIES[family],
  )
  objective = objectives.NextToken(
    model=speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config)),
    vocabulary=vocabulary.Vocabulary(
      text_size=640, table_size=640, linguistic_size=0, semantic_size=0
    ),
  )
  if remat == 'full':
    recomputing = dataclasses.replace(config, remat='full')
    objective = dataclasses.replace(
      objective,
      model=speech_text.SpeechTextModel(
        speech_text.SpeechTextConfig(recomputing)
      ),
    )
  length = 200
  batch = feed.BlankFeed(batch_size=2, length=length).batch(0)
  key = jax.random.key(0)
  variables = nn.unbox(jax.eval_shape(lambda: objective.init(key, batch)))
  gradient = jax.grad(lambda v: objective.loss(v, batch, key)[0])
  jaxpr = jax.make_jaxpr(gradient)(variables).jaxpr
  counted = matmul_flops(jaxpr, causal=0.5)
  said = objective.flops(batch)
  if remat == 'none':
    assert said == pytest.approx(counted, rel=0.01)
  else:
    # What is computed twice is no work of the model.
    assert 1.1 < counted / said < 4 / 3
