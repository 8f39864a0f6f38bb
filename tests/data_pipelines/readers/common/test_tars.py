"""Tar archives: whole, cut anywhere, compressed, and hostile."""

import bz2
import gzip
import io
import lzma
import tarfile

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines.readers.common import base
from data_pipelines.readers.common import tars
from step_audio_jax import errors
from tests.data_pipelines.readers import trees

BLOCK = 512
PACK = {
  '.tar': bytes,
  '.tar.gz': lambda raw: gzip.compress(raw, mtime=0),
  '.tar.bz2': bz2.compress,
  '.tar.xz': lzma.compress,
}


def archive(members, form=tarfile.PAX_FORMAT):
  """Bytes of a tar of (name or TarInfo, bytes)."""
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode='w', format=form) as made:
    for name, data in members:
      info = (
        name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
      )
      if info.isreg():
        info.size = len(data)
      made.addfile(info, io.BytesIO(data))
  return out.getvalue()


def read(path, raw, **keywords):
  path.write_bytes(raw)
  found = list(tars.members(path, **keywords))
  left = [one for one in found if isinstance(one, base.Rejected)]
  return [one for one in found if not isinstance(one, base.Rejected)], left


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('tars')


NAMES = st.text(
  st.characters(codec='utf-8', exclude_characters='\0/\\~.', categories=['L']),
  min_size=1,
  max_size=120,
)
MEMBERS = st.lists(
  st.tuples(NAMES, st.binary(max_size=1500)),
  max_size=4,
  unique_by=lambda m: m[0],
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
  MEMBERS,
  st.sampled_from(sorted(PACK)),
  st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_come_as_they_were_put(folder, members, ending, form):
  raw = PACK[ending](archive(members, form))
  # The bytes decide, not the name.
  for name in (f'a{ending}', 'b.tar'):
    assert read(folder / name, raw) == (members, [])


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
  st.lists(st.binary(max_size=1500), min_size=1, max_size=4), st.floats(0, 1)
)
def test_cut_anywhere_it_gives_what_is_whole(folder, contents, share):
  members = [(f'{n}.wav', data) for n, data in enumerate(contents)]
  raw = archive(members)
  ends, place = [], 0
  for data in contents:
    place += BLOCK + len(data)
    ends.append(place)
    place += -len(data) % BLOCK
  cut = int(share * place)
  kept, left = read(folder / 'cut.tar', raw[:cut])
  assert kept == members[: len(kept)]
  # A member whose last block lacks its filling is whole, or is not trusted.
  assert sum(end <= cut for end in ends) - 1 <= len(kept)
  assert len(kept) <= sum(end <= cut for end in ends)
  (one,) = left
  assert 'cut short or damaged after' in one.reason


@pytest.mark.parametrize('ending', ['.tar.gz', '.tar.bz2', '.tar.xz'])
def test_compressed_and_cut(ending, folder):
  rest = bytes(range(256)) * 400
  members = [('a.wav', b'a' * 3000), ('b.wav', rest)]
  raw = PACK[ending](archive(members))
  kept, left = read(folder / f'x{ending}', raw[: len(raw) * 2 // 3])
  assert [name for name, _ in kept] in ([], ['a.wav'])
  assert len(left) == 1 and 'cut short or damaged' in left[0].reason


def special(name, kind, target=''):
  info = tarfile.TarInfo(name)
  info.type, info.linkname = kind, target
  return info, b''


def test_hostile_members(folder):
  members = [
    ('good.wav', b'1'),
    ('../up.wav', b'2'),
    ('a/../../up.wav', b'3'),
    ('/abs.wav', b'4'),
    ('~/home.wav', b'5'),
    ('a\\b.wav', b'6'),
    special('link.wav', tarfile.SYMTYPE, '/etc/passwd'),
    special('hard.wav', tarfile.LNKTYPE, 'good.wav'),
    special('pipe.wav', tarfile.FIFOTYPE),
    special('device.wav', tarfile.CHRTYPE),
    special('folder', tarfile.DIRTYPE),
    ('./dot/last.wav', b'7'),
  ]
  kept, left = read(folder / 'hostile.tar', archive(members))
  assert kept == [('good.wav', b'1'), ('dot/last.wav', b'7')]
  reasons = [one.reason for one in left]
  assert sum('leads out of the archive' in one for one in reasons) == 5
  assert sum('a link or a device' in one for one in reasons) == 4
  assert left[0].where == f'{folder}/hostile.tar!../up.wav'
  assert not list(folder.rglob('up.wav'))


def test_a_member_that_is_too_large_is_not_read(folder, monkeypatch):
  monkeypatch.setattr(tars, 'MEMBER_BYTES', 1000)
  members = [('a.wav', b'x' * 1000), ('b.wav', b'x' * 1001), ('c.wav', b'x')]
  kept, left = read(folder / 'large.tar', archive(members))
  assert [name for name, _ in kept] == ['a.wav', 'c.wav']
  assert '1001 bytes, expected at most 1000' in left[0].reason


@pytest.mark.parametrize('size', [b'77777777777\0', b'\x80' + b'\0\0\x7f' * 3])
def test_a_header_that_lies_about_its_size(size, folder):
  """In octal 8 GiB; in binary more than can be passed over in a lifetime."""
  raw = bytearray(archive([('a.wav', b'x' * 700), ('b.wav', b'y')]))
  raw[124:136] = size.ljust(12, b'\0')
  raw[148:156] = b' ' * 8
  raw[148:156] = f'{sum(raw[:BLOCK]):06o}\0 '.encode()
  kept, left = read(folder / 'lies.tar', bytes(raw))
  assert kept == [] and len(left) == 2
  assert 'bytes, expected at most' in left[0].reason
  assert 'a member is longer than the file' in left[1].reason


def test_names_that_are_not_wanted_are_passed_over(folder):
  members = [('a.wav', b'1'), ('a.npy', b'2'), ('b.wav', b'3')]
  kept, left = read(
    folder / 'x.tar', archive(members), wanted=lambda n: n.endswith('.wav')
  )
  assert kept == [('a.wav', b'1'), ('b.wav', b'3')] and left == []


@pytest.mark.parametrize('raw', [b'', b'not a tar', b'\x1f\x8b\x08', b'BZh9'])
def test_what_is_no_tar(raw, folder):
  kept, left = read(folder / 'no.tar', raw)
  assert kept == [] and 'after its beginning' in left[0].reason


def test_no_file(folder):
  for path, words in ((folder / 'gone', 'no such file'), (folder, 'not read')):
    with pytest.raises(errors.UserError, match=words):
      list(tars.members(path))


def test_names_of_archives(tmp_path):
  for ending in tars.ENDINGS:
    path = trees.put(tmp_path / f'a.b{ending}', b'x')
    assert tars.is_tar(path)
    if ending != '.tgz':
      assert tars.stem(path) == 'a.b'
  assert not tars.is_tar(trees.put(tmp_path / 'a.tar.md5', b'x'))
  assert not tars.is_tar(tmp_path)
