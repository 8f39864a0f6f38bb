"""What a family of figures is: the protocol that an evaluation iterates over.

A family says what of it is asked for (`parts`), scores it of a checkpoint
(`score`), and says how what was kept becomes figures (`show`) and rows
(`rows`). `score.Plan` and `scores.to_json` know families by this alone.
"""

import abc
import dataclasses
import functools
import pathlib
from typing import (
  Any,
  Callable,
  ClassVar,
  Mapping,
  NamedTuple,
  Protocol,
  Sequence,
)

import flax
import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.memory import parts as parts_lib
from step_audio_jax.evaluation.metrics import figures as figures_lib
from step_audio_jax.generation import restore

Part = parts_lib.Part
Figure = figures_lib.Figure
Kept = Mapping[str, Any]  # what `parts.Store` holds of a part
# Gets a part, when it began, its result, and why the model has none.
Keep = Callable[..., None]

DEAF = 'the model has no speech in its vocabulary'
BLIND = 'the model has no image encoder'
_SILENT = 'the run is of a reward model, which gives no answers'
_SCORELESS = 'the run is of a language model, which gives no scores'


class CheckpointError(errors.UserError):
  """A checkpoint cannot be scored; others of its run may be."""


class OtherModelError(CheckpointError):
  """Another kind of model is wanted than the run has; says so, no more."""


class Loaded(NamedTuple):
  """A checkpoint in memory."""

  model: Any
  variables: Mapping[str, Any]
  vocabulary: vocabulary_lib.Vocabulary


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """One that is scored; read when somebody first needs it, and once.

  Attributes:
    run: Run directory.
    step: Its number.
    digest: Of its parameters and its description.
  """

  run: pathlib.Path
  step: int
  digest: str

  @functools.cached_property
  def loaded(self) -> Loaded:
    """Language model, variables and vocabulary.

    Raises:
      OtherModelError: It is a reward model.
      CheckpointError: It cannot be read.
    """
    return self._load(restore.load_model, restore.REWARD, _SILENT)

  @functools.cached_property
  def loaded_scorer(self) -> Loaded:
    """Reward model, variables and vocabulary.

    Raises:
      OtherModelError: It is a language model.
      CheckpointError: It cannot be read.
    """
    return self._load(restore.load_scorer, restore.LANGUAGE, _SCORELESS)

  def _load(self, load, other: str, told: str) -> Loaded:
    try:
      found = Loaded(*load(self.run, self.step))
    except errors.UserError as error:
      if restore.kind(self.run) == other:
        raise OtherModelError(told) from error
      raise CheckpointError(str(error)) from error
    if fault := _misfit(found):
      raise CheckpointError(f'{self.run}: step {self.step}: {fault}.')
    return found


class Shown(NamedTuple):
  """What kept parts are to a reader.

  Attributes:
    sections: Name → JSON-able, at the top of a step's file.
    figures: By name.
    counts: Name of a figure → how many of how many it holds.
    judges: Who judged, in words.
    not_computed: Figure → why there is none.
  """

  sections: Mapping[str, Any]
  figures: Mapping[str, Figure]
  counts: Mapping[str, Mapping[str, Any]]
  judges: Sequence[str] = ()
  not_computed: Mapping[str, str] = {}


