"""What alignment has done: the reward model's figures, and the policy's.

The true reward of an answer is 1 where every rule that judged it is satisfied,
else 0.
"""

import collections
import html
import math
import pathlib
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.pages import page
from step_audio_jax.evaluation.pages import svg
from step_audio_jax.evaluation.reports import facts
from step_audio_jax.storage import files

_FIELDS = (
  *('prompt', 'split', 'run', 'step', 'number'),
  *('text', 'question', 'expected', 'scores'),
)
_LAST = 10  # steps whose divergence is that of the policy
_CURVES = {
  'Reward': (('reward', 'reward of the step'),),
  'Divergence from the reference': (('kl', 'nats an answer'),),
  'Answers': (('rollout/length', 'ids'),),
  'Entropy': (('rollout/entropy', 'nats an id'),),
}


class Rise(NamedTuple):
  """True rewards of the same prompts before and behind a policy's training.

  Attributes:
    before: Mean.
    after: Mean.
    standard_error: Of the difference, prompts being the sample; None of one.
    prompts: How many.
  """

  before: float
  after: float
  standard_error: float | None
  prompts: int

  @property
  def gap_closed(self) -> float | None:
    """Share of what was missing to 1 that has been gained."""
    missing = 1.0 - self.before
    return (self.after - self.before) / missing if missing else None

  @property
  def standard_errors(self) -> float | None:
    """The rise in its own standard errors."""
    rise = self.after - self.before
    return rise / self.standard_error if self.standard_error else None

  def told(self) -> dict[str, Any]:
    """For JSON."""
    return {
      **self._asdict(),
      'gap_closed': self.gap_closed,
      'standard_errors': self.standard_errors,
    }


def is_good(one: Mapping[str, Any]) -> bool:
  """Whether an answer satisfies every rule that judged it."""
  return min(one['scores'].values()) >= 1.0


def rise(before: Sequence[Mapping], after: Sequence[Mapping]) -> Rise:
  """How far the true reward rose, of answers to the same prompts.

  Raises:
    UserError: The prompts differ.
  """
  means = []
  for some in (before, after):
    rewards = collections.defaultdict(list)
    for one in some:
      rewards[one['prompt']].append(is_good(one))
    means.append({name: np.mean(x) for name, x in rewards.items()})
  if means[0].keys() != means[1].keys():
    raise errors.UserError(
      f'samples: the runs answer {len(means[0])} and {len(means[1])} prompts, '
      'expected the same ones.'
    )
  first, second = (np.array([m[name] for name in means[0]]) for m in means)
  count = len(first)
  error = None
  if count > 1:
    error = float((second - first).std(ddof=1) / math.sqrt(count))
  return Rise(float(first.mean()), float(second.mean()), error, count)


def answers(
  path: str | pathlib.Path, runs: Sequence[str]
) -> list[list[dict[str, Any]]]:
  """Lines of the `sample` door, by run: of the newest step of each.

  Args:
    path: Of its output.
    runs: As it was told them.

  Raises:
    UserError: It is no such file, or a run has no answer in it.
  """
  found: dict[str, list] = {run: [] for run in runs}
  for number, line in enumerate(files.read_jsonl(path), start=1):
    lacking = [name for name in _FIELDS if name not in line]
    if lacking:
      raise errors.UserError(
        f'{path}: line {number} has no {lacking[0]}, expected an answer of the '
        '`sample` door.'
      )
    if not line['scores']:
      raise errors.UserError(
        f'{path}: no rule has judged line {number}, expected one (--rules).'
      )
    if line['run'] in found:
      found[line['run']].append(line)
  for run, some in found.items():
    if not some:
      raise errors.UserError(
        f'{path}: found no answer of {run}, expected some.'
      )
  newest = {run: max(one['step'] for one in x) for run, x in found.items()}
  return [
    [one for one in some if one['step'] == newest[run]]
    for run, some in found.items()
  ]


