"""`lrc`: songs, with their lyrics beside them.

    SOURCE/…/TRACK.mp3    a recording of any format
    SOURCE/…/TRACK.lrc    its lyrics with times, as `songs.lrc` reads them

A track becomes clips of neighbouring lines (`songs.clips`), called by its path
and a number (`TRACK-000`); they share its file. Artists (`[ar:NAME]`) decide
the split, whoever sings together is in one, and are the speakers. Clips are
marked as RAP where a genre (`[genre:Hip-Hop]`, `[ge:…]`) says so, and as sung
otherwise. Lines that cannot be cut out go to the quarantine, each by itself.

    --reader_option=tag=RAP          of all tracks; humming, or none, likewise
    --reader_option=artist=folder    of tracks whose lyrics name none
    --reader_option=encoding=gb18030 of the lyrics; utf-8-sig by default
    --reader_option=longest=15       seconds; also shortest, longest_line, pause
"""

import codecs
import pathlib
import re
from typing import Iterator, Mapping, NamedTuple

from data_pipelines.readers.common import base
from data_pipelines.songs import artists as artists_lib
from data_pipelines.songs import clips as clips_lib
from data_pipelines.songs import lrc
from step_audio_jax import errors
from step_audio_jax.audio import foreign
from step_audio_jax.audio import io as audio_io
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags

OPTIONS = (
  *('tag', 'artist', 'encoding'),
  *('shortest', 'longest', 'longest_line', 'pause'),
)
_AUDIO = ('.wav', '.flac', '.ogg', '.opus', '.mp3', '.aif', '.aiff')
_RAP, _SUNG, _NONE = 'RAP', '哼唱', 'none'
_RAPPED = re.compile(r'\brap\b|hip[\s-]?hop|说唱|說唱|嘻哈|饶舌|饒舌', re.I)
_GENRES = ('genre', 'ge')


class _Track(NamedTuple):
  """Lyrics and recordings of one name; there should be one of each."""

  lyrics: list[pathlib.Path]
  audio: list[pathlib.Path]


