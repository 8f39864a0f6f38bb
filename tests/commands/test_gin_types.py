"""Values from gin are of the annotated type, or refused in one sentence."""

import dataclasses
import fractions
import pathlib
import sys
import types
import typing
from typing import Any, Callable, Literal, Mapping, Sequence

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.commands import gin_files
from step_audio_jax.commands import gin_types
from step_audio_jax.storage import files
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers

ROOT = pathlib.Path(gin_files.ROOT)


class Speaks(typing.Protocol):
  def speak(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Inner:
  size: int = 1

  def speak(self) -> str:
    return 'yes'


@dataclasses.dataclass(frozen=True)
class Outer:
  size: int = 1
  rate: float = 0.5
  name: str = 'a'
  flag: bool = False
  shape: tuple[int, ...] = ()
  pair: tuple[str, float] = ('a', 1.0)
  names: Sequence[str] = ()
  shares: Mapping[str, fractions.Fraction | int | float] | None = None
  limit: float | None = None
  path: str | pathlib.Path = 'x'
  mode: Literal['a', 'b', 1] = 'a'
  inner: Inner | None = None
  inners: tuple[Inner, ...] = ()
  voice: Speaks | None = None
  makers: Sequence[Callable[..., Any]] = ()
  judge_url: str = ''
  anything: Any = None


def run(config: Outer) -> Outer:
  return config


def make() -> Inner:
  return Inner(3)


HEAD = """from __gin__ import dynamic_registration
import gin_types_for_tests as lib
lib.run.config = @lib.Outer()
"""


@pytest.fixture
def configured(tmp_path, monkeypatch):
  module = types.ModuleType('gin_types_for_tests')
  module.Inner, module.Outer, module.run, module.make = Inner, Outer, run, make
  monkeypatch.setitem(sys.modules, 'gin_types_for_tests', module)
  monkeypatch.chdir(tmp_path)

  def configure(text, *bindings):
    (tmp_path / 'x.gin').write_text(HEAD + text)
    return gin_files.configure(['x.gin'], bindings, run)()

  yield configure
  gin_files.parse([], [])


GOOD = {
  'size = 3': 3,
  'size = -3': -3,
  'rate = 3': 3,
  'rate = 1e-3': 1e-3,
  "name = 'gs: a'": 'gs: a',
  'flag = True': True,
  'shape = (1, 2)': (1, 2),
  'shape = [1, 2]': (1, 2),
  "pair = ['b', 2]": ('b', 2),
  "names = ['b']": ['b'],
  "names = ('b',)": ('b',),
  "shares = {'a': 1, 'b': 0.5}": {'a': 1, 'b': 0.5},
  'shares = None': None,
  'limit = 3': 3,
  "path = 'runs/x'": 'runs/x',
  "mode = 'b'": 'b',
  'mode = 1': 1,
  'inner = @lib.Inner()': Inner(),
  'inner = @lib.make()': Inner(3),
  'inner = None': None,
  'inners = [@lib.Inner(), @lib.make()]': (Inner(), Inner(3)),
  'voice = @lib.Inner()': Inner(),
  'makers = ()': (),
  "judge_url = 'https://host/v1'": 'https://host/v1',
  'anything = [1, {}]': [1, {}],
}


@pytest.mark.parametrize('line', GOOD)
def test_good_values_arrive(configured, line):
  found = configured(f'lib.Outer.{line}\n')
  value = getattr(found, line.split()[0])
  assert value == GOOD[line] and type(value) is type(GOOD[line])


BAD = {
  'size = 1e1': 'Outer.size is 10.0, expected an integer, 10.',
  'size = 4.0': 'is 4.0, expected an integer, 4.',
  'size = 1.5': 'is 1.5, expected an integer.',
  "size = '10'": "is '10', expected an integer.",
  'size = True': 'is True, expected an integer.',
  'size = None': 'is None, expected an integer.',
  'size = [1]': 'is [1], expected an integer.',
  f'size = 1{"0" * 30}': 'expected an integer.',
  'size = @lib.Inner()': 'is @Inner(), expected an integer.',
  "rate = '1e-3'": "is '1e-3', expected a number.",
  'rate = True': 'is True, expected a number.',
  'rate = 1e999': 'is inf, expected a number.',
  'name = 3': 'is 3, expected a string.',
  "name = ['a']": 'expected a string.',
  'flag = 1': 'is 1, expected True or False.',
  "flag = 'False'": "is 'False', expected True or False.",
  'shape = 3': 'is 3, expected a tuple of integers.',
  'shape = (1, 2.0)': 'is (1, 2.0), expected a tuple of integers.',
  "pair = ('a',)": "is ('a',), expected a tuple (a string, a number).",
  "names = 'runs/x'": "is 'runs/x', expected a list of strings, ['runs/x'].",
  "names = ['a', 1]": "is ['a', 1], expected a list of strings.",
  "names = {'a': 1}": 'expected a list of strings.',
  "shares = {'a': 'b'}": 'expected a dict {a string, ',
  "shares = [('a', 1)]": 'expected a dict {a string, ',
  'shares = {1: 1}': 'expected a dict {a string, ',
  "limit = 'x'": "is 'x', expected a number or None.",
  'path = 3': 'is 3, expected a string or @Path().',
  "mode = 'c'": "is 'c', expected 'a' or 'b' or 1.",
  'mode = True': "is True, expected 'a' or 'b' or 1.",
  'inner = 3': 'is 3, expected @Inner() or None.',
  'inner = @lib.Inner': 'is @Inner, expected @Inner() or None.',
  'inner = @lib.Outer()': 'is @Outer(), expected @Inner() or None.',
  'inners = @lib.Inner()': 'expected a tuple of items each @Inner().',
  'voice = 3': 'expected an object that is Speaks, as @module.Name() or None.',
  'voice = @lib.Outer()': 'is @Outer(), expected an object that is Speaks',
  'makers = 3': 'is 3, expected a list of items each the @name of a function.',
  "path = 'az://b/x'": "Outer.path is 'az://b/x': found an address, expected a",
  "name = 's3:/b/x'": 'found one slash behind s3:, expected s3://bucket/',
  "names = ['a', 'file:/x']": "is 'file:/x': found an address",
  "anything = {'a': ('http://x',)}": "is 'http://x': found an address",
}


@pytest.mark.parametrize('line', BAD)
def test_bad_values_are_told_with_their_place(configured, line):
  name, _, value = line.partition(' = ')
  for text, bindings, place in (
    (f'lib.Outer.{line}\n', (), 'x.gin:4'),
    (f'\nlib.Outer:\n  {line}\n', (), 'x.gin:6'),
    (f'A = {value}\nlib.Outer.{name} = %A\n', (), 'x.gin:4'),
    (f'B = {value}\nA = %B\nlib.Outer.{name} = %A\n', (), 'x.gin:4'),
    (
      f'A = None\nlib.Outer.{name} = %A\n',
      (f'A = {value}',),
      f'--gin.A={value}',
    ),
    ('', (f'lib.Outer.{line}',), f'--gin.lib.Outer.{name}={value}'),
  ):
    with pytest.raises(errors.UserError) as caught:
      configured(text, *bindings)
    sentence = str(caught.value)
    assert sentence.startswith(f'{place}: Outer.{name} is ')
    assert BAD[line] in sentence
    assert sentence.endswith('.') and '\n' not in sentence


def test_a_macro_of_two_files_is_told_of_the_last(configured, tmp_path):
  (tmp_path / 'y.gin').write_text('# more\n\nA = 1.0\n')
  configured('A = 1\nlib.Outer.size = %A\n')
  with pytest.raises(errors.UserError, match=r'^y\.gin:3: Outer.size is 1\.0'):
    gin_files.configure(['x.gin', 'y.gin'], [], run)


@hypothesis.given(
  value=st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3),
    lambda inner: (
      st.lists(inner, max_size=3)
      | st.lists(inner, max_size=3).map(tuple)
      | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
  ),
  hint=st.sampled_from(list(gin_types.annotations(Outer).values())),
)
def test_any_value_of_any_type_gets_an_answer(value, hint):
  right = gin_types.matches(value, hint)
  assert right in (True, False)
  assert gin_types.describe(hint)
  fit = gin_types.with_tuples(value, hint)
  if right and typing.get_origin(hint) is tuple:
    assert type(fit) is tuple and list(fit) == list(value)


