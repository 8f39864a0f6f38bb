"""The rough model of memory and time, and the search that it guides."""

import json
import types

import pytest

from step_audio_jax import errors
from step_audio_jax.models.language import transformer
from step_audio_jax.parallel import topology
from step_audio_jax.plan import memory
from step_audio_jax.plan import search

STEP1_130B = transformer.TransformerConfig(
  vocab_size=74752,
  width=12288,
  layers=88,
  heads=96,
  kv_heads=8,
  mlp_width=31232,
)
POD = topology.parse('v5p:8x8x8')
GIB = topology.GIB


def rough(candidate, length=8192, slices=1):
  size, seconds = memory.estimate(STEP1_130B, candidate, length, POD, slices)
  return size / GIB, seconds


def test_the_rough_model_is_near_a_compiled_program():
  # Compiled: 10.1 GiB (docs/plan.md).
  size, _ = rough(memory.Candidate(8, 'full', 1, 64))
  assert size == pytest.approx(10.1, rel=0.15)


def test_directions_of_the_rough_model():
  base = memory.Candidate(8, 'full', 1, 512)
  size, seconds = rough(base)
  kept = rough(memory.Candidate(8, memory.REMATS[-1], 1, 512))
  assert kept[0] > 1.5 * size and kept[1] < seconds
  parts = rough(memory.Candidate(8, 'full', 4, 512))
  assert parts[0] < size and parts[1] >= seconds
  rows = rough(memory.Candidate(8, 'full', 1, 1024))
  assert rows[0] > size and rows[1] == pytest.approx(2 * seconds, rel=0.1)
  apart = rough(memory.Candidate(8, 'full', 1, 1024), slices=2)
  assert apart == pytest.approx((size, seconds))


@pytest.mark.parametrize(
  ('remat', 'share'),
  [
    ('none', 0.0),
    ('full', 0.74),
    (('mlp_gate', 'mlp_up'), 0.22),
    (memory.REMATS[-1], 0.0),
  ],
)
def test_share_that_is_computed_twice(remat, share):
  # Of the feed-forward two products of three, of attention all.
  found = memory.recomputed_share(STEP1_130B, remat)
  assert found == pytest.approx(share, abs=0.01)


def test_every_remat_of_the_ladder_is_one_of_the_model():
  sizes = []
  for remat in memory.REMATS:
    transformer.TransformerConfig(
      vocab_size=8,
      width=8,
      layers=1,
      heads=1,
      kv_heads=1,
      mlp_width=8,
      remat=remat,
    )
    sizes.append(memory.kept_bytes(STEP1_130B, remat))
  assert sizes == sorted(sizes)
  everything = memory.kept_bytes(STEP1_130B, 'none')
  assert everything > sizes[-1]


def test_candidates_divide_what_they_must():
  found = list(memory.candidates(STEP1_130B, 8192, 512, POD, 1))
  assert len(set(found)) == len(found) > 20
  for candidate in found:
    shards = 512 // candidate.tensor
    assert 512 % (shards * candidate.microbatches) == 0
    assert STEP1_130B.width % shards == 0
    assert STEP1_130B.heads % candidate.tensor == 0
  assert {c.tensor for c in found} == {1, 2, 4, 8, 16, 32}
  assert not list(memory.candidates(STEP1_130B, 8192, 7, POD, 1))


def test_frontier():
  items = {'a': (1, 9), 'b': (2, 5), 'c': (3, 7), 'd': (4, 4), 'e': (4, 6)}
  assert memory.frontier(items) == ['a', 'b', 'd']


def test_flags_are_what_gin_reads():
  candidate = memory.Candidate(4, ('query', 'key'), 2, 256)
  assert candidate.flags == (
    "--gin.TENSOR=4 \"--gin.REMAT=('query', 'key')\" "
    '--gin.MICROBATCHES=2 --gin.BATCH_SIZE=256'
  )


def candidate(index):
  return memory.Candidate(1, 'full', index, 1)


def test_pick_leaves_out_what_cannot_fit():
  items = {
    candidate(1): (50.0, 9.0),
    candidate(2): (60.0, 8.0),
    candidate(3): (70.0, 8.5),
    candidate(4): (105.0, 7.0),
    candidate(5): (120.0, 1.0),
  }
  chosen = search.pick(items, 100.0, 3)
  assert [c.microbatches for c in chosen] == [1, 2, 4]
  assert len(search.pick(items, 100.0, 99)) == 4
  assert search.pick(items, 10.0, 3) == []