class _Settings(NamedTuple):
  """What the options say.

  Attributes:
    tag: Of all tracks, '' for none; None leaves it to their genre.
    by_folder: Whether a folder is called after who sings in it.
    encoding: Of the lyrics.
    rules: Of the clips.
  """

  tag: str | None
  by_folder: bool
  encoding: str
  rules: clips_lib.Rules


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a folder of songs; see the module.

  Raises:
    UserError: There are no lyrics, or an option is wrong.
  """
  settings = _settings(options.extra)
  root = options.root(source)

  def lyrics(track: _Track) -> lrc.Lyrics:
    name = track.lyrics[0].relative_to(source)
    path = base.file_of(source, options, name)
    return lrc.read(path, settings.encoding)

  tracks = _tracks(source, root)
  artists, refused = {}, {}
  for name, track in tracks.items():
    found = base.reject_on_error(
      str((track.lyrics or track.audio)[0]),
      _artist,
      name,
      track,
      lyrics,
      settings.by_folder,
      id=name,
      file=track.audio[0].name if track.audio else None,
    )
    (refused if isinstance(found, base.Rejected) else artists)[name] = found
  groups = artists_lib.groups(artists)
  for name, track in tracks.items():
    if name in refused:
      yield refused[name]
      continue
    found = base.reject_on_error(
      str(track.lyrics[0]),
      _clips,
      root,
      name,
      track,
      lyrics,
      settings,
      {'speaker': artists[name], 'part_of': groups[name]},
      id=name,
      file=track.audio[0].name,
    )
    yield from [found] if isinstance(found, base.Rejected) else found


def _tracks(source, root) -> dict[str, _Track]:
  """Name → files; names are paths below the folders, without ending."""
  if not files.is_dir(source):
    raise errors.UserError(f'{source}: a file, expected a folder of songs.')
  found: dict[str, _Track] = {}
  any_lyrics = False
  # A recording may be of a format that nobody reads: it is told apart later.
  for place, folder, endings in (
    (0, source, (lrc.ENDING,)),
    (1, root, (*_AUDIO, *foreign.ENDINGS)),
  ):
    for path in files.list_files(folder):
      if path.suffix.lower() in endings:
        name = path.relative_to(folder).with_suffix('').as_posix()
        found.setdefault(name, _Track([], []))[place].append(path)
        any_lyrics |= place == 0
  if not any_lyrics:
    raise errors.UserError(
      f'{source}: found no *{lrc.ENDING} in it, expected lyrics of songs.'
    )
  for track in found.values():
    track.lyrics.sort()
    track.audio.sort()
  return dict(sorted(found.items()))


def _artist(name: str, track: _Track, read_lyrics, by_folder: bool) -> str:
  """Who sings a track that is whole."""
  for what, some in (('lyrics', track.lyrics), ('audio', track.audio)):
    if not some:
      wanted = (
        f'{name}{lrc.ENDING}' if what == 'lyrics' else 'a recording so called'
      )
      raise errors.UserError(f'{what}: missing, expected {wanted}.')
    if len(some) > 1:
      raise errors.UserError(
        f'{what}: found {" and ".join(path.name for path in some)}, expected '
        'one of them.'
      )
  artist = read_lyrics(track).artist
  if artist is None and by_folder:
    artist = pathlib.PurePosixPath(name).parent.name
  if not artists_lib.names_of(artist or ''):
    raise errors.UserError(
      f'artist: found {artist!r}, expected a name, as in [ar:NAME]: tracks are '
      'put into splits by it.'
    )
  return artist


def _clips(root, name, track, read_lyrics, settings, said):
  path = track.lyrics[0]
  audio, audio_name = base.locate(root, track.audio[0].absolute())
  lyrics = read_lyrics(track)
  seconds = audio_io.examine(audio, name=audio_name).seconds
  clips, left = clips_lib.cut(lyrics, seconds, settings.rules, str(path))
  if not clips and not left:
    raise errors.UserError('lyrics: found credits alone, expected lines.')
  style = _style(settings.tag, lyrics.tags)
  said = {**said, 'language': lyrics.tags.get('la') or None}
  found = [
    base.Rejected(
      f'{path}:{one.number}', one.reason, name, one.number, audio_name
    )
    for one in left
  ]
  for number, clip in enumerate(clips):
    marked = markup.write([markup.Span(clip.text, style)]) if style else None
    fields = {
      **said,
      'id': f'{name}-{number:03d}',
      'text': clip.text,
      'marked': marked,
      'offset': clip.start,
      'duration': clip.end - clip.start,
      'words': clip.words,
    }
    found.append(base.Item(str(path), fields, audio, audio_name))
  return found


def _style(tag: str | None, told: Mapping[str, str]) -> tags.Style | None:
  if tag is None:
    genre = ' '.join(told.get(key, '') for key in _GENRES)
    tag = _RAP if _RAPPED.search(genre) else _SUNG
  return tags.Style((tags.Tag(tag),)) if tag else None


def _settings(extra: Mapping[str, str]) -> _Settings:
  base.check_options(extra, OPTIONS)
  tag = extra.get('tag')
  if tag is not None:
    known = tags.find(tag)
    if known is not None and known.name in (_RAP, _SUNG):
      tag = known.name
    elif tag == _NONE:
      tag = ''
    else:
      raise errors.UserError(
        f'--reader_option=tag: found {tag!r}, expected RAP, humming or none.'
      )
  artist = extra.get('artist')
  if artist not in (None, 'folder'):
    raise errors.UserError(
      f'--reader_option=artist: found {artist!r}, expected folder.'
    )
  encoding = extra.get('encoding', 'utf-8-sig')
  try:
    codecs.lookup(encoding)
  except LookupError as error:
    raise errors.UserError(
      f'--reader_option=encoding: found {encoding!r}, expected one that Python '
      'knows, as gb18030.'
    ) from error
  given = {}
  for key in OPTIONS[3:]:
    if key in extra:
      try:
        given[key] = float(extra[key])
      except ValueError as error:
        raise errors.UserError(
          f'--reader_option={key}: found {extra[key]!r}, expected seconds.'
        ) from error
  return _Settings(tag, artist is not None, encoding, clips_lib.Rules(**given))
