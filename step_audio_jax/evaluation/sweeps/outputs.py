"""What readers see of a sweep, all below `RUN/evaluation`.

    rows/<step>/<task>-<set>.jsonl  every item by itself (`rows`)
    summary.json                    all figures of all steps (`summary`)
    table.md, table.tex             the same for papers (`tables`)
    tensorboard/                    the same as scalars (`events`)
    index.html                      the same for people (`page`)

All of it is of the conditions of the newest step that was asked for: figures
of other settings or data are not beside them.
"""

import pathlib
from typing import Any, Mapping, Sequence

from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.families import scores
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.memory import parts as parts_lib
from step_audio_jax.evaluation.sweeps import events
from step_audio_jax.evaluation.sweeps import page as page_lib
from step_audio_jax.evaluation.sweeps import published as published_lib
from step_audio_jax.evaluation.sweeps import results
from step_audio_jax.evaluation.sweeps import rows as rows_lib
from step_audio_jax.evaluation.sweeps import summary
from step_audio_jax.evaluation.sweeps import tables
from step_audio_jax.storage import files


class Outputs:
  """Writes them.

  Attributes:
    page: Path of `index.html`.
  """

  def __init__(
    self,
    run: pathlib.Path,
    families: Sequence[family_lib.Family],
    memory: identity.DigestCache,
  ):
    """Nothing is read yet.

    Args:
      run: Run directory.
      families: Whose parts are shown.
      memory: Of digests, and of what was written.
    """
    self._run, self._families, self._memory = run, families, memory
    self._store = parts_lib.Store(run)
    self._folder = run / results.FOLDER
    self.page = self._folder / 'index.html'

  def write(
    self,
    views: Mapping[int, Mapping[str, Any]],
    unreadable: Mapping[int, str],
    published: Mapping[str, published_lib.Published],
  ) -> list[str]:
    """Writes what has changed.

    Args:
      views: Step → its scores (`scores.to_json`), of those asked for.
      unreadable: Step → why it is not scored.
      published: Figure → what others say of themselves.

    Returns:
      What is to be said of them.
    """
    newest = views[max(views)]
    steps, notes = self._steps(views)
    names = [n for step in steps.values() for n in step.shown.figures]
    shown = published_lib.beside(dict.fromkeys(names), published)
    found = summary.build(
      self._run, steps, newest['not_computed'], unreadable, shown
    )
    self._json(summary.NAME, found)
    head, lines = tables.cells(steps, shown)
    told = tables.footnotes(shown, newest['not_computed'], unreadable)
    self._text('table.md', tables.markdown(head, lines, told))
    self._text('table.tex', tables.latex(head, lines, told))
    metrics = {
      number: {
        name: figure.value
        for name, figure in step.shown.figures.items()
        if figure.value is not None
      }
      for number, step in steps.items()
    }
    events.write(self._folder, metrics, self._memory)
    text = page_lib.page(
      self._run,
      steps,
      notes,
      not_computed=newest['not_computed'],
      unreadable=unreadable,
      published=shown,
    )
    self._text(self.page.name, text)
    return notes

  def _steps(self, views) -> tuple[dict[int, summary.Step], list[str]]:
    """Every step under the conditions of the newest one asked."""
    newest = views[max(views)]
    chosen, absent = {}, []
    behind = results.steps_behind(self._run)
    scored = {*views, *results.scored_steps(self._run)} - set(behind)
    for step in sorted(scored):
      model = None  # gone; its newest figures stand
      if step in views:
        model = views[step]['model']
      elif files.is_dir(self._run / 'checkpoints' / str(step)):
        model = self._memory.model(self._run, step)
      found = [
        self._store.of_condition(step, one['task'], one['condition'], model)
        for one in newest['parts']
      ]
      if any(found):
        chosen[step] = self._step(step, [one for one in found if one])
      if not all(found):
        absent.append(step)
    notes = []
    if behind:
      notes.append(
        f'{self._folder}: step {", ".join(map(str, behind))} lies behind the '
        'newest checkpoint, so its scores are those of another training and '
        'are not shown.'
      )
    if absent:
      notes.append(
        f'{self.page}: not every figure of step '
        f'{", ".join(map(str, absent))} was scored under the settings and on '
        f'the data of step {max(views)}; --steps=all scores what is missing.'
      )
    return chosen, notes

  def _step(self, number: int, parts) -> summary.Step:
    of = {task: one for one in self._families for task in one.tasks}
    parts = [part for part in parts if part['task'] in of]
    rows = [
      rows_lib.of(self._folder, number, part, of[part['task']], self._memory)
      for part in parts
    ]
    names = [of[part['task']].main_figure(part) for part in parts]
    shown = summary.with_intervals(
      scores.show(self._families, parts),
      dict(zip(names, rows, strict=True)),
      lambda name, make: self._memory.derived(
        f'interval {number} {name}',
        [[part['condition'], part['model']] for part in parts],
        make,
      ),
    )
    sounds = [of[part['task']].sounds(part, number) for part in parts]
    return summary.Step(parts, shown, rows, names, sounds)

  def _json(self, name: str, value: Any) -> None:
    path = self._folder / name
    if not files.is_file(path) or _parsed(path) != value:
      files.write_json(path, value)

  def _text(self, name: str, text: str) -> None:
    path = self._folder / name
    if files.is_file(path) and files.read_bytes(path) == text.encode():
      return
    with files.atomic(path, 'w') as handle:
      handle.write(text)


def _parsed(path: pathlib.Path) -> Any:
  try:
    return files.read_json(path)
  except ValueError:
    return None
