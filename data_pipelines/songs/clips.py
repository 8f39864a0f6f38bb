"""A track in clips of a few lines each, as its lyrics have them.

Neighbouring lines become one clip while it is not too long and no pause lies
between them. Where a line ends is known where something tells it: the end of
its last word, an empty line, or the next line soon enough. A line that would
last longer than anybody sings one is left out: behind it may be an interlude.
"""

import dataclasses
import re
from typing import Iterator, NamedTuple, Sequence

from data_pipelines import words as words_lib
from data_pipelines.songs import lrc
from step_audio_jax import errors
from step_audio_jax.corpus import manifest

# Who wrote it and who plays is no lyric.
CREDITS = (
  r'\s*(作词|作曲|编曲|制作人|词|曲|演唱|和声|混音|母带|录音|监制)\s*[:：].*',
  r'(?i)\s*(lyrics|composer|composed|written|music|vocals?|arranged|produced|'
  r'producer)\s*(by)?\s*[:：].*',
)


@dataclasses.dataclass(frozen=True)
class Rules:
  """How a track is cut.

  Attributes:
    shortest: Seconds of a clip, at least.
    longest: At most; a single line may be as long as `longest_line`.
    longest_line: Seconds after which a line is not believed to go on.
    pause: Seconds without a line that divide clips.
    skip: Lines that are no lyrics: regular expressions of the whole line.
  """

  shortest: float = 1.0
  longest: float = 15.0
  longest_line: float = 12.0
  pause: float = 1.0
  skip: tuple[str, ...] = CREDITS

  def __post_init__(self):
    if not 0 < self.shortest <= self.longest_line <= self.longest:
      raise errors.UserError(
        f'songs: shortest, longest_line, longest: found {self.shortest}, '
        f'{self.longest_line}, {self.longest}, expected positive seconds in '
        'rising order.'
      )
    if not self.pause >= 0:
      raise errors.UserError(
        f'songs: pause: found {self.pause}, expected seconds >= 0.'
      )
    errors.patterns('songs: skip', self.skip)


class Clip(NamedTuple):
  """A part of a track.

  Attributes:
    start: Seconds.
    end: Seconds.
    text: Its lines, a space between two of them.
    words: (word, start, end) with seconds from the clip's start; None where
      some line has no times of words.
  """

  start: float
  end: float
  text: str
  words: tuple[lrc.Word, ...] | None


class Left(NamedTuple):
  """A line that is in no clip.

  Attributes:
    number: Line of the lyrics' file.
    reason: One sentence.
  """

  number: int
  reason: str


def cut(
  lyrics: lrc.Lyrics, seconds: float, rules: Rules = Rules(), name: str = 'lrc'
) -> tuple[list[Clip], list[Left]]:
  """Cuts a track.

  Args:
    lyrics: Of the track.
    seconds: Its length.
    rules: How.
    name: What messages call the lyrics.

  Returns:
    The clips, and the lines that are in none with the reason; credits are in
    neither.

  Raises:
    UserError: Lyrics go on behind the end of the track: they are of another.
  """
  last = lyrics.lines[-1]
  if last.start >= seconds:
    raise errors.UserError(
      f'{name}:{last.number}: a line at {last.start:g} s, expected none behind '
      f'the end of the track, {seconds:g} s.'
    )
  left: list[Left] = []
  clips = []
  for group in _groups(_usable(lyrics, seconds, rules, left), rules):
    start, end = group[0][0].start, group[-1][1]
    if end - start < rules.shortest:
      reason = (
        f'{name}:{group[0][0].number}: a clip of {end - start:g} s, expected '
        f'at least {rules.shortest:g} s.'
      )
      left += [Left(line.number, reason) for line, _ in group]
      continue
    text = ' '.join(line.text for line, _ in group)
    clips.append(Clip(start, end, text, _words(group, start)))
  return clips, sorted(left)


def _usable(lyrics, seconds, rules, left) -> Iterator[tuple[lrc.Lyric, float]]:
  """Lines with their ends."""
  for line in lyrics.lines:
    if any(re.fullmatch(pattern, line.text) for pattern in rules.skip):
      continue
    if not words_lib.count(line.text) or not any(map(str.isalnum, line.text)):
      continue  # `♪`, `…`
    end = min(line.end if line.end is not None else seconds, seconds)
    sung = line.words[-1][2] if line.words else None
    if sung is not None:
      end = min(end, sung)
    if end - line.start > rules.longest_line:
      reason = (
        f'line {line.number}: {end - line.start:g} s until the next, expected '
        f'at most {rules.longest_line:g} s of a line.'
      )
      left.append(Left(line.number, reason))
    elif end > line.start:
      yield line, end


def _groups(lines, rules) -> Iterator[Sequence[tuple[lrc.Lyric, float]]]:
  group: list[tuple[lrc.Lyric, float]] = []
  for line, end in lines:
    if group and (
      line.start - group[-1][1] > rules.pause
      or end - group[0][0].start > rules.longest
    ):
      yield group
      group = []
    group.append((line, end))
  if group:
    yield group


def _words(group, start):
  if not all(line.words for line, _ in group):
    return None
  found = []
  for line, end in group:
    for word, at, stop in line.words:
      stop = end if stop is None else min(stop, end)
      found.append(
        (word, round(min(at, end) - start, 6), round(stop - start, 6))
      )
  return tuple(found)


def utterances(
  track: str,
  clips: Sequence[Clip],
  *,
  audio: str,
  sample_rate: int,
  split: str,
  language: str,
  artist: str | None = None,
) -> list[manifest.Utterance]:
  """Lines of a manifest; the track stays one file.

  Args:
    track: Its name; clips are called `<track>-000`, …
    clips: Of `cut`.
    audio: The track's file in the corpus folder.
    sample_rate: Of that file, Hz.
    split: Of all clips.
    language: Subtag.
    artist: Who sings.
  """
  return [
    manifest.Utterance(
      id=f'{track}-{number:03d}',
      kind='speech',
      split=split,
      text=clip.text,
      language=language,
      audio=audio,
      offset=clip.start,
      duration=round(clip.end - clip.start, 6),
      sample_rate=sample_rate,
      speaker=artist,
      words=clip.words,
    )
    for number, clip in enumerate(clips)
  ]
