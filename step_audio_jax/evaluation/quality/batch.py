"""Many recordings at once: a row for each, and what they are together."""

import collections
import functools
import os
from typing import Any, Collection, Iterator, Mapping, Sequence

import numpy as np

from step_audio_jax import progress
from step_audio_jax.decoder.exports import speaker as speaker_lib
from step_audio_jax.evaluation import statistics
from step_audio_jax.evaluation.quality import quality
from step_audio_jax.evaluation.quality import reasons
from step_audio_jax.evaluation.quality import sources
from step_audio_jax.runtimes import processes as processes_lib

_TOGETHER = 8  # recordings of a job


def measure_files(
  recordings: Sequence[sources.Recording],
  *,
  groups: Collection[str] = tuple(quality.GROUPS),
  speaker: str | os.PathLike | None = None,
  processes: int = 1,
) -> list[dict[str, Any]]:
  """Measures recordings, with a bar.

  Args:
    recordings: What `sources.read` found.
    groups: Of `quality.GROUPS`.
    speaker: Whose encoder compares voices, as of the door `embed`.
    processes: That share the work; their figures are the same.

  Returns:
    A row for each, in order: `id`, `wav` and what `quality.measure` gives; or
    `left_out`, the reason, and `why`, a sentence.

  Raises:
    UserError: There is no such group or no such encoder, or a process ended
      before its work.
  """
  quality.check_groups(groups)
  if speaker is not None and 'speaker' in groups:
    _encoder(os.fspath(speaker))  # before anything is measured
  else:
    speaker = None
  jobs = [
    (begin, tuple(recordings[begin : begin + _TOGETHER]))
    for begin in range(0, len(recordings), _TOGETHER)
  ]
  work = functools.partial(
    _measure_some,
    groups=tuple(groups),
    speaker=None if speaker is None else os.fspath(speaker),
    alone=processes <= 1,
  )
  found: dict[int, list[dict[str, Any]]] = {}
  with progress.bar(label='quality', total=len(recordings), unit='file') as bar:
    for begin, rows in processes_lib.spread(work, jobs, processes):
      found[begin] = rows
      bar.update(len(rows))
  return [row for begin in sorted(found) for row in found[begin]]


def _measure_some(begin, recordings, *, groups, speaker, alone):
  if not alone:
    # Several processes cannot share an accelerator.
    import jax

    jax.config.update('jax_platforms', 'cpu')
  encoder = None if speaker is None else _encoder(speaker)
  rows = []
  for one in recordings:
    row = {'id': one.id, 'wav': str(one.path)}
    try:
      wave_S, rate = sources.load(one.path)
      reference_S, reference_rate = None, None
      if one.reference is not None:
        try:
          reference_S, reference_rate = sources.load(one.reference)
        except reasons.Unfit as error:
          raise reasons.Unfit(
            f'its reference: {error.reason}', str(error)
          ) from error
      row |= quality.measure(
        wave_S,
        rate,
        reference_S,
        reference_rate=reference_rate,
        text=one.text,
        codes=one.codes,
        groups=groups,
        encoder=encoder,
        name=str(one.path),
      )
    except reasons.Unfit as error:
      row |= {'left_out': error.reason, 'why': str(error)}
    rows.append(row)
  return begin, rows


@functools.lru_cache(1)
def _encoder(path: str):
  return speaker_lib.open_encoder(path)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What rows are together.

  Args:
    rows: Of `measure_files`.

  Returns:
    JSON-able: how many `recordings`, how many were `measured`, `left_out` by
    reason, `sample_rates` of what was measured, their `seconds`, and by name
    of each figure `figures`: mean with its 95 % interval (`low`, `high`, over
    recordings), standard deviation, least, median, most, and how many `n` of
    them; and `not_computed`: reason → how
    many.
  """
  kept = [row for row in rows if 'left_out' not in row]
  values = collections.defaultdict(list)
  lacking: dict[str, collections.Counter] = collections.defaultdict(
    collections.Counter
  )
  for row in kept:
    for name, value in row['figures'].items():
      values[name].append(value)
    for name, reason in row['not_computed'].items():
      lacking[name][reason] += 1
  left_out = collections.Counter(
    row['left_out'] for row in rows if 'left_out' in row
  )
  rates = collections.Counter(str(row['sample_rate']) for row in kept)
  return {
    'recordings': len(rows),
    'measured': len(kept),
    'left_out': dict(sorted(left_out.items())),
    'seconds': round(sum(row['seconds'] for row in kept), 3),
    'sample_rates': dict(sorted(rates.items(), key=lambda one: int(one[0]))),
    'figures': {
      name: _told(values[name]) | {'not_computed': dict(lacking[name])}
      for name in dict.fromkeys([*_names(), *values, *lacking])
      if name in values or name in lacking
    },
  }


def _names() -> Iterator[str]:
  for names in quality.GROUPS.values():
    yield from names


def _told(values) -> dict[str, Any]:
  if not values:
    return {'n': 0}
  middle = statistics.mean(values)
  found = {
    'n': len(values),
    'mean': middle.value,
    'low': middle.low,
    'high': middle.high,
    'deviation': np.std(values, ddof=1) if len(values) > 1 else 0.0,
    'least': np.min(values),
    'median': np.median(values),
    'most': np.max(values),
  }
  return {
    name: value if name == 'n' else round(float(value), 6)
    for name, value in found.items()
  }
