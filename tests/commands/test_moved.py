"""The table of old names: the new ones are there, the old ones are not."""

import importlib
import pathlib

import pytest

from step_audio_jax.commands import moved
from step_audio_jax.commands import old_names

ROOT = pathlib.Path(__file__).parents[2]
# Functions that have the name of their module, and that gin does not bind.
UNCLEAR = {
  'step_audio_jax.kernels.attention': {'attention'},
  'step_audio_jax.training.transfer': {'transfer'},
}
PACKAGES = [old for old in moved.table() if moved.is_module(old)]


def test_every_new_name_is_there():
  for old in moved.table():
    module, rest = moved.split(moved.place(old))
    assert moved.is_module(module), old
    for name in filter(None, [rest]):
      assert hasattr(importlib.import_module(module), name), old


def test_no_old_name_is_there():
  for old in moved.table():
    module, rest = moved.split(old)
    if rest:
      found = getattr(importlib.import_module(module), rest, None)
      # A package may import what moved into one of its own.
      new = moved.place(old)
      assert found is None or found.__name__ == new, old


@pytest.mark.parametrize('old', PACKAGES)
def test_a_package_of_an_old_name_is_told_from_the_module_that_it_was(old):
  package = importlib.import_module(old)
  own = [
    name
    for name in vars(package)
    if name[0] != '_' and not moved.is_module(f'{old}.{name}')
  ]
  assert not own, 'it has nothing but modules'
  module = importlib.import_module(moved.place(old))
  names = [
    name
    for name, value in vars(module).items()
    # What it defines, not what it imports.
    if getattr(value, '__module__', None) == module.__name__
  ]
  unclear = {name for name in names if moved.is_module(f'{old}.{name}')}
  assert unclear <= UNCLEAR.get(old, set())


@pytest.mark.parametrize('suffix', ['.gin', '.py'])
def test_nothing_here_says_an_old_name(suffix):
  read = {'.gin': old_names.in_gin, '.py': old_names.in_python}[suffix]
  for folder in ('gin', 'step_audio_jax', 'data_pipelines', 'tpu_launch'):
    for path in (ROOT / folder).rglob(f'*{suffix}'):
      assert not read(path.read_text(encoding='utf-8')).faults(), path


@pytest.mark.parametrize(
  'old, new',
  [
    ('step_audio_jax.files', 'step_audio_jax.storage.files'),
    (
      'step_audio_jax.decoder.wave_feed.WaveFeed',
      'step_audio_jax.decoder.vocoder.feed.WaveFeed',
    ),
    # A package today: old is what is no module of it.
    ('step_audio_jax.decoder.flow', None),
    ('step_audio_jax.decoder.flow.feed', None),
    ('step_audio_jax.decoder.flow.feed.FlowFeed', None),
    (
      'step_audio_jax.decoder.flow.Flow',
      'step_audio_jax.decoder.flow.offline.Flow',
    ),
    # Another package.
    ('data_pipelines.documents.Document', 'step_audio_jax.documents.Document'),
    # A function.
    ('step_audio_jax.vocabulary.Vocabulary', None),
    (
      'step_audio_jax.vocabulary.load.text_model',
      'step_audio_jax.tokenizers.text.vocabularies.load.text_model',
    ),
    ('step_audio_jax.storage.files', None),
    ('numpy.files', None),
  ],
)
def test_names_of_today(old, new):
  assert moved.new_name(old) == new


def test_names_are_followed(monkeypatch):
  """What was renamed twice is found by both of its old names."""
  feed = 'step_audio_jax.decoder.flow.feed'
  monkeypatch.setitem(moved._NAMES, f'{feed}.FlowFeed', f'{feed}.New')
  moved.table.cache_clear()
  try:
    assert moved.new_name(f'{feed}.FlowFeed.split') == f'{feed}.New.split'
    old = 'step_audio_jax.decoder.flow_feed'
    assert moved.new_name(f'{old}.FlowFeed') == f'{feed}.New'
    assert moved.place(old) == feed
    assert moved.new_class('FlowFeed') == 'New'
    assert moved.new_class('WaveFeed') == 'WaveFeed'
    text = 'from step_audio_jax.decoder import flow_feed\n{}.FlowFeed.x = 1'
    assert 'flow_feed.New.x = 1' in old_names.translated(
      text.format('flow_feed')
    )
  finally:
    monkeypatch.undo()
    moved.table.cache_clear()
