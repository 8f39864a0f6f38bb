"""An artist is in one split only."""

import numpy as np
import pytest

from data_pipelines.songs import artists
from step_audio_jax import errors


@pytest.mark.parametrize(
  'one, names',
  [
    ('The Beatles', ('thebeatles',)),
    ('the BEATLES!', ('thebeatles',)),
    ('Ann feat. Bob', ('ann', 'bob')),
    ('Ann (ft. Bob & Cid)', ('ann', 'bob', 'cid')),
    ('周杰伦/费玉清', ('周杰伦', '费玉清')),
    ('Simon and Garfunkel', ('simon', 'garfunkel')),
    ('A x B', ('a', 'b')),
    ('Malcolm Xavier', ('malcolmxavier',)),
    ('Bandit', ('bandit',)),
    ('!!!', ('!!!',)),
    ('Ann, Ann', ('ann',)),
    (' & ', ()),
  ],
)
def test_names(one, names):
  assert artists.names_of(one) == names


def test_whoever_sings_together_is_together():
  tracks = {
    '1': 'Dora', '2': 'Ann feat. Bob', '3': 'BOB', '4': 'Cid & bob', '5': 'cid',
  }  # fmt: skip
  assert artists.groups(tracks) == {
    '1': 'dora', '2': 'ann', '3': 'ann', '4': 'ann', '5': 'ann',
  }  # fmt: skip
  backwards = dict(reversed(tracks.items()))
  assert artists.groups(backwards) == artists.groups(tracks)


def test_no_artist_is_in_two_splits():
  rng = np.random.default_rng(0)
  names = [f'artist {n}' for n in range(300)]
  tracks = {}
  for n in range(900):
    chosen = rng.choice(names, 1 + (rng.random() < 0.03), replace=False)
    tracks[f't{n}'] = ' feat. '.join(chosen)
  found = artists.splits_of(tracks, 0.1, 0.2)
  where = {}
  for track, artist in tracks.items():
    for name in artists.names_of(artist):
      assert where.setdefault(name, found[track]) == found[track]
  share = np.mean([split == 'test' for split in found.values()])
  assert share == pytest.approx(0.2, abs=0.08)
  assert set(found.values()) == {'train', 'dev', 'test'}


@pytest.mark.parametrize('artist', [None, '', '  ', ' & '])
def test_nobody_sings(artist):
  with pytest.raises(errors.UserError, match='t1: artist: found .* a name'):
    artists.splits_of({'t0': 'Ann', 't1': artist}, 0.1, 0.1)


@pytest.mark.parametrize('dev, test', [(-0.1, 0.1), (0.5, 0.5), (0.1, 2.0)])
def test_bad_shares(dev, test):
  with pytest.raises(errors.UserError, match='songs: dev, test: found'):
    artists.splits_of({}, dev, test)
