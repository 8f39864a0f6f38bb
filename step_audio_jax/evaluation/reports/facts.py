"""What finished runs say about themselves, read from their directories."""

from fractions import Fraction
import math
import pathlib
import time
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.corpus import schedule
from step_audio_jax.evaluation import evaluate as evaluate_lib
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import stranger
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files

# Ratios are promised for every prefix of at least this many rows.
FIRST_PREFIX = 100


def curve(run: str | pathlib.Path) -> dict[str, tuple[list, list]]:
  """Metric → (steps, values) of a run's `metrics.jsonl`; {} without one."""
  path = files.path(run) / 'metrics.jsonl'
  found: dict[str, tuple[list, list]] = {}
  if not files.is_file(path):
    return found
  for line in files.read_jsonl(path):
    step = line.pop('step', None)
    for name, value in line.items():
      if isinstance(value, (int, float)) and step is not None:
        steps, values = found.setdefault(name, ([], []))
        steps.append(step)
        values.append(value)
  return found


def vocabulary_origin(run: str | pathlib.Path) -> dict[str, str | None]:
  """What a run's ids belong to, by name; None where it does not say."""
  path = files.path(run) / 'config.json'
  config = files.read_json(path) if files.is_file(path) else {}
  vocabulary = config.get(bindings.VOCABULARY)
  tokenizer = bindings.tokenizer_of(config, path)
  return {
    bindings.VOCABULARY: vocabulary and bindings.vocabulary_name(vocabulary),
    bindings.TOKENIZER: tokenizer and bindings.tokenizer_name(tokenizer),
  }


def downsample(
  steps: Sequence[float], values: Sequence[float], most: int = 240
):
  """At most `most` points: means of neighbours; short curves unchanged."""
  if len(steps) <= most:
    return list(steps), list(values)
  bins = np.array_split(np.arange(len(steps)), most)
  x, y = np.asarray(steps, float), np.asarray(values, float)
  return [float(x[b].mean()) for b in bins], [float(y[b].mean()) for b in bins]


def shares(run: str | pathlib.Path) -> list[dict[str, Any]]:
  """Requested against realised shares of the rows that a run consumed.

  Rows have one length, so a share of rows is a share of tokens.

  Returns:
    One dict a source: source, requested and realised (0..1), rows, tokens,
    error_rows (largest |count - share * prefix| over prefixes of
    `FIRST_PREFIX` rows or more; over the whole where there are fewer). Where
    the mixture changes, `requested` is the mean and prefixes begin with each
    phase. Empty for a run that was not fed from a schedule, or is not done.

  Raises:
    UserError: The record of the rows contradicts itself.
  """
  run = files.path(run)
  if not files.is_file(run / 'sources.json'):
    return []
  record = files.read_json(run / 'sources.json')
  with files.opened(run / 'sources.npy') as handle:
    consumed = np.load(handle)
  if len(consumed) != record['rows'] or (
    len(consumed) and consumed.max() >= len(record['names'])
  ):
    raise errors.UserError(
      f'{run}/sources.npy: found {len(consumed)} rows with ids up to '
      f'{consumed.max(initial=0)}, expected {record["rows"]} rows of '
      f'{len(record["names"])} sources.'
    )
  phases = record.get('phases') or [{'row': 0, 'shares': record['shares']}]
  starts = [min(phase['row'], len(consumed)) for phase in phases]
  spans = list(zip(starts, [*starts[1:], len(consumed)]))
  table = []
  for n, name in enumerate(record['names']):
    mine = consumed == n
    requested, worst = Fraction(0), 0.0
    for phase, (start, stop) in zip(phases, spans):
      share = Fraction(phase['shares'][n])
      requested += share * (stop - start)
      first = max(1, min(FIRST_PREFIX, stop - start))
      others = np.where(mine[start:stop], 0, 1)
      worst = max(worst, schedule.prefix_error(others, (share,), first))
    table.append(
      {
        'source': name,
        'requested': float(
          requested / len(mine)
          if len(mine)
          else Fraction(phases[0]['shares'][n])
        ),
        'realised': float(mine.mean()) if len(mine) else 0.0,
        'rows': int(mine.sum()),
        'tokens': int(mine.sum()) * record['row_length'],
        'error_rows': worst,
      }
    )
  return table


