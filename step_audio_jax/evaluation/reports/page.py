"""The HTML of a report: figures, curves, tables, audio players, next steps."""

import html
from typing import Any, Mapping, Sequence

from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import perplexity
from step_audio_jax.evaluation.pages import page
from step_audio_jax.evaluation.pages import svg
from step_audio_jax.evaluation.reports import aligned
from step_audio_jax.evaluation.reports import facts
from step_audio_jax.evaluation.reports import utterances
from step_audio_jax.storage import files

FIGURES = {
  'stranger_tts': 'generated speech as a stranger understands it, errors',
  'stranger_codes': 'decoded codes as a stranger understands them, errors',
  'stranger_recordings': 'recordings as a stranger understands them, errors',
  'asr_cer': 'ASR character errors, seen voices',
  'asr_cer_unseen_voice': 'ASR character errors, unseen voice',
  'tts_cer': 'TTS tokens read by its own ASR',
  'sound_cer': 'generated speech, tokenised and read again',
  'aqta_exact': 'spoken questions answered exactly, seen voices',
  'aqta_exact_unseen_voice': 'spoken questions answered exactly, unseen voice',
  'aqta_exact_silenced': 'the same with silence in place of the question',
  'aqta_chance': 'the same by always saying the commonest answer',
  'tqta_exact': 'written questions answered exactly',
  'rm_pair_accuracy': 'pairs that the reward model judges right',
  'rm_ece': 'calibration error of the reward model',
  'true_reward_gap_closed': 'true reward: share of the gap to 1 that is closed',
  'true_reward_standard_errors': 'true reward: rise in standard errors',
  'ppo_kl': 'divergence of the policy, nats an answer',
  'rollout_logprob_gap': 'sampler against learner, largest mean difference',
  'share_error_rows': 'largest error of a source share, rows',
  'padding': 'padding in packed rows',
  'wall_seconds': 'wall-clock time',
  'peak_memory_bytes': 'peak memory',
}
# Of these more is better, so that a target is the least of them.
_RIGHT = (
  *('aqta_exact', 'aqta_exact_unseen_voice', 'tqta_exact'),
  *('rm_pair_accuracy', 'true_reward_gap_closed'),
  'true_reward_standard_errors',
)
_PLAIN = {
  'true_reward_standard_errors': '{:.1f}',
  'ppo_kl': '{:.2f}',
  'rollout_logprob_gap': '{:.1e}',
}


def reached(key: str, value: float, limit: float) -> bool:
  """Whether a figure is as good as its target."""
  return value >= limit if key in _RIGHT else value <= limit


def format_figure(key: str, value: float) -> str:
  """A figure of the report for people."""
  if key == 'wall_seconds':
    minutes, seconds = divmod(round(value), 60)
    return f'{minutes}:{seconds:02d} min' if minutes else f'{value:.1f} s'
  if key == 'peak_memory_bytes':
    return f'{value / 1e9:.2f} GB'
  if key in _PLAIN:
    return _PLAIN[key].format(value)
  if key.endswith('_rows'):
    return f'{value:.2f}'
  return f'{100 * value:.2f} %' if key == 'padding' else f'{100 * value:.1f} %'