# One value of each type, and where each is right.
SAMPLES = [
  (3, (int, float)),
  (-0.5, (float,)),
  (True, (bool,)),
  ('text', (str,)),
]


def shipped():
  """(file, module.Name.parameter, annotation) of all that gin files bind."""
  found = {}
  for path in sorted((ROOT / 'gin').rglob('*.gin')):
    gin_files.parse([str(path)], [], lint=False)
    for (_, selector), parameters in gin_files.gin.config._CONFIG.items():
      function = gin_files.gin.config._REGISTRY[selector].wrapped
      hints = gin_types.annotations(function)
      for name in parameters if selector != 'gin.macro' else ():
        found[selector, name] = function, hints.get(name)
  gin_files.parse([], [])
  return found


def test_every_configurable_of_the_shipped_files_refuses_wrong_types():
  bound = shipped()
  assert len(bound) > 150
  for (selector, name), (function, hint) in bound.items():
    assert hint not in (None, Any), f'{selector}.{name} has no annotation'
    refused = [
      value for value, _ in SAMPLES if not gin_types.matches(value, hint)
    ]
    assert len(refused) >= 2, f'{selector}.{name}: {hint}'
    if hint in (int, float, bool, str):
      right = [value for value, kinds in SAMPLES if hint in kinds]
      assert [v for v, _ in SAMPLES if v not in refused] == right
    assert callable(function) and gin_types.describe(hint)


def test_no_path_of_a_shipped_file_may_be_a_bad_address():
  """Every parameter that takes strings, also inside of lists and dicts."""
  for (selector, name), (_, hint) in shipped().items():
    if name.endswith('url'):  # the address of a model, no path
      assert gin_files._fault('http://x', hint, name) is None, selector
      continue
    for text in ('gs:/b/x', 'http://x'):
      for value in (text, [text], {'a': text}):
        if gin_types.matches(value, hint):
          told = gin_files._fault(value, hint, name)
          assert files.address_fault(text) in told, selector
    for value in ('gs://b-b/x', ['s3://b-b/x'], {'a': 'file:///x'}):
      if gin_types.matches(value, hint):
        assert gin_files._fault(value, hint, name) is None, selector


@pytest.mark.parametrize(
  ('make', 'told'),
  [
    (lambda: loop.LoopConfig(1, log_every=0), 'log_every is 0, expected at l'),
    (
      lambda: loop.LoopConfig(1, checkpoint_every=-10),
      'checkpoint_every is -10, expected 0 or more',
    ),
    (
      lambda: optimizers.OptimizerConfig(1.0, warmup_steps=-1),
      'warmup_steps is -1, expected 0 or more',
    ),
    (
      lambda: optimizers.OptimizerConfig(1.0, multipliers=(('(', 1.0),)),
      r"multipliers: found '\(', expected a regular expression",
    ),
  ],
)
def test_right_types_with_wrong_values(make, told):
  with pytest.raises(errors.UserError, match=told):
    make()
