"""How long a recording is, by its bytes.

Headers are hints. What is known here comes from the sound itself: from the
bytes of plain samples, the headers of frames, the positions of pages; and
where none of them tells, from decoding.

    cut short or damaged           a fault: the sound is not whole
    announced otherwise            a note: all that is there is read
    bytes that are no sound        a note
    tags, chunks of other content  nothing: they belong there
"""

import collections
import dataclasses
import os
import sys
import time

import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import foreign
from step_audio_jax.audio.formats import chunks
from step_audio_jax.audio.formats import decoding
from step_audio_jax.audio.formats import flac
from step_audio_jax.audio.formats import links
from step_audio_jax.audio.formats import mpeg
from step_audio_jax.audio.formats import mpeg_frames
from step_audio_jax.audio.formats import ogg
from step_audio_jax.audio.formats import spans
from step_audio_jax.audio.formats import sphere
from step_audio_jax.audio.formats import tags

_UNKNOWN_FRAMES = 2**62  # libsndfile: the largest number, or about that
_REMEMBERED = 64
_TICK = 2 * 10**9  # nanoseconds; the coarsest clock of file systems in use
_TOLD = 20
_told: list[str] = []  # what `warn` has said
_memory: collections.OrderedDict[tuple, links.Survey] = (
  collections.OrderedDict()
)


def survey(source: spans.Source, name: str) -> links.Survey:
  """Finds the sound of a recording: links with rate, channels and frames.

  A file is walked once, however many parts of it are read one after the other.

  Args:
    source: The recording.
    name: What messages call it.

  Raises:
    UserError: It is no audio, or its sound is not whole.
  """
  key = _identity(source)
  found = None if key is None else _memory.get(key)
  if found is None:
    found = _survey(source, name)
    if key is not None:
      _memory[key] = found
      while len(_memory) > _REMEMBERED:
        _memory.popitem(last=False)
  if found.fault is not None:
    raise errors.UserError(
      f'{name}: {found.fault}; `ffmpeg -i IN OUT` keeps what is left.'
    )
  return found


def _identity(source: spans.Source) -> tuple | None:
  """What tells a file's content from any other; None where nothing does."""
  number = decoding.number_of(source)
  if number is None:
    return getattr(getattr(source.raw, 'raw', None), 'identity', None)
  status = os.fstat(number)
  # A file of this moment may change again within the same tick of the clock.
  if time.time_ns() - status.st_mtime_ns <= _TICK:
    return None
  return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def warn(name: str, notes: tuple[str, ...]) -> None:
  """Says on stderr what is odd about a file.

  Of a file once, and of the first files of a process only: a corpus may have
  a million, and `ingest` writes down what is odd about each.
  """
  for note in notes:
    sentence = f'{name}: {note}.'
    if sentence in _told or len(_told) > _TOLD:
      continue
    _told.append(sentence)
    if len(_told) > _TOLD:
      sentence = 'what is odd about more files is not told.'
    print(sentence, file=sys.stderr, flush=True)


def _survey(source, name):
  found = _walked(source)
  if found is None or not found.links and not found.fault:
    found = _unknown(source, name)
  if found.fault is not None:
    return found
  made = tuple(_completed(source, link, name) for link in found.links)
  return dataclasses.replace(found, links=made)


def _unknown(source: spans.Source, name: str) -> links.Survey:
  """A file of a format that is not known here."""
  try:
    with _opened(source, None, name) as handle:
      form = handle.format
  except errors.UserError:
    form = None
  if form in (None, 'MP3'):  # frames behind bytes that are none
    found = mpeg.survey(source)
    if found.links:
      return found
  if form is None:
    _opened(source, None, name)  # says what is wrong
  told = f'a {form} file: nothing tells whether it is whole'
  return links.Survey((links.Link(form),), (told,))


def _walked(source: spans.Source) -> links.Survey | None:
  """What the bytes say; None if they belong to no format that is known here."""
  begin = 0
  while (end := tags.tag_end(source, begin, source.size)) is not None:
    begin = end
  head = source.read(begin, 12)
  if head[:4] in chunks.MAGICS:
    return chunks.survey(source, begin)
  if head.startswith(sphere.MAGIC):
    return sphere.survey(source)
  source.hold()
  if head[:4] == b'fLaC':
    return flac.survey(source, begin)
  if head[:4] == b'OggS':
    return ogg.survey(source, begin)
  if (
    begin or mpeg_frames.parse_header(head) is not None or not head.strip(b'\0')
  ):
    return mpeg.survey(source)
  return None


def _opened(source, parts, name):
  try:
    return decoding.open_file(source, parts)
  except soundfile.LibsndfileError as error:
    form = foreign.format_name(source.read(0, 16))
    if form is not None:
      raise errors.UserError(
        f'{name}: not readable as audio: {form}, expected wav, flac, ogg, mp3 '
        f'or another format of libsndfile; {foreign.WAY_ON}.'
      ) from error
    raise errors.UserError(
      f'{name}: not readable as audio ({error.error_string.strip(" .")}), '
      'expected wav, flac, ogg, mp3 or another format of libsndfile.'
    ) from error


def _completed(source, link, name):
  """A link with what only its decoder knows."""
  if link.rate and link.channels and link.frames is not None:
    return link
  with _opened(source, link.parts, name) as handle:
    rate, channels, frames = handle.samplerate, handle.channels, handle.frames
    is_float = handle.subtype in ('FLOAT', 'DOUBLE')
  if link.is_counted or not 0 < frames < _UNKNOWN_FRAMES:
    try:
      frames = sum(map(len, decoding.read_link(source, link)))
    except soundfile.LibsndfileError as error:
      raise errors.UserError(
        f'{name}: damaged ({error.error_string.strip(" .")}).'
      ) from error
  return dataclasses.replace(
    link, rate=rate, channels=channels, frames=frames, is_float=is_float
  )
