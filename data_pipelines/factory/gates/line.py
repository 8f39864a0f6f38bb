"""Gates one after the other, the cheapest first, and what becomes of takes.

    OUTPUT/quarantine.jsonl    {"id": …, "reason": …, "gate": …, "outcome": …,
                                "scores": {"duration": 0.12}}

What passes every gate is kept. `stop_early` asks no gate behind the first that
a take does not pass; otherwise all say what they have to say.
"""

import collections
import dataclasses
from typing import Any, Iterable, Iterator, Mapping, Sequence

import numpy as np

from data_pipelines.factory.gates import base
from step_audio_jax import errors
from step_audio_jax.storage import files

NOT_ASKED = 'not_asked'
_SHOWN = 500  # characters of a reason


@dataclasses.dataclass(frozen=True)
class Report:
  """What the gates say of a take.

  Attributes:
    id: Of the take.
    verdicts: Of those gates that were asked, in their order.
  """

  id: str
  verdicts: tuple[base.Verdict, ...]

  @property
  def passed(self) -> bool:
    """Whether every gate that was asked let it pass."""
    return all(one.outcome == base.PASSED for one in self.verdicts)

  @property
  def outcomes(self) -> dict[str, str]:
    """Outcomes by gate."""
    return {one.gate: one.outcome for one in self.verdicts}

  @property
  def scores(self) -> dict[str, float | None]:
    """Figures by gate, as JSON can hold them."""
    return {one.gate: _plain(one.score) for one in self.verdicts}

  def to_json(self) -> dict[str, Any]:
    """What provenance keeps: {gate: {'outcome', 'score'}}."""
    return {
      one.gate: {'outcome': one.outcome, 'score': _plain(one.score)}
      for one in self.verdicts
    }

  def quarantine(self) -> dict[str, Any]:
    """A line of the quarantine, of a take that did not pass."""
    first = next(v for v in self.verdicts if v.outcome != base.PASSED)
    reason = ' '.join(first.reason.split())
    return {
      'id': self.id,
      'reason': reason if len(reason) <= _SHOWN else f'{reason[:_SHOWN]}…',
      'gate': first.gate,
      'outcome': first.outcome,
      'scores': self.scores,
    }


@dataclasses.dataclass(frozen=True)
class Gates:
  """Gates that stand in a line.

  Attributes:
    gates: In any order; they are asked by cost.
    stop_early: Whether the first that is not passed is the last that is asked.
  """

  gates: tuple[base.Gate, ...] = ()
  stop_early: bool = True

  def __post_init__(self):
    wrong = [one for one in self.gates if not isinstance(one, base.Gate)]
    if wrong:
      raise errors.UserError(f'gates: found {wrong[0]!r}, expected gates.')
    names = collections.Counter(gate.name for gate in self.gates)
    for name, count in names.items():
      if count > 1:
        raise errors.UserError(
          f'gates: {count} are called {name!r}; give each a name of its own.'
        )
    ordered = tuple(sorted(self.gates, key=lambda gate: gate.cost))
    object.__setattr__(self, 'gates', ordered)

  def check(self, takes: Sequence[base.Take]) -> list[Report]:
    """What the gates say of some takes; costly ones are asked of many at once.

    Takes whose samples are not one channel of finite numbers pass no gate:
    nothing can be measured of them.
    """
    verdicts: list[list[base.Verdict]] = [[] for _ in takes]
    asked = []
    for number, take in enumerate(takes):
      if fault := _fault(take):
        reason = f'samples: {fault}.'
        verdicts[number].append(
          base.Verdict('samples', base.UNMEASURED, None, reason)
        )
      else:
        asked.append(number)
    for gate in self.gates:
      if not asked:
        break
      told = gate.judge([takes[number] for number in asked])
      for number, verdict in zip(asked, told, strict=True):
        verdicts[number].append(verdict)
      if self.stop_early:
        asked = [n for n in asked if verdicts[n][-1].outcome == base.PASSED]
    return [Report(t.id, tuple(v)) for t, v in zip(takes, verdicts)]


class Counts:
  """How many takes each gate let pass, by outcome; sums of parts are the whole.

  Attributes:
    kept: Takes that passed.
    rejected: Takes that did not.
  """

  def __init__(self, gates: Iterable[str] = ()):
    """None yet.

    Args:
      gates: Names of all, in order: those that are never asked are counted.
    """
    self._by_gate = {name: collections.Counter() for name in gates}
    self.kept = self.rejected = 0

  def add(self, report: Report) -> None:
    """Counts a take."""
    self.add_outcomes(report.outcomes, report.passed)

  def add_outcomes(self, outcomes: Mapping[str, str], passed: bool) -> None:
    """Counts a take by its outcomes, gate by gate."""
    for name in {**self._by_gate, **outcomes}:
      found = self._by_gate.setdefault(name, collections.Counter())
      found[outcomes.get(name, NOT_ASKED)] += 1
    if passed:
      self.kept += 1
    else:
      self.rejected += 1

  def result(self) -> dict[str, Any]:
    """JSON-able: kept, rejected, and for each gate its outcomes."""
    names = (*base.OUTCOMES, NOT_ASKED)
    return {
      'kept': self.kept,
      'rejected': self.rejected,
      'gates': {
        gate: {name: found[name] for name in names if found[name]}
        for gate, found in self._by_gate.items()
      },
    }


def summed(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """`Counts.result` of several parts as one."""
  total: dict[str, Any] = {'kept': 0, 'rejected': 0, 'gates': {}}
  for part in parts:
    for name in ('kept', 'rejected'):
      total[name] += part[name]
    for gate, found in part['gates'].items():
      into = total['gates'].setdefault(gate, {})
      for outcome, count in found.items():
        into[outcome] = into.get(outcome, 0) + count
  return total


def write_quarantine(
  path: files.Path, reports: Iterable[Report]
) -> dict[str, Any]:
  """Writes down what did not pass, whole or not at all; returns counts."""
  counts = Counts()

  def lines() -> Iterator[dict[str, Any]]:
    for report in reports:
      counts.add(report)
      if not report.passed:
        yield report.quarantine()

  files.write_jsonl(path, lines())
  return counts.result()


def _fault(take: base.Take) -> str | None:
  samples = np.asarray(take.samples)
  if samples.ndim != 1 or samples.dtype.kind != 'f':
    return (
      f'found {samples.dtype} of shape {samples.shape}, expected '
      'floating-point samples (S,)'
    )
  if not len(samples):
    return 'found none'
  finite = np.isfinite(samples)
  if not finite.all():
    place = int(np.argmin(finite))
    return f'sample {place} is {samples[place]}, expected finite numbers'
  return None


def _plain(score: float | None) -> float | str | None:
  """Infinity is no JSON: it is written as a word."""
  if score is None or np.isfinite(score):
    return None if score is None else round(score, 6)
  return '-inf' if score < 0 else 'inf'