class Family(abc.ABC):
  """Base of all. Nothing is read before `parts`.

  Attributes:
    tasks: Of its parts, in the order in which they are shown.
    made_of: Task → the task of the same set that it is made of, whose
      condition is among its settings under that name.
    together: Whether its sets make one figure, so that those which were not
      asked for may not stand beside those which were.
  """

  tasks: ClassVar[tuple[str, ...]] = ()
  made_of: ClassVar[Mapping[str, str]] = {}
  together: ClassVar[bool] = False

  @abc.abstractmethod
  def parts(self) -> list[Part]:
    """All that is asked for.

    Raises:
      UserError: Data of it are missing.
    """

  def again(self, task: str, name: str) -> Part | None:
    """A part that is not asked for, under the settings that are.

    Args:
      task: Of `tasks`.
      name: Of the set.

    Returns:
      None where nothing says what they are, or its set is there no more.
    """
    del task, name
    return None

  def not_computed(self) -> dict[str, str]:
    """Figure that it could give → why there is none."""
    return {}

  def notes(self) -> list[str]:
    """What was found out about the data so far."""
    return []

  def prepare(self, missing: Sequence[Part]) -> None:
    """Loads what may turn out broken, before anything is scored.

    Args:
      missing: Parts of its that will be scored.

    Raises:
      UserError: It is broken.
    """
    del missing

  def is_whole(self, run: pathlib.Path, step: int, kept: Kept) -> bool:
    """Whether the files are there that a kept part speaks of."""
    del run, step, kept
    return True

  @abc.abstractmethod
  def score(
    self,
    checkpoint: Checkpoint,
    parts: Sequence[Part],
    held: Mapping[Part, Kept | None],
    keep: Keep,
  ) -> None:
    """Scores parts; each goes to `keep` as soon as it is there.

    Args:
      checkpoint: That is scored.
      parts: Of its own, which are missing.
      held: All parts of the checkpoint, those that were kept meanwhile among
        them.
      keep: Gets the part, when it began (`time.monotonic`), the result, and
        why the model has none.

    Raises:
      OtherModelError: It is of another kind than these parts want.
      CheckpointError: It cannot be read.
      UserError: Data cannot be read.
    """

  @abc.abstractmethod
  def show(self, kept: Sequence[Kept]) -> Shown:
    """Figures of one checkpoint.

    Args:
      kept: Parts of its tasks; `result` is None where `left_out` says why.
    """

  def main_figure(self, kept: Kept) -> str:
    """Name of the figure that the rows of a part make; '' of none."""
    del kept
    return ''

  def rows(self, kept: Kept) -> Sequence[Mapping[str, Any]]:
    """What a part holds of each item, with `id`; none where it has none.

    Rows that may be compared between checkpoints have `errors` and `units`
    (their sums make a rate), or `points`, whose mean is the figure.
    """
    del kept
    return ()

  def sounds(self, kept: Kept, step: int) -> str:
    """Folder below `evaluation` that `wav` of its rows is relative to."""
    del kept
    return f'{step}_sound'


class FamilyConfig(Protocol):
  """What makes a family that `evaluate` does not know: a dataclass.

  Its fields are JSON-able; they are told beside the figures.
  """

  def build(
    self, run: pathlib.Path, memory: identity.DigestCache
  ) -> Family: ...


def _misfit(found: Loaded) -> str:
  """What says that parameters are not of the model that the run describes."""
  config = getattr(found.model, 'config', None)
  transformer = getattr(config, 'transformer', None)
  params = found.variables.get('params', {})
  table = params.get('transformer', {}).get('embedding')
  if transformer is None or table is None:
    return ''
  if table.shape[0] != transformer.vocab_size:
    return (
      f'its parameters are those of another vocabulary: found a table of '
      f'{table.shape[0]} ids, expected {transformer.vocab_size} as in '
      'config.json'
    )
  laid, tree = jax.tree.flatten(params)
  return _refusal(
    found.model, tree, tuple((one.shape, one.dtype) for one in laid)
  )


@functools.cache
def _refusal(model, tree, laid) -> str:
  """Why a model cannot take parameters of these shapes; '' where it can."""
  params = jax.tree.unflatten(
    tree, [jax.ShapeDtypeStruct(*one) for one in laid]
  )
  tokens = jax.ShapeDtypeStruct((1, 8), np.int32)
  try:
    jax.eval_shape(model.apply, {'params': params}, tokens)
  except (flax.errors.FlaxError, TypeError, ValueError) as error:
    why = str(error).partition(' (http')[0].partition('\n')[0].rstrip('.')
    return (
      'its parameters are those of another model than config.json describes: '
      f'{why[:1].lower()}{why[1:]}'
    )
  return ''


def by_task(parts: Sequence[Part]) -> dict[str, list[Part]]:
  """Parts of each task, in order."""
  found: dict[str, list[Part]] = {}
  for part in parts:
    found.setdefault(part.task, []).append(part)
  return found


def other(task: str, part: Part, held: Mapping[Part, Kept | None]) -> Kept:
  """What was scored of another task on the set of a part."""
  return next(
    kept
    for p, kept in held.items()
    if kept and (p.task, p.name) == (task, part.name)
  )