def figures(
  judged: str | pathlib.Path | None,
  samples: str | pathlib.Path | None,
  policies: Sequence[str],
) -> dict[str, Any]:
  """Figures of a report; {} where nothing was aligned.

  Args:
    judged: Folder that the `judge` door wrote.
    samples: What the `sample` door wrote of two runs.
    policies: These runs, before and behind the training of the policy.

  Raises:
    UserError: A file is not what the door writes.
  """
  found: dict[str, Any] = {}
  if judged is not None:
    path = files.path(judged) / 'judge.json'
    told = files.read_json(path)
    try:
      found['rm_pair_accuracy'] = told['pairs']['accuracy']
      found['rm_ece'] = told['calibration']['ece']
      found['rm_categories'] = told['categories']
      found['rm_audit'] = told['audit']
    except (KeyError, TypeError) as error:
      raise errors.UserError(
        f'{path}: not what `judge` writes, expected figures of pairs, '
        'categories, calibration and an audit.'
      ) from error
  if samples is None:
    return found
  before, after = answers(samples, policies)
  found['true_reward'] = rise(before, after).told()
  found['true_reward']['rules'] = sorted(
    {name for one in before for name in one['scores']}
  )
  by_split = found['true_reward']['by_split'] = {}
  for split in dict.fromkeys(one['split'] for one in before):
    by_split[split] = rise(
      *([x for x in some if x['split'] == split] for some in (before, after))
    ).told()
  for name in ('gap_closed', 'standard_errors'):
    found[f'true_reward_{name}'] = found['true_reward'][name]
  found['policy_answers'] = _pairs(before, after)
  curve = facts.curve(policies[-1])
  if 'kl' in curve:
    found['ppo_kl'] = float(np.mean(curve['kl'][1][-_LAST:]))
  if 'rollout/logprob_gap' in curve:
    found['rollout_logprob_gap'] = max(curve['rollout/logprob_gap'][1])
  return found


def _pairs(before, after, most: int = 12) -> list[dict[str, Any]]:
  """First answers to the first prompts of each split, before and behind."""
  later = {one['prompt']: one for one in after if one['number'] == 0}
  by_split = collections.defaultdict(list)
  for one in before:
    if one['number'] == 0 and one['prompt'] in later:
      by_split[one['split']].append(one)
  each = max(1, most // max(1, len(by_split)))
  return [
    {
      'split': split,
      'question': one['question'],
      'expected': one['expected'],
      **{
        name: {'text': it['text'], 'good': is_good(it)}
        for name, it in (
          ('before', one),
          ('after', later[one['prompt']]),
        )
      },
    }
    for split, some in by_split.items()
    for one in some[:each]
  ]


def section(values: Mapping[str, Any], policy: str | None) -> str:
  """The part of the page; '' where nothing was aligned.

  Args:
    values: Of the report.
    policy: The run whose curves are drawn.
  """
  parts = []
  if 'rm_categories' in values:
    parts.append('<h2>Reward model</h2>' + _categories(values['rm_categories']))
    parts.append(_audit(values['rm_audit']))
  if 'true_reward' in values:
    parts.append('<h2>Policy</h2>' + _rewards(values['true_reward']))
    parts.append(_curves(policy) if policy else '')
    parts.append(_answers(values['policy_answers']))
  return ''.join(parts)


def _categories(categories: Mapping[str, Mapping[str, Any]]) -> str:
  rows = [
    [name, 100 * some['accuracy'], some['pairs']]
    for name, some in categories.items()
  ]
  return page.table(['pairs that differ in', 'right %', 'pairs'], rows)


def _audit(changes: Sequence[Mapping[str, Any]]) -> str:
  if not changes:
    return ''
  rows = [
    [one['change'], one['shift'], one['changed'], one['pairs']]
    for one in changes
  ]
  head = ['what was changed', 'shift, deviations', 'other verdicts', 'pairs']
  return page.table(head, rows)


def _rewards(told: Mapping[str, Any]) -> str:
  rows = [
    [
      name,
      100 * some['before'],
      100 * some['after'],
      100 * (some['standard_error'] or 0.0),
      some['prompts'],
    ]
    for name, some in [('all', told), *told['by_split'].items()]
  ]
  head = [', '.join(told['rules']), 'before %', 'after %']
  return (
    page.table([*head, 'standard error', 'prompts'], rows)
    + '<p class="quiet">Share of the drawn answers that satisfy all rules at '
    'once.</p>'
  )


def _curves(policy: str) -> str:
  curve = facts.curve(policy)
  charts = [
    svg.line_chart(
      [svg.Series(name, *curve[name]) for name, _ in lines if name in curve],
      title=title,
      x_label='step',
      y_label=lines[0][1],
    )
    for title, lines in _CURVES.items()
    if any(name in curve for name, _ in lines)
  ]
  return f'<div class="charts">{"".join(charts)}</div>'


def _answers(pairs: Sequence[Mapping[str, Any]]) -> str:
  def shown(one):
    text = html.escape(one['text']) or '<i>nothing</i>'
    return text if one['good'] else f'<span class="wrong">{text}</span>'

  parts = [
    f'<div class="utterance"><dl><dt>asked</dt><dd>'
    f'{html.escape(one["question"])} <small>{html.escape(one["split"])}</small>'
    f'</dd><dt>before</dt><dd>{shown(one["before"])}</dd><dt>after</dt><dd>'
    f'{shown(one["after"])} <small>expected {html.escape(one["expected"])}'
    '</small></dd></dl></div>'
    for one in pairs
  ]
  return (
    '<h2>Answers before and behind the policy</h2>'
    f'<div class="utterances">{"".join(parts)}</div>'
  )
