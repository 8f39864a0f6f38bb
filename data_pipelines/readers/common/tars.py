"""Tar archives, read once from front to back.

Nothing is unpacked: members are given as bytes. Names that lead out, links
and devices are refused; an archive that was cut short gives what is whole,
and then says so.
"""

import bz2
import gzip
import lzma
import os
import pathlib
import tarfile
from typing import Callable, Iterator

from data_pipelines.readers.common import base
from step_audio_jax.storage import files

ENDINGS = ('.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')
MEMBER_BYTES = 512 * 2**20
_BLOCK = tarfile.BLOCKSIZE
_ENDS = 16  # how often `tarfile` may ask behind the end
_OPENERS = {
  b'\x1f\x8b': gzip.open,
  b'BZh': bz2.open,
  b'\xfd7z': lzma.open,
}


class _Watched:
  """A file that remembers whether the last block read was all zeros.

  To pass over a member that claims 2⁶⁰ bytes, `tarfile` would read on for
  ever behind the end; that raises.
  """

  def __init__(self, handle):
    self._handle = handle
    self._tail = b''
    self._empty = 0

  def read(self, size: int) -> bytes:
    data = self._handle.read(size)
    if data:
      self._tail = (self._tail + data[-_BLOCK:])[-_BLOCK:]
    else:
      self._empty += 1
      if self._empty > _ENDS:
        raise tarfile.ReadError('a member is longer than the file')
    return data

  def ended(self) -> bool:
    """Whether the archive has its end marker."""
    while self.read(2**20):
      pass
    return self._tail == bytes(_BLOCK)


def members(
  path: str | os.PathLike,
  wanted: Callable[[str], bool] = lambda name: True,
) -> Iterator[tuple[str, bytes] | base.Rejected]:
  """The files of a tar (plain, gzip, bzip2 or xz) in their order.

  Args:
    path: The archive.
    wanted: Whether a name is to be read; others are passed over.

  Yields:
    (name, bytes). A member that is refused is a `Rejected`; so is, at the
    end, an archive that is cut short or damaged.

  Raises:
    UserError: The file cannot be opened.
  """
  path = files.path(path)
  with files.opened(path) as raw:
    magic = raw.read(3)
    raw.seek(0)
    opener = next((o for m, o in _OPENERS.items() if magic.startswith(m)), None)
    watched = _Watched(opener(raw) if opener else raw)
    last = 'its beginning'
    archive = None
    while True:
      # A damaged archive makes tarfile raise nearly anything.
      try:
        archive = archive or tarfile.open(fileobj=watched, mode='r|')
        member = archive.next()
        archive.members.clear()  # it would keep every header
        found = None if member is None else _take(path, archive, member, wanted)
        whole = member is not None or watched.ended()
        reason = '' if whole else 'no end marker'
      except Exception as error:
        files.raise_outage(error)
        member, whole, reason = None, False, str(error) or type(error).__name__
      if member is None:
        if not whole:
          yield base.Rejected(
            str(path), f'cut short or damaged after {last}: {reason}.'
          )
        return
      last = repr(member.name)
      if found is not None:
        yield found


def _take(path, archive, member, wanted):
  """(name, bytes), a `Rejected`, or None for what is not wanted."""
  name = member.name.removeprefix('./')
  where = f'{path}!{name}'
  if member.isdir():
    return None
  if not member.isreg() or member.issparse():
    return base.Rejected(where, 'a link or a device, expected a file.')
  bad = not name or name.startswith(('/', '~')) or '\\' in name or '\0' in name
  if bad or '..' in name.split('/'):
    return base.Rejected(where, 'a name that leads out of the archive.')
  if not wanted(name):
    return None
  if member.size > MEMBER_BYTES:
    return base.Rejected(
      where, f'{member.size} bytes, expected at most {MEMBER_BYTES}.'
    )
  data = archive.extractfile(member).read()
  if len(data) != member.size:
    raise tarfile.ReadError(f'{name} has {len(data)} of {member.size} bytes')
  return name, data


def stem(path: str | os.PathLike) -> str:
  """Name of an archive without its endings: `a/x.tar.gz` → `x`."""
  return pathlib.PurePath(path).name.partition('.tar')[0]


def is_tar(path: pathlib.Path) -> bool:
  """Whether a file is named as a tar."""
  return files.is_file(path) and path.name.endswith(ENDINGS)
