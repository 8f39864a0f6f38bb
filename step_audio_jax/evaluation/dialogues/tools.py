"""Full-Duplex-Bench v3: tools that are called in the course of real speech.

Lin et al., "Full-Duplex-Bench-v3: Benchmarking Tool Use for Full-Duplex Voice
Agents Under Real-World Disfluency", arXiv:2604.04847, and the definitions of
its public scripts (DanielLin94144/Full-Duplex-Bench, v3).

    turn_take_rate     share of dialogues with words of the system
    tool_selection     F1 of the names of the calls, each as often as it is
                       expected; mean over dialogues where the turn is taken
    argument_accuracy  share of expected calls whose arguments are right, the
                       first call of a name against the first one that is
                       expected; mean over the same
    pass_at_1          share of all dialogues with every expected call, no other
                       and right arguments; also by difficulty, domain and
                       disfluency
    response_latency   first word − end of the user's speech, where it is not
                       below 0; of dialogues where the turn is taken
    interruption_rate  share of those where it is
    tool_call_latency  first call − end of the user's speech; those before it
                       are left out of the mean, and told as notes

Whether arguments mean the same is asked of a judge in the original. It is a
function here (`judge`); without one `argument_accuracy` and `pass_at_1` are not
computed. Beside them stand `…_exact`, where arguments are compared by the rule
that the scripts have without a judge. Strings are the same but for case, ends
and underscores; other values are equal; what begins with `$` is the result of
another call and is any value; arguments beyond those expected do not count.

Response quality, task completion latency (a judge finds what completes the
task) and the filler rate are not computed.

Layout: `EXAMPLE_SPEAKER/input.wav` and `metadata.json`; beside it, or below
`outputs`, `result_PROVIDER.json`, as the public pipeline writes it.
"""

import collections
import dataclasses
import math
from typing import Any, Callable, ClassVar, Mapping

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import words as words_lib
from step_audio_jax.storage import files

_OF = 100  # dialogues of the published version
_NO_JUDGE = 'no judge of arguments is given'
_UNJUDGED = 'arguments that the judge has not judged'
_EARLY = 'a tool called before the user has finished'
# What dialogues are told apart by.
_KINDS = ('difficulty', 'domain', 'disfluency')
_NOT_COMPUTED = {
  'response_quality': 'no judge of what is said is given',
  'task_completion_latency': 'no judge finds what completes the task',
  'filler_rate': 'the public scripts do not say what a filler is',
}

# Name of a tool, expected and actual arguments → whether they mean the same;
# None where it cannot tell.
Judge = Callable[[str, Mapping[str, Any], Mapping[str, Any]], bool | None]


@dataclasses.dataclass(frozen=True)
class FullDuplexBench3(base.Benchmark):
  """Full-Duplex-Bench v3.

  Attributes:
    provider: Whose results are scored; '' where there are those of one only.
    judge: Of arguments.
  """

  provider: str = ''
  judge: Judge | None = None

  name: ClassVar[str] = 'full_duplex_bench_3'

  def read(self) -> base.Reading:
    names = base.folders(self.input_folder)
    items = tuple(
      base.Dialogue(
        name, '', self.input_folder / name, self.output_folder / name
      )
      for name in names
    )
    if not any(files.is_file(item.input / 'metadata.json') for item in items):
      self.refuse('folders with a metadata.json')
    absent = {}
    if self.complete and len(items) < _OF:
      absent['all'] = _OF - len(items)
    return base.sorted_out(base.Reading(items, absent=absent), _scenario)

  def measure(self, item: base.Dialogue) -> dict[str, Any]:
    result, calls = self._result(item)
    expected = item.about['expected']
    row: dict[str, Any] = {'notes': [], **item.about}
    if result.get('status') not in (None, 'completed'):
      row['notes'].append(f'status {result["status"]}')
    row['turn_taken'] = bool(
      str(result.get('transcript') or '').strip() or result.get('asr_chunks')
    )
    row |= selection(expected, calls)
    pairs = paired(expected, calls)
    exact = [
      actual is not None and equal_arguments(wanted, actual)
      for _, wanted, actual in pairs
    ]
    row |= _passed(row, exact, '_exact')
    if self.judge:
      judged = [
        False if actual is None else self.judge(name, wanted, actual)
        for name, wanted, actual in pairs
      ]
      if None in judged:
        row['notes'].append(_UNJUDGED)
      row |= _passed(row, judged, '')
    return row | _latencies(result, calls, row)

  def _result(self, item) -> tuple[Mapping[str, Any], list]:
    name = f'result_{self.provider}.json'
    if not self.provider:
      there = []
      if files.is_dir(item.output):
        there = [p.name for p in files.glob(item.output, 'result_*.json')]
      if len(there) > 1:
        raise errors.UserError(
          f'{self.name}: provider: found none, and in {item.output} '
          f'{", ".join(sorted(there))}, expected one of them.'
        )
      name = there[0] if there else 'result_*.json'
    result = words_lib.read_json(item.output / name)
    if result is None:
      raise recordings.Fault('result_*.json is not there', f'{item.output}')
    calls = None
    if isinstance(result, Mapping):
      calls = _calls(result.get('actual_tool_calls', []))
    if calls is None:
      raise recordings.Fault(
        'result_*.json is not of this version', f'{item.output / name}'
      )
    return result, calls

  def summarise(self, rows, sheet):
    none = not rows and base.NONE_SCORED
    taken = [row for row in rows if row['turn_taken']]
    mute = none or 'no turn is taken'

    def put(figure, part, key, unit, better, why):
      sheet.mean(figure, [r.get(key) for r in part], unit, better, why)

    put('turn_take_rate', rows, 'turn_taken', '%', 'higher', mute)
    put('tool_selection', taken, 'tool_selection', '%', 'higher', mute)
    for end, why in (
      ('', none or (not self.judge and _NO_JUDGE)),
      ('_exact', mute),
    ):
      key = f'argument_accuracy{end}'
      put(key, taken, key, '%', 'higher', why or mute)
      key = f'pass_at_1{end}'
      put(key, rows, key, '%', 'higher', why or _UNJUDGED)
      if why and not end:
        continue
      for kind, value in _kinds(rows):
        part = [row for row in rows if value in row[kind]]
        put(f'{key}/{value}', part, key, '%', 'higher', _UNJUDGED)
    untold = none or 'the results do not say when'
    put('response_latency', taken, 'latency', 's', 'lower', untold)
    put('interruption_rate', taken, 'interrupts', '%', 'lower', untold)
    put('tool_call_latency', rows, 'tool_latency', 's', 'lower', untold)
    sheet.not_computed.update(_NOT_COMPUTED)


