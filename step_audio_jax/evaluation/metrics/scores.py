"""Parts that were scored, put together as the scores of one step."""

from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import judge
from step_audio_jax.evaluation.metrics import perplexity
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.evaluation.metrics import stranger

_SPOKEN = ('asr', 'tts', 'sound', *stranger.TASKS)
TASKS = (*_SPOKEN, 'perplexity', 'captions')


def to_json(
  about: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """The scores of a step, as `<run>/evaluation/<step>.json` has them.

  Args:
    about: run, step, settings, not_computed (figure → reason).
    parts: What `parts.Store` holds of it.

  Returns:
    `about` with `asr`, `tts`, `sound` and what a stranger understands by
    split, `perplexity` by source and `all` of them, `captions`; `judges`, who
    that stranger is; `metrics`, the figures alone; `counts`, how many
    of how many each of them holds; `left_out`, why the model cannot be scored
    on a part; `parts`, the conditions that tell what can be compared.
  """
  parts = sorted(parts, key=lambda part: TASKS.index(part['task']))
  found: dict[str, Any] = {
    **about,
    'convention': scoring.CONVENTION,
    'convention_version': scoring.VERSION,
    'model': parts[0]['model'] if parts else None,
    'parts': [
      {name: part[name] for name in ('task', 'name', 'condition', 'rules')}
      for part in parts
    ],
    'counts': {},
    'left_out': {},
    'judges': [],
  }
  sums, rows = perplexity.Sums(), []
  for part in parts:
    task, name, result = part['task'], part['name'], part['result']
    if part['left_out']:
      found['left_out'][f'{task}/{name}'] = part['left_out']
    elif task == 'perplexity':
      sums += perplexity.Sums(*map(np.asarray, result['sums']))
      rows.append(result['counted'])
      found.setdefault('perplexity', {})[name] = result['streams']
      found['counts'][f'perplexity/{name}'] = result['counted']
    elif task == 'captions':
      found['captions'] = result
      found['counts']['caption_cer'] = result['counted']
    else:
      found.setdefault(task, {})[name] = result
      found['counts'][f'{task}_cer/{name}'] = result['counted']
      if task in stranger.TASKS:
        told = judge.describe(result['judge'])
        if told not in found['judges']:
          found['judges'].append(told)
  # What was heard before and still holds is there.
  found['not_computed'] = {
    task: reason
    for task, reason in about.get('not_computed', {}).items()
    if task not in found
  }
  if any(part['task'] == 'perplexity' for part in parts):
    found.setdefault('perplexity', {})['all'] = sums.as_dict()
    if rows:
      found['counts']['perplexity/all'] = counts.sum_counts(rows)
  found['metrics'] = flatten(found)
  found['seconds'] = round(sum(part['seconds'] for part in parts), 2)
  return found


def flatten(result: Mapping[str, Any]) -> dict[str, float]:
  """The figures of a result under short names, for curves and tables."""
  metrics = {}
  for task in _SPOKEN:
    for name, found in result.get(task, {}).items():
      metrics[f'{task}_cer/{name}'] = found['cer']
  for source, streams in result.get('perplexity', {}).items():
    for stream, figures in streams.items():
      metrics[f'perplexity/{source}/{stream}'] = figures['perplexity']
  if 'captions' in result:
    metrics['caption_cer'] = result['captions']['cer']
    metrics['caption_exact'] = result['captions']['exact']
  return metrics
