"""The line that the benchmark of the recipe with a real model prints."""

import json
import sys

import pytest

from benchmarks.end_to_end import real_llm
from tpu_launch.recipes import real


def test_what_a_recipe_left_is_told(tmp_path, monkeypatch, capsys):
  run = tmp_path / 'hearing-7'
  run.mkdir()
  config = {'steps': 9, 'feed': {'batch_size': 2}}
  (run / 'config.json').write_text(json.dumps(config))
  report = {
    'asr_cer': 0.1,
    'asr_cer_unseen_voice': 0.2,
    'wall_seconds': 5.0,
    'stages': [{'scored_step': 7}],
    'commands': [{'name': 'build', 'seconds': 1.5}],
  }
  (tmp_path / 'report.json').write_text(json.dumps(report))
  split = {'right': 0.5, 'questions': 4}
  answers = {
    kind: {real.ASKED: split, real.HEARD: split}
    for kind in ('spoken', 'written', 'untouched')
  }
  answers['spoken'] = dict.fromkeys(
    (real.ASKED, real.HEARD, real.FOLLOWED, real.SILENT), split
  )
  (tmp_path / 'answers.json').write_text(
    json.dumps({'run': str(run), **answers})
  )
  monkeypatch.setattr(sys, 'argv', ['-', f'--run={tmp_path}'])
  real_llm.main()
  told = json.loads(capsys.readouterr().out)
  assert told['tokens'] == 7 * 2 * real.ROW_LENGTH
  assert told['missed'] == [
    'asr_cer_unseen_voice', 'spoken_asked', 'silence_refused'
  ]  # fmt: skip
  assert told['written_of_untouched'] == pytest.approx(1.0)
  assert told['seconds'] == {'build': 1.5}
