"""Runs in buckets are scored and reported as on a disk, to the last digit."""

import json
import re

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import files
from tests import stores
from tests.evaluation import test_evaluate
from tests.evaluation.reports import test_report

run, runs = test_evaluate.run, test_report.runs


def told(value, root):
  """What a door tells, without the place."""
  return json.loads(json.dumps(value).replace(str(root), 'ROOT'))


def test_scores_are_those_of_a_disk(run, gs_folder):
  for step in (10, 20, 30):
    for name in ('x', 'commit_success.txt'):
      path = run.root / f'run/checkpoints/{step}' / name
      path.write_text(f'{step}')
  stores.upload(run.root, gs_folder)
  found = []
  for root in (run.root, gs_folder):
    run.root = root
    result = test_evaluate.score(run, steps='10,30')
    again = test_evaluate.score(run, steps='10,30')
    assert not any(again['scored'].values())
    assert result['results'] == again['results']
    scores = {}
    for name, content in stores.contents(root / 'run/evaluation').items():
      if name.count('/') == 0 and name != 'digests.json':
        text = content.decode().replace(str(root), 'ROOT')
        scores[name] = re.sub(r'"seconds": [\d.]+', '', text)
    found.append((told(result, root), scores))
  assert found[0] == found[1]
  assert {'10.json', '30.json', 'index.html'} <= set(found[0][1])
  assert run.loaded == [10, 30, 10, 30]


def test_what_is_not_there(run, gs_folder):
  run.root = gs_folder
  with pytest.raises(errors.UserError, match=f'{gs_folder}/run: no finished'):
    test_evaluate.score(run)


def test_a_report_is_that_of_a_disk(runs, gs_folder):
  made = []
  stores.upload(runs, gs_folder)
  for root in (runs, gs_folder):
    result = test_report.make(root, manifest=None)
    page = files.read_text(root / 'out/report.html')
    made.append((told(result, root), page.replace(str(root), 'ROOT')))
  assert made[0] == made[1]
  with pytest.raises(errors.UserError, match='no such run directory'):
    test_report.make(gs_folder, runs=[f'{gs_folder}/none'])
