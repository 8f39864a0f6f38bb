"""Recorded dialogues beside the other figures of an evaluation."""

import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.benchmarks import dialogues
from tests.evaluation.benchmarks import made
from tests.evaluation.dialogues import test_takeover

SUBSET = 'candor_turn_taking'


def bench(folder):
  return dialogues.Dialogues(
    'duplex',
    str(folder / 'public'),
    outputs=str(folder / 'ours'),
    options={'complete': False},
  )


def score(folder):
  return evaluate.evaluate(
    checkpoints=str(folder / 'run'), benchmarks=[bench(folder)]
  )


def test_no_checkpoint_is_loaded_and_other_recordings_score_anew(
  tmp_path, monkeypatch
):
  run = made.run(tmp_path, monkeypatch)

  def record(id, bursts):
    test_takeover.make(
      tmp_path / 'public', SUBSET, id, bursts, tmp_path / 'ours'
    )

  record('1', [(7, 9)])
  record('2', [])
  found, name = score(tmp_path), f'duplex/{SUBSET}/takeover_rate'
  assert found['results'][20][name] == 0.5
  assert found['counts'][20][name]['scored'] == 2
  assert not run.loaded
  record('2', [(7, 9)])
  assert score(tmp_path)['results'][20][name] == 1.0
  (tmp_path / 'ours' / SUBSET / '2' / 'output.wav').unlink()
  found = score(tmp_path)
  counted = found['counts'][20][name]
  assert counted['of'] == 2 and counted['scored'] == 1
  assert sum(counted['left_out'].values()) == 1


def test_a_folder_of_something_else_is_refused(tmp_path, monkeypatch):
  made.run(tmp_path, monkeypatch)
  (tmp_path / 'public' / 'songs').mkdir(parents=True)
  with pytest.raises(errors.UserError, match='found songs, expected folders'):
    bench(tmp_path).read()
  with pytest.raises(errors.UserError, match="found benchmark 'duplex_9'"):
    dialogues.Dialogues('d', str(tmp_path), scorer='duplex_9').read()
