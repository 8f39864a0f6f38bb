"""A sweep under way: checkpoints are scored, and all of it is told.

Each figure is a part (`memory.parts`) that is kept under all that it depends
on, so that what has changed is scored and what has not is kept. What a reader
sees (`sweeps.outputs`) is made of the kept parts alone, so that it does not
depend on the order of scoring, nor on how often that was stopped.
"""

import pathlib
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation import score as score_lib
from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.families import scores
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.memory import parts as parts_lib
from step_audio_jax.evaluation.sweeps import outputs as outputs_lib
from step_audio_jax.evaluation.sweeps import results
from step_audio_jax.storage import files

Held = dict[parts_lib.Part, Mapping[str, Any] | None]


class Session:
  """Scores the checkpoints of one run under one plan.

  Attributes:
    unreadable: Step → why its checkpoint cannot be scored.
    kept: Step → labels of parts that were there.
    scored: Step → labels of parts that were not.
  """

  def __init__(
    self,
    run: pathlib.Path,
    settings: Mapping[str, Any],
    plan: score_lib.Plan,
    memory: identity.DigestCache,
    overwrite: bool,
    tells: bool = True,
  ):
    """Nothing is looked at yet.

    Args:
      run: Run directory.
      settings: Arguments of `evaluate.evaluate`, which the files tell.
      plan: What is asked for.
      memory: Of digests.
      overwrite: Whether what was scored before is scored again.
      tells: Whether this process writes what readers see; of several one does.
    """
    self._tells = tells
    self._run, self._settings, self._plan = run, settings, plan
    self._memory, self._overwrite = memory, overwrite
    self._store = parts_lib.Store(run)
    self._outputs = outputs_lib.Outputs(run, plan.families, memory)
    self._models: dict[int, str] = {}
    self._views: dict[int, dict[str, Any]] = {}
    self._answers: dict[int, dict[str, Any]] = {}
    self._notes: list[str] = []
    self._first: errors.UserError | None = None
    self.unreadable: dict[int, str] = {}
    self.kept: dict[int, list[str]] = {}
    self.scored: dict[int, list[str]] = {}

  def look(self, wanted: Sequence[int]) -> dict[int, Held]:
    """What is there of steps, and what is not.

    Raises:
      UserError: Data are missing.
    """
    asked = self._plan.parts()
    self._notes += _unbound(self._run, wanted)
    # Where something was asked and is not there, that was told.
    if not asked and not self._plan.notes():
      self._notes.append(
        'evaluate: found nothing that is asked, expected a manifest, rows, '
        'benchmarks or families; nothing is scored.'
      )
    held: dict[int, Held] = {}
    for step in wanted:
      try:
        self._models[step] = self._memory.model(self._run, step)
      except errors.UserError as error:
        self._refuse(step, error)
        continue
      held[step] = {part: self._held(step, part) for part in asked}
      self.kept[step] = [p.label for p, found in held[step].items() if found]
      self.scored[step] = [
        p.label for p, found in held[step].items() if not found
      ]
    return held

  def score(self, held: Mapping[int, Held]) -> None:
    """Scores what is missing of steps, and writes what readers see.

    Args:
      held: Of `look`.

    Raises:
      UserError: Data or a judge cannot be read.
    """
    self._plan.prepare(
      part for found in held.values() for part in found if not found[part]
    )
    try:
      for step in held:
        checkpoint = family_lib.Checkpoint(self._run, step, self._models[step])
        try:
          self._score(checkpoint, held[step])
        except family_lib.CheckpointError as error:
          self._refuse(step, error)
          continue
        self._memory.save()
    finally:
      # Whatever ends a sweep, what was scored is told of.
      if self._views and self._tells:
        self._notes += self._outputs.write(
          self._views, self.unreadable, self._plan.published
        )
        self._memory.save()

  def check(self) -> None:
    """Complains where no checkpoint at all could be scored.

    Raises:
      UserError: Why the first of them could not.
    """
    if self._first and not self.scored:
      raise self._first

  def told(self) -> dict[str, Any]:
    """Results, counts, notes and the page, as `evaluate.evaluate` gives."""
    answers = {step: self._answers[step] for step in sorted(self._answers)}
    newest = answers[max(answers)] if answers else {'judges': []}
    return {
      'run': str(self._run),
      'results': {step: one['metrics'] for step, one in answers.items()},
      'units': {
        name: unit
        for one in answers.values()
        for name, unit in one['units'].items()
      },
      'counts': {step: one['counts'] for step, one in answers.items()},
      'left_out': {step: one['left_out'] for step, one in answers.items()},
      'judges': newest['judges'],
      **self.planned(),
      'not_computed': {**self._plan.not_computed(), **_not_computed(answers)},
      'page': str(self._outputs.page),
    }

  def planned(self) -> dict[str, Any]:
    """What was kept, what was not, and what there is to say."""
    notes = [
      *self._notes,
      *self._plan.notes(),
      *(
        f'{self._run}: step {step} was passed over: {reason}.'
        for step, reason in self.unreadable.items()
      ),
    ]
    return {
      'kept': self.kept,
      'scored': self.scored,
      'unreadable': self.unreadable,
      'notes': list(dict.fromkeys(notes)),
      'not_computed': self._plan.not_computed(),
    }

  def _refuse(self, step: int, error: errors.UserError) -> None:
    self._first = self._first or error
    self.unreadable[step] = str(error).rstrip('.')
    self.kept.pop(step, None)
    self.scored.pop(step, None)

  def _held(self, step, part) -> Mapping[str, Any] | None:
    """What was scored before, where all of it is there."""
    if self._overwrite:
      return None
    found = self._store.find(step, part, self._models[step])
    family = self._plan.family(part.task)
    if found and not family.is_whole(self._run, step, found):
      return None
    return found

  def _score(self, checkpoint: family_lib.Checkpoint, held: Held) -> None:
    step, families = checkpoint.step, self._plan.families
    mine = list(self._plan.score(checkpoint, held, self._store).values())
    about = {
      'run': str(self._run),
      'step': step,
      'settings': self._settings,
      'not_computed': self._plan.not_computed(),
    }
    self._answers[step] = scores.to_json(about, families, mine)
    others, notes = self._others(step, mine)
    self._notes += notes
    view = scores.to_json(about, families, [*mine, *others])
    self._views[step] = view
    path = results.result_path(self._run, step)
    if _read(path) != view:
      files.write_json(path, view)

  def _others(self, step, mine):
    """Figures of the step that were not asked for now and still hold."""
    asked = {(found['task'], found['name']) for found in mine}
    tasks = {found['task'] for found in mine}
    conditions = {(f['task'], f['name']): f['condition'] for f in mine}
    kept, gone = [], []
    before = _read(results.result_path(self._run, step)) or {}
    for old in before.get('parts', ()):
      task, name = old['task'], old['name']
      family = self._plan.family(task)
      together = family and family.together and task in tasks
      if (task, name) in asked or together:
        continue
      part = self._plan.again(task, name)
      condition = part.condition if part else old['condition']
      found = self._store.of_condition(
        step, task, condition, self._models[step]
      )
      if task in tasks and part is None:
        found = None  # of a set that is there no more, or of other rows
      if found and family and (of := family.made_of.get(task)):
        heard = conditions.get((of, name))
        if heard not in (None, found['settings'].get(of)):
          found = None
      if found:
        kept.append(found)
        conditions[task, name] = found['condition']
      else:
        gone.append(f'{task}/{name}')
    if not gone:
      return kept, []
    return kept, [
      f'{self._run}: {", ".join(gone)} of step {step} belong to other '
      'settings, data or parameters than these; evaluate them again to see '
      'them beside these.'
    ]


def _not_computed(answers: Mapping[int, Mapping[str, Any]]) -> dict[str, str]:
  """Figure of any step → why it is none; parts left out are told as such."""
  return {
    name: reason
    for one in answers.values()
    for name, reason in one['not_computed'].items()
    if reason not in one['left_out'].values()
  }


def _unbound(run: pathlib.Path, wanted: Sequence[int]) -> list[str]:
  """Score files that do not say what they were scored on."""
  old = []
  for step in wanted:
    found = _read(results.result_path(run, step))
    if found is not None and 'parts' not in found:
      old.append(step)
  if not old:
    return []
  return [
    f'{run}/evaluation: the scores of step {", ".join(map(str, old))} do not '
    'say what they were measured on, and are measured again.'
  ]


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  """A score file; None where there is none, or a broken one."""
  try:
    return dict(files.read_json(path)) if files.is_file(path) else None
  except (errors.UserError, TypeError, ValueError):
    return None
