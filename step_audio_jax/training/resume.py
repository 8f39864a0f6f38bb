"""What a run is: what a resume compares, and what it may change.

A run directory keeps `resume.json`: the settings that decide what is computed,
resolved (from the frozen configurations, not from the text of a gin file), and
digests of the data. A resume compares both with its own. Settings that decide
only how, how long or where are not among them; the fields that declare
themselves `settings.free` and, of functions and feeds, `ARGUMENTS` say which
they are. Paths are never compared: what lies there is.

Directories of before this file are compared by their `config.gin`, parsed, as
far as the settings go.
"""

import dataclasses
import inspect
import pathlib
import sys
from typing import Any, Iterable, Mapping

from flax import linen as nn

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax.commands import gin_files
from step_audio_jax.commands import moved
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.training import optimizers
from step_audio_jax.training.feeds import contents as contents_lib

NAME = 'resume.json'

# What gin binds besides dataclasses: argument → 'free', or 'content' where what
# it selects is compared. All other arguments are fixed; '*' stands for all.
ARGUMENTS: Mapping[str, Mapping[str, str]] = {
  'train': {
    'run_dir': 'free',
    'mesh': 'free',
    'init_from': 'free',
    'readers': 'free',
    'speech_rows': 'free',
    'most_epochs': 'free',
    'dry_run': 'free',
  },
  'MeshConfig': {'*': 'free'},
  'BlankFeed': {'*': 'free'},
  'RowFeed': {'rows': 'content', 'split': 'content', 'prefix': 'content'},
  'AudioFeed': {
    'corpus': 'content',
    'splits': 'content',
    'max_seconds': 'content',
  },
  'FlowFeed': {
    'corpus': 'content',
    'codes': 'content',
    'embeddings': 'content',
    'splits': 'content',
    'max_seconds': 'content',
  },
  'PromptFeed': {
    'corpus': 'content',
    'codes': 'content',
    'splits': 'content',
    'vocabulary': 'content',
    'tokenizer': 'free',  # of a metric
  },
  'SpeakerFeed': {'corpus': 'content', 'splits': 'content'},
  'WaveFeed': {'corpus': 'content', 'splits': 'content'},
  'of_corpus': {'*': 'content'},  # labels of a corpus
  'speakers_of': {'*': 'content'},
  'load': {'text_model': 'content', 'text_rows': 'content'},  # a vocabulary
  'step_audio': {'text_model': 'content'},
  'ImageCaption': {'vocabulary': 'content'},  # only says what its ids mean
}


def kind_of(owner: Any, name: str) -> str:
  """'fixed', 'free' or 'content': what a resume makes of a setting.

  Args:
    owner: A class or function that gin binds.
    name: Of its field or argument.
  """
  table = ARGUMENTS.get(owner.__name__, {})
  if name in table or '*' in table:
    return table.get(name) or table['*']
  if dataclasses.is_dataclass(owner):
    fields = {field.name: field for field in dataclasses.fields(owner)}
    if name in fields and settings.is_free(fields[name]):
      return 'free'
  return 'fixed'


@dataclasses.dataclass(frozen=True)
class Identity:
  """What a run directory keeps of its run.

  Attributes:
    settings: Path of a setting → its value, JSON-able.
    data: What the feed reads → digests; None where a feed cannot tell.
    horizons: Optimizer → step at which its schedule ends.
    init_from: Where the parameters came from.
  """

  settings: dict[str, Any]
  data: dict[str, Any] | None
  horizons: dict[str, int]
  init_from: list[str]

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Given:
  """What a run is asked to be, by the objects it is made of.

  Attributes:
    objective: What is minimised.
    feed: Where batches come from.
    optimizer: Numbers of the Optax chain, or chains.
    config: Length of the run.
    init_from: Where the parameters come from.
  """

  objective: Any
  feed: Any
  optimizer: optimizers.OptimizerConfig | optimizers.OptimizerGroups
  config: Any
  init_from: tuple[str, ...] = ()

  def chains(self) -> dict[str, optimizers.OptimizerConfig]:
    """Name → numbers of each chain."""
    if isinstance(self.optimizer, optimizers.OptimizerGroups):
      return {
        f'optimizer.groups.{name}.1': chain
        for name, (_, chain) in self.optimizer.groups.items()
      }
    return {'optimizer': self.optimizer}

  def identity(self, known: Mapping[str, Any] | None = None) -> Identity:
    """Reads what the feed reads, as far as its digests need.

    Args:
      known: The digests of the run that goes on.

    Raises:
      UserError: The data are not what they say of themselves.
    """
    feed = getattr(self.feed, 'settings', dict)()
    contents = getattr(self.feed, 'contents', None)
    parts = {
      'objective': self.objective,
      'optimizer': self.optimizer,
      'loop': self.config,
      'feed': {'class': type(self.feed).__name__, **feed},
    }
    steps = self.config.steps
    ends = {name: chain.horizon(steps) for name, chain in self.chains().items()}
    return Identity(
      dict(_flat(_described(parts))),
      contents(known) if contents else None,
      {name: end for name, end in ends.items() if end is not None},
      [str(path) for path in self.init_from],
    )

  def defaults(self) -> set[str]:
    """Paths of the settings that have their default."""
    parts = {
      'objective': self.objective,
      'optimizer': self.optimizer,
      'loop': self.config,
    }
    return set(_default_paths(parts, ''))


