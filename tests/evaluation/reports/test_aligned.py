"""What a report tells of a reward model and of a policy."""

import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.reports import aligned


def line(
  prompt, run, *scores, number=0, split='test_asked', text='red', step=9
):
  return {
    'prompt': prompt, 'split': split, 'run': run, 'step': step,
    'number': number,
    'text': text, 'question': f'{prompt}?', 'expected': 'red',
    'scores': dict(zip(('right', 'brief'), scores, strict=True)),
  }  # fmt: skip


def test_rise_is_paired_by_prompt():
  rng = np.random.default_rng(0)
  good = rng.random((2, 50, 4)) < [[[0.4]], [[0.8]]]
  before, after = (
    [
      line(f'q{p}', 'run', *((1, 1) if g else (1, 0.5)), number=n)
      for p, some in enumerate(rows)
      for n, g in enumerate(some)
    ]
    for rows in good
  )
  rng.shuffle(after)
  found = aligned.rise(before, after)
  means = good.mean(-1)
  each = means[1] - means[0]
  assert found.prompts == 50
  assert found.before == pytest.approx(means[0].mean())
  assert found.after == pytest.approx(means[1].mean())
  assert found.standard_error == pytest.approx(
    np.sqrt(((each - each.mean()) ** 2).sum() / 49 / 50)
  )
  assert found.gap_closed == pytest.approx(each.mean() / (1 - means[0].mean()))
  assert found.standard_errors == pytest.approx(
    each.mean() / found.standard_error
  )


def test_nothing_to_gain_and_nothing_to_compare():
  one = [line('q0', 'run', 1, 1)]
  found = aligned.rise(one, one)
  assert found.gap_closed is None and found.standard_error is None
  with pytest.raises(errors.UserError, match='2 and 1 prompts'):
    aligned.rise([*one, line('q1', 'run', 1, 1)], one)


@pytest.fixture
def aligned_runs(tmp_path):
  """A judged reward model, samples of two runs, and the policy's curve."""
  judged = tmp_path / 'judged'
  judged.mkdir()
  told = {
    'pairs': {'accuracy': 0.95, 'pairs': 40},
    'categories': {'deaf': {'accuracy': 1.0, 'pairs': 20}},
    'calibration': {'ece': 0.03},
    'audit': [
      {'change': '6 dB louder', 'shift': 0.1, 'changed': 2, 'pairs': 9}
    ],
  }
  (judged / 'judge.json').write_text(json.dumps(told))
  lines = [
    line('a', 'sft', 1, 0.5, text='the <b> red'),
    line('b', 'sft', 1, 1, split='test_requested'),
    line('a', 'ppo', 1, 1),
    line('b', 'ppo', 1, 1, split='test_requested'),
    line('a', 'another', 0, 0),
    line('a', 'ppo', 0, 0, step=4),
  ]
  samples = tmp_path / 'samples.jsonl'
  samples.write_text('\n'.join(map(json.dumps, lines)))
  ppo = tmp_path / 'ppo'
  ppo.mkdir()
  metrics = [
    {'step': s, 'kl': 0.1 * s, 'reward': s, 'rollout/logprob_gap': 1e-6 / s}
    for s in range(1, 21)
  ]
  (ppo / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, metrics)))
  return tmp_path


def test_figures_and_page(aligned_runs, monkeypatch):
  monkeypatch.chdir(aligned_runs)
  found = aligned.figures('judged', 'samples.jsonl', ('sft', 'ppo'))
  assert found['rm_pair_accuracy'] == 0.95 and found['rm_ece'] == 0.03
  assert found['true_reward']['before'] == 0.5
  assert found['true_reward']['after'] == 1.0
  assert found['true_reward']['by_split']['test_asked']['before'] == 0.0
  assert found['true_reward_gap_closed'] == 1.0
  assert found['ppo_kl'] == pytest.approx(0.1 * np.mean(range(11, 21)))
  assert found['rollout_logprob_gap'] == 1e-6
  text = aligned.section(found, 'ppo')
  assert found['true_reward']['rules'] == ['brief', 'right']
  assert '6 dB louder' in text and 'Divergence from the reference' in text
  assert '<span class="wrong">the &lt;b&gt; red</span>' in text
  assert 'test_requested' in text
  assert aligned.figures(None, None, ()) == {}
  assert aligned.section({}, None) == ''


def test_files_of_others(aligned_runs, monkeypatch):
  monkeypatch.chdir(aligned_runs)
  with pytest.raises(errors.UserError, match='no answer of nobody'):
    aligned.figures(None, 'samples.jsonl', ('sft', 'nobody'))
  with open('samples.jsonl', 'a') as handle:
    handle.write('\n' + json.dumps({**line('a', 'sft', 1, 1), 'scores': {}}))
  with pytest.raises(errors.UserError, match='no rule has judged line 7'):
    aligned.figures(None, 'samples.jsonl', ('sft', 'ppo'))
  with open('judged/judge.json', 'w') as handle:
    handle.write('[1]')
  with pytest.raises(errors.UserError, match='not what `judge` writes'):
    aligned.figures('judged', None, ())
