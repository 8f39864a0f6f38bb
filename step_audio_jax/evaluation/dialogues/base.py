"""What all scorers of recorded dialogues share: items, rows, counts, figures.

A scorer reads a benchmark's public layout (`folder`) and what a system did
(`outputs`), and asks nobody: neither the system nor a recogniser nor a judge.
Their words and ratings are read where they lie beside the recordings. A figure
that needs what is not there is not computed, with the reason.

No dialogue is forgotten: what cannot be scored is a row with its fault and is
counted as left out by reason; what is odd and scored all the same is a row with
notes and is counted as cut.
"""

import abc
import collections
import dataclasses
from typing import Any, ClassVar, Iterable, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.storage import files

NONE_SCORED = 'none of its dialogues can be scored'
ABSENT = 'in the published version and not in the folder'
_SHOWN = 5  # names in a message


@dataclasses.dataclass(frozen=True)
class Dialogue:
  """One recorded dialogue.

  Attributes:
    id: Its own in the benchmark: `subset/name`.
    subset: Part of the benchmark; '' where it has none.
    input: Folder of what the benchmark has of it.
    output: Folder of what the system did.
    about: What else the benchmark says of it.
  """

  id: str
  subset: str
  input: files.AnyPath
  output: files.AnyPath
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def name(self) -> str:
    """Its id in its subset."""
    return self.id.rpartition('/')[2]


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a benchmark's folder holds.

  Attributes:
    items: Dialogues, those without an output, too.
    left_out: Id → what is wrong with the benchmark's own files.
    absent: Subset → how many the published version has beyond these.
  """

  items: tuple[Dialogue, ...]
  left_out: Mapping[str, recordings.Fault] = dataclasses.field(
    default_factory=dict
  )
  absent: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Sheet:
  """Figures as they come, and why others are not computed."""

  def __init__(self):
    self.figures: dict[str, dict[str, Any]] = {}
    self.not_computed: dict[str, str] = {}

  def mean(
    self,
    name: str,
    values: Iterable[float | None],
    unit: str,
    better: str,
    why_not: str,
  ) -> None:
    """The mean of what is known; not computed where nothing is."""
    known = [float(v) for v in values if v is not None]
    value = float(np.mean(known)) if known else None
    self.add(name, value, len(known), unit, better, why_not)

  def add(
    self,
    name: str,
    value: float | None,
    of: int,
    unit: str,
    better: str,
    why_not: str,
  ) -> None:
    """A figure, or why there is none.

    Args:
      name: Of it.
      value: Of it; None where it is not computed.
      of: Items that it holds.
      unit: '%' (of a fraction), 's', '1/s', …
      better: 'lower' or 'higher'.
      why_not: The reason.
    """
    if value is None:
      self.not_computed[name] = why_not
      return
    self.figures[name] = {
      'value': value,
      'unit': unit,
      'of': of,
      'better': better,
    }


@dataclasses.dataclass(frozen=True)
class Benchmark(abc.ABC):
  """Base of all scorers.

  Attributes:
    folder: Of the benchmark's public layout, local or in a bucket.
    outputs: Folder of what the system did, laid out as `folder`; '' is
      `folder` itself, where the public scripts write it.
    complete: Whether dialogues that the published version has and `folder` has
      not are counted as left out. Off for a selection of one's own.
    tolerance: Seconds that the two channels' lengths may differ, and that an
      output may end before what is scored.
  """

  folder: str
  outputs: str = ''
  complete: bool = True
  tolerance: float = 0.5

  name: ClassVar[str]

  def __post_init__(self):
    if self.tolerance < 0:
      raise errors.UserError(
        f'{self.name}: tolerance is {self.tolerance}, expected 0 s or more.'
      )

  @abc.abstractmethod
  def read(self) -> Reading:
    """Its dialogues.

    Raises:
      UserError: The folder is not there, or of another benchmark.
    """

  @abc.abstractmethod
  def measure(self, item: Dialogue) -> dict[str, Any]:
    """What is measured of a dialogue; `notes` are counted.

    Raises:
      Fault: It cannot be scored.
    """

  @abc.abstractmethod
  def summarise(self, rows: list[dict[str, Any]], sheet: Sheet) -> None:
    """Figures of the rows that could be measured."""

  def score(self) -> dict[str, Any]:
    """Scores all dialogues.

    Returns:
      `figures` (name → value, unit, of, better), `rows` (one a dialogue, with
      `id`, `subset`, `fault`, `detail`, `notes`), `counted` (`metrics.counts`)
      and `not_computed` (figure → why).

    Raises:
      UserError: As `read`; the folder of outputs is not there.
    """
    if not files.is_dir(self.output_folder):
      raise errors.UserError(
        f'{self.name}: outputs: found no folder {self.output_folder}, expected '
        'the recordings of a system.'
      )
    reading = self.read()
    rows = [
      _faulty(*_parts(id), fault) for id, fault in reading.left_out.items()
    ]
    found = files.ahead(self.output_folder, self._row, reading.items)
    with progress.bar(
      label=self.name, total=len(reading.items), unit='dialogue'
    ) as bar:
      for row in found:
        rows.append(row)
        bar.update(1)
    scored = [row for row in rows if not row['fault']]
    sheet = Sheet()
    self.summarise(scored, sheet)
    return {
      'figures': sheet.figures,
      'rows': rows,
      'counted': _counted(rows, reading.absent),
      'not_computed': sheet.not_computed,
    }

  @property
  def input_folder(self) -> files.AnyPath:
    return files.path(self.folder)

  @property
  def output_folder(self) -> files.AnyPath:
    return files.path(self.outputs or self.folder)

  def _row(self, item: Dialogue) -> dict[str, Any]:
    try:
      found = self.measure(item)
    except recordings.Fault as fault:
      return _faulty(item.id, item.subset, fault)
    return {**_head(item.id, item.subset), **found}

  def subsets(self, published: Mapping[str, int]) -> Reading:
    """Dialogues of the layout `folder/subset/name/`, without what is in them.

    Args:
      published: Subset → dialogues of the published version.

    Raises:
      UserError: No subset is there.
    """
    items, absent = [], {}
    for subset, of in published.items():
      names = folders(self.input_folder / subset)
      items += [
        Dialogue(
          f'{subset}/{name}',
          subset,
          self.input_folder / subset / name,
          self.output_folder / subset / name,
        )
        for name in names
      ]
      if self.complete and len(names) < of:
        absent[subset] = of - len(names)
    if not items:
      self.refuse(f'folders {", ".join(published)}')
    return Reading(tuple(items), absent=absent)

  def refuse(self, expected: str) -> None:
    """Says that `folder` is not the benchmark's.

    Raises:
      UserError: Always.
    """
    found = folders(self.input_folder)
    if not files.is_dir(self.input_folder):
      told = 'no such folder'
    else:
      told = ', '.join(found[:_SHOWN]) or 'no folder'
    raise errors.UserError(
      f'{self.name}: folder {self.input_folder}: found {told}, expected '
      f'{expected}.'
    )


def sorted_out(
  reading: Reading, about: collections.abc.Callable[[Dialogue], Mapping]
) -> Reading:
  """The reading with what the benchmark says of each dialogue.

  Args:
    reading: Dialogues.
    about: What is said of one; raises Fault where its files are not whole.
  """
  items, left_out = [], dict(reading.left_out)
  for item in reading.items:
    try:
      items.append(dataclasses.replace(item, about=about(item)))
    except recordings.Fault as fault:
      left_out[item.id] = fault
  return Reading(tuple(items), left_out, reading.absent)


def check_names(where: str, found, known: Mapping[str, Any]) -> None:
  """Refuses subsets that a benchmark has not.

  Raises:
    UserError: One of them is unknown, or there is none.
  """
  odd = [name for name in found if name not in known]
  if odd or not found:
    raise errors.UserError(
      f'{where}: only: found {", ".join(odd) or "nothing"}, expected some of '
      f'{", ".join(known)}.'
    )


def folders(place: files.AnyPath) -> list[str]:
  """Names of the folders in a folder, numbers by value; none of none."""
  if not files.is_dir(place):
    return []
  names = [path.name for path in files.list_folders(place)]
  return sorted(
    (name for name in names if not name.startswith(('.', '_'))), key=in_order
  )


def in_order(name: str) -> tuple:
  """Sorts numbers by value, before other names."""
  return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def _parts(id: str) -> tuple[str, str]:
  return id, id.rpartition('/')[0]


def _head(id: str, subset: str) -> dict[str, Any]:
  return {'id': id, 'subset': subset, 'fault': '', 'detail': '', 'notes': []}


def _faulty(id: str, subset: str, fault: recordings.Fault) -> dict[str, Any]:
  return {**_head(id, subset), 'fault': fault.reason, 'detail': fault.detail}


def _counted(
  rows: list[dict[str, Any]], absent: Mapping[str, int]
) -> dict[str, Any]:
  left_out = collections.Counter(row['fault'] for row in rows if row['fault'])
  left_out[ABSENT] = sum(absent.values())
  cut = collections.Counter(note for row in rows for note in row['notes'])
  scored = sum(not row['fault'] for row in rows)
  of = len(rows) + left_out[ABSENT]
  return counts.count(scored, of, 'dialogues', left_out, cut)
