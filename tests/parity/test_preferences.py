"""Losses of pairs against those of `trl`, on the same scores and sums.

`trl` has its losses in methods of trainers. They are called without one: `self`
is what a method reads, and the model gives the numbers that are compared.
"""

import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.alignment import losses

PAIRS = 7
DRAWS = np.random.default_rng(0).normal(size=(4, PAIRS)).astype(np.float32) * 3


class Outputs(dict):
  """What a model of `transformers` returns: fields and no more."""

  __getattr__ = dict.__getitem__


def trainer(**fields):
  """What the methods of trainers read."""
  torch = pytest.importorskip('torch')
  same = types.SimpleNamespace(
    gather=lambda x: x,
    gather_for_metrics=lambda x: x,
    device=torch.device('cpu'),
  )
  return types.SimpleNamespace(
    model=types.SimpleNamespace(training=False),
    accelerator=same,
    aux_loss_enabled=False,
    _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
    _total_train_tokens=0,
    **fields,
  )


def leaf(numbers):
  torch = pytest.importorskip('torch')
  return torch.tensor(np.asarray(numbers), requires_grad=True)


def sums(log_probs):
  """Outputs of a model whose answers have these log-probabilities.

  Each answer is one id: places of other answers have none.
  """
  import torch

  shape = len(log_probs), 1
  return Outputs(
    log_probs=log_probs[:, None],
    entropy=torch.zeros(shape),
    mean_logits=torch.zeros(shape),
    is_top1=torch.zeros(shape, dtype=torch.bool),
  )


def inputs(count, **more):
  import torch

  return {
    'input_ids': torch.ones((count, 2), dtype=torch.long),
    'attention_mask': torch.ones((count, 2), dtype=torch.long),
    'completion_mask': torch.tensor([[0, 1]] * count),
    **more,
  }


def ours(function, *arrays):
  """(mean, gradients) of a loss of pairs."""
  mean, grads = jax.value_and_grad(
    lambda *xs: jnp.mean(function(*xs)), argnums=tuple(range(len(arrays)))
  )(*arrays)
  return mean, np.concatenate(grads)


def agree(parity, name, theirs, numbers, want):
  """Compares a loss and its gradient."""
  theirs.backward()
  parity(f'{name}, loss', want[0], theirs.detach().numpy(), 1e-6)
  parity(f'{name}, gradient', want[1], numbers.grad.numpy(), 1e-6)


@pytest.mark.parametrize('centring', [None, 0.01])
def test_reward_model(parity, centring):
  trl = pytest.importorskip('trl.trainer.reward_trainer')
  import torch

  scores = leaf(np.concatenate(DRAWS[:2]))
  margins = np.abs(DRAWS[2])
  theirs = trl.RewardTrainer.compute_loss(
    trainer(args=types.SimpleNamespace(center_rewards_coefficient=centring)),
    lambda **_: Outputs(logits=scores[:, None]),
    {'margin': torch.tensor(margins)},
  )
  want = ours(
    lambda a, b: losses.bradley_terry(a, b, margins, centring=centring or 0.0),
    *DRAWS[:2],
  )
  agree(parity, f'Bradley-Terry, centring {centring}', theirs, scores, want)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_direct_preference(parity, smoothing):
  trl = pytest.importorskip('trl.trainer.dpo_trainer')
  import torch

  policy = leaf(np.concatenate(DRAWS[:2]))
  start = torch.tensor(np.concatenate(DRAWS[2:]))
  kind = 'robust' if smoothing else 'sigmoid'
  theirs = trl.DPOTrainer._compute_loss(
    trainer(
      beta=0.3,
      ld_alpha=None,
      precompute_ref_logps=True,
      f_divergence_type='reverse_kl',
      label_smoothing=smoothing,
      loss_types=[kind],
      loss_weights=[1.0],
      use_weighting=False,
    ),
    lambda **_: sums(policy),
    inputs(
      2 * PAIRS,
      ref_chosen_logps=start[:PAIRS],
      ref_rejected_logps=start[PAIRS:],
    ),
    False,
  )

  def loss(chosen, rejected):
    ratios = chosen - DRAWS[2], rejected - DRAWS[3]
    if not smoothing:
      return losses.direct_preference(*ratios, beta=0.3)
    # Theirs is unbiased where labels are flipped (Chowdhury et al., 2024):
    # another combination of the same two terms.
    one, other = (
      losses.direct_preference(*r, beta=0.3) for r in (ratios, ratios[::-1])
    )
    return ((1 - smoothing) * one - smoothing * other) / (1 - 2 * smoothing)

  agree(parity, f'DPO, {kind}', theirs, policy, ours(loss, *DRAWS[:2]))


@pytest.mark.parametrize('baseline', [1.5, -1.5])
def test_kahneman_tversky(parity, baseline):
  trl = pytest.importorskip('trl.trainer.kto_trainer')
  import torch

  policy = leaf(np.concatenate(DRAWS[:2]))
  start = np.concatenate(DRAWS[2:])
  wanted = np.arange(2 * PAIRS) % 3 > 0
  theirs = trl.KTOTrainer._compute_loss(
    trainer(
      beta=0.3,
      loss_type='kto',
      calculate_KL=True,
      precompute_ref_logps=True,
      desirable_weight=1.5,
      undesirable_weight=0.7,
      _compute_kl_logps=lambda model, batch: torch.full((3,), baseline),
    ),
    lambda **_: sums(policy),
    inputs(
      2 * PAIRS,
      label=torch.tensor(wanted),
      ref_logps=torch.tensor(start),
      ref_KL_logps=torch.zeros(3),
    ),
    False,
  )
  want = ours(
    lambda x: losses.kahneman_tversky(
      x - start, wanted, jnp.float32(baseline), beta=0.3, gain=1.5, loss=0.7
    ),
    np.concatenate(DRAWS[:2]),
  )
  agree(parity, f'KTO, baseline {baseline}', theirs, policy, want)
