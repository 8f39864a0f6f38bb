"""Benchmarks in an evaluation: answers and figures are kept apart."""

import json

import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.benchmarks import asking
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import family
from step_audio_jax.evaluation.benchmarks import means
from step_audio_jax.generation import decode
from tests.evaluation import corpus
from tests.evaluation.benchmarks import made


@pytest.fixture
def run(tmp_path, monkeypatch):
  found = made.run(tmp_path, monkeypatch)
  monkeypatch.setattr(
    family.Benchmarks, '_recordings', made.Recordings(), raising=True
  )
  found.decoded = []
  generate = decode.generate_outputs

  def generating(model, variables, prompts, **more):
    found.decoded.append(len(prompts))
    return generate(model, variables, prompts, **more)

  monkeypatch.setattr(decode, 'generate_outputs', generating)
  return found


def score(run, *benchmarks, conventions=('plain',), **changes):
  return evaluate.evaluate(
    checkpoints=str(run.root / 'run'),
    benchmarks=benchmarks,
    asking=asking.Asking(batch_size=4, chunk=1),
    means=means.MeansConfig(conventions=conventions),
    **changes,
  )


SPELLING = made.Spelling('spelling', '')


def test_a_figure_stands_beside_the_others(run):
  found = score(run, SPELLING)
  assert found['results'] == {20: {'spelling/cer': 0.0}}
  assert found['counts'][20]['spelling/cer']['scored'] == 4
  told = json.loads((run.root / 'run/evaluation/20.json').read_text())
  assert told['benchmarks']['spelling']['figures']['cer']['of'] == 4
  again = score(run, SPELLING)
  assert again['results'] == found['results'] and run.decoded == [4]
  assert run.loaded == [20]


def test_other_settings_score_what_was_answered(run):
  score(run, SPELLING)
  score(run, made.Spelling('spelling', '', strange=1))
  assert run.decoded == [4]
  longer = benchmark.Decoding(most=7)
  score(run, made.Spelling('spelling', '', decoding=longer))
  assert run.decoded == [4, 4]


def test_controls_are_figures_of_their_own(run):
  deaf = made.Spelling(
    'spelling', '', controls=(benchmark.PLAIN, benchmark.SILENCED)
  )
  corpus.write_checkpoint(run.root, 10, 'others')
  found = score(run, deaf, steps='all')
  for step in (10, 20):
    assert found['results'][step] == {
      'spelling/cer': 0.0,
      'spelling/silenced/cer': 1.0,
    }
  assert run.decoded == [4] * 4


def test_a_control_that_says_nothing_is_left_out_and_told(run):
  everything = made.Spelling('spelling', '', controls=benchmark.CONTROLS)
  found = score(run, everything)
  assert set(found['results'][20]) == {'spelling/cer', 'spelling/silenced/cer'}
  for control in (benchmark.CASCADE, benchmark.WRITTEN):
    told = f'is to transcribe, so it is not asked {control}.'
    assert any(told in note for note in found['notes'])


def test_nothing_that_is_asked_is_told(run):
  assert 'found nothing that is asked' in score(run)['notes'][0]
  assert not any('asked' in note for note in score(run, SPELLING)['notes'])


def test_conventions_are_some_each_once():
  for names in ((), ('plain', 'plain')):
    with pytest.raises(errors.UserError, match='conventions: found'):
      means.MeansConfig(conventions=names)


def test_what_a_benchmark_is_known_by_is_so_when_it_is_read_again(
  run, monkeypatch
):
  plain = made.Spelling.score

  def scored(self, items, answers, means):
    found = plain(self, items, answers, means)
    beside = benchmark.Figure(0.5, of=len(items))
    figures = {**found.figures, 'accuracy': beside}
    missing = {'judge': 'no judge is named'}
    return benchmark.Scored(figures, found.rows, missing)

  monkeypatch.setattr(made.Spelling, 'score', scored)
  for _ in range(2):
    found = score(run, SPELLING)
    assert list(found['results'][20]) == ['spelling/cer', 'spelling/accuracy']
    assert found['not_computed']['spelling/judge'] == 'no judge is named'
  told = json.loads((run.root / 'run/evaluation/summary.json').read_text())
  figure = told['steps']['20']['figures']['spelling/cer']
  assert figure['low'] is not None  # of the rows, which are of the first


def test_equal_parameters_answer_alike(run):
  score(run, SPELLING, steps='all')
  assert run.decoded == [4] and run.loaded == [10]


def test_the_first_ones_and_what_is_beyond(run):
  found = score(run, made.Spelling('spelling', '', most=3))
  counted = found['counts'][20]['spelling/cer']
  assert counted['scored'] == 3 and counted['of'] == 4
  assert counted['left_out'] == {'beyond most=3': 1}


def test_two_of_one_name_and_unknown_controls_are_refused(run):
  with pytest.raises(errors.UserError, match="two that are called 'spelling'"):
    score(run, SPELLING, SPELLING)
  with pytest.raises(errors.UserError, match="controls: found 'louder'"):
    made.Spelling('spelling', '', controls=('louder',))


def test_duplicates_and_emptiness_are_told():
  def item(name):
    return benchmark.written(name, 'a', 'b')

  found = benchmark.reading([item('x'), item('x'), ('y', 'no sound')], 'f')
  assert [one.id for one in found.items] == ['x'] and found.of == 3
  assert found.counted()['left_out'] == {
    'an id that was there before': 1,
    'no sound': 1,
  }
  with pytest.raises(errors.UserError, match=r'f: found nothing .* \(1 no so'):
    benchmark.reading([('y', 'no sound')], 'f')


class Asks:
  """A judge behind an address that answers the second time.

  Attributes:
    calls: Times that it was asked.
  """

  calls = 0
  kept = 'somewhere'
  votes = 1

  class model:
    identity = {'model': 'made'}
    name = 'made'


def test_a_judge_that_did_not_answer_is_asked_again(run, monkeypatch):
  judge = Asks()

  def judged(self, items, answers, means):
    assert means.judge is judge
    judge.calls += 1
    figure = benchmark.Figure(1.0, of=len(items))
    rows = [{'id': item.id} for item in items]
    if judge.calls == 1:
      why = 'the judge made did not answer: time-out'
      return benchmark.Scored({}, rows, {'judge': why})
    return benchmark.Scored({'judge': figure}, rows)

  monkeypatch.setattr(made.Spelling, 'score', judged)
  asked = means.MeansConfig(judge=judge)
  for calls in (1, 2, 2):
    found = evaluate.evaluate(
      checkpoints=str(run.root / 'run'),
      benchmarks=[SPELLING],
      asking=asking.Asking(batch_size=4, chunk=1),
      means=asked,
    )
    assert judge.calls == calls and run.decoded == [4]
    assert ('spelling/judge' in found['results'][20]) == (calls == 2)
  assert run.loaded == [20]
