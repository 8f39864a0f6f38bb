"""Gates in a line: order, stopping, counts, quarantine."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from step_audio_jax import errors
from step_audio_jax.storage import files
from tests.data_pipelines.factory import takes


@dataclasses.dataclass(frozen=True)
class Listed(base.Gate):
  """Scores by id; notes whom it was asked of."""

  cost = 9
  least: float | None = 1.0
  name: str = 'listed'
  known: tuple[tuple[str, float], ...] = ()
  asked: list = dataclasses.field(default_factory=list, compare=False)

  def scores(self, takes):
    self.asked.append([take.id for take in takes])
    return [dict(self.known)[take.id] for take in takes]

  def score(self, take):
    return self.scores([take])[0]


SHORT = takes.take(takes.tone(0.1), id='short')
GOOD = takes.take(takes.tone(1.0), id='good')
BAD = takes.take(takes.tone(1.0), id='bad')
KNOWN = (('short', 5.0), ('good', 5.0), ('bad', 0.0))


@pytest.mark.parametrize('stop_early', [True, False])
def test_the_cheap_ones_are_asked_first(stop_early):
  listed = Listed(known=KNOWN)
  gates = line.Gates((listed, sound.Duration()), stop_early)
  assert [gate.name for gate in gates.gates] == ['duration', 'listed']
  short, good, bad = gates.check([SHORT, GOOD, BAD])
  assert (short.passed, good.passed, bad.passed) == (False, True, False)
  expected = ['good', 'bad'] if stop_early else ['short', 'good', 'bad']
  assert listed.asked == [expected]  # all at once
  assert list(short.scores) == ['duration', 'listed'][: 1 + (not stop_early)]
  assert good.to_json() == {
    'duration': {'outcome': 'passed', 'score': 1.0},
    'listed': {'outcome': 'passed', 'score': 5.0},
  }
  assert bad.quarantine() == {
    'id': 'bad',
    'reason': 'listed: 0, expected at least 1.',
    'gate': 'listed',
    'outcome': 'failed',
    'scores': {'duration': 1.0, 'listed': 0.0},
  }


def test_counts_add_up(tmp_path):
  gates = line.Gates((Listed(known=KNOWN[:2]), sound.Duration()))
  reports = gates.check([SHORT, GOOD, BAD])  # nobody knows a score of `bad`
  counts = line.Counts(gate.name for gate in gates.gates)
  for report in reports:
    counts.add(report)
  assert counts.result() == {
    'kept': 1,
    'rejected': 2,
    'gates': {
      'duration': {'passed': 2, 'failed': 1},
      'listed': {'passed': 1, 'unmeasured': 1, 'not_asked': 1},
    },
  }
  double = line.summed([counts.result()] * 2)
  assert double['kept'] == 2 and double['gates']['duration']['passed'] == 4
  result = line.write_quarantine(tmp_path / 'quarantine.jsonl', reports)
  assert result['rejected'] == 2
  lines = list(files.read_jsonl(tmp_path / 'quarantine.jsonl'))
  assert [one['id'] for one in lines] == ['short', 'bad']
  assert lines[1]['outcome'] == 'unmeasured'
  assert "could not be measured: KeyError: 'bad'" in lines[1]['reason']


@pytest.mark.parametrize(
  'samples, reason',
  [
    (np.zeros(0, 'f'), 'samples: found none.'),
    (np.zeros((2, 3), 'f'), 'samples: found float32 of shape (2, 3)'),
    (np.zeros(3, np.int16), 'samples: found int16'),
    (np.array([0, np.inf], 'f'), 'samples: sample 1 is inf, expected'),
  ],
)
@pytest.mark.parametrize('gates', [(), (sound.Duration(0.0),)])
def test_what_is_no_sound_passes_no_gate(samples, reason, gates):
  made = base.Take('x', samples, 16000)
  (report,) = line.Gates(gates, stop_early=False).check([made])
  assert not report.passed
  told = report.quarantine()
  assert told['outcome'] == base.UNMEASURED
  assert told['reason'].startswith(reason)


def test_infinity_is_json():
  clean = takes.take(takes.tone(0.5), takes.silence(0.5))
  (report,) = line.Gates((sound.Noise(),)).check([clean])
  assert report.scores == {'noise': 'inf'}
  json.dumps(report.to_json(), allow_nan=False)


def test_no_gates_let_all_pass_and_none_is_nothing():
  assert line.Gates().check([GOOD])[0].passed
  assert line.Gates().check([]) == []


def test_bad_lines():
  with pytest.raises(errors.UserError, match='2 are called .duration.'):
    line.Gates((sound.Duration(), sound.Duration(1.0)))
  with pytest.raises(errors.UserError, match='gates: found .*Duration'):
    line.Gates((sound.Duration,))


def test_a_long_reason_is_cut(monkeypatch):
  class Talker(sound.Duration):
    def score(self, take):
      raise errors.UserError('long ' * 1000)

  (report,) = line.Gates((Talker(),)).check([GOOD])
  assert len(report.quarantine()['reason']) <= 501