def render(
  values: Mapping[str, Any],
  runs: Sequence[str],
  *,
  splits: tuple[str, str, str],
  manifest: str | None,
  players: int,
  policy: str | None = None,
) -> str:
  """The whole page.

  Args:
    values: Of `report.report`.
    runs: Run directories, in the order of `values['stages']`.
    splits: ASR, unseen voice and TTS split.
    manifest: Corpus folder, or None for no players.
    players: Utterances of each set.
    policy: The run of a policy, whose curves are drawn.
  """
  results = [facts.newest_result(run) for run in runs]
  last = next((r for r in reversed(results) if r.get('asr')), {})
  seen, unseen, tts = splits
  parts = [
    f'<h1>{html.escape(values["title"])}</h1>',
    _lead(values),
    *(
      f'<p>{html.escape(note)}</p>'
      for note in (*values['remarks'], *values['notes'])
    ),
    _tiles(values),
    '<h2>Learning</h2>',
    _curves(runs),
    '<h2>After each stage</h2>',
    _stage_charts(values),
    _stage_table(values),
    _count_table(values),
    utterances.utterance_cards(
      last, 'asr', seen, 'Seen voices', manifest, players
    ),
    utterances.utterance_cards(
      last, 'asr', unseen, 'A voice never heard', manifest, players
    ),
    utterances.utterance_cards(
      last, 'tts', tts, 'Text to speech tokens', None, players
    ),
    *(
      utterances.question_cards(
        answers, split, manifest, players, values['answers_folder']
      )
      for split, answers in values.get('answers', {}).items()
    ),
    aligned.section(values, policy),
    _sound(last, values, tts, players),
    _stranger(last, values, tts, players),
    utterances.captions(results),
    '<h2>Sources</h2>',
    _share_table(values),
    '<h2>Perplexity by source</h2>',
    _perplexity_table(results),
    _timing(values),
    _next(values, runs),
  ]
  return page.page(values['title'], '\n'.join(filter(None, parts)))


def _lead(values) -> str:
  names = ' → '.join(html.escape(s['name']) for s in values['stages'])
  return (
    f'<p class="quiet">{names}. Error rates are character level, summed over '
    'the set; text is compared in lower case with single spaces (none in '
    'languages written without). Nothing on this page was chosen by hand: '
    'utterances are the first of their set.</p>'
  )


def _sound(last, values, split, players) -> str:
  """Generated speech to listen to, and who spoke."""
  cards = utterances.utterance_cards(
    last,
    'sound',
    split,
    'Generated speech',
    values.get('sound_folder'),
    players,
  )
  if not cards:
    return ''
  speaker = {
    'griffin-lim': (
      'Griffin-Lim (librosa), which turns the mel of the flow into samples '
      'without a trained vocoder'
    ),
    'hift': 'HiFT, the vocoder trained in this run',
  }.get(values['vocoder'], values['vocoder'])
  return (
    f'{cards}<p class="quiet">Codes by the language model, mel by the flow; '
    f'spoken by {html.escape(speaker)}. Read back: the sound was tokenised '
    'again and transcribed by the model itself.</p>'
  )


def _stranger(last, values, split, players) -> str:
  """What an outside ear understood, by language, and who it is."""
  rates = values['stranger_by_language']
  if not rates:
    return ''
  languages = sorted({name for some in rates.values() for name in some})
  rows = [
    [
      FIGURES[task].removesuffix(', errors'),
      100 * values[task],
      *(100 * some[n] if n in some else None for n in languages),
      counts.short_text(values['counts'][task]),
    ]
    for task, some in rates.items()
  ]
  who = ''.join(
    f'<p class="quiet">The stranger: {html.escape(one)}.</p>'
    for one in values['judges']
  )
  head = ['character errors', 'all %', *(f'{n} %' for n in languages), 'heard']
  return (
    f'<h2>What a stranger understands</h2>{page.table(head, rows)}{who}'
    + utterances.utterance_cards(
      last,
      'stranger_tts',
      split,
      'Generated speech, heard by a stranger',
      values.get('sound_folder'),
      players,
    )
  )


def _tiles(values) -> str:
  tiles, unknown = [], counts.by_reason(values['not_computed'])
  for key, text in FIGURES.items():
    value = values.get(key)
    reason = values['not_computed'].get(key)
    if names := unknown.pop(reason, None):
      shown = ', '.join(name.replace('_', ' ') for name in names)
      tiles.append(page.tile('not computed', f'{shown}: {reason}'))
    if value is None:
      continue
    limit = values['targets'].get(key)
    if counted := values['counts'].get(key):
      text += f', {counts.short_text(counted)}'
    good = None
    if limit is not None:
      side = 'least' if key in _RIGHT else 'most'
      text += f'; at {side} {format_figure(key, limit)}'
      good = reached(key, value, limit)
    tiles.append(page.tile(format_figure(key, value), text, good))
  return f'<div class="tiles">{"".join(tiles)}</div>'


