"""Reads the text of a compiled XLA program (`compiled.as_text()`).

Only what counting needs: computations, instructions with their shapes, memory
spaces, operands and attributes, and how often each loop runs. XLA's own cost
analysis counts the body of a loop once; here every instruction can be given
the number of times it is executed.

The text is that of `HloModule::ToString`; its grammar is described by
`xla/hlo/parser/hlo_parser.cc` of the OpenXLA project.
"""

import dataclasses
import functools
import math
import re
from typing import Iterator, Mapping

_BYTES = {
  **{'pred': 1, 's4': 0.5, 'u4': 0.5, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2},
  **{'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 's64': 8, 'u64': 8},
  **{'f64': 8, 'c64': 8, 'c128': 16, 'token': 0, 'opaque': 0},
}
_ARRAY = re.compile(r'([a-z]\w*)\[([^\]]*)\](\{[^{}]*\})?')
_SPACE = re.compile(r'S\((\d+)\)')
_HEAD = re.compile(r'\s*(ROOT )?%?([\w.\-]+) = ')
_OPCODE = re.compile(r'\s*([a-z][\w\-]*)\(')
_NAME = re.compile(r'%([\w.\-]+)')
_COMPUTATION = re.compile(r'(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$')
_CLOSING = {'(': ')', '{': '}', '[': ']'}
# A loop that cannot be understood runs once, and is told of.
_UNKNOWN = 1


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of a shape.

  Attributes:
    dtype: As XLA spells it.
    dims: Its sizes.
    space: Memory space of the layout: 0 is HBM, others lie on the chip (5 is
      the host's memory).
  """

  dtype: str
  dims: tuple[int, ...]
  space: int = 0

  @property
  def elements(self) -> int:
    return math.prod(self.dims)

  @property
  def bytes(self) -> float:
    width = _BYTES.get(self.dtype, 1 if self.dtype.startswith('f8') else 4)
    return self.elements * width


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: Unique in the module, without the `%`.
    opcode: As in the text (`all-gather-start`).
    arrays: The leaves of its shape.
    operands: Names, in order.
    literal: What stands between the parentheses (the value of a constant, the
      number of a parameter).
    text: Everything behind the operands.
    root: Whether its value is that of the computation.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  literal: str
  text: str
  root: bool

  @property
  def bytes(self) -> float:
    return sum(array.bytes for array in self.arrays)

  def attribute(self, name: str) -> str | None:
    """Text of an attribute: balanced brackets, a string or one word."""
    found = re.search(rf'(?:^|[ ,{{]){re.escape(name)}=', self.text)
    if not found:
      return None
    start = found.end()
    first = self.text[start : start + 1]
    if first == '"':
      end = self.text.index('"', start + 1)
      return self.text[start + 1 : end]
    end = start
    while end < len(self.text) and self.text[end] not in ', }':
      if self.text[end] in _CLOSING:
        end = closing_bracket(self.text, end)
      end += 1
    return self.text[start:end]

  @property
  def operation(self) -> str:
    """Where the program says it comes from (`metadata`'s op_name)."""
    found = re.search(r'op_name="([^"]*)"', self.text)
    return found[1] if found else ''

  @property
  def called(self) -> tuple[str, ...]:
    """Computations it calls that do work: not reducers and comparators."""
    names: list[str] = []
    if self.opcode in ('async-update', 'async-done'):
      return ()
    for key in ('calls', 'body', 'called_computations', 'branch_computations'):
      value = self.attribute(key)
      if value:
        names += _NAME.findall(value)
    if self.opcode in ('call', 'async-start'):
      names += _NAME.findall(self.attribute('to_apply') or '')
    if self.opcode == 'conditional':
      for key in ('true_computation', 'false_computation'):
        names += _NAME.findall(self.attribute(key) or '')
    return tuple(dict.fromkeys(names))


@dataclasses.dataclass(frozen=True)
class Computation:
  """A function of the program: its instructions in order."""

  name: str
  instructions: Mapping[str, Instruction]

  @functools.cached_property
  def root(self) -> Instruction:
    instructions = list(self.instructions.values())
    return next((i for i in instructions if i.root), instructions[-1])

  @functools.cached_property
  def parameters(self) -> Mapping[int, str]:
    return {
      int(i.literal): i.name
      for i in self.instructions.values()
      if i.opcode == 'parameter'
    }

  @functools.cached_property
  def users(self) -> Mapping[str, list[Instruction]]:
    found: dict[str, list[Instruction]] = {n: [] for n in self.instructions}
    for instruction in self.instructions.values():
      for name in instruction.operands:
        found.setdefault(name, []).append(instruction)
    return found


@dataclasses.dataclass(frozen=True)
class Module:
  """A program.

  Attributes:
    computations: By name.
    entry: Name of the one that runs.
    partitions: Chips (of one slice) it is compiled for.
  """

  computations: Mapping[str, Computation]
  entry: str
  partitions: int

  def executed(
    self, unknown: float = _UNKNOWN
  ) -> Iterator[tuple[Computation, float]]:
    """(computation, times it runs), each outside of a fusion.

    A loop whose turns are not in the text runs `unknown` times. What a
    conditional calls counts as if every branch ran. Fusions are not entered:
    they are one operation of the chip.
    """
    times: dict[str, float] = {}

    def enter(name: str, count: float) -> None:
      times[name] = times.get(name, 0.0) + count
      for instruction in self.computations[name].instructions.values():
        if instruction.opcode == 'fusion':
          continue
        inner = count
        if instruction.opcode == 'while':
          trips = self.trips(self.computations[name], instruction)
          inner *= unknown if trips is None else trips
        for called in instruction.called:
          if called in self.computations:
            enter(called, inner)

    enter(self.entry, 1.0)
    for name, count in times.items():
      yield self.computations[name], count

  def loops(self) -> dict[str, int | None]:
    """Name of each while → times its body runs; None where not found out."""
    return {
      instruction.name: self.trips(computation, instruction)
      for computation, _ in self.executed()
      for instruction in computation.instructions.values()
      if instruction.opcode == 'while'
    }

  def trips(self, outer: Computation, loop: Instruction) -> int | None:
    """How often a while of `outer` runs, from its text or its counter."""
    told = re.search(r'known_trip_count":\{"n":"?(\d+)', loop.text)
    if told:
      return int(told[1])
    condition = self.computations[_called(loop, 'condition')]
    body = self.computations[_called(loop, 'body')]
    compare = self._through(condition, condition.root)
    if compare is None or compare[1].opcode != 'compare':
      return None
    where, test, arguments = compare
    direction = test.attribute('direction')
    sides = [self._side(where, name, arguments) for name in test.operands]
    if sides[0][0] != 'carried' and sides[1][0] == 'carried':
      sides.reverse()
      direction = {'GT': 'LT', 'GE': 'LE', 'LT': 'GT', 'LE': 'GE'}.get(
        direction, direction
      )
    if sides[0][0] != 'carried':
      return None
    start = self._initial(outer, loop, sides[0][1])
    stop = (
      sides[1][1]
      if sides[1][0] == 'constant'
      else self._initial(outer, loop, sides[1][1])
    )
    step = self._step(body, sides[0][1])
    if start is None or stop is None or not step:
      return None
    if direction in ('LE', 'GE'):
      stop += 1 if step > 0 else -1
    elif direction not in ('LT', 'GT', 'NE'):
      return None
    return max(0, math.ceil((stop - start) / step))

  def _through(self, computation, instruction, arguments=None):
    """Steps into a fusion or call; (computation, its root, arguments)."""
    if instruction.opcode in ('fusion', 'call'):
      called = instruction.called or tuple(
        _NAME.findall(instruction.attribute('to_apply') or '')
      )
      inner = self.computations[called[0]]
      given = {
        inner.parameters[i]: (computation, name)
        for i, name in enumerate(instruction.operands)
        if i in inner.parameters
      }
      return inner, inner.root, given
    return computation, instruction, arguments or {}

  def _side(self, computation, name, arguments):
    """('constant', value), ('carried', index of the tuple) or ('', None)."""
    while name in arguments:
      computation, name = arguments[name]
    instruction = computation.instructions[name]
    if instruction.opcode == 'constant':
      value = _integer(instruction.literal)
      return ('', None) if value is None else ('constant', value)
    if instruction.opcode == 'get-tuple-element':
      return 'carried', int(instruction.attribute('index'))
    if instruction.opcode in _SAME and instruction.operands:
      return self._side(computation, instruction.operands[0], {})
    return '', None

  def _initial(self, outer, loop, index):
    """Constant that a loop variable starts from."""
    name = loop.operands[0]
    tuple_ = outer.instructions[name]
    if tuple_.opcode != 'tuple':
      return None
    side = self._side(outer, tuple_.operands[index], {})
    return side[1] if side[0] == 'constant' else None

  def _step(self, body, index):
    """Constant added to a loop variable in each turn."""
    if body.root.opcode != 'tuple':
      return None
    name = body.root.operands[index]
    instruction = body.instructions[name]
    while instruction.opcode in _SAME and instruction.operands:
      instruction = body.instructions[instruction.operands[0]]
    where, add, arguments = self._through(body, instruction)
    if add.opcode not in ('add', 'subtract') or len(add.operands) != 2:
      return None
    sides = [self._side(where, name, arguments) for name in add.operands]
    steps = [value for kind, value in sides if kind == 'constant']
    if len(steps) != 1 or ('carried', index) not in sides:
      return None
    return steps[0] if add.opcode == 'add' else -steps[0]


_SAME = ('copy', 'bitcast', 'convert', 'copy-done', 'copy-start', 'reshape')


def parse(text: str) -> Module:
  """Parses the text of a module.

  Raises:
    ValueError: There is no entry computation in it.
  """
  computations: dict[str, Computation] = {}
  entry = name = ''
  instructions: dict[str, Instruction] = {}
  for line in text.splitlines():
    if not line.startswith(' '):
      if line.endswith('{') and (found := _COMPUTATION.match(line)):
        name, instructions = found[2], {}
        if found[1]:
          entry = name
      elif line.startswith('}') and name:
        computations[name] = Computation(name, instructions)
        name = ''
      continue
    if name and (instruction := _instruction(line)):
      instructions[instruction.name] = instruction
  if entry not in computations:
    raise ValueError('HLO text: no ENTRY computation.')
  partitions = re.search(r'num_partitions=(\d+)', text[:100_000])
  return Module(computations, entry, int(partitions[1]) if partitions else 1)


def _instruction(line: str) -> Instruction | None:
  head = _HEAD.match(line)
  if not head:
    return None
  start = end = head.end()
  if line[start] == '(':
    end = closing_bracket(line, start) + 1
  else:
    end = _ARRAY.match(line, start).end()
  opcode = _OPCODE.match(line, end)
  close = closing_bracket(line, opcode.end() - 1)
  inside = line[opcode.end() : close]
  return Instruction(
    name=head[2],
    opcode=opcode[1],
    arrays=tuple(_arrays(line[start:end])),
    operands=tuple(_NAME.findall(inside)),
    literal=inside,
    text=line[close + 1 :],
    root=bool(head[1]),
  )


def _arrays(text: str) -> Iterator[Array]:
  for dtype, dims, layout in _ARRAY.findall(text):
    sizes = tuple(int(d.lstrip('<=')) for d in dims.split(',') if d.strip())
    space = _SPACE.search(layout or '')
    yield Array(dtype, sizes, int(space[1]) if space else 0)


def operand_arrays(
  instruction: Instruction, computation: Computation
) -> Iterator[Array]:
  """Leaves of an instruction's operands, in order."""
  for name in instruction.operands:
    if name in computation.instructions:
      yield from computation.instructions[name].arrays


def closing_bracket(text: str, start: int) -> int:
  """Index of the bracket that closes the one at `start`."""
  depth, quoted = 0, False
  for found in _BRACKETS.finditer(text, start):
    character = found[0]
    if character == '"':
      quoted = not quoted
    elif quoted:
      continue
    elif character in '({[':
      depth += 1
    else:
      depth -= 1
      if not depth:
        return found.start()
  raise ValueError(f'HLO text: unbalanced bracket in {text[start:][:60]!r}.')


_BRACKETS = re.compile(r'\\"|[(){}\[\]"]')


def _called(instruction: Instruction, attribute: str) -> str:
  return _NAME.findall(instruction.attribute(attribute))[0]


def _integer(literal: str) -> int | None:
  try:
    return int(literal)
  except ValueError:
    return None
