"""Which steps are scored, now and while a run writes them."""

import re

import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.sweeps import choosing
from step_audio_jax.storage import files


@pytest.mark.parametrize(
  'steps, expected',
  [
    ('all', [5, 10, 20]),
    ('last', [20]),
    ('every:10', [10, 20]),
    ('every:5', [5, 10, 20]),
    ('20,5', [5, 20]),
    (10, [10]),
  ],
)
def test_rules(tmp_path, steps, expected):
  for step in (5, 10, 20):
    (tmp_path / 'checkpoints' / str(step)).mkdir(parents=True)
  assert choosing.choose_steps(tmp_path, steps) == expected


@pytest.mark.parametrize(
  'steps', ['every:0', 'every:x', 'every:', 'newest', '-5', '5-7', '', ()]
)
def test_what_is_no_rule(tmp_path, steps):
  with pytest.raises(
    errors.UserError, match=re.escape(f'steps is {steps!r}, expected')
  ):
    choosing.Choice.parse(steps)


def test_a_rule_that_no_checkpoint_meets(tmp_path):
  (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
  with pytest.raises(errors.UserError, match='no checkpoint of step every:7'):
    choosing.choose_steps(tmp_path, 'every:7')


def rounds(run, steps, *looks):
  """What a watch finds; before each look that finds nothing, one of `looks`."""
  looks = list(looks)
  return list(choosing.watch(run, steps, 7.0, lambda pause: looks.pop(0)()))


def write(run, step, whole=True):
  """A checkpoint, or half of one, as Orbax leaves them on a disk and in a
  bucket."""
  half = '' if whole or files.is_address(run) else '.orbax-checkpoint-tmp-1'
  folder = run / 'checkpoints' / f'{step}{half}'
  files.write_bytes(folder / 'variables' / 'array', b'x')
  if whole and files.is_address(run):
    files.write_bytes(folder / 'commit_success.txt', b'x')


def watched(run):
  return rounds(
    run,
    'all',
    lambda: write(run, 10, whole=False),
    lambda: write(run, 10),
    lambda: (write(run, 20, whole=False), write(run, 15)),
    lambda: (write(run, 20), files.write_json(run / 'done.json', {})),
  )


def test_a_run_is_watched_until_it_is_over(tmp_path):
  assert watched(tmp_path / 'run') == [[10], [15], [20]]


def test_a_run_in_a_bucket_is_watched(gs_folder):
  assert watched(gs_folder / 'run') == [[10], [15], [20]]


def test_a_watch_ends_when_all_named_steps_are_there(tmp_path):
  found = rounds(
    tmp_path,
    '10,30',
    lambda: write(tmp_path, 20),
    lambda: write(tmp_path, 10),
    lambda: write(tmp_path, 30),
  )
  assert found == [[10], [30]]


def test_the_newest_of_each_look(tmp_path):
  for step in (1, 2):
    write(tmp_path, step)
  found = rounds(
    tmp_path,
    'last',
    lambda: [write(tmp_path, step) for step in (3, 4)],
    lambda: files.write_json(tmp_path / 'done.json', {}),
  )
  assert found == [[2], [4]]