def facts(total, mfu, fits=True):
  return {
    'fits': fits,
    'hbm_gib_per_chip': {'total': total},
    'predicted_mfu': mfu,
    'predicted_step_seconds': 1.0,
  }


class FakePlans:
  """Stands in for `subprocess`: other processes that plan."""

  def __init__(self, answer):
    self.answer = answer
    self.commands = []

  def run(self, command, **_):
    self.commands.append(command)
    status, out, err = self.answer(command)
    return types.SimpleNamespace(returncode=status, stdout=out, stderr=err)


@pytest.fixture
def plans(monkeypatch, tmp_path):
  def make(answer, text='config', folder='cache'):
    fake = FakePlans(answer)
    monkeypatch.setattr(search, 'subprocess', fake)
    found = search.Compilations(
      tmp_path / folder, ['--gin_file=a.gin'], text, POD, 1
    )
    return found, fake

  return make


def by_microbatches(command):
  index = int(next(w for w in command if 'MICROBATCHES' in w).partition('=')[2])
  if index == 4:
    return 2, '', 'noise\nerror: plan: 7 parameters need 200 GiB.\n'
  return 0, 'table\n' + json.dumps(facts(40 + index, 0.5 + index / 100)), ''


ITEMS = {candidate(i): (50.0 + i, 9.0 - i) for i in range(1, 5)}


def test_search_compiles_remembers_and_ranks(plans):
  compilations, fake = plans(by_microbatches)
  found = search.search(ITEMS, compilations, 100.0, 4)
  assert found['candidates'] == 4 and len(found['results']) == 4
  assert [f['fits'] for f in found['results']] == [True] * 3 + [False]
  assert found['pareto'] == [candidate(i).flags for i in (1, 2, 3)]
  lines = search.table(found).splitlines()
  assert lines[2].startswith('*') and '53.0 %' in lines[2]
  assert 'too much' in lines[-1] and not lines[-1].startswith('*')
  command = fake.commands[0]
  assert {'--gin_file=a.gin', '--nonearest', '--json'} <= set(command)
  assert '--topology=v5p:8x8x8' in command and '--gin.TENSOR=1' in command
  # A second search, as after a kill, compiles nothing.
  again, fake = plans(by_microbatches)
  assert search.search(ITEMS, again, 100.0, 4) == found
  assert fake.commands == []
  other, fake = plans(by_microbatches, text='another config')
  search.search(ITEMS, other, 100.0, 1)
  assert len(fake.commands) == 1


def test_a_search_is_remembered_in_a_bucket(gs_folder, monkeypatch):
  found, commands = [], []
  for _ in range(2):
    fake = FakePlans(by_microbatches)
    monkeypatch.setattr(search, 'subprocess', fake)
    compilations = search.Compilations(gs_folder / 'cache', [], '', POD, 1)
    found.append(search.search(ITEMS, compilations, 100.0, 2))
    commands.append(len(fake.commands))
  assert commands == [2, 0] and found[0] == found[1]


def test_a_failed_compilation_is_told_and_not_remembered(plans):
  compilations, _ = plans(lambda command: (1, '', 'Traceback'))
  with pytest.raises(errors.UserError, match='status 1: step_audio_jax plan'):
    compilations.run(candidate(1))
  assert not compilations.path(candidate(1)).exists()


def test_nearest_grows_more_careful(plans):
  compilations, fake = plans(
    lambda command: (
      by_microbatches(command)
      if 'MICROBATCHES=1' in ' '.join(command)
      else (2, '', 'error: too large.')
    )
  )
  items = {candidate(3): (80.0, 1.0), candidate(1): (60.0, 2.0)}
  chosen, found = search.nearest(items, compilations, 100.0)
  assert chosen == candidate(1) and found['fits']
  assert len(fake.commands) == 2
  assert search.nearest(items, compilations, 50.0) is None
  assert search.nearest({candidate(3): (80.0, 1.0)}, compilations, 100) is None


def test_pareto_needs_both():
  found = search.pareto(
    [facts(10, 0.4), facts(12, 0.5), facts(11, 0.3), facts(10, 0.3)]
  )
  assert [f['hbm_gib_per_chip']['total'] for f in found] == [10, 12]