def selection(
  expected: list[Mapping], calls: list[Mapping]
) -> dict[str, float]:
  """Recall, precision and F1 of the names, each counted as often as it is.

  As in the scripts both are 1 of none, and F1 is 0 where both are 0.
  """
  wanted, made = (
    collections.Counter(call['function'] for call in one)
    for one in (expected, calls)
  )
  matched = (wanted & made).total()
  recall = matched / wanted.total() if wanted else 1.0
  precision = matched / made.total() if made else 1.0
  both = recall + precision
  return {
    'tool_recall': recall,
    'tool_precision': precision,
    'tool_selection': 2 * recall * precision / both if both else 0.0,
  }


def paired(expected: list[Mapping], calls: list[Mapping]) -> list[tuple]:
  """(name, expected arguments, actual ones or None) of each expected call."""
  made = collections.defaultdict(collections.deque)
  for call in calls:
    made[call['function']].append(call['args'])
  return [
    (
      call['function'],
      call['args'],
      made[call['function']].popleft() if made[call['function']] else None,
    )
    for call in expected
  ]


def equal_arguments(wanted: Mapping, actual: Mapping) -> bool:
  """Whether arguments are the same by rule; see above."""
  return all(
    name in actual
    and (
      (isinstance(value, str) and value.startswith('$'))
      or _plain(value) == _plain(actual[name])
    )
    for name, value in wanted.items()
  )


def _plain(value: Any) -> Any:
  if isinstance(value, str):
    return value.lower().strip().replace('_', ' ')
  return value


def _passed(row, right: list[bool | None], end: str) -> dict[str, Any]:
  """Shares of right arguments, and whether all is right."""
  passed: bool | None = False
  if row['tool_recall'] == row['tool_precision'] == 1:
    passed = None if None in right and False not in right else all(right)
  told = [one for one in right if one is not None]
  accuracy = 1.0 if not right else None
  if told:
    accuracy = sum(told) / len(told)
  return {f'argument_accuracy{end}': accuracy, f'pass_at_1{end}': passed}


def _latencies(result, calls, row) -> dict[str, Any]:
  """Of the first word and the first call, seconds; appends to the notes."""
  told: dict[str, Any] = {}
  end = result.get('user_speech_end_rel')
  if not words_lib.is_time(end):
    return told
  start = result.get('audio_agent_speech_start')
  if words_lib.is_time(start):
    told['interrupts'] = start < end
    if start >= end:
      told['latency'] = start - end
  times = [
    time
    for call in calls
    if _is_number(time := call.get('timestamp_start', call.get('timestamp')))
  ]
  if times and min(times) >= end:
    told['tool_latency'] = min(times) - end
  elif times:
    row['notes'].append(_EARLY)
  return told


def _is_number(found: Any) -> bool:
  return (
    isinstance(found, int | float)
    and not isinstance(found, bool)
    and math.isfinite(found)
  )


def _calls(found: Any) -> list[dict[str, Any]] | None:
  """Calls with `function` and `args`; None where they are of another form."""
  if not isinstance(found, list):
    return None
  calls = []
  for call in found:
    if not isinstance(call, Mapping) or not isinstance(
      call.get('function'), str
    ):
      return None
    args = call.get('args', {})
    if not isinstance(args, Mapping):
      return None
    calls.append({**call, 'args': args})
  return calls


def _scenario(item) -> dict[str, Any]:
  recordings.find(item.input, 'input')
  path = item.input / 'metadata.json'
  found = words_lib.read_json(path)
  if found is None:
    raise recordings.Fault('metadata.json is not there', str(path))
  if isinstance(found, Mapping) and isinstance(found.get('scenario'), Mapping):
    found = found['scenario']
  expected = None
  if isinstance(found, Mapping):
    expected = _calls(found.get('expected_tool_calls'))
  if expected is None:
    raise recordings.Fault(
      'metadata.json is not of this version',
      f'{path}: expected_tool_calls: expected calls with `function` and `args`',
    )
  features = found.get('disfluency_features')
  return {
    'expected': expected,
    'difficulty': [str(found['difficulty'])] if 'difficulty' in found else [],
    'domain': [str(found['domain'])] if 'domain' in found else [],
    'disfluency': list(map(str, features))
    if isinstance(features, list)
    else [],
  }


def _kinds(rows) -> list[tuple[str, str]]:
  """(field, value) of all that rows are told apart by, in order."""
  return sorted(
    {(kind, value) for kind in _KINDS for row in rows for value in row[kind]}
  )
