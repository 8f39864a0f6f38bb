"""Every shipped gin file parses, is linted and dry-runs through its door.

A root is a file that no other includes. Roots are parsed strictly: a macro that
nothing reads fails, and so does one that is read but defined nowhere. Roots
outside gin/models are opened with their door and --dry_run, on a corpus and
rows made here; `VALUES` fills their required macros.
"""

import json
import pathlib
import re
import sys

from array_record.python import array_record_module
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
import soundfile

from data_pipelines import __main__ as data_doors
from data_pipelines import records
from data_pipelines.tasks import vocabulary as text_vocabulary
from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.corpus import stages
from step_audio_jax.decoder.speaker import embeddings

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted(
  path.relative_to(ROOT).as_posix() for path in (ROOT / 'gin').rglob('*.gin')
)
INCLUDE = re.compile(r"^include\s+['\"](.+)['\"]", re.MULTILINE)
INCLUDED = {
  name for path in FILES for name in INCLUDE.findall((ROOT / path).read_text())
}
ROOTS = [path for path in FILES if path not in INCLUDED]
RUNS = [path for path in ROOTS if not path.startswith('gin/models/')]
LIBRARY = 'step_audio_jax'
PROGRAMS = {LIBRARY: doors.DOORS, 'data_pipelines': data_doors.DOORS}
# What a file binds → its program, door and the flags that the door needs.
DOORS = {
  'run.train.': [LIBRARY, 'train'],
  'evaluate.evaluate.': [LIBRARY, 'evaluate', '--checkpoints={world}/scored'],
  'report.report.': [LIBRARY, 'report'],
  'build.configured.': ['data_pipelines', 'build', '--output={world}/new'],
}

LENGTH = 256
IMAGE = (32, 32, 3)
SENTENCES = ['the red cat sees a small ball', '红猫看见球', 'a dog has it']

# Required macro → value; `{world}` is the folder that the fixture makes.
VALUES = {
  'BATCH_SIZE': '8',
  'CODES': "'{world}/codes'",
  'CORPUS': "'{world}/corpus'",
  'DECODER': "'{world}/decoder'",
  'EMBEDDINGS': "'{world}/speakers.npz'",
  'INIT_FROM': "('{world}/no_run',)",
  'JUDGE': "'package:no-such-judge'",
  'LEARNING_RATE': '0.001',
  'MANIFEST': "'{world}/corpus'",
  'MODULES': "['corpora_of_the_world']",
  'OUTPUT': "'{world}/report'",
  'ROWS': "'{world}/rows'",
  'RUN_DIR': "'{world}/run'",
  'RUNS': "['{world}/scored']",
  'STAGE': "'stage1'",
  'STEPS': '2',
  'TEXT_MODEL': "'{world}/text.model'",
  'TOKENIZER': "'{world}/tokenizer'",
}


