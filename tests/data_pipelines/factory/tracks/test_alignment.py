"""Lyrics are checked by what is heard where they should be."""

import numpy as np
import pytest

from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.gates import speech
from data_pipelines.factory.tracks import alignment
from data_pipelines.songs import clips as clips_lib
from data_pipelines.songs import lrc
from step_audio_jax import errors

RATE = 1600
TEXT = '\n'.join(f'[00:{2 * n:02d}]line number {n}' for n in range(10))


def track(shift=0):
  """Ten lines of 2 s; a sample's size says which."""
  wave = np.repeat(np.arange(10), 2 * RATE).astype(np.float32) / 100 + 0.01
  return np.roll(wave, shift * RATE)


def hear(wave, language):
  return f'line number {round(float(np.median(wave)) * 100) - 1}'


def checked(wave, least=0.5, gates=()):
  cer = speech.Recognised(transcribe=speech.each(hear), most=0.05)
  lyrics = lrc.parse(TEXT)
  clips, _ = clips_lib.cut(
    lyrics, 20.0, clips_lib.Rules(longest=3.0, longest_line=3.0)
  )
  assert len(clips) == 10
  takes = alignment.takes_of(
    't', wave, RATE, clips, language='en', artist='ann'
  )
  assert takes[3].id == 't-003' and takes[3].speaker == 'ann'
  assert all(len(take.samples) == 2 * RATE for take in takes)
  return alignment.Alignment(line.Gates((cer, *gates)), least=least).check(
    takes
  )


def test_lyrics_in_their_place_are_kept():
  reports = checked(track())
  assert all(report.passed for report in reports)
  assert reports[0].scores == {'cer': 0.0, 'track': 1.0}


def test_a_track_whose_lyrics_are_late_is_refused_whole():
  wave = track(shift=2)
  wave[: 2 * RATE] = track()[: 2 * RATE]  # the first one fits by chance
  reports = checked(wave)
  assert not any(report.passed for report in reports)
  assert reports[0].quarantine()['gate'] == 'track'
  assert (
    reports[0]
    .quarantine()['reason']
    .startswith('track: cer lets 1 of 10 clips pass, expected 50%')
  )
  assert reports[5].quarantine()['gate'] == 'cer'
  assert checked(wave, least=0.1)[0].passed


def test_clips_that_the_recogniser_never_heard_do_not_count():
  gate = sound.Duration(5.0, 9.0)
  reports = checked(track(), gates=(gate,))
  assert [list(report.scores) for report in reports] == [['duration']] * 10


def test_bad_settings():
  with pytest.raises(errors.UserError, match="found 'cer', .* there is none"):
    alignment.Alignment(line.Gates())
  gates = line.Gates((sound.Duration(),))
  with pytest.raises(errors.UserError, match='a gate: duration'):
    alignment.Alignment(gates)
  with pytest.raises(errors.UserError, match='least: found 2'):
    alignment.Alignment(gates, 'duration', 2.0)
