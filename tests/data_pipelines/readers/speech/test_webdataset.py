"""WebDataset: which members are a sample, and which are none."""

import functools
import gzip
import json
import pickle

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines.readers.common import base
from data_pipelines.readers.speech import webdataset
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = functools.partial(ingesting.ingested, format='webdataset')

WAV, PNG = trees.tone(0.25), trees.png('red')


class Bomb:
  """Runs when it is unpickled."""

  def __reduce__(self):
    return SystemExit, ('unpickled',)


def test_pickles_stay_shut(tmp_path):
  bomb = pickle.dumps(Bomb())
  members = [('good.wav', WAV), ('good.txt', 'fine'), ('good.pyd', bomb)]
  endings = ('pyd', 'pkl', 'pickle', 'pth', 'pt')
  members += [(f'{ending}.{ending}', bomb) for ending in endings]
  trees.tar(tmp_path / 'in' / 'a.tar', members)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert kept['a/good'].text == 'fine'
  assert [one['id'] for one in left] == [f'a/{ending}' for ending in endings]
  assert all('a pickle can run code' in one['reason'] for one in left)


def test_recordings_of_other_formats(tmp_path):
  caf = trees.tone(0.25, form='CAF')
  members = [('a.caf', caf), ('a.txt', 'fine'), ('b.m4a', b'\0\0\0\x1cftypM4A')]
  members += [('b.txt', 'sad'), ('c.webm', b'\x1aE\xdf\xa3')]
  trees.tar(tmp_path / 'in' / 'a.tar', members)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['a/a'] and kept['a/a'].text == 'fine'
  assert [one['id'] for one in left] == ['a/b', 'a/c']
  for one, ending in zip(left, ('m4a', 'webm')):
    assert f'{ending} is not read: `ffmpeg' in one['reason']


def test_a_key_ends_at_the_first_dot_of_the_name(tmp_path):
  members = [('v1.0/a.b.WAV', WAV), ('v1.0/a.b.txt', 'fine')]
  # A corpus whose names have dots: one key, many samples.
  for k in range(4):
    members += [(f'v1.{k}.wav', WAV), (f'v1.{k}.txt', f'text {k}')]
  members += [('last.wav', WAV), ('last.txt', 'fine')]
  trees.tar(tmp_path / 'in' / 'a.tar', members)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['a/v1.0/a', 'a/last']
  assert kept['a/v1.0/a'].audio == 'audio/a/v1.0/a.wav'
  reasons = [one['reason'] for one in left]
  assert sum("with the key 'v1', expected one" in one for one in reasons) == 6
  assert sum("several samples have the key 'v1'" in one for one in reasons) == 1
  assert len(left) == 7


@pytest.mark.parametrize(
  'members, kept, left',
  [
    # Nothing says that the text is that of the recording.
    (['talk.1.wav', 'talk.2.txt'], {}, ["'talk' has 1.wav and 2.txt"]),
    (['talk.1.wav', 'talk.txt'], {}, ['has 1.wav and txt']),
    (['talk.1.wav', 'talk.json', 'talk.2.txt'], {}, ['has 1.wav and json and']),
    (['talk.1.wav', 'talk.1.txt'], {'talk': 'talk.1'}, []),
    (['talk.wav', 'talk.1.txt'], {}, ['text: missing']),
    # What has the extension alone is the sample's own.
    (
      ['talk.1.wav', 'talk.2.txt', 'talk.txt', 'talk.wav'],
      {'talk': 'talk'},
      ["another part of 'talk'"],
    ),
    (
      ['talk.txt', 'talk.wav', 'talk.1.wav', 'talk.1.txt'],
      {'talk': 'talk'},
      ['one more wav', 'one more txt'],
    ),
    (['talk.wav', 'talk.txt', 'talk.seg.cls'], {'talk': 'talk'}, []),
    (['v1.0/a.wav', 'v1.0/a.txt'], {'v1.0/a': 'v1.0/a'}, []),
    # Members of a key stand next to each other.
    (
      ['a.wav', 'b.wav', 'b.txt', 'a.txt'],
      {'b': 'b'},
      ['text: missing', 'neither is there'],
    ),
    (['a.WAV', 'a.txt', 'a.wav'], {}, ['one more wav', 'several samples']),
  ],
)
def test_no_text_of_another_name(members, kept, left, tmp_path):
  def content(name):
    text = name.rpartition('.')[0]
    if name.endswith('.json'):
      text = json.dumps({'text': text})
    return WAV if name.lower().endswith('.wav') else text

  trees.tar(
    tmp_path / 'in' / 'a.tar',
    [(name, content(name)) for name in [*members, 'z.wav', 'z.txt']],
  )
  found, refused = ingested(tmp_path / 'in', tmp_path / 'out')
  assert {name: u.text for name, u in found.items()} == {
    **{f'a/{name}': text for name, text in kept.items()}, 'a/z': 'z',
  }  # fmt: skip
  assert len(refused) == len(left)
  for said in left:
    assert any(said in one['reason'] for one in refused), (said, refused)


