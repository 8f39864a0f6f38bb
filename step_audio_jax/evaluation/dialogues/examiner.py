"""Full-Duplex-Bench v2: dialogues with an examiner, as a judge saw them.

Lin et al., "Full-Duplex-Bench-v2: A Multi-Turn Evaluation Framework for Duplex
Dialogue Systems with an Automated Examiner", arXiv:2510.07838, as its public
scripts count (DanielLin94144/Full-Duplex-Bench, v2/scoring).

An examiner speaks (channel A), the system answers (B); a language model reads
both and gives each turn of B two marks from 1 to 5, and the dialogue a third:

    turn_taking            mean over all turns
    instruction_following  mean over all turns
    task                   mean over dialogues; of Correction, EntityTracking
                           and Safety, as Daily has no rubric of its own

by split and over all. A turn counts where it has both marks, as in the scripts;
what is no mark from 1 to 5 is counted and left out. Judges' answers are read
where they are JSON (`ID_processed.json`, which the public `parse.py` writes, or
else `ID.json`); nothing is guessed in others.

Ours, of the sound alone: `response_latency`, from an end of the examiner to the
system's next start (as `overlap`), and `overlap_share`, the share of the
examiner's speech that the system speaks into.

Layout: `prompts_staged_200.json` in `folder`; `SPLIT/ID/A.wav` and `B.wav`
below `outputs`, `SPLIT/ID.json` below `judgements`.
"""

import dataclasses
from typing import Any, ClassVar, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues import overlap
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import spans
from step_audio_jax.evaluation.dialogues.timelines import words as words_lib
from step_audio_jax.storage import files

FILE = 'prompts_staged_200.json'
SPLITS = ('Daily', 'Correction', 'EntityTracking', 'Safety')
_TURNS, _TASK = 'Turn-taking event and score', 'Task-specific score'
_OF = 200  # tasks of the published version
_UNJUDGED = 'no judge has marked a dialogue (ID.json)'
_UNMARKED = 'not marked by a judge (ID.json)'
_UNREADABLE = 'marks of a judge that cannot be read (ID.json)'
_NO_MARK = 'a turn without two marks from 1 to 5'


@dataclasses.dataclass(frozen=True)
class FullDuplexBench2(base.Benchmark):
  """Full-Duplex-Bench v2.

  Attributes:
    judgements: Folder of what the judge answered; '' is `outputs`.
  """

  judgements: str = ''

  name: ClassVar[str] = 'full_duplex_bench_2'

  def read(self) -> base.Reading:
    path = self.input_folder / FILE
    if not files.is_file(path):
      self.refuse(f'the tasks of v2 ({FILE})')
    tasks = _tasks(path)
    items = tuple(
      base.Dialogue(
        f'{split}/{id}', split, self.input_folder, self._place(split, id)
      )
      for split, ids in tasks.items()
      for id in ids
    )
    absent = {}
    if self.complete and len(items) < _OF:
      absent['all'] = _OF - len(items)
    return base.Reading(items, absent=absent)

  def _place(self, split, id) -> files.AnyPath:
    # The public scripts take either.
    inner = self.output_folder / 'alignment' / split / id
    return inner if files.is_dir(inner) else self.output_folder / split / id

  def measure(self, item: base.Dialogue) -> dict[str, Any]:
    row: dict[str, Any] = {'notes': [], 'turns': None, 'task': None}
    marks, why_not = self._marks(item)
    if marks is None:
      row['notes'].append(why_not)
    else:
      row |= _marked(marks, item.subset, row['notes'])
    try:
      examiner = recordings.read(item.output, 'A')
      system = recordings.read(item.output, 'B')
    except recordings.Fault as fault:
      if marks is None:
        raise
      row['notes'].append(fault.reason)
      row['detail'] = fault.detail
      return row
    row['notes'] += recordings.notes(system, examiner, self.tolerance)
    user_N2 = examiner.segments_N2
    found = overlap.latencies(system, examiner, 0.0, examiner.seconds)
    shared_K2 = spans.overlaps(user_N2, system.segments_N2)
    spoken = float(np.diff(user_N2).sum())
    row['responses'] = found['responses']
    row['overlap_share'] = (
      float(np.diff(shared_K2).sum()) / spoken if spoken else None
    )
    return row

  def _marks(self, item) -> tuple[Mapping[str, Any] | None, str]:
    """What the judge answered, or None and why there are no marks."""
    why_not = _UNMARKED
    place = self.output_folder
    if self.judgements:
      place = files.path(self.judgements)
    for name in (f'{item.name}_processed.json', f'{item.name}.json'):
      try:
        found = words_lib.read_json(place / item.subset / name)
      except recordings.Fault:
        why_not = _UNREADABLE
        continue
      if isinstance(found, Mapping) and isinstance(found.get(_TURNS), list):
        return found, ''
      if found is not None:
        why_not = _UNREADABLE
    return None, why_not

  def summarise(self, rows, sheet):
    for split in ('', *SPLITS):
      part = [row for row in rows if split in ('', row['subset'])]
      head = f'{split}/' if split else ''
      why = _UNJUDGED if part else base.NONE_SCORED
      turns = [turn for row in part for turn in row['turns'] or ()]
      for place, figure in ((2, 'turn_taking'), (3, 'instruction_following')):
        values = [turn[place] for turn in turns]
        sheet.mean(f'{head}{figure}', values, 'score', 'higher', why)
      if split != 'Daily':
        values = [row['task'] for row in part]
        sheet.mean(f'{head}task', values, 'score', 'higher', why)
      silent = 'nobody responds' if part else base.NONE_SCORED
      seconds = [b - a for row in part for a, b in row.get('responses', ())]
      sheet.mean(f'{head}response_latency', seconds, 's', 'lower', silent)
      values = [row.get('overlap_share') for row in part]
      unheard = 'no dialogue has A.wav and B.wav'
      sheet.mean(f'{head}overlap_share', values, '%', 'lower', unheard)


def _tasks(path) -> dict[str, list[str]]:
  """Ids of each split.

  Raises:
    UserError: The file is of another form.
  """
  found = files.read_json(path)
  try:
    return {
      split: [str(task['id']) for task in found['splits'][split]['tasks']]
      for split in SPLITS
      if split in found['splits']
    }
  except (KeyError, TypeError) as error:
    raise errors.UserError(
      f'{path}: found {str(found)[:60]!r}, expected `splits` with `tasks` that '
      f'have an `id` ({error!r}).'
    ) from error


def _marked(found, split, notes) -> dict[str, Any]:
  """Marks of a judge's answer; appends to the notes what is none."""
  turns = []
  for event in found[_TURNS]:
    try:
      (start, end), *marks = event
      fine = (
        len(marks) == 2
        and all(map(words_lib.is_time, (start, end)))
        and all(map(_is_mark, marks))
      )
    except (TypeError, ValueError):
      fine = False
    if fine:
      turns.append([float(start), float(end), *map(float, marks)])
    elif _NO_MARK not in notes:
      notes.append(_NO_MARK)
  task = found.get(_TASK)
  if split == 'Daily':
    task = None
  elif not _is_mark(task):
    notes.append('no mark from 1 to 5 of the task')
    task = None
  return {'turns': turns, 'task': task}


def _is_mark(found: Any) -> bool:
  return words_lib.is_time(found) and 1 <= found <= 5
