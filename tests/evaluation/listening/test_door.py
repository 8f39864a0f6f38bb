"""The door makes a page and scores what comes back."""

import json

import pytest

from step_audio_jax.commands import cli
from step_audio_jax.evaluation.listening import door
from step_audio_jax.evaluation.listening import report
from tests.evaluation.listening import made


def opened(capsys, *words):
  """Status, what `--json` says, and all of both streams."""
  status = cli.run('listen', door.DOOR, [*words, '--json'])
  out, err = capsys.readouterr()
  told = json.loads(out.splitlines()[-1]) if status == 0 else None
  return status, told, out + err


def test_from_recordings_to_results(tmp_path, capsys):
  made.systems(tmp_path, items=('a', 'b', 'c'))
  (tmp_path / 'sekret' / 'c.wav').unlink()
  words = [
    f'--systems=reference={tmp_path / "reference"},ours={tmp_path / "sekret"}',
    f'--output={tmp_path / "page"}',
    '--questions=mos,ab',
    '--catches=1',
    '--mos_text=How clear <is> it?',
  ]
  status, told, said = opened(capsys, *words, '--dry_run')
  assert status == 0 and told['items'] == 2 and told['lacking'] == {'ours': 1}
  assert 'would lay out 2 items of 2 systems' in said
  assert not (tmp_path / 'page').exists()
  status, told, said = opened(capsys, *words)
  assert told['trials'] == 4 + 2 + 4 and 'ours lacks 1 items' in said
  text = (tmp_path / 'page' / 'listen.html').read_text()
  assert told['bytes'] == len(text.encode()) and told['page'] in text
  assert '<is>' not in text and '\\u003cis>' in text
  key = json.loads((tmp_path / 'page' / 'key.json').read_text())
  (tmp_path / 'back').mkdir()
  for rater, ours in (('ada', 2), ('bo', 3), ('<i>eve</i>', 4)):
    opinions = {'reference': 5, 'ours': ours}
    rows = made.answers(key, rater, made.attentive(key, opinions))
    if ours == 4:
      for row in rows:
        row['score'] = '5' if row['question'] == 'mos' else 'a'
    made.save(tmp_path / 'back' / f'{ours}.csv', rows)
  words = [
    f'--ratings={tmp_path / "back"}',
    f'--key={tmp_path / "page" / "key.json"}',
    f'--output={tmp_path / "results"}',
  ]
  status, told, said = opened(capsys, *words, '--dry_run')
  assert told['files'] == 3 and not (tmp_path / 'results').exists()
  status, told, said = opened(capsys, *words)
  assert told['mos']['systems']['ours']['mean'] == 2.5
  assert told['raters']['excluded'] == {'<i>eve</i>': 'failed catch trials'}
  assert '| ours | 2.50 |' in said and '2 of 3 raters count' in said
  assert 'left out: failed catch trials (mos degraded' in said
  assert '| reference | ours | 4 | 0 | 0 | 1.00 |' in said
  kept = tmp_path / 'results'
  assert json.loads((kept / 'results.json').read_text()) == told
  assert (kept / 'results.md').read_text() in said
  shown = (kept / 'results.html').read_text()
  assert '<i>eve' not in shown and 'Mean opinion score' in shown
  pattern = f'--ratings={tmp_path / "back"}/*.csv'
  assert opened(capsys, pattern, *words[1:])[1] == told


def test_results_of_nobody_can_be_shown():
  nobody = {'mean': None, 'low': None, 'high': None, 'ratings': 0, 'raters': 0,
            'items': 0, 'scores': [0] * 5}  # fmt: skip
  found = {
    'page': 'f' * 64,
    'raters': {'given': 1, 'kept': 0, 'excluded': {}, 'missing': {'x|y': 2}},
    'rows': {'a score out of range': 3},
    'files': {'z.csv': 'of another page'},
    'catch': {'failed': {}, 'same_told_apart': 0},
    'mos': {
      'systems': {'a|b': nobody},
      'differences': [],
      'alpha_ordinal': None,
      'alpha_interval': None,
    },
  }
  text = report.markdown(found)
  assert '| a\\|b | not defined | not defined | 0 |' in text
  for line in (
    'x|y has 2 trials without an answer',
    '3 rows are no ratings: a score out of range',
    'z.csv was not read: of another page',
    'alpha (MOS, ordinal): not defined',
  ):
    assert line in text
  assert 'nothing to draw' in report.document(found) or 'a|b' in text


@pytest.mark.parametrize(
  'words, said',
  [
    ([], 'found neither of --systems'),
    (['--systems=a=x', '--ratings=y'], 'found both of --systems'),
    (['--systems=nothing'], "--systems: found 'nothing', expected NAME="),
    (['--systems=a=no/where'], 'no/where: no such folder'),
    (['--ratings=y.csv'], '--key: missing'),
    (['--systems=a=x', '--questions=abx'], 'questions: found abx'),
  ],
)
def test_what_is_named_wrongly(tmp_path, capsys, words, said):
  status, _, text = opened(capsys, *words, f'--output={tmp_path / "out"}')
  assert status == 2 and said in text
  assert not (tmp_path / 'out').exists()


def test_no_files(tmp_path, capsys):
  key = tmp_path / 'key.json'
  key.write_text(json.dumps(made.small().key))
  words = [f'--ratings={tmp_path}/*.csv', f'--key={key}']
  status, _, text = opened(capsys, *words, f'--output={tmp_path / "out"}')
  assert status == 2 and 'found no file, expected what raters saved' in text