def _curves(runs) -> str:
  """All stages behind one another on one axis of steps."""
  lines: dict[str, tuple[list, list]] = {}
  marks, offset = [], 0
  for run in runs:
    curve = facts.curve(run)
    if 'loss' not in curve:
      continue
    marks.append((offset, files.path(run).name))
    for name in curve:
      if name == 'loss' or name.startswith('loss/'):
        steps, losses = lines.setdefault(name, ([], []))
        x, y = facts.downsample(*curve[name])
        # A gap, so that stages are not joined by a line.
        steps += [offset, *(offset + s for s in x)]
        losses += [float('nan'), *y]
    offset += curve['loss'][0][-1]
  total = [svg.Series('all', *lines.pop('loss'))] if 'loss' in lines else []
  streams = [svg.Series(n.split('/', 1)[1], *xy) for n, xy in lines.items()]
  common = {'x_label': 'step', 'y_label': 'nats a token', 'marks': marks}
  return (
    '<div class="charts">'
    + svg.line_chart(total, title='Training loss', **common)
    + svg.line_chart(streams, title='Loss by stream', **common)
    + '</div>'
  )


def _stage_charts(values) -> str:
  stages = values['stages']
  names = [s['name'] for s in stages]
  rates = [
    ('ASR, seen voices', _percent(stages, 'asr_cer')),
    ('ASR, unseen voice', _percent(stages, 'asr_cer_unseen_voice')),
    ('TTS round trip', _percent(stages, 'tts_cer')),
  ]
  shown = [n for n, s in enumerate(stages) if _rated(s)]
  limit = values['targets'].get('asr_cer')
  unit = f'%, on {values["stage_split"]}'
  rates = [(name, [some[n] for n in shown]) for name, some in rates]
  streams = [
    svg.Series(
      stream,
      [n for n, s in enumerate(stages) if stream in s['perplexity']],
      [s['perplexity'][stream] for s in stages if stream in s['perplexity']],
    )
    for stream in ('text', 'linguistic', 'semantic')
  ]
  return (
    '<div class="charts">'
    + svg.bar_chart(
      [names[n] for n in shown],
      [(name, some) for name, some in rates if any(_known(v) for v in some)],
      title='Character error rate',
      y_label=unit if limit is None else f'{unit}; dashed: wanted of ASR',
      limit=None if limit is None else 100 * limit,
    )
    + svg.line_chart(
      streams,
      title='Perplexity on held-out rows',
      log_y=True,
      dots=True,
      x_names=names,
    )
    + '</div>'
  )


def _percent(stages, key) -> list[float | None]:
  return [None if s[key] is None else 100 * s[key] for s in stages]


def _known(value) -> bool:
  return value is not None


def _rated(stage) -> bool:
  return any(
    _known(stage[k]) for k in ('asr_cer', 'asr_cer_unseen_voice', 'tts_cer')
  )


def _stage_table(values) -> str:
  head = [
    'stage', 'steps', 'loss', 'ASR CER %', 'unseen voice %', 'TTS CER %',
    'captions exact %', 'text rows ppl',
    *(f'{s} ppl' for s in perplexity.STREAMS),
  ]  # fmt: skip
  stages = values['stages']
  rates = [
    _percent(stages, key)
    for key in ('asr_cer', 'asr_cer_unseen_voice', 'tts_cer', 'caption_exact')
  ]
  rows = [
    [
      s['name'],
      s['steps'],
      s['loss'],
      *(some[n] for some in rates),
      s['text_perplexity'],
      *(s['perplexity'].get(stream) for stream in perplexity.STREAMS),
    ]
    for n, s in enumerate(stages)
  ]
  return page.table(head, rows)


