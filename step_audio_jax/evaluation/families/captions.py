"""Captions of the images of built rows."""

import time
from typing import Any, Mapping

from step_audio_jax.evaluation.families import family
from step_audio_jax.evaluation.families import rows as rows_lib
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import captions as captions_lib
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.generation import restore
from step_audio_jax.storage import files

Part = family.Part
_TASK = 'captions'


class Captions(family.Family):
  """What the model says of what it sees."""

  tasks = (_TASK,)

  def __init__(self, settings: Mapping[str, Any], memory: identity.DigestCache):
    """Of data nothing is read yet.

    Args:
      settings: Arguments of `evaluate.evaluate`.
      memory: Of digests.
    """
    self._asked, self._memory = settings, memory
    self._absent: list[str] = []

  def parts(self) -> list[Part]:
    asked = self._asked
    if asked['rows'] is None or not asked['captions']:
      return []
    name = asked['caption_source']
    folder = rows_lib.folder_of(asked, name)
    if not files.is_file(folder / 'stats.json'):
      self._absent = [f'captions: {folder} has no rows with images.']
      return []
    settings = {'split': asked['row_split'], 'captions': asked['captions']}
    return [Part(_TASK, name, self._memory.rows(folder), settings)]

  def notes(self) -> list[str]:
    return self._absent

  def score(self, checkpoint, parts, held, keep) -> None:
    model, variables, vocabulary = checkpoint.loaded
    for part in parts:
      began = time.monotonic()
      if model.config.vision is None:
        keep(part, began, None, family.BLIND)
        continue
      count = self._asked['captions']
      result = captions_lib.evaluate(
        restore.unroll_layers(model),
        variables,
        vocabulary,
        folder=rows_lib.folder_of(self._asked, part.name),
        count=count,
      )
      beyond = result['of'] - result['images'] - result['passed_over']
      left_out = {
        f'beyond captions={count}': beyond,
        'with a cut document': result['passed_over'],
      }
      cut = {'cut at 64 tokens': result['unfinished']}
      result['counted'] = counts.count(
        result['images'], result['of'], 'images', left_out, cut
      )
      keep(part, began, result)

  def show(self, kept) -> family.Shown:
    sections, found, counted = {}, {}, {}
    for one in kept:
      if one['left_out']:
        continue
      result = sections[_TASK] = one['result']
      counted['caption_cer'] = result['counted']
      for name, better in (('cer', 'lower'), ('exact', 'higher')):
        found[f'caption_{name}'] = family.Figure(
          result[name],
          better=better,
          of=result['images'],
          by=scoring.CONVENTION,
        )
    return family.Shown(sections, found, counted)