def padding(
  tables: Sequence[Sequence[Mapping[str, Any]]],
  rows: str | pathlib.Path,
  *,
  prefix: str = '',
  split: str = 'train',
) -> float | None:
  """Pad tokens / all tokens, sources weighted by the rows consumed of them.

  Args:
    tables: `shares` of each run.
    rows: Folder of row folders.
    prefix: Before each source's name.
    split: Which split was trained on.

  Returns:
    A share, or None where nothing was consumed.
  """
  consumed: dict[str, int] = {}
  for table in tables:
    for line in table:
      name = line['source']
      consumed[name] = consumed.get(name, 0) + line['rows']
  pads = total = 0.0
  for name, count in consumed.items():
    folder = files.path(rows) / f'{prefix}{name}' / split
    stats = files.read_json(folder / 'stats.json')
    pads += count * stats['pad_tokens'] / (stats['rows'] * stats['length'])
    total += count
  return pads / total if total else None


def timing(path: str | pathlib.Path | None) -> dict[str, Any]:
  """The timing file of a pipeline: commands, wall_seconds, peak_memory_bytes.

  Where the whole has no end yet, it is counted up to now.
  """
  if path is None:
    return {}
  record = files.read_json(path)
  if record.get('wall_seconds') is None and 'started' in record:
    record['wall_seconds'] = time.time() - record['started']
  return record


def corpus_notes(manifest: str | pathlib.Path | None) -> list[str]:
  """What a synthesised corpus lacks, as who made it was told."""
  if manifest is None:
    return []
  stamp = manifest_lib.path_of(manifest).parent / manifest_lib.STAMP
  made = files.read_json(stamp) if files.is_file(stamp) else {}
  notes = made.get('notes') if isinstance(made, dict) else None
  if not isinstance(notes, list):
    return []
  return [note for note in notes if isinstance(note, str)]


def newest_result(run: str | pathlib.Path) -> dict[str, Any]:
  """Scores of the newest checkpoint that was scored; {} if there is none.

  Steps that the run has not come to are those of an earlier training.
  """
  results = evaluate_lib.all_results(run)
  steps = set(results) - set(evaluate_lib.steps_behind(run))
  return results[max(steps)] if steps else {}


def is_stale(run: str | pathlib.Path, result: Mapping[str, Any]) -> bool:
  """Whether a scored checkpoint has other parameters by now.

  A checkpoint that is there no more, or scores that do not say whose they
  are, tell nothing.
  """
  step, model = result.get('step'), result.get('model')
  folder = files.path(run) / 'checkpoints' / str(step)
  if model is None or not files.is_dir(folder):
    return False
  memory = identity.DigestCache(files.path(run) / 'evaluation')
  return memory.model(run, step) != model


def comparability_warnings(
  named: Sequence[tuple[str, str | pathlib.Path, Mapping[str, Any]]],
) -> list[str]:
  """Why figures of several runs should not be read side by side.

  Args:
    named: (name, run directory, its newest result) of each run.

  Returns:
    One sentence for each reason; [] where they can be compared.
  """
  found = []
  for name, run, _ in named:
    if behind := evaluate_lib.steps_behind(run):
      found.append(
        f'{name}: the scores of step {", ".join(map(str, behind))} are of an '
        'earlier training, which went further than this one; not shown.'
      )
  scored = [(name, run, result) for name, run, result in named if result]
  stale = [name for name, run, result in scored if is_stale(run, result)]
  if stale:
    found.append(
      f'{", ".join(stale)}: the checkpoint has other parameters than when it '
      'was scored; evaluate it again.'
    )
  old = [name for name, _, result in scored if 'parts' not in result]
  if old:
    found.append(
      f'{", ".join(old)}: the scores do not say what they were measured on; '
      'evaluate again to have that told.'
    )
  conditions: dict[str, dict[Any, list[str]]] = {}
  for name, _, result in scored:
    rows = []
    for part in result.get('parts', ()):
      label = f'{part["task"]}/{part["name"]}'
      if label in result.get('left_out', {}):
        continue
      if part['task'] == 'perplexity':
        rows.append(part['condition'])
      else:
        groups = conditions.setdefault(label, {})
        groups.setdefault(part['condition'], []).append(name)
    if rows:
      groups = conditions.setdefault('perplexity/all', {})
      groups.setdefault(tuple(sorted(rows)), []).append(name)
  for label, groups in conditions.items():
    if len(groups) > 1:
      each = '; '.join(', '.join(names) for names in groups.values())
      found.append(
        f'{label}: measured on different data or under different settings in '
        f'{each}; not to be compared across them.'
      )
  return found