def _count_table(values) -> str:
  """How many of how many, and what was left out; sources only together."""
  rows = []
  for s in values['stages']:
    shown = {
      name: found
      for name, found in s['counts'].items()
      if not name.startswith('perplexity/') or name == 'perplexity/all'
    }
    for line in counts.describe_steps({0: shown}, {0: s['left_out']}):
      name, text = line.split('  ', 1)
      rows.append([s['name'], name, text.strip()])
  if not rows:
    return ''
  return '<p>Scored, of how many:</p>' + page.table(
    ['stage', 'figure', 'scored'], rows
  )


def _share_table(values) -> str:
  rows = [
    [
      s['name'],
      line['source'],
      f'{100 * line["requested"]:.2f} %',
      f'{100 * line["realised"]:.2f} %',
      line['rows'],
      line['tokens'],
      line['error_rows'],
    ]
    for s in values['stages']
    for line in s['shares']
  ]
  head = [
    'stage', 'source', 'requested', 'realised', 'rows', 'tokens',
    'largest error, rows',
  ]  # fmt: skip
  return (
    '<p>Shares of tokens that each stage asked for and got. The error is the '
    f'largest over every prefix of {facts.FIRST_PREFIX} rows or more.</p>'
    + page.table(head, rows)
  )


def _perplexity_table(results) -> str:
  result = next((r for r in reversed(results) if r.get('perplexity')), None)
  if result is None:
    return '<p class="quiet">No rows were scored.</p>'
  rows = [
    [source, *(streams.get(s, {}).get('perplexity') for s in _ALL)]
    for source, streams in result['perplexity'].items()
  ]
  name = html.escape(files.path(result['run']).name)
  return f'<p>After {name}.</p>' + page.table(['source', *_ALL], rows)


_ALL = (*perplexity.STREAMS, *perplexity.GROUPS)


def _timing(values) -> str:
  commands = values['commands']
  if not commands:
    return ''
  whole = sum(c['seconds'] for c in commands) or 1.0
  rows = [
    [c['name'], c['seconds'], f'{100 * c["seconds"] / whole:.0f} %',
     c.get('command', '')]
    for c in commands
  ]  # fmt: skip
  return '<h2>Time</h2>' + page.table(
    ['step', 'seconds', 'share', 'command'], rows
  )


def _next(values, runs) -> str:
  last = html.escape(str(runs[-1])) if runs else 'RUN'
  missed = [
    f'<li>{html.escape(FIGURES[k])}: {format_figure(k, values[k])}, wanted '
    f'at {"least" if k in _RIGHT else "most"} {format_figure(k, limit)}.</li>'
    for k, limit in values['targets'].items()
    if k in FIGURES
    and values.get(k) is not None
    and not reached(k, values[k], limit)
  ]
  missed_text = (
    '<p>Not reached (more steps in the last stages help error rates most):</p>'
    f'<ul>{"".join(missed)}</ul>'
    if missed
    else ''
  )
  return (
    f'<h2>What to do next</h2>{missed_text}<ul>'
    '<li>Train on your own corpus: write a <code>manifest.jsonl</code> (the '
    'README shows the ten lines) and run the same commands on it.</li>'
    '<li>See when a skill was learnt: <code>python -m step_audio_jax evaluate '
    f'--gin_file=gin/eval/speech_text.gin --checkpoints={last} --steps=all'
    '</code> scores every checkpoint and draws the curve.</li>'
    '<li>Grow the model: copy a file of <code>gin/models</code>, raise width '
    'and layers, and check with <code>--dry_run</code> before you start.</li>'
    '<li>Read the figures by program: <code>report.json</code> beside this '
    'page has them all.</li></ul>'
  )
