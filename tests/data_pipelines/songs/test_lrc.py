"""Lyrics with times, good and bad."""

import hypothesis
from hypothesis import strategies
import pytest

from data_pipelines.songs import lrc
from step_audio_jax import errors

SONG = """\ufeff[ar: Ann & Bob]
[ti:A Song]
[offset:+500]
# a remark
[length: 01:30]

[00:12.00]First  line
[00:15.3][01:02.345]A refrain [twice]
[00:18.00]<00:18.00>By <00:18.40>words<00:19.10>
[00:22.00]
[01:10]<01:10.00>the <01:10.5> end
"""


def texts(lyrics):
  return [(line.start, line.end, line.text) for line in lyrics.lines]


def test_a_song():
  found = lrc.parse(SONG.removeprefix('\ufeff'))
  assert found.artist == 'Ann & Bob'
  assert found.tags == {
    'ar': 'Ann & Bob', 'ti': 'A Song', 'offset': '+500', 'length': '01:30',
  }  # fmt: skip
  assert texts(found) == [
    (11.5, 14.8, 'First line'),
    (14.8, 17.5, 'A refrain [twice]'),
    (17.5, 21.5, 'By words'),
    (61.845, 69.5, 'A refrain [twice]'),
    (69.5, None, 'the end'),
  ]
  assert found.lines[2].words == (('By', 17.5, 17.9), ('words', 17.9, 18.6))
  assert found.lines[4].words == (('the', 69.5, 70.0), ('end', 70.0, None))
  assert [line.number for line in found.lines] == [7, 8, 9, 8, 11]


@pytest.mark.parametrize(
  'tag, seconds',
  [
    ('00:01', 1.0), ('00:01.5', 1.5), ('00:01.05', 1.05), ('00:01.005', 1.005),
    ('00:01:50', 1.5), ('00:01,50', 1.5), ('1:2.3', 62.3),
    ('123:59.99', 7439.99),
  ],
)  # fmt: skip
def test_times(tag, seconds):
  (line,) = lrc.parse(f'[{tag}]x').lines
  assert line.start == pytest.approx(seconds)


@pytest.mark.parametrize(
  'offset, start', [('-250', 10.25), ('0', 10), ('', 10)]
)
def test_offsets(offset, start):
  assert lrc.parse(f'[offset:{offset}]\n[00:10]x').lines[0].start == start


@pytest.mark.parametrize(
  'text, message',
  [
    ('', 'song: nothing is sung in it, expected lines as'),
    ('[ar:X]\n[00:01]\n', 'song: nothing is sung'),
    ('hello', r"song:1: found 'hello' without a time, expected \[minutes"),
    ('[Chorus]', r"song:1: found '\[Chorus\]' without a time"),
    ('[00:61]x', "song:1: found the time '00:61', .* below 60"),
    ('[00:01]a\n[00.02]b', "song:2: found the time '00.02'"),
    ('[1:2:3:4]x', "found the time '1:2:3:4'"),
    ('[00:01][0x]x', "found the time '0x'"),
    ('[offset:soon]\n[00:01]x', "song: offset: found 'soon', expected whole"),
    ('[offset:1]\n[offset:2]\n[00:01]x', 'song:2: offset: found 2 behind 1'),
    ('[offset:2000]\n[00:01]x', 'song:2: 1 s less the offset of 2 s is before'),
    (
      '[00:01]love\n[00:01]Liebe',
      "song:2: found 'Liebe' at 1 s, where line 1 has another text; .*transl",
    ),
    ('[00:01]a\n[00:01]\n[00:01]b', "song:3: found 'b' at 1 s"),
    ('[00:05]<00:06>a <00:05.5>b', 'song:1: a word behind 6 s is earlier'),
    ('[00:05]<00:04>a', 'song:1: a word at 4 s, expected none before its line'),
    ('[00:05]<00:09>a\n[00:08]b', 'song:1: a word at 9 s, .* its line, 8 s'),
    ('[00:05]a <00:06>b', "song:1: found 'a' before the first time of a word"),
    ('[00:05]<5>a', "song:1: found the time '5'"),
    ('[00:05][00:09]<00:05>a', 'song:1: 2 times and times of words'),
    (f'[00:01]x\n{"y" * 99}', 'y{40}…. without a time'),
  ],
)
def test_bad_lyrics(text, message):
  with pytest.raises(errors.UserError, match=message):
    lrc.parse(text, 'song')


def test_files(tmp_path):
  path = tmp_path / 'song.lrc'
  path.write_bytes(SONG.replace('\n', '\r\n').encode())
  assert len(lrc.read(path).lines) == 5
  path.write_bytes('[00:01]你好'.encode('gbk'))
  with pytest.raises(errors.UserError, match=r'song.lrc: not utf-8 at byte 7'):
    lrc.read(path)
  assert lrc.read(path, 'gbk').lines[0].text == '你好'
  path.write_bytes(b'[00:01]x\n' * 200_000)
  with pytest.raises(errors.UserError, match='more than 1000000 bytes'):
    lrc.read(path)
  with pytest.raises(errors.UserError, match='no such file'):
    lrc.read(tmp_path / 'other.lrc')


def test_the_same_line_twice_is_one():
  found = lrc.parse('[00:01]x\n[00:01]x\n[00:02]y')
  assert texts(found) == [(1.0, 2.0, 'x'), (2.0, None, 'y')]


@hypothesis.given(strategies.text(alphabet='[]<>:.0159 aé你\n#', max_size=60))
@hypothesis.settings(max_examples=150, deadline=None)
def test_anything_is_lyrics_or_one_sentence(text):
  try:
    found = lrc.parse(text, 'song')
  except errors.UserError as error:
    assert '\n' not in str(error) and str(error).startswith('song')
    return
  starts = [line.start for line in found.lines]
  assert starts == sorted(starts) and found.lines
  for line in found.lines:
    assert line.text and (line.end is None or line.end > line.start)
    for _, start, end in line.words:
      assert line.start - 1e-6 <= start and (end is None or end >= start)
