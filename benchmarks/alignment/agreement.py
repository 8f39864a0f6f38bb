r"""How far sampler and learner are apart, on a trained model.

    python benchmarks/alignment/agreement.py --quickstart=runs/quickstart

Draws answers to the spoken questions of the quick start under its grammar, at
temperature 1 with top-p 0.8, in float32 and bfloat16, and computes their
log-probabilities again by the learner's forward pass: on the support that the
sampler kept, and, to see what that is worth, on all ids. Prints one JSON line:
mean absolute difference, Pearson's correlation, and the share of the ratios
within [0.99, 1.01].
"""

import argparse
import dataclasses
import json

import jax

from step_audio_jax.alignment import prompts
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling as sampling_lib
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling


def measure(root: str, dtype: str, batches: int, batch: int) -> dict:
  """The figures of one dtype."""
  model, variables, vocabulary = restore.load_model(f'{root}/sft')
  config = model.config
  model = model.clone(
    config=dataclasses.replace(
      config, transformer=dataclasses.replace(config.transformer, dtype=dtype)
    )
  )
  how = sampling_lib.Sampling(
    longest=16, sampler=sampling.Sampler(temperature=1.0, top_p=0.8)
  )
  feed = prompts.PromptFeed(
    corpus=f'{root}/data/speech',
    codes=f'{root}/codes/speech',
    vocabulary=vocabulary,
    batch_size=batch,
    longest=224,
  )
  score = jax.jit(rollout_lib.score, static_argnums=0)
  gap = jax.jit(rollout_lib.gap)
  parts = {'replayed': [], 'on_all_ids': []}
  for step in range(batches):
    rollout = sampling_lib.sample(
      model,
      variables,
      feed.batch(step),
      how.grammar(vocabulary),
      how,
      seed=0,
      step=step,
    )
    for name in parts:
      replayed = rollout
      if name == 'on_all_ids':
        full = jax.numpy.full_like(rollout.support, 255)
        replayed = rollout._replace(support=full)
      found = gap(rollout, score(model, variables, replayed).log_probs)
      parts[name].append({k: float(v) for k, v in found.items() if not v.ndim})
  return {
    name: {
      'mean': sum(one['mean'] for one in some) / batches,
      'largest_mean': max(one['mean'] for one in some),
      'correlation': min(one['correlation'] for one in some),
      'within': sum(one['within'] for one in some) / batches,
    }
    for name, some in parts.items()
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--quickstart', required=True)
  parser.add_argument('--batches', type=int, default=4)
  parser.add_argument('--batch', type=int, default=64)
  args = parser.parse_args()
  print(
    json.dumps(
      {'benchmark': 'agreement'}
      | {
        dtype: measure(args.quickstart, dtype, args.batches, args.batch)
        for dtype in ('float32', 'bfloat16')
      }
    )
  )


if __name__ == '__main__':
  main()
