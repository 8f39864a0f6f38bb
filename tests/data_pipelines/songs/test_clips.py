"""Tracks in clips."""

import pytest

from data_pipelines.songs import clips as lib
from data_pipelines.songs import lrc
from step_audio_jax import errors

LINES = """[ar:Ann]
[00:01.00]作词 : 某人
[00:02.00]Lyrics by: somebody
[00:10.00]one two
[00:13.00]three four
[00:16.00]five six
[00:19.00]
[00:30.00]♪
[00:32.00]seven
[00:32.50]
[00:40.00]eight nine
[01:00.00]ten eleven
"""


def cut(text=LINES, seconds=70.0, **rules):
  return lib.cut(lrc.parse(text), seconds, lib.Rules(**rules), 'song.lrc')


def test_lines_become_clips():
  clips, left = cut(longest=8.0, longest_line=8.0)
  assert [clip[:3] for clip in clips] == [
    (10.0, 16.0, 'one two three four'), (16.0, 19.0, 'five six'),
  ]  # fmt: skip
  assert left == [
    (9, 'song.lrc:9: a clip of 0.5 s, expected at least 1 s.'),
    (11, 'line 11: 20 s until the next, expected at most 8 s of a line.'),
    (12, 'line 12: 10 s until the next, expected at most 8 s of a line.'),
  ]
  clips, _ = cut(longest=30.0, longest_line=12.0)
  assert clips[0].text == 'one two three four five six'
  assert clips[-1][:3] == (60.0, 70.0, 'ten eleven')


def test_pauses_divide():
  text = '[00:01]a\n[00:03]\n[00:04]b\n[00:06]'
  assert len(cut(text, pause=1.0)[0]) == 1
  assert len(cut(text, pause=0.9)[0]) == 2


def test_times_of_words_are_those_of_the_clip():
  text = (
    '[00:10]<00:10.5>a <00:11>b<00:12>\n'
    '[00:12.5]<00:12.5>c <00:13>d'
  )  # fmt: skip
  (clip,), _ = cut(text, seconds=14.0)
  assert clip.words == (
    ('a', 0.5, 1.0), ('b', 1.0, 2.0), ('c', 2.5, 3.0), ('d', 3.0, 4.0),
  )  # fmt: skip
  (clip,), _ = cut(text + '\n[00:14]no words\n[00:15]', seconds=20.0)
  assert clip.words is None


def test_a_line_of_a_manifest():
  clips, _ = cut()
  (one, *_) = lib.utterances(
    'song', clips, audio='audio/song.mp3', sample_rate=44100, split='dev',
    language='en', artist='ann',
  )  # fmt: skip
  assert one.id == 'song-000' and one.speaker == 'ann' and one.split == 'dev'
  assert (one.offset, one.duration) == (10.0, 9.0)
  assert one.part() == {'offset': 10.0, 'duration': 9.0, 'channel': None}


def test_lyrics_of_another_track():
  with pytest.raises(
    errors.UserError, match='song.lrc:12: a line at 60 s, exp'
  ):
    cut(seconds=59.0)


@pytest.mark.parametrize(
  'rules, message',
  [
    ({'shortest': 0.0}, 'shortest, longest_line, longest: found 0.0'),
    ({'longest': 5.0}, 'rising order'),
    ({'longest': float('nan')}, 'rising order'),
    ({'pause': -1.0}, 'pause: found -1.0'),
    ({'skip': ('[',)}, 'songs: skip: found'),
  ],
)
def test_bad_rules(rules, message):
  with pytest.raises(errors.UserError, match=message):
    lib.Rules(**rules)
