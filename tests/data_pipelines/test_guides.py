"""The README's corpus section and docs/new_corpus.md, followed literally."""

import csv
import pathlib
import re
import shlex
import shutil

import pytest

from data_pipelines import __main__ as data_doors
from data_pipelines.codes import tokenize
from step_audio_jax import __main__ as library_doors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.storage import files
from tests.data_pipelines import stand_in
from tpu_launch import __main__ as launch_doors
from tpu_launch.recipes import adapt as adapt_door

HERE = pathlib.Path(__file__).parents[2]
DOORS = {
  'data_pipelines': data_doors.DOORS,
  'step_audio_jax': library_doors.DOORS,
  'tpu_launch': launch_doors.DOORS,
}


def commands(text):
  """The `python -m` lines of the fenced blocks of a guide."""
  found = []
  for block in re.findall(r'^```\w*\n(.*?)^```', text, re.M | re.S):
    for line in block.replace('\\\n', ' ').splitlines():
      if line.startswith('python -m '):
        found.append(shlex.split(line)[2:])
  return found


def follow(words, capsys):
  """Runs one command in this process; returns what it printed."""
  status = cli.dispatch(words[0], DOORS[words[0]], words)
  out = capsys.readouterr()
  assert status == 0, f'{shlex.join(words)}\n{out.err}'
  return out.out