def test_names_with_dots_are_read_up_to_the_last_one(tmp_path):
  """The way on that the refusal names."""
  members = [('talk.1.wav', WAV), ('talk.1.txt', 'one'), ('talk.2.wav', WAV)]
  members += [('talk.2.txt', 'two'), ('talk.3.wav', WAV), ('talk.3.flac', WAV)]
  path = trees.tar(tmp_path / 'a.tar', members)
  with pytest.raises(errors.UserError, match='one more wav with the key'):
    ingested(path, tmp_path / 'out')
  kept, (left,) = ingested(path, tmp_path / 'out', format='wenet_shards')
  assert {name: u.text for name, u in kept.items()} == {
    'talk.1': 'one', 'talk.2': 'two',
  }  # fmt: skip
  assert 'has .wav and .flac of this key, expected one' in left['reason']


def test_of_a_key_one_sample_is_held(tmp_path):
  """A thousand members of one key do not wait for its end."""
  members = [(f'v1.{k}.wav', bytes(10_000)) for k in range(50)]
  path = trees.tar(tmp_path / 'a.tar', members)
  found = webdataset.samples(path)
  assert 'v1.1.wav' in next(found).where
  held = found.gi_frame.f_locals['parts']
  assert sum(map(len, held.values())) == 10_000
  assert len(list(found)) == 49


NAMES = st.tuples(st.integers(0, 3), st.sampled_from(['wav', 'txt', 'json']))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(NAMES, max_size=12))
def test_samples_are_runs_of_a_key(tmp_path_factory, names):
  path = tmp_path_factory.getbasetemp() / 'runs.tar'
  trees.tar(path, [(f'{key}.{ending}', str(k)) for k, (key, ending) in
                   enumerate(names)])  # fmt: skip
  runs = []
  for k, (key, ending) in enumerate(names):
    if not runs or runs[-1][0] != str(key):
      runs.append((str(key), []))
    runs[-1][1].append((f'.{ending}', str(k).encode()))
  found = list(webdataset.samples(path))
  whole = [run for run in runs if len({e for e, _ in run[1]}) == len(run[1])]
  assert [one for one in found if not isinstance(one, base.Rejected)] == whole
  refused = sum(len(run[1]) - len({e for e, _ in run[1]}) + 1 for run in runs)
  assert len(found) - len(whole) == refused - len(whole)


