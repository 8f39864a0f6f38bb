"""Perplexities of built rows, by stream and source."""

import pathlib
import time
from typing import Any, Mapping

import numpy as np

from step_audio_jax.evaluation.families import family
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import perplexity
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import feed

Part = family.Part
_TASK = 'perplexity'


class Rows(family.Family):
  """How well the model foresees what it was trained on."""

  tasks = (_TASK,)
  together = True

  def __init__(self, settings: Mapping[str, Any], memory: identity.DigestCache):
    """Of data nothing is read yet.

    Args:
      settings: Arguments of `evaluate.evaluate`.
      memory: Of digests.
    """
    self._asked, self._memory = settings, memory
    self._absent: list[str] = []

  def parts(self) -> list[Part]:
    if self._asked['rows'] is None:
      return []
    return [self._of(name) for name in self._sources()]

  def notes(self) -> list[str]:
    return self._absent

  def _sources(self) -> list[str]:
    root, split = files.path(self._asked['rows']), self._asked['row_split']
    found = list(self._asked['sources']) or sorted(
      path.parent.parent.name
      for path in files.glob(root, f'*/{split}/stats.json')
    )
    if not found:
      self._absent = [
        f'perplexity: no folder of {root} has rows of the split {split!r}.'
      ]
    return found

  def _of(self, name: str) -> Part:
    folder, most = folder_of(self._asked, name), self._asked['max_rows']
    data = self._memory.rows(folder)
    count = files.read_json(folder / 'stats.json').get('rows') or 0
    settings = {'split': self._asked['row_split'], 'rows': 'all'}
    if most and most < count:
      settings['rows'] = most
    return Part(_TASK, name, data, settings)

  def score(self, checkpoint, parts, held, keep) -> None:
    model, variables, vocabulary = checkpoint.loaded
    for part in parts:
      began = time.monotonic()
      source = feed.Source(part.name, folder_of(self._asked, part.name))
      # A backbone that cannot see or hear yet is scored on what it can read.
      deaf = not vocabulary.linguistic_size and (
        source.row(0)['tokens'].max() >= vocabulary.table_size
      )
      blind = model.config.vision is None and source.stats.get('images_per_row')
      if deaf or blind:
        keep(part, began, None, family.DEAF if deaf else family.BLIND)
        continue
      most = self._asked['max_rows']
      sums = perplexity.sum_source(
        model, variables, vocabulary, source, max_rows=most
      )
      rows = min(len(source), most or len(source))
      left_out = {f'beyond max_rows={most}': len(source) - rows}
      result = {
        'streams': sums.as_dict(),
        'sums': [sums.nll.tolist(), sums.weight.tolist()],
        'counted': counts.count(rows, len(source), 'rows', left_out),
      }
      keep(part, began, result)

  def show(self, kept) -> family.Shown:
    if not kept:
      return family.Shown({}, {}, {})
    section, counted, sums = {}, {}, perplexity.Sums()
    for one in kept:
      if one['left_out']:
        continue
      result = one['result']
      sums += perplexity.Sums(*map(np.asarray, result['sums']))
      section[one['name']] = result['streams']
      counted[f'{_TASK}/{one["name"]}'] = result['counted']
    section['all'] = sums.as_dict()
    if counted:
      counted[f'{_TASK}/all'] = counts.sum_counts(list(counted.values()))
    found = {
      f'{_TASK}/{source}/{stream}': family.Figure(
        figures['perplexity'],
        unit='',
        better='lower',
        of=counted.get(f'{_TASK}/{source}', {}).get('scored', 0),
      )
      for source, streams in section.items()
      for stream, figures in streams.items()
    }
    return family.Shown({_TASK: section}, found, counted)


def folder_of(settings: Mapping[str, Any], name: str) -> pathlib.Path:
  """Where the rows of a source lie."""
  return files.path(settings['rows']) / name / settings['row_split']
