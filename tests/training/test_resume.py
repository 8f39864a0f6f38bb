"""What a resume compares, what it allows, and the way on from a refusal."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.training import resume
from step_audio_jax.training.checkpoints import checkpoints
from tests.training import toy_rows

EXTRA = """
from step_audio_jax.parallel import mesh
from step_audio_jax.training import guard
STEPS = 4
SCHEDULE = 'constant'
ROWS = 'HERE'
feed.RowFeed.rows = %ROWS
loop.LoopConfig.steps = %STEPS
loop.LoopConfig.checkpoint_every = 2
loop.LoopConfig.spikes = @guard.SpikeConfig()
optimizers.OptimizerConfig.schedule = %SCHEDULE
run.train.mesh = @mesh.MeshConfig()
"""


def text(rows):
  extra = EXTRA.replace('HERE', str(rows))
  # Later lines win, but imports come first.
  imports = [line for line in extra.splitlines() if line.startswith('from')]
  rest = [line for line in extra.splitlines() if not line.startswith('from')]
  head, _, tail = toy_rows.gin_text(rows).partition('RUN_DIR')
  return head + '\n'.join(imports) + '\nRUN_DIR' + tail + '\n'.join(rest) + '\n'


def train(gin_file, run_dir, *more):
  return cli.dispatch(
    'step_audio_jax',
    doors.DOORS,
    [
      'step_audio_jax',
      'train',
      f'--gin_file={gin_file}',
      f"--gin.RUN_DIR='{run_dir}'",
      *more,
    ],
  )


@pytest.fixture(scope='module')
def gin_file(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  toy_rows.write_source(folder / 'rows', 'a', 9)
  path = folder / 'tiny.gin'
  path.write_text(text(folder / 'rows'))
  return path


@pytest.fixture(scope='module')
def finished(gin_file, tmp_path_factory):
  run_dir = tmp_path_factory.mktemp('runs') / 'first'
  assert train(gin_file, run_dir) == 0
  return run_dir


@pytest.fixture
def copied(finished, tmp_path):
  """The finished run, moved to another place."""
  run_dir = tmp_path / 'elsewhere' / 'run'
  shutil.copytree(finished, run_dir)
  return run_dir


@pytest.fixture
def killed(copied):
  """The run as a kill after step 2 leaves it."""
  (copied / 'done.json').unlink()
  shutil.rmtree(copied / 'checkpoints' / '4')
  return copied


def as_before(run_dir):
  """The directory as it was made before `resume.json`."""
  (run_dir / resume.NAME).unlink()
  return run_dir


def error(capsys):
  lines = capsys.readouterr().err.strip().splitlines()
  assert lines[-1].startswith('error: ')
  return lines[-1]


def same_parameters(left, right, step=None):
  a, b = (checkpoints.load_variables(run, step)[0] for run in (left, right))
  jax.tree.map(np.testing.assert_array_equal, a, b)


def losses(run):
  lines = (pathlib.Path(run) / 'metrics.jsonl').read_text().splitlines()
  return {line['step']: line['loss'] for line in map(json.loads, lines)}


ALLOWED = [
  'loop.LoopConfig.log_every=1',
  'loop.LoopConfig.checkpoint_every=0',
  'loop.LoopConfig.keep=5',
  "loop.LoopConfig.best='loss'",
  "loop.LoopConfig.best_is='max'",
  'loop.LoopConfig.microbatches=1',
  'guard.SpikeConfig.factor=20.0',
  'guard.SpikeConfig.give_up=50',
  'mesh.MeshConfig.tensor=2',
  'run.train.most_epochs=99',
  "transformer.TransformerConfig.remat='full'",
  "transformer.TransformerConfig.attention='dense'",
  'transformer.TransformerConfig.scan_unroll=1',
  # The same, spelt in another way.
  'optimizers.OptimizerConfig.learning_rate=1e-2',
  'optimizers.OptimizerConfig.weight_decay=0.1',  # its default
  "RATIOS={'a': 2.5}",  # one source has all rows
]
REFUSED = [
  ('optimizers.OptimizerConfig.learning_rate=0.02', '0.02, expected 0.01'),
  ('optimizers.OptimizerConfig.beta1=0.8', 'optimizer.beta1 is 0.8'),
  ("SCHEDULE='cosine'", "optimizer.schedule is 'cosine'"),
  ('optimizers.OptimizerConfig.multipliers=(("head", 2.0),)', 'multipliers'),
  ('feed.RowFeed.batch_size=4', 'feed.batch_size is 4, expected 8'),
  ('feed.RowFeed.seed=1', 'feed.seed is 1, expected 0'),
  ('loop.LoopConfig.seed=1', 'loop.seed is 1, expected 0'),
  ('loop.LoopConfig.ema_decay=0.5', 'loop.ema_decay is 0.5'),
  ('objectives.NextToken.z_loss=1e-4', 'objective.z_loss is 0.0001'),
  ('transformer.TransformerConfig.mlp_width=16', 'mlp_width is 16, expected 8'),
  ("transformer.TransformerConfig.dtype='bfloat16'", "dtype is 'bfloat16'"),
  ('transformer.TransformerConfig.tied_head=True', 'tied_head is True'),
]


@pytest.mark.parametrize(
  'change, made',
  [
    *((change, 'now') for change in ALLOWED),
    # A text does not say what shares come to.
    *((change, 'before') for change in ALLOWED if 'RATIOS' not in change),
  ],
)
def test_what_leaves_the_mathematics_alone_may_change(
  gin_file, copied, capsys, change, made
):
  if made == 'before':
    as_before(copied)
  assert train(gin_file, copied, f'--gin.{change}') == 0
  told = capsys.readouterr().err
  assert ('cannot be checked' in told) == (made == 'before')
  assert train(gin_file, copied) == 0
  assert 'checked' not in capsys.readouterr().err  # told once


@pytest.mark.parametrize('made', ['now', 'before'])
@pytest.mark.parametrize('change, words', REFUSED)
def test_what_changes_the_mathematics_is_refused(
  gin_file, copied, capsys, change, words, made
):
  if made == 'before':
    as_before(copied)
    words = words.rpartition('.')[2] if ', ' not in words else words[-4:]
  before = sorted(copied.rglob('*'))
  assert train(gin_file, copied, f'--gin.{change}') == 2
  told = error(capsys)
  assert 'another configuration' in told and words in told
  # The way on.
  assert f"INIT_FROM = ['{copied}']" in told
  assert sorted(copied.rglob('*')) == before


def test_a_file_that_is_spelt_in_another_way_is_the_same_run(
  gin_file, copied, tmp_path
):
  """Macros, comments, includes and the order of lines are no configuration."""
  other = tmp_path / 'other.gin'
  body = gin_file.read_text().replace('rate = 0.01', 'rate = %LR')
  other.write_text(f'# A comment.\n{body}\nLR = 1e-2\n')
  above = tmp_path / 'above.gin'
  above.write_text(f"include '{other}'\n")
  assert train(above, copied) == 0
  assert train(above, as_before(copied)) == 0


def test_a_longer_run_keeps_its_optimizer(gin_file, copied, tmp_path, capsys):
  """4 steps, then 8, are the bits of 8 in one go; so are other log lines."""
  whole = tmp_path / 'whole'
  assert train(gin_file, whole, '--gin.STEPS=8') == 0
  shutil.copytree(copied, tmp_path / 'killed')
  more = ['--gin.STEPS=8', '--gin.loop.LoopConfig.log_every=1']
  assert train(gin_file, copied, *more) == 0
  same_parameters(copied, whole)
  told = losses(copied)
  assert list(told) == [2, 4, 5, 6, 7, 8]
  assert told[4] == losses(whole)[4]
  mean = np.mean([told[7], told[8]])
  assert mean == pytest.approx(losses(whole)[8], rel=0.05)
  for run in (copied, whole):
    assert files.read_json(run / 'done.json')['steps'] == 8
    assert files.read_json(run / 'config.json')['steps'] == 8
  capsys.readouterr()
  # A run that is over does nothing; and it is never made shorter.
  assert train(gin_file, copied, '--gin.STEPS=8') == 0
  assert train(gin_file, copied, '--gin.STEPS=4') == 2
  assert 'has a checkpoint of step 8, expected at most 4' in error(capsys)


@pytest.mark.parametrize(
  'state, lost',
  [
    ('copied', 'config.gin'),
    ('copied', 'config.json'),
    ('copied', 'operative_config.gin'),
    ('killed', 'config.gin'),
  ],
)
def test_a_file_that_is_gone_is_made_again(
  gin_file, finished, lost, state, request
):
  run = request.getfixturevalue(state)
  (run / lost).unlink()
  assert train(gin_file, run) == 0
  assert (run / lost).is_file()
  assert files.read_json(run / resume.NAME) == files.read_json(
    finished / resume.NAME
  )


@pytest.mark.parametrize(
  'name, content',
  [
    ('done.json', '{"steps": 4'),
    *(('config.json', text) for text in ('', '{"steps": 4', '[]', '\0\0\0')),
  ],
)
def test_half_a_file_is_made_again(gin_file, finished, copied, name, content):
  (copied / name).write_text(content)
  assert train(gin_file, copied) == 0
  again, wanted = (files.read_json(run / name) for run in (copied, finished))
  assert again['steps'] == 4 and again['parameters'] == wanted['parameters']


def test_a_broken_record_is_one_sentence(gin_file, copied, capsys):
  for content in ('', '{', '[]', '{"x": 1}', '\0\0'):
    (copied / resume.NAME).write_text(content)
    assert train(gin_file, copied) == 2
    assert f'{resume.NAME}: not what `train` wrote' in error(capsys)
  assert train(gin_file, as_before(copied)) == 0  # the way on


def test_a_directory_that_nothing_describes_is_refused(
  gin_file, copied, capsys
):
  (copied / 'config.gin').unlink()
  assert train(gin_file, as_before(copied)) == 2
  told = error(capsys)
  assert 'neither resume.json nor config.gin' in told and 'INIT_FROM' in told


def test_a_finished_run_without_checkpoints_is_told(gin_file, copied, capsys):
  shutil.rmtree(copied / 'checkpoints')
  assert train(gin_file, copied) == 2
  assert 'its checkpoints are gone; bring them back, or remove done.json' in (
    error(capsys)
  )


def test_a_run_without_a_checkpoint_is_nobody_s(gin_file, copied, capsys):
  """What died before its first checkpoint may be anything else."""
  (copied / 'done.json').unlink()
  shutil.rmtree(copied / 'checkpoints')
  change = '--gin.feed.RowFeed.seed=7'
  assert train(gin_file, copied, change, '--gin.STEPS=2') == 0
  assert 'RowFeed.seed = 7' in (copied / 'config.gin').read_text()
  assert list(losses(copied)) == [2]


def test_init_from_is_read_once(gin_file, copied, tmp_path, capsys):
  other = tmp_path / 'other'
  shutil.copytree(copied, other)
  assert train(gin_file, copied, f"--gin.INIT_FROM=['{other}']") == 0
  told = capsys.readouterr().err
  assert 'its own step 4' in told and f'({other}) is not read again' in told


@pytest.fixture
def moved_rows(gin_file, tmp_path):
  """The rows of the run, copied to another place."""
  shutil.copytree(gin_file.parent / 'rows', tmp_path / 'rows')
  return tmp_path / 'rows'


def other_rows(root, how):
  """Puts other rows in the place of those of the run."""
  shard = next(root.rglob('*.array_record'))
  stats = root / 'a' / 'train' / 'stats.json'
  if how == 'another corpus':
    toy_rows.write_source(root, 'a', 9, seed=1)
  elif how == 'more rows':
    toy_rows.write_source(root, 'a', 10)
  elif how == 'another length':
    toy_rows.write_source(root, 'a', 9, length=48)
  elif how == 'a shard of the same count':
    toy_rows.write_source(root / 'b', 'a', 9, seed=1)
    shutil.copyfile(next((root / 'b').rglob('*.array_record')), shard)
  elif how == 'other digests':  # a build that says what it holds
    toy_rows.write_source(root, 'a', 9, seed=1)
    told = files.read_json(stats)
    told['sha256'] = {shard.name: digests.of_file(shard)}
    files.write_json(stats, told)


@pytest.mark.parametrize('state', ['copied', 'killed'])
@pytest.mark.parametrize(
  'how',
  [
    'another corpus',
    'more rows',
    'another length',
    'a shard of the same count',
    'other digests',
  ],
)
def test_other_rows_are_refused(
  gin_file, moved_rows, how, state, capsys, request
):
  """Whether it would train or is over: the run is not one of these rows."""
  run = request.getfixturevalue(state)
  other_rows(moved_rows, how)
  where = f"--gin.ROWS='{moved_rows}'"
  assert train(gin_file, run, where) == 2
  told = error(capsys)
  assert f'{run}/resume.json: this run was trained on other data: a.' in told
  assert f"INIT_FROM = ['{run}']" in told
  assert checkpoints.all_steps(run)


def test_a_changed_byte_is_refused(gin_file, moved_rows, copied, capsys):
  """Of a shard that can still be opened, or of one that cannot."""
  shard = next(moved_rows.rglob('*.array_record'))
  whole = shard.read_bytes()
  for place in range(40, len(whole), len(whole) // 7):
    flipped = bytes([whole[place] ^ 1])
    shard.write_bytes(whole[:place] + flipped + whole[place + 1 :])
    assert train(gin_file, copied, f"--gin.ROWS='{moved_rows}'") == 2
    told = error(capsys)
    assert 'trained on other data' in told or 'build the rows again' in told


def test_the_same_rows_elsewhere_are_the_same_rows(
  gin_file, copied, moved_rows
):
  assert train(gin_file, copied, f"--gin.ROWS='{moved_rows}'") == 0


def test_other_rows_start_another_run_from_these_weights(
  gin_file, copied, moved_rows, tmp_path
):
  """The way on that the refusal names."""
  other_rows(moved_rows, 'another corpus')
  assert (
    train(
      gin_file,
      tmp_path / 'on',
      f"--gin.ROWS='{moved_rows}'",
      f"--gin.INIT_FROM=['{copied}']",
    )
    == 0
  )
