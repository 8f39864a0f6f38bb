"""docs/judges.md, followed literally."""

import pathlib
import re

from step_audio_jax.commands import gin_files
from step_audio_jax.evaluation import judges
from step_audio_jax.evaluation.judges import library
from tests.endpoints import server as server_lib

GUIDE = pathlib.Path(__file__).parents[3] / 'docs' / 'judges.md'


def blocks(language):
  text = GUIDE.read_text(encoding='utf-8')
  return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


def test_its_example_runs(tmp_path, capsys):
  (code,) = blocks('python')

  def some(asked):
    return server_lib.completion('No' if 'Oslo' in str(asked) else 'Yes')

  with server_lib.serving(some) as server:
    known = {'URL': server.url, 'RUN': str(tmp_path)}
    exec(compile(code, str(GUIDE), 'exec'), known)
  assert known['found'].rates()['']['over_all'] == 0.5
  assert [line['value'] for line in known['lines']] == [1.0, 0.0]
  assert "'answered_by': {'tiny-2': 6}" in capsys.readouterr().out


def take(judge: judges.Judge) -> judges.Judge:
  return judge


def test_its_gin_makes_a_judge(tmp_path):
  (text,) = blocks('gin')
  path = tmp_path / 'judge.gin'
  module = __name__.rpartition('.')
  text = text.replace('\n\n', f'\nfrom {module[0]} import {module[2]}\n\n', 1)
  path.write_text(f'{text}\n{module[2]}.take.judge = @llm_judge.Judge()\n')
  made = gin_files.configure([str(path)], [], take)()
  assert isinstance(made, judges.Judge)
  assert made.votes == 3 and made.model.temperature == 0.5
  assert made.asks.name == 'voicebench_open'


def test_its_table_has_all_prompts():
  lines = [s for s in GUIDE.read_text().splitlines() if s.startswith('| `')]
  named = [one for s in lines for one in re.findall(r'`(\w+@\d+)`', s)]
  assert sorted(named) == sorted(
    f'{one.name}@{one.version}' for one in library.PROMPTS
  )
