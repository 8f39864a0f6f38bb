"""Drawing answers with the parameters that are trained, on their mesh.

The decoder is the one that every door uses (`generation.decode`); on a mesh it
reads the trainer's arrays as `decoder` lays them out. What row n draws at step
t depends on (seed, t, n) and on the parameters alone.

Axes as in `rollout`.
"""

import dataclasses
from typing import Any, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.alignment.rollouts import decoder as decoder_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.parallel import mesh as mesh_lib

MODES = {
  'text': grammar_lib.State.TEXT,
  'speech': grammar_lib.State.SPEECH,
  'free': grammar_lib.State.FREE,
}


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How answers are drawn.

  Attributes:
    longest: N, ids that an answer may have with the one that ends it.
    mode: 'text', 'speech' (2:3 groups) or 'free'.
    sampler: Temperature, top-k, top-p and the rule about repeated ids.
    linguistic_codes: Codes of the tokenizer that exist, as `grammar.build`.
    semantic_codes: The same.
    rules: Logical axis → mesh axis, where the policy lies while answers are
      drawn; None for the rules that it is trained under.
  """

  longest: int = 64
  mode: str = 'text'
  sampler: sampling.Sampler = sampling.Sampler(temperature=1.0)
  linguistic_codes: int | None = None
  semantic_codes: int | None = None
  rules: mesh_lib.Rules | None = settings.free(None)

  def __post_init__(self):
    errors.at_least_one('sampling', self, ['longest'])
    if self.mode not in MODES:
      raise errors.UserError(
        f'sampling: mode is {self.mode!r}, expected one of {", ".join(MODES)}.'
      )
    self.sampler.check_replayable()
    if self.rules is not None:
      _check_rules(self.rules)

  def grammar(
    self, vocabulary: vocabulary_lib.Vocabulary
  ) -> grammar_lib.Grammar:
    """Which ids may be drawn."""
    if self.mode != 'speech':
      return grammar_lib.build(vocabulary)
    return grammar_lib.build(
      vocabulary,
      linguistic_codes=self.linguistic_codes,
      semantic_codes=self.semantic_codes,
    )


def _check_rules(rules) -> None:
  known = dict(mesh_lib.DEFAULT_RULES)
  for rule in rules if isinstance(rules, tuple) else [rules]:
    name, axes = (
      rule if isinstance(rule, tuple) and len(rule) == 2 else (rule, None)
    )
    some = (axes,) if isinstance(axes, str) else axes or ()
    if (
      not isinstance(name, str)
      or name not in known
      or not isinstance(some, tuple)
      or not set(some) <= set(mesh_lib.AXES)
    ):
      raise errors.UserError(
        f'sampling: rules has {rule!r}, expected pairs of a logical axis '
        f'({", ".join(known)}) and None or axes of the mesh '
        f'({", ".join(mesh_lib.AXES)}), in parentheses.'
      )


def bucket(needed: int, longest: int, count: int) -> int:
  """The least of `count` widths up to `longest` that has `needed` places.

  Widths are multiples of 8 places, `longest` itself excepted.
  """
  width = decode.round_up(-(-longest // count), 8)
  return min(longest, decode.round_up(needed, width))


@jax.jit
def row_keys(seed, step, rows_B):
  """One key for each row of a step."""
  key = jax.random.fold_in(jax.random.key(seed), step)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, rows_B)


def decoding_arguments(
  prompts: Mapping[str, Any], how: Sampling, *, seed: int, step: int
) -> tuple[Any, ...]:
  """What `decode.decode` is given between the cache and the grammar.

  Args:
    prompts: As for `sample`.
    how: How answers are drawn.
    seed: Of the run.
    step: Of the run.
  """
  tokens_BP, starts_B = prompts['tokens'], prompts['starts']
  B, P = tokens_BP.shape
  return (
    tokens_BP[:, -1],
    P - 1 - starts_B,
    np.full(B, MODES[how.mode], np.int32),
    np.full(B, how.longest, np.int32),
    row_keys(seed, step, np.arange(B, dtype=np.int32)),
    np.asarray([vocabulary_lib.EOT], np.int32),
  )


def sample(
  model: Any,
  variables: Mapping[str, Any],
  prompts: Mapping[str, Any],
  grammar: grammar_lib.Grammar,
  how: Sampling,
  *,
  seed: int,
  step: int,
  group: int = 1,
  decoder: decoder_lib.MeshDecoder | None = None,
) -> rollout_lib.Rollout:
  """Answers to a batch of prompts.

  Args:
    model: As `models.language.speech_text`.
    variables: Of the policy, on the mesh; with a decoder, the trainer's.
    prompts: tokens int32 (B, P), padded on the left, starts int32 (B,), of
      prompts of at least two ids.
    grammar: Of `how`.
    how: How answers are drawn.
    seed: Of the run.
    step: Of the run.
    group: Rows side by side that have one prompt, which is then read once.
    decoder: What decodes on a mesh, under rules of its own.
  """
  tokens_BP, starts_B = prompts['tokens'], prompts['starts']
  B, P = tokens_BP.shape
  places = P - 1 + how.longest
  rules = nn.get_logical_axis_rules() if decoder is None else decoder.rules
  with nn.logical_axis_rules(rules):
    if decoder is None:
      model = restore.unroll_layers(model)
      variables, laid = restore.laid_out(model, variables, B)
      prefill, draw, assemble = decode.prefill, decode.decode, _assembled
    else:
      model, variables = decoder.model, decoder.laid_out(variables)
      laid = variables
      prefill, draw = decoder.programs(B, places)
      assemble = decoder.compiled(assembled)
    cache = prefill(
      model,
      variables,
      tokens_BP[:, :-1],
      starts_B,
      None,
      None,
      cache_length=places,
      group=group,
    )
    *drawn, _ = draw(
      model,
      laid,
      cache,
      *decoding_arguments(prompts, how, seed=seed, step=step),
      grammar,
      sampler=how.sampler,
      longest=how.longest,
      replay=True,
    )
    return assemble(tokens_BP, starts_B, *drawn)


def assembled(
  tokens_BP,
  starts_B,
  tokens_BN,
  log_probs_BN,
  support_BNW,
  lengths_B,
  stopped_B,
):
  """A `Rollout` of what `decode.decode` gives, behind the prompts."""
  # The id that ended an answer was drawn like all others.
  lengths_B = lengths_B + stopped_B
  mask_BN = jnp.arange(tokens_BN.shape[1])[None] < lengths_B[:, None]
  return rollout_lib.Rollout(
    tokens=jnp.concatenate(
      [tokens_BP, jnp.where(mask_BN, tokens_BN, 0)], axis=1
    ),
    starts=starts_B,
    lengths=lengths_B,
    stopped=stopped_B,
    log_probs=jnp.where(mask_BN, log_probs_BN, 0.0),
    # Behind an answer all ids could be drawn: a softmax over none is no number.
    support=jnp.where(mask_BN[..., None], support_BNW, jnp.uint8(255)),
  )


_assembled = jax.jit(assembled)
