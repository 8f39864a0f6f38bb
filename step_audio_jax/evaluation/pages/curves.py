"""Metrics over the steps of one run: `<run>/evaluation/index.html`."""

import html
import pathlib
from typing import Any, Mapping, Sequence

from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import perplexity
from step_audio_jax.evaluation.pages import page
from step_audio_jax.evaluation.pages import svg
from step_audio_jax.storage import files


def charts(metrics: Mapping[int, Mapping[str, float]]) -> str:
  """Error rates and perplexities over steps, as SVG figures."""
  steps = sorted(metrics)
  names = list(dict.fromkeys(n for step in steps for n in metrics[step]))

  def lines(chosen, scale=1.0):
    return [
      svg.Series(
        shown,
        [s for s in steps if name in metrics[s]],
        [scale * metrics[s][name] for s in steps if name in metrics[s]],
      )
      for name, shown in chosen
    ]

  rates = [(n, n.replace('_cer/', ' ')) for n in names if '_cer/' in n]
  rates += [(n, 'captions') for n in names if n == 'caption_cer']
  prefix = 'perplexity/all/'
  streams = [(prefix + s, s) for s in perplexity.STREAMS if prefix + s in names]
  figures = []
  if rates:
    figures.append(
      svg.line_chart(
        lines(rates, 100.0),
        title='Character error rate',
        x_label='step',
        y_label='%',
        dots=True,
      )
    )
  if streams:
    figures.append(
      svg.line_chart(
        lines(streams),
        title='Perplexity',
        x_label='step',
        log_y=True,
        dots=True,
      )
    )
  return f'<div class="charts">{"".join(figures)}</div>'


def write(
  run: str | pathlib.Path,
  results: Mapping[int, Mapping[str, Any]],
  notes: Sequence[str] = (),
) -> pathlib.Path:
  """Writes the page of a run.

  Args:
    run: Run directory.
    results: Step → scores, all under the same conditions.
    notes: What is to be said about them.

  Returns:
    Its path.
  """
  run = files.path(run)
  metrics = {step: result['metrics'] for step, result in results.items()}
  names = list(dict.fromkeys(n for m in metrics.values() for n in m))
  rows = [
    [name, *(metrics[step].get(name) for step in sorted(metrics))]
    for name in names
  ]
  head = ['metric', *(f'step {step}' for step in sorted(metrics))]
  told = counts.describe_steps(
    {step: result.get('counts', {}) for step, result in results.items()},
    {step: result.get('left_out', {}) for step, result in results.items()},
  )
  newest = results[max(results)] if results else {}
  told += counts.not_computed(newest.get('not_computed', {}))
  over = [line.split('  ', 1) for line in told]
  judges = [f'The stranger: {one}.' for one in newest.get('judges', ())]
  body = (
    f'<h1>{html.escape(run.name)}</h1>'
    f'<p class="quiet">Checkpoints scored: {len(metrics)}. Error rates '
    'are fractions in the table; lower is better.</p>'
    + ''.join(f'<p>{html.escape(note)}</p>' for note in (*judges, *notes))
    + f'{charts(metrics)}<h2>All figures</h2>{page.table(head, rows)}'
    '<h2>Scored, of how many</h2>'
    + page.table(['metric', 'scored'], [[n, t.strip()] for n, t in over])
  )
  path = run / 'evaluation' / 'index.html'
  with files.atomic(path, 'w') as handle:
    handle.write(page.page(f'{run.name}: evaluation', body))
  return path