def test_speech_and_images_with_their_texts(tmp_path):
  told = {'caption': 'a cat', 'url': 'x', 'id': 7, 'lang': 'fr-FR'}
  said = {'sentence': 'from json', 'speaker': 's', 'split': 'validation'}
  members = [
    ('1.json', json.dumps(told)),
    ('1.png', PNG),
    ('2.json', json.dumps(said)),
    ('2.cls', '5'),
    ('2.wav', WAV),
    ('3.wav', WAV),
    ('3.json', json.dumps(said)),
    ('3.txt', '\ufefffrom txt \r\n'),
    ('.hidden.wav', WAV),
    ('__index__.json', 'null'),
  ]
  path = trees.tar(tmp_path / 'in' / 'a.tar', members)
  kept, (left,) = ingested(path, tmp_path / 'out')
  one, two, three = kept['7'], kept['a/2'], kept['a/3']
  assert (one.kind, one.text, one.language) == ('image_text', 'a cat', 'fr')
  assert one.image == 'images/a/1.png'
  assert (two.kind, two.text, two.speaker) == ('speech', 'from json', 's')
  assert (two.split, three.text) == ('dev', 'from txt')
  assert 'expected a JSON object' in left['reason']
  kept, _ = ingested(path, tmp_path / 'two', text='sentence')
  assert kept['a/3'].text == 'from json' and set(kept) == {'a/2', 'a/3'}


@pytest.mark.parametrize(
  'members, reason',
  [
    ([('x.txt', 'alone')], 'audio, image: neither is there'),
    ([('x.wav', WAV)], 'text: missing'),
    ([('x.wav', WAV), ('x.flac', WAV)], 'found .wav and .flac of one key'),
    ([('x.png', PNG), ('x.jpg', PNG)], 'found .png and .jpg of one key'),
    ([('x.wav', WAV), ('x.txt', b'caf\xe9')], 'text: not UTF-8'),
    ([('x.wav', WAV), ('x.json', '{"text": ')], 'not a JSON line'),
    ([('x.wav', WAV), ('x.json', '{"text": 3}')], 'text: found 3'),
    ([('x.wav', b''), ('x.txt', 'a')], 'the file is empty'),
    ([('x.png', b'GIF8'), ('x.txt', 'a')], 'not readable as an image'),
    ([('x.wav', WAV), ('x.txt', 'a' * 10**7)], 'expected at most 1000000'),
    ([('a/../x.wav', WAV)], 'leads out of the archive'),
    ([('/x.wav', WAV)], 'leads out of the archive'),
  ],
)
def test_a_sample_that_is_none(members, reason, tmp_path):
  good = [('a.wav', WAV), ('a.txt', 'fine')]
  trees.tar(tmp_path / 'in' / 'a.tar', members + good)
  kept, (left,) = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['a/a'] and reason in left['reason']
  assert left['where'].startswith(str(tmp_path / 'in' / 'a.tar!'))


def test_archives_and_links(tmp_path):
  source = tmp_path / 'in'
  good = [('a.wav', WAV), ('a.txt', 'fine')]
  raw = trees.tar(source / 'a.tar', good).read_bytes()
  (source / 'b.tar.gz').write_bytes(gzip.compress(raw))
  (source / 'c.tgz').write_bytes(gzip.compress(raw)[:-20])
  (source / 'd.tar').write_bytes(raw[:-11000])
  trees.tar(tmp_path / 'out.tar', good)
  (source / 'e.tar').symlink_to(tmp_path / 'out.tar')
  (source / 'f.tar').mkdir()
  kept, left = ingested(source, tmp_path / 'out')
  assert {'a/a', 'b/a'} <= set(kept) and 'e/a' not in kept
  assert {one['where'] for one in left if 'cut short' in one['reason']} == {
    str(source / 'c.tgz'), str(source / 'd.tar'),
  }  # fmt: skip
  assert sum('leads out of' in one['reason'] for one in left) == 1
  kept, _ = ingested(source, tmp_path / 'two', root=tmp_path)
  assert 'e/a' in kept
  (tmp_path / 'none').mkdir()
  with pytest.raises(errors.UserError, match='no file that ends with .tar or'):
    ingested(tmp_path / 'none', tmp_path / 'three')
