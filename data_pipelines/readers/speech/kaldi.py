"""`kaldi`: a data directory of a Kaldi recipe.

    wav.scp    RECORDING path, or RECORDING command |
    text       UTTERANCE transcript
    segments   UTTERANCE RECORDING begin end [channel]
                                               (optional; end -1: to its end)
    utt2spk    UTTERANCE SPEAKER               (optional)
    utt2lang   UTTERANCE LANGUAGE              (optional)
    reco2file_and_channel
               RECORDING name A or B           (optional)

Without `segments` each recording is an utterance. Paths start at the folder
itself or at `--audio_root`. A command in `wav.scp` is a program that the
corpus would have us run: it is refused, unless `--allow_pipes` allows single
commands (no pipelines, no redirections), which run without a shell and in
the folder of the recordings. `data/train`, `data/dev_clean` name their split.

The channel of `reco2file_and_channel` is heard where a recording has several:
most recipes have taken them apart in `wav.scp`.
"""

import contextlib
import pathlib
import shlex
import subprocess
import threading
from typing import Callable, Iterator

from data_pipelines.readers.common import base
from data_pipelines.readers.common import channels
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tables
from data_pipelines.readers.common import tars
from step_audio_jax import errors
from step_audio_jax.storage import files

_SHELL = '|&;<>`$\n'
_SIDES = 'reco2file_and_channel'
_COMMAND_SECONDS = 300.0


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a data directory.

  Raises:
    UserError: `wav.scp` or `text` cannot be opened, or leads out.
  """
  base.check_options(options.extra, ())
  yield from read_tables(
    source, options, 'text', split=tables.split_named(source.name)
  )


def read_tables(
  source: pathlib.Path,
  options: base.Options,
  text: str,
  *,
  speaker_of: Callable[[str], str] | None = None,
  **common: str | None,
) -> Iterator[base.Item | base.Rejected]:
  """Joins the tables of a folder.

  Args:
    source: The folder.
    options: Of the reader.
    text: Name of the table of transcripts.
    speaker_of: The speaker by the value of `wav.scp`, without `utt2spk`.
    **common: Fields of every item.

  Yields:
    An item for each utterance with audio; a `Rejected` for each transcript
    without.

  Raises:
    UserError: A table cannot be opened.
  """
  recordings = _Recordings(options.root(source), options.allow_pipes)

  def table(name):
    return base.file_of(source, options, name)

  with contextlib.ExitStack() as stack:

    def lookup(name):
      return stack.enter_context(tables.Lookup(table(name)))

    texts, places = lookup(text), None
    yield from texts.load()
    more = {}  # field → its table
    for field, name in (('speaker', 'utt2spk'), ('language', 'utt2lang')):
      if files.exists(source / name):
        more[field] = lookup(name)
        yield from more[field].load()
    sides = None
    if files.exists(source / _SIDES):
      sides = lookup(_SIDES)
      yield from sides.load()
    driver = table('wav.scp')
    if files.exists(source / 'segments'):
      places = lookup('wav.scp')
      yield from places.load()
      driver = table('segments')

    def item(where, number, name, value):
      said = dict(common, id=name, text=texts.get(name))
      for field, values in more.items():
        said[field] = values.get(name) or said.get(field)
      recording = name
      if places is not None:
        recording, times = _segment(value)
        said.update(times)
        value = places.get(recording)
        if value is None:
          raise errors.UserError(
            f'recording: {recording!r} has no line in wav.scp.'
          )
      elif speaker_of is not None and 'speaker' not in more:
        said['speaker'] = speaker_of(value)
      if sides is not None:
        said['side'] = _side(sides.get(recording))
      audio, audio_name = recordings.open(recording, value)
      return base.Item(where, said, audio, audio_name, line=number)

    for pair in tables.pairs(driver):
      if isinstance(pair, base.Rejected):
        yield pair
        continue
      number, name, value = pair
      where = f'{driver}:{number}'
      yield base.reject_on_error(
        where,
        item,
        where,
        number,
        name,
        value,
        id=name,
        line=number,
        file=value,
      )
    yield from texts.left(f'a transcript without a line in {driver.name}.')


def _side(value: str | None) -> channels.Channel:
  """The channel of a line of `reco2file_and_channel`: A, B or 1, 2."""
  if value is None:
    return None
  word = value.split()[-1] if value else ''
  if word.isascii() and word.isdigit() and word != '0':
    word = str(int(word) - 1)
  return channels.parse(word, _SIDES)


def _segment(value: str) -> tuple[str, dict[str, float | int | None]]:
  """(recording, fields) of a line of `segments`."""
  words = value.split()
  if len(words) not in (3, 4):
    raise errors.UserError(
      f'segments: found {value!r}, expected RECORDING begin end and maybe a '
      'channel.'
    )
  offset, duration = tables.offset_and_duration(*words[1:3])
  to_the_end = words[2].partition('.')[0] == '-1'
  said = {'offset': offset, 'duration': None if to_the_end else duration}
  if len(words) == 4 and words[3] != '-1':  # which says nothing
    # `extract-segments` counts from 0; LDC calls them A and B.
    said['channel'] = channels.parse(words[3], 'segments')
  return words[0], said


class _Recordings:
  """Values of `wav.scp` → recordings; what a command said is kept once."""

  def __init__(self, root: pathlib.Path, allow_pipes: bool):
    self._root, self._allow = root, allow_pipes
    self._locate = base.locator(root)
    self._last = None, b''

  def open(self, name: str, value: str) -> tuple[pathlib.Path | bytes, str]:
    """(audio, audio_name) of an item.

    Raises:
      UserError: A command that is refused or fails; a path that leads out.
    """
    if not value:
      raise errors.UserError('wav.scp: found no path.')
    if not value.endswith('|') and not value.startswith('|'):
      return self._locate(value)
    if not self._allow:
      raise errors.UserError(
        f'wav.scp: found the command {value!r}; --allow_pipes runs it.'
      )
    if self._last[0] != value:
      folder = files.local(self._root, '--audio_root')  # commands run there
      self._last = value, _run(value.strip('| '), folder)
    data = self._last[1]
    return data, name + media.audio_suffix(data)


def _run(command: str, folder: pathlib.Path) -> bytes:
  """What a single command prints."""
  shell = next((sign for sign in command if sign in _SHELL), None)
  if shell is not None:
    raise errors.UserError(
      f'wav.scp: found {shell!r} in {command!r}, expected a single command.'
    )
  try:
    words = shlex.split(command)
    process = subprocess.Popen(
      words,
      cwd=folder,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
    )
  except (OSError, ValueError, IndexError) as error:
    raise errors.UserError(f'wav.scp: {command!r}: {error}.') from error
  timer = threading.Timer(_COMMAND_SECONDS, process.kill)
  timer.start()
  data = b''
  try:
    data = process.stdout.read(tars.MEMBER_BYTES + 1)
  finally:
    process.stdout.close()
    if len(data) > tars.MEMBER_BYTES:
      process.kill()
    status = process.wait()
    timer.cancel()
  if status or len(data) > tars.MEMBER_BYTES:
    raise errors.UserError(
      f'wav.scp: {command!r} gave {len(data)} bytes and exit status {status}.'
    )
  return data
