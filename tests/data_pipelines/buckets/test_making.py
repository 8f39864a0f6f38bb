"""`make` with every path in a bucket: the same bytes as on a disk."""

import collections

import pytest

from data_pipelines.codes import journal
from data_pipelines.factory import provenance
from data_pipelines.factory.making import shards as shards_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests import stores
from tests.data_pipelines.readers import material

TEXTS = (
  ('train', 'the red cat sees a small ball'),
  ('train', 'what is the capital of France'),
  ('train', 'Seven birds are in the tree behind the garden.'),
  ('train', 'An old dog sleeps in front of the house, all day long.'),
  ('train', 'hi'),
  ('test', 'What is the capital of France?'),
)
RECIPE = """
from __gin__ import dynamic_registration
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.making import items
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import pools

items.Recipe.times = 2
items.Recipe.chain = @chain.Chain()
items.Recipe.gates = @line.Gates()
chain.Chain.steps = (@noisy/chain.Step(),)
noisy/chain.Step.operation = @noise.Recordings()
noise.Recordings.pool = @pools.Folder()
pools.Folder.where = '{root}/noises'
line.Gates.gates = (@sound.Duration(),)
sound.Duration.least = 0.8
"""


class Killed(BaseException):
  """What no door catches, as SIGKILL."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
  monkeypatch.setattr(shards_lib, '_TOGETHER', 2)


def source(root):
  """Texts, texts of tests, noises and a recipe, below `root`."""
  lines = [
    manifest.Utterance(id=f't{n}', kind='text', split=split, text=text)
    for n, (split, text) in enumerate(TEXTS)
  ]
  for name in ('texts', 'tests'):
    manifest.write(root / name, lines)
  for k in range(3):
    files.write_bytes(root / f'noises/{k}.wav', material.tone(1 + k / 3, 16000))
  files.write_bytes(root / 'recipe.gin', RECIPE.format(root=root).encode())
  return root


def made(call, root, name='made', **flags):
  """What the door says and writes, without what tells where it lies."""
  status, told = call(
    'make', f'--texts={root}/texts', f'--held_out={root}/tests',
    f'--gin_file={root}/recipe.gin', f'--output={root}/{name}',
    '--shard_size=3', '--processes=1',
    *(f'--{key}={value}' for key, value in flags.items()),
  )  # fmt: skip
  assert status == 0, told
  assert told.pop('digest')
  found = {
    name: raw.replace(str(root).encode(), b'ROOT')
    for name, raw in stores.contents(root / name).items()
  }
  stamp = files.parsed(found.pop('making.json'))
  assert stamp.pop('digest')
  return told, stamp, found


@pytest.fixture(scope='module')
def on_disk(tmp_path_factory):
  """As `made`, on a disk, once."""
  known = {}

  def get(call):
    if not known:
      known['made'] = made(call, source(tmp_path_factory.mktemp('disk')))
    return known['made']

  return get


def test_the_same_bytes_in_a_bucket(call, on_disk, root, monkeypatch):
  want = on_disk(call)
  source(root)
  assert want[0]['kept'] == 6 and want[0]['rejected'] == 4
  assert made(call, root) == want
  with monkeypatch.context() as patch:
    patch.setattr(shards_lib, '_make_batch', None)  # it stands already
    assert made(call, root) == want
  assert not list(provenance.faults(root / 'made', collections.Counter()))
  status, told = call('inspect', '--verify', f'--path={root}/made')
  assert status == 0, told


def test_killed_in_a_bucket(call, on_disk, root, monkeypatch):
  want = on_disk(call)
  source(root)
  real, append = shards_lib._make_batch, journal.Journal.append
  made_batches = []

  def batch(shard, start):
    made_batches.append((shard.number, start))
    return real(shard, start)

  monkeypatch.setattr(shards_lib, '_make_batch', batch)
  for kill in range(5):

    def killed(book, payload, before=kill % 2):
      is_batch = payload.startswith(b'[')
      if is_batch and before:
        raise Killed  # recordings are there, the entry is not
      append(book, payload)
      if is_batch:
        raise Killed

    with monkeypatch.context() as patch:
      patch.setattr(journal.Journal, 'append', killed)
      with pytest.raises(Killed):
        made(call, root)
  assert made(call, root) == want
  # The batches of which a kill came before the entry were made again.
  assert len(made_batches) == len(set(made_batches)) + 2