@pytest.fixture
def user(made, tmp_path, monkeypatch):
  """A working directory as the guides assume it."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(tokenize, '_load_dual', stand_in.StandIn)
  shutil.copytree(made / 'speech' / 'wav', tmp_path / 'recordings')
  with open(tmp_path / 'recordings' / 'metadata.csv', 'w') as handle:
    writer = csv.writer(handle)
    writer.writerow(['file', 'text', 'split'])
    for n, utterance in enumerate(manifest.read(made / 'speech')):
      split = ('dev', 'test')[n] if n < 2 else 'train'
      name = pathlib.Path(utterance.audio).name
      writer.writerow([name, utterance.text, split])
  stand_in.save(tmp_path / 'runs' / 'quickstart' / 'tokenizer')
  (tmp_path / 'runs' / 'quickstart' / 'data').mkdir()
  shutil.copy(made / 'text.model', tmp_path / 'runs' / 'quickstart' / 'data')
  yield tmp_path
  import seqio

  from data_pipelines.tasks import corpora

  for name in list(corpora.DEFINITIONS):  # the next test has another `mine`
    if name.startswith(('mine_', 'guide_', 'talk_')):
      del corpora.DEFINITIONS[name]
      seqio.TaskRegistry.remove(name)


def test_the_readme_section(user, capsys):
  text = (HERE / 'README.md').read_text()
  section = text.split('<!-- corpus:begin -->')[1].split('<!-- corpus:end')[0]
  adapt, *lines, train, evaluate = commands(section)
  for name in adapt_door.BASE:
    path = user / 'runs' / 'quickstart' / name
    if not path.exists():
      path.mkdir()
  (user / 'gin').symlink_to(HERE / 'gin')
  said = follow([*adapt, '--dry_run'], capsys)
  assert 'python -m data_pipelines ingest --source=recordings' in said
  assert not (user / 'runs' / 'mine').exists()
  assert [words[1] for words in lines] == ['ingest', 'tokenize', 'build']
  for words in lines:
    follow(words, capsys)
  assert (
    files.read_json(user / 'data/mine/rows/mine_sft_asr/train/stats.json')[
      'documents'
    ]
    > 25
  )
  # The model that the quick start leaves, untrained.
  small = ['--gin.STEPS=1', '--gin.BATCH_SIZE=1']
  start = [w for w in train if 'INIT_FROM' not in w and 'RUN_DIR' not in w]
  follow([*start, '--gin.RUN_DIR="runs/quickstart/sft"', *small], capsys)
  follow([*train, *small], capsys)
  metrics = (user / 'runs/mine_by_hand/metrics.jsonl').read_text()
  assert '"step"' in metrics and 'loss' in metrics
  few = ['--gin.MAX_ROWS=1', '--gin.SPEECH_GROUPS=2', '--gin.TEXT_TOKENS=2']
  said = follow([*evaluate, *few], capsys)
  assert re.search(r'asr_cer/test +\d', said)


def test_the_guide(user, made, capsys):
  text = (HERE / 'docs' / 'new_corpus.md').read_text()
  (module,) = re.findall(
    r'^```python\n# my_corpora.py\n(.*?)^```', text, re.M | re.S
  )
  module = module.replace("'mine'", "'guide'")  # tests share one registry
  (user / 'my_corpora.py').write_text(module)
  shutil.copytree(made / 'text', user / 'data' / 'mine_text')
  *lines, train = commands(text)
  assert [words[1] for words in lines] == [
    'ingest', 'inspect', 'vocabulary', 'tokenize', 'build', 'inspect',
    'inspect', 'build',
  ]  # fmt: skip
  said = [follow(words, capsys) for words in lines]
  assert 'all is well' in said[6]
  assert '<s> <|ASR|> <audio_start>' in said[5]
  made_tasks = {p.name for p in (user / 'data' / 'all' / 'rows').iterdir()}
  assert {'guide_asr', 'guide_text'} <= made_tasks
  for task in (
    'continuation',
    'interleaved',
    'asr',
    'tts',
    'sft_asr',
    'sft_tts',
  ):
    assert (user / 'data/mine/rows' / f'mine_{task}' / 'train').is_dir()
  follow([*train, '--dry_run'], capsys)


def test_from_answers_to_rows(user, made, capsys):
  text = (HERE / 'docs' / 'alignment.md').read_text()
  section = text.split('### What policies answered')[1].split('\n### ')[0]
  sample, *lines = commands(section)
  assert sample[1] == 'sample'
  assert [words[1] for words in lines] == [
    'rank', 'inspect', 'build', 'inspect',
  ]  # fmt: skip
  shutil.copytree(made / 'speech', user / 'data' / 'talk')
  shutil.copytree(made / 'codes', user / 'data' / 'talk' / 'codes')
  shutil.copy(made / 'text.model', user)
  said = manifest.read('data/talk')
  chats = [
    manifest.Utterance(
      id=f'q{k}',
      kind='chat',
      split='dev' if k == 3 else 'train',
      turns=(
        {'role': 'user', 'speech': said[k].id},
        {'role': 'assistant', 'text': 'a cat'},
      ),
    )
    for k in range(4)
  ]
  manifest.write('data/talk', [*said, *chats])
  # What a run would have drawn.
  told = dict(word[2:].partition('=')[::2] for word in sample if '=' in word)
  splits = told['splits'].split(',')
  asked, _ = quiz.questions(told['corpus'], splits)
  files.write_jsonl(
    told['output'],
    [
      {
        'prompt': one.id,
        'run': 'runs/talk',
        'step': 1,
        'number': number,
        'digest': one.digest,
        'text': f'a {word}',
        'stopped': True,
        'scores': {'right': right, 'brief': 0.5 * right, 'heard': 1.0},
      }
      for some in asked.values()
      for one in some
      for number, (word, right) in enumerate(
        [('cat', 1.0), ('dog', 0.0), ('cow', 0.5), ('cat', 1.0)]
      )
    ],
  )
  shown = [follow(words, capsys) for words in lines]
  assert 'added 4 pairs of 16 answers to 4 questions' in shown[0]
  assert 'all is well' in shown[1] and 'all is well' in shown[3]
  rows = user / 'data/talk/rows'
  for name in ('tqta', 'aqta'):
    folder = rows / f'talk_preference_{name}' / 'train'
    stats = files.read_json(folder / 'stats.json')
    assert (stats['pairs'], stats['dropped']) == (3, 0)
    assert stats['categories'] == ['right']


def test_the_table_of_fields_is_complete():
  text = (HERE / 'docs' / 'new_corpus.md').read_text()
  table = text.split('| field |')[1].split('\n\n')[0]
  fields = set(re.findall(r'`(\w+)`', ''.join(
    row.split('|')[1] for row in table.splitlines()[2:]
  )))  # fmt: skip
  assert fields == set(manifest.Utterance.__dataclass_fields__)