def write_rows(folder, task):
  """Two empty rows, as far as a dry run looks at them."""
  folder.mkdir(parents=True)
  images = 1 if 'image' in task else 0
  row = {
    'tokens': np.ones(LENGTH, np.int32),
    'segment_ids': np.ones(LENGTH, np.int32),
    'loss_weights': np.ones(LENGTH, np.float32),
  }
  if images:
    row['images'] = np.zeros((1, *IMAGE), np.uint8)
    row['image_slots'] = np.asarray([2], np.int32)
  if task.startswith('preference'):
    row['segment_ids'][LENGTH // 2 :] = 2
    row['pairs'] = np.asarray([[1, 2]], np.int32)
    row['margins'] = np.zeros(1, np.float32)
    row['categories'] = np.full(1, -1, np.int32)
  writer = array_record_module.ArrayRecordWriter(
    str(folder / 'rows-00000-of-00001.array_record'), 'group_size:1'
  )
  for _ in range(2):
    writer.write(safetensors_numpy.save(row))
  writer.close()
  stats = {'task': task, 'rows': 2, 'length': LENGTH, 'images_per_row': images}
  stats['pairs_per_row'] = len(row.get('pairs', ()))
  (folder / 'stats.json').write_text(json.dumps(stats))


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """A corpus, a text model, rows of every task, and a run in name only."""
  folder = tmp_path_factory.mktemp('world')
  (folder / 'text.model').write_bytes(text_vocabulary.train(SENTENCES))
  for task in {task for shares in stages.STAGES.values() for task in shares}:
    for split in ('train', 'dev'):
      for prefix in ('', 'quickstart_'):
        write_rows(folder / 'rows' / f'{prefix}{task}' / split, task)
  for task in ('quiz_sft_asr', 'quiz_chat', 'quickstart_chat'):
    write_rows(folder / 'rows' / task / 'train', task)
  (folder / 'scored/checkpoints/10').mkdir(parents=True)
  for name in ('decoder', 'tokenizer'):
    (folder / name).mkdir()  # a dry run asks no more of them
  (folder / 'corpus/wav').mkdir(parents=True)
  utterances = []
  for index, text in enumerate(SENTENCES):
    name = f'wav/{index}.wav'
    noise = np.random.default_rng(index).normal(size=32000) * 0.1
    soundfile.write(folder / 'corpus' / name, noise, 16000)
    utterances.append(
      manifest.Utterance(
        id=str(index),
        audio=name,
        duration=2.0,
        sample_rate=16000,
        text=text,
        language='en',
        # Every voice has both splits.
        split='dev' if index // 2 % 2 else 'train',
        kind='speech',
        speaker=f'voice{index % 2}',
      )
    )
  utterances += [
    manifest.Utterance(
      id=f'asked-{split}',
      kind='chat',
      split=split,
      turns=(
        {'role': 'user', 'speech': '0'},
        {'role': 'assistant', 'text': SENTENCES[1]},
      ),
    )
    for split in ('train', 'policy')
  ]
  utterances.append(
    manifest.Utterance(
      id='liked',
      kind='preference',
      split='test',
      turns=({'role': 'user', 'text': SENTENCES[0]},),
      chosen={'role': 'assistant', 'text': SENTENCES[2]},
      rejected={'role': 'assistant', 'text': SENTENCES[1]},
    )
  )
  manifest.write(folder / 'corpus', utterances)
  codes = {
    'linguistic': np.arange(32, dtype=np.uint16),
    'semantic': np.arange(48, dtype=np.uint16),
  }
  records.write_shard(
    folder / 'codes' / records.shard_name(speech_codes.STEM, 0, 1),
    [records.pack(codes, {'id': one.id}) for one in utterances if one.audio],
  )
  embeddings.write(
    folder / 'speakers.npz',
    {one.id: np.ones(192, np.float32) for one in utterances if one.audio},
  )
  texts = [
    manifest.Utterance(id=str(k), kind='text', text=text)
    for k, text in enumerate(SENTENCES)
  ]
  manifest.write(folder / 'texts', texts)
  (folder / 'corpora_of_the_world.py').write_text(
    'from data_pipelines.tasks import corpora\n'
    "corpora.register_text_corpus('world', 'texts', text_model='text.model')\n"
  )
  return folder


def required(path, world):
  """Bindings for the required macros of a file."""
  gin_files.parse([path], [], lint=False)
  names = gin_files.required_macros()
  missing = set(names) - set(VALUES)
  assert not missing, f'{path}: add {sorted(missing)} to VALUES'
  return [f'{name} = {VALUES[name].format(world=world)}' for name in names]


def test_the_lint_looks_at_something():
  assert RUNS and any(path.startswith('gin/models/') for path in FILES)


@pytest.mark.parametrize('path', FILES)
def test_includes_exist_and_come_first(path):
  text = (ROOT / path).read_text(encoding='utf-8')
  for name in INCLUDE.findall(text):
    assert (ROOT / name).is_file(), f'{path} includes {name}'
  # An include behind a binding would undo it.
  lines = [line.split('#')[0].strip() for line in text.splitlines()]
  kinds = ''.join(
    'i' if line.startswith('include') else 'b'
    for line in lines
    if line and not line.startswith(('import', 'from'))
  )
  assert 'bi' not in kinds, f'{path}: an include follows a binding'


@pytest.mark.parametrize('path', FILES)
def test_files_are_short_and_registered_by_import(path):
  text = (ROOT / path).read_text(encoding='utf-8')
  assert text.count('\n') <= 120
  if '@' in text or re.search(r'^import|^from', text, re.MULTILINE):
    assert 'from __gin__ import dynamic_registration' in text


def test_files_that_comments_point_to_are_there():
  names = {pathlib.PurePosixPath(path).name for path in FILES}
  for path in FILES:
    text = (ROOT / path).read_text(encoding='utf-8')
    for comment in re.findall('#.*', text):
      told = set(re.findall(r'(\w+\.gin)\b', comment))
      assert told <= names, f'{path}: {comment}'


@pytest.mark.parametrize('path', ROOTS)
def test_roots_pass_the_lint(path, world):
  gin_files.parse([path], required(path, world))
  # What was bound can be read back, as a run directory holds it.
  text = gin_files.bound_text()
  (world / 'bound.gin').write_text(text)
  gin_files.parse([str(world / 'bound.gin')], [])
  assert gin_files.bound_text() == text


@pytest.mark.parametrize('path', ROOTS)
def test_a_misspelt_macro_fails(path, world):
  bindings = required(path, world)
  with pytest.raises(gin_files.errors.UserError, match='nothing reads the mac'):
    gin_files.parse([path], [*bindings, 'LERNING_RATE = 1'])


@pytest.mark.parametrize('path', RUNS)
def test_dry_run(path, world, capsys, monkeypatch):
  monkeypatch.chdir(world)
  monkeypatch.setattr(sys, 'dont_write_bytecode', True)
  before = sorted(world.rglob('*'))
  bindings = [f'--gin_bindings={line}' for line in required(path, world)]
  bound = gin_files.bound_text()
  (door,) = [words for name, words in DOORS.items() if f'\n{name}' in bound]
  program, *door = [word.format(world=world) for word in door]
  argv = [*door, f'--gin_file={path}', '--dry_run', *bindings]
  status = cli.dispatch(program, PROGRAMS[program], ['-', *argv])
  assert status == 0, capsys.readouterr().err
  assert sorted(world.rglob('*')) == before  # it wrote nothing