# Figure → how and in which split it was asked, and what it is. Names after
# Step-Audio's tasks: audio or text query, text answer.
ANSWERED = {
  'aqta_exact': ('spoken', 'test_asked', 'exact'),
  'aqta_exact_unseen_voice': ('spoken', 'test_asked_unseen_voice', 'exact'),
  'aqta_exact_silenced': ('silenced', 'test_asked', 'exact'),
  'aqta_chance': ('spoken', 'test_asked', 'chance'),
  'tqta_exact': ('written', 'test_asked', 'exact'),
}


def answered(path: str | pathlib.Path | None) -> dict[str, Any]:
  """Shares of questions that were answered exactly, as `ANSWERED` names them.

  Args:
    path: Of what the `answer` door wrote; None where nothing was asked.

  Returns:
    Each figure, or None where it was not asked; `answers`, split → every
    answer to spoken questions; `answers_folder`, where their `wav` lie.

  Raises:
    UserError: The file is not what the door writes.
  """
  if path is None:
    return {}
  found = files.read_json(path)
  try:
    figures = {
      name: found.get(kind, {}).get(split, {}).get(figure)
      for name, (kind, split, figure) in ANSWERED.items()
    }
    rows = {k: list(v['answers']) for k, v in found['spoken'].items()}
  except (AttributeError, KeyError, TypeError) as error:
    raise errors.UserError(
      f'{path}: not what `answer` writes, expected figures by how and where '
      'questions were asked.'
    ) from error
  folder = str(files.path(path).parent)
  return {**figures, 'answers': rows, 'answers_folder': folder}


def cer(result: Mapping[str, Any], task: str, split: str) -> float | None:
  """An error rate of a result, or None."""
  value = result.get(task, {}).get(split, {}).get('cer')
  return value if value is not None and math.isfinite(value) else None


def text_perplexity(result: Mapping[str, Any], source: str) -> float | None:
  """Of the text of a source, or None where it was not scored."""
  streams = result.get('perplexity', {}).get(source, {})
  return streams.get('text', {}).get('perplexity')


def forgetting(stages: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
  """What the last stage made of what was there: figures after over before.

  Args:
    stages: Of a report, in order.

  Returns:
    `asr_cer` on the split of the stages and `text_perplexity`, 1 where nothing
    changed and above it where something was lost; None where it is unknown.
  """

  def ratio(key):
    before, after = ([None, None, *(s[key] for s in stages)])[-2:]
    return after / before if before and after is not None else None

  return {key: ratio(key) for key in ('asr_cer', 'text_perplexity')}


def strangers(
  results: Sequence[Mapping[str, Any]], split: str
) -> dict[str, Any]:
  """What an outside ear understands, of the last runs that have it.

  Args:
    results: Of `newest_result`.
    split: That is heard.

  Returns:
    Each figure as an error rate or None; `stranger_by_language`, the same by
    language; `not_computed`, a reason for each that is None; `judges`, who
    heard.
  """
  found: dict[str, Any] = {
    **dict.fromkeys(stranger.TASKS),
    'stranger_by_language': {},
    'not_computed': {},
    'judges': [],
  }
  for task in stranger.TASKS:
    one = next(
      (r for r in reversed(results) if cer(r, task, split) is not None), None
    )
    if one is None:
      found['not_computed'][task] = _why_not(results, task, split)
      continue
    found[task] = cer(one, task, split)
    found['stranger_by_language'][task] = one[task][split]['by_language']
    found['judges'] += [j for j in one['judges'] if j not in found['judges']]
  return found


def _why_not(results, task, split) -> str:
  newest = next((r for r in reversed(results) if r), {})
  if reason := newest.get('left_out', {}).get(f'{task}/{split}'):
    return reason
  if reason := newest.get('not_computed', {}).get(task):
    return reason
  if task in newest:
    return f'{split} was not heard, but {", ".join(newest[task])}'
  return 'no judge has heard these runs (evaluate.judge)'