def _fields(value: Any) -> Iterable[dataclasses.Field]:
  """The fields of a dataclass that a resume compares."""
  internal = ('parent', 'name') if isinstance(value, nn.Module) else ()
  for field in dataclasses.fields(value):
    fixed = kind_of(type(value), field.name) == 'fixed'
    if field.name not in internal and fixed:
      yield field


def _described(value: Any) -> Any:
  """Configurations, nested, as JSON has them."""
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  if isinstance(value, Mapping):
    return {str(key): _described(one) for key, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [_described(one) for one in value]
  if isinstance(value, (set, frozenset)):
    return sorted(map(_described, value))
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    told = {
      field.name: _described(getattr(value, field.name))
      for field in _fields(value)
      # What equality leaves out says nothing about what is computed.
      if field.compare
    }
    return {'class': type(value).__name__, **told}
  if isinstance(value, type) or callable(value):
    return getattr(value, '__name__', type(value).__name__)
  return str(value) if hasattr(value, 'dtype') else type(value).__name__


def _flat(value: Any, path: str = '') -> Iterable[tuple[str, Any]]:
  """(path, leaf) pairs; a list without mappings in it is a leaf."""
  if isinstance(value, dict):
    for key, one in value.items():
      yield from _flat(one, f'{path}.{key}' if path else key)
  elif isinstance(value, list) and any(
    isinstance(one, (dict, list)) for one in value
  ):
    for number, one in enumerate(value):
      yield from _flat(one, f'{path}.{number}')
  else:
    yield path, value


def _default_paths(value: Any, path: str) -> Iterable[str]:
  if isinstance(value, Mapping):
    for key, one in value.items():
      yield from _default_paths(one, f'{path}.{key}' if path else key)
  elif isinstance(value, (list, tuple)):
    for number, one in enumerate(value):
      yield from _default_paths(one, f'{path}.{number}')
  elif dataclasses.is_dataclass(value) and not isinstance(value, type):
    for field in _fields(value):
      inner, here = getattr(value, field.name), f'{path}.{field.name}'
      if field.default is not dataclasses.MISSING and inner == field.default:
        yield from (leaf for leaf, _ in _flat(_described(inner), here))
      else:
        yield from _default_paths(inner, here)


def read(run_dir: pathlib.Path) -> Identity | None:
  """What a run directory keeps; None where it was made before.

  Raises:
    UserError: The file is not what was written.
  """
  path = run_dir / NAME
  if not files.exists(path):
    return None
  try:
    found = Identity(**files.read_json(path))
    return dataclasses.replace(found, settings=_named_now(found.settings))
  except (errors.UserError, TypeError, AttributeError) as error:
    raise errors.UserError(
      f'{path}: not what `train` wrote ({str(error).splitlines()[0]}); bring '
      'it back, or remove it: then config.gin alone is compared.'
    ) from error


def _named_now(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Settings with the names that classes have today."""
  return {
    path: moved.new_class(value) if path.endswith('class') else value
    for path, value in settings.items()
  }


def check(run_dir: pathlib.Path, given: Given, step: int) -> Identity:
  """Compares a run directory with what it is asked to be.

  Differences that are allowed and change something are told on stderr.

  Args:
    run_dir: Holds a checkpoint of `step`.
    given: What it is asked to be.
    step: The newest.

  Returns:
    What the run is from here on.

  Raises:
    UserError: It is another run, or other data.
  """
  old = read(run_dir)
  new = given.identity(old and old.data)
  if old is None:
    _check_text(run_dir)
    _tell(
      f'{run_dir} was made before runs kept digests of their data: whether '
      'they are the same cannot be checked.'
    )
    old = dataclasses.replace(new, horizons=_old_horizons(run_dir, new))
  _check_data(run_dir, old, new)
  _check_settings(run_dir, old.settings, new.settings, given.defaults())
  _check_horizons(run_dir, old.horizons, new.horizons, given, step)
  if new.init_from and new.init_from != old.init_from:
    _tell(
      f'{run_dir} goes on from its own step {step}; INIT_FROM '
      f'({", ".join(new.init_from)}) is not read again.'
    )
  return dataclasses.replace(new, init_from=old.init_from)


def _check_data(run_dir, old: Identity, new: Identity) -> None:
  if old.data is None or new.data is None:
    if old.data is not new.data:
      _tell(f'{run_dir}: whether its data are the same cannot be checked.')
    return
  before, now = dict(_flat(old.data)), dict(_flat(_described(new.data)))
  changed = [
    name
    for name in now | before
    if before.get(name) != now.get(name)
    and _is_compared(name.rpartition('.')[2], name in now and name in before)
  ]
  if changed:
    name = changed[0]
    raise errors.UserError(
      f'{run_dir / NAME}: this run was trained on other data: {name} is '
      f'{_shown(now.get(name))}, expected {_shown(before.get(name))}; expected '
      'the same data, or another run directory, which '
      f"INIT_FROM = ['{run_dir}'] starts from these parameters."
    )


def _is_compared(digest: str, in_both: bool) -> bool:
  """Whether such a digest says that data are others."""
  if digest == contents_lib.VERSIONS:
    return False
  return in_both or digest not in contents_lib.IF_BOTH


def _check_settings(run_dir, old, new, defaults) -> None:
  changed = [
    name
    for name in new | old
    if old.get(name) != new.get(name)
    or (name in old) != (name in new)
    and name not in defaults
  ]
  # A setting that is younger than the run had the value that is now default.
  changed = [name for name in changed if name in old or name not in defaults]
  if changed:
    told = '; '.join(
      f'{name} is {_shown(new.get(name, "absent"))}, expected '
      f'{_shown(old.get(name, "absent"))}'
      for name in changed[:2]
    )
    raise errors.UserError(_another(run_dir, told))


def _another(run_dir, told: str) -> str:
  return (
    f'{run_dir}/config.gin: this run directory was made with another '
    f'configuration ({told}); expected the same one, or another run '
    f"directory, which INIT_FROM = ['{run_dir}'] starts from these parameters."
  )


def _check_horizons(run_dir, old, new, given: Given, step: int) -> None:
  for name, chain in given.chains().items():
    before, now = old.get(name), new.get(name)
    if before is None or now is None or before == now:
      continue
    if chain.decay_steps:
      raise errors.UserError(
        _another(run_dir, f'{name}.decay_steps is {now}, expected {before}')
      )
    rate, was = (
      float(chain.learning_rate_at(end)(step)) for end in (now, before)
    )
    _tell(
      f'{run_dir}: the cosine of {name} ends at step {now}, no longer at '
      f'{before}: the learning rate goes on from step {step} with {rate:.3g}, '
      f'where it was {was:.3g}; decay_steps = {before} keeps the old one.'
    )


def _old_horizons(run_dir, new: Identity) -> dict[str, int]:
  """Where the schedules of a run ended that did not keep it."""
  try:
    steps = files.read_json(run_dir / 'config.json')['steps']
  except (errors.UserError, KeyError, TypeError):
    return new.horizons
  return {name: steps for name in new.horizons}


def _check_text(run_dir: pathlib.Path) -> None:
  """Compares a run directory of before `NAME` by its gin text."""
  path = run_dir / 'config.gin'
  if not files.is_file(path):
    raise errors.UserError(
      f'{run_dir}: has checkpoints but neither {NAME} nor config.gin, which '
      'say what made them; expected one of the two, or another run directory, '
      f"which INIT_FROM = ['{run_dir}'] starts from these parameters."
    )
  now = gin_files.bindings()
  text = files.read_text(path, errors='replace')
  before = gin_files.bindings(text or '#', str(path))
  changed = []
  for scope, owner, name in now | before:
    if kind_of(owner, name) != 'fixed':
      continue
    new, old = (_value(b, scope, owner, name) for b in (now, before))
    if new != old:
      whole = f'{scope}{"/" if scope else ""}{owner.__name__}.{name}'
      changed.append(f'{whole} is {new}, expected {old}')
  if changed:
    raise errors.UserError(_another(run_dir, '; '.join(changed[:2])))


def _value(bindings, scope: str, owner: Any, name: str) -> str:
  """What is bound, or the default."""
  for one in (scope, ''):
    if (one, owner, name) in bindings:
      return bindings[one, owner, name]
  parameter = inspect.signature(owner).parameters.get(name)
  default = inspect.Parameter.empty if parameter is None else parameter.default
  if default is inspect.Parameter.empty:
    return 'absent'
  return gin_files.value_text(default)


def _shown(value: Any) -> str:
  if isinstance(value, str) and len(value) == 64:
    return digests.short(value)
  text = repr(value)
  return text if len(text) < 60 else f'{text[:57]}...'


def _tell(sentence: str) -> None:
  print(f'note: {sentence}', file=sys.stderr, flush=True)
