"""Which settings a resume compares, and what is said of each."""

import functools
import inspect
import pathlib
import re

import pytest

from step_audio_jax import errors
from step_audio_jax.commands import gin_files
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.storage import files
from step_audio_jax.training import guard
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training import resume
from step_audio_jax.training.feeds import contents
from tests.training import toy_regression

ROOT = pathlib.Path(__file__).parents[2]


def kept(run_dir, **changes):
  """Keeps a run of toy objects in a directory; returns what it was given."""
  given = a_run(**changes)
  files.write_json(run_dir / resume.NAME, given.identity().to_json())
  return given


def a_run(steps=4, optimizer=None, feed=None, **config):
  return resume.Given(
    toy_regression.Regression(),
    feed or toy_regression.Feed(),
    optimizer or optimizers.OptimizerConfig(1e-2),
    loop.LoopConfig(steps=steps, **config),
  )


def cosine(decay_steps=0):
  return optimizers.OptimizerConfig(
    1e-2, schedule='cosine', decay_steps=decay_steps
  )


def test_the_end_of_a_cosine_is_told(tmp_path, capsys):
  kept(tmp_path, optimizer=cosine())
  now = resume.check(tmp_path, a_run(6, cosine()), 4)
  assert now.horizons == {'optimizer': 6}
  told = capsys.readouterr().err
  assert 'cosine of optimizer ends at step 6, no longer at 4' in told
  assert 'with 0.00325, where it was 0.001; decay_steps = 4 keeps' in told


def test_the_end_of_a_cosine_is_named(tmp_path, capsys):
  """A named end is a learning rate like any other; it keeps the old ones."""
  kept(tmp_path, optimizer=cosine())
  resume.check(tmp_path, a_run(6, cosine(4)), 4)
  assert capsys.readouterr().err == ''
  with pytest.raises(errors.UserError, match='decay_steps is 5, expected 4'):
    resume.check(tmp_path, a_run(6, cosine(5)), 4)
  short, longer = (cosine(4).learning_rate_at(steps) for steps in (4, 9))
  assert [float(short(i)) for i in range(5)] == [
    float(longer(i)) for i in range(5)
  ]
  groups = optimizers.OptimizerGroups({'all': ('', cosine())})
  kept(tmp_path, optimizer=groups)
  resume.check(tmp_path, a_run(6, groups), 4)
  assert 'cosine of optimizer.groups.all.1 ends' in capsys.readouterr().err


class Placed(toy_regression.Feed):
  """A feed that says of its data what it is told to."""

  def __init__(self, **told):
    super().__init__()
    self.told, self.known = told, None

  def contents(self, known=None):
    self.known = known
    return {'a': self.told}


@pytest.mark.parametrize(
  ('before', 'now', 'refused'),
  [
    ({'sha256': 'x', 'ends': 'y'}, {'sha256': 'x', 'ends': 'y'}, None),
    # Moved into a bucket, or out of it: other ends were looked at.
    ({'sha256': 'x', 'ends': 'y'}, {'sha256': 'x', 'all_ends': 'z'}, None),
    ({'sha256': 'x', 'all_ends': 'z', 'versions': 'v'}, {'sha256': 'x'}, None),
    ({'sha256': 'x'}, {'sha256': 'w', 'all_ends': 'z'}, 'a.sha256'),
    ({'sha256': 'x', 'ends': 'y'}, {'sha256': 'x', 'ends': 'z'}, 'a.ends'),
    ({'all_ends': 'y', 'versions': '1'}, {'all_ends': 'z'}, 'a.all_ends'),
    # Copied: the same bytes as another version.
    (
      {'all_ends': 'y', 'versions': '1'},
      {'all_ends': 'y', 'versions': '2'},
      None,
    ),
  ],
)
def test_data_are_compared_by_what_both_looked_at(
  tmp_path, before, now, refused
):
  kept(tmp_path, feed=Placed(**before))
  feed = Placed(**now)
  if refused is None:
    resume.check(tmp_path, a_run(feed=feed), 4)
  else:
    with pytest.raises(errors.UserError, match=f'other data: {refused} is'):
      resume.check(tmp_path, a_run(feed=feed), 4)
  assert feed.known == {'a': before}


def test_a_setting_that_is_younger_than_the_run_had_its_default(tmp_path):
  kept(tmp_path)
  old = files.read_json(tmp_path / resume.NAME)
  del old['settings']['optimizer.clip']
  files.write_json(tmp_path / resume.NAME, old)
  resume.check(tmp_path, a_run(), 4)
  other = optimizers.OptimizerConfig(1e-2, clip=0.5)
  with pytest.raises(errors.UserError, match="clip is 0.5, expected 'absent'"):
    resume.check(tmp_path, a_run(optimizer=other), 4)


@functools.cache
def classified():
  """Owner → name → kind, of all that the gin files of runs can bind."""
  found = {}
  for path in sorted((ROOT / 'gin').rglob('*.gin')):
    gin_files.parse([str(path)], [], lint=False)
    owners = {owner for _, owner, _ in gin_files.bindings()}
    if 'train' not in {owner.__name__ for owner in owners}:
      continue
    for owner in owners | {guard.SpikeConfig, causal_config.CausalFlowConfig}:
      found[owner.__name__] = {
        name: resume.kind_of(owner, name)
        for name in inspect.signature(owner).parameters
        if name not in ('parent', 'name')  # Flax's own
      }
  return found


def test_every_setting_was_thought_of():
  """Who adds one says here what a resume makes of it.

  'fixed' is what it is unless its field is `settings.free`, or
  `resume.ARGUMENTS` has it.
  """
  known = files.read_json(ROOT / 'tests' / 'golden' / 'resume_settings.json')
  now = classified()
  missing = {
    f'{owner}.{name} ({kind})'
    for owner, names in now.items()
    for name, kind in names.items()
    if known.get(owner, {}).get(name) != kind
  }
  gone = {
    f'{owner}.{name}'
    for owner, names in known.items()
    for name in names
    if name not in now.get(owner, {})
  }
  assert not missing and not gone, (missing, gone)


def test_the_guide_names_what_may_change():
  text = (ROOT / 'docs' / 'launch.md').read_text()
  section = text.split('## What a resume may change')[1].split('\n## ')[0]
  cells = [line.split('|')[1] for line in section.splitlines() if '|' in line]
  told = set(re.findall(r'`(\w+\.\w+)`', ' '.join(cells)))
  told.add('OptimizerConfig.decay_steps')  # beside the steps
  assert '`OptimizerConfig.decay_steps`' in section
  free = {
    f'{owner}.{name}'
    for owner, names in classified().items()
    for name, kind in names.items()
    if kind == 'free' and owner not in ('MeshConfig', 'BlankFeed')
  }
  assert told == free - {'train.dry_run'}
  for number in (contents.WHOLE_BYTES >> 20, contents.SAMPLE):
    assert str(number) in section
