"""Songs that are heard where their lyrics say are kept, others are told."""

import json

import numpy as np
import pytest

from data_pipelines import __main__ as doors
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.gates import speech
from data_pipelines.factory.tracks import alignment
from data_pipelines.factory.tracks import hearing
from data_pipelines.ingestion import ingest
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests import stores

RATE = 16000
COUNT = 6


def hear(wave, language):
  """Lines are told by their loudness."""
  return f'line number {round(float(np.median(wave)) * 50)}'


ALIGNMENT = alignment.Alignment(
  line.Gates(
    (
      sound.Duration(1.0, 9.0),
      speech.Recognised(transcribe=speech.each(hear), most=0.05),
    )
  )
)


@pytest.fixture
def corpus(tmp_path):
  """Tracks of six lines: one right, one late, one with a line too many."""
  root = tmp_path / 'songs'
  for name, shift, wrong in (('a', 0, None), ('late', 2, None), ('z', 0, 3)):
    levels = np.repeat(np.arange(COUNT), 2 * RATE).astype(np.float32) / 50
    audio_io.write_audio(root / f'{name}.wav', np.roll(levels, shift * RATE))
    lines = ['[ar:Ann]'] + [
      f'[00:{2 * n:02d}]line number {"two" if n == wrong else n}'
      for n in range(COUNT)
    ]
    (root / f'{name}.lrc').write_text('\n'.join(lines))
  options = ingest.base.Options(extra={'longest': '3', 'longest_line': '3'})
  ingest.ingest(root, tmp_path / 'corpus', format='lrc', options=options)
  return tmp_path / 'corpus'


def test_what_is_kept(corpus, tmp_path):
  told = hearing.hear(corpus, tmp_path / 'out', ALIGNMENT)
  kept = manifest.read(tmp_path / 'out')
  assert [one.id for one in kept] == [
    *(f'a-00{n}' for n in range(COUNT)),
    *(f'z-00{n}' for n in (0, 1, 2, 4, 5)),
  ]
  before = {one.id: one for one in manifest.read(corpus)}
  for one in kept:
    assert one == before[one.id] and one.marked.startswith('(哼唱)')
    audio_io.read_audio(one.audio_path(tmp_path / 'out'), **one.part())
  assert (told['kept'], told['rejected'], told['tracks']) == (11, 7, 2)
  assert told['seconds'] == 22.0
  assert told['gates']['track'] == {'passed': 12, 'failed': 6}
  assert told['gates']['cer'] == {'passed': 11, 'failed': 7}
  left = list(files.read_jsonl(tmp_path / 'out' / 'quarantine.jsonl'))
  assert [one['id'] for one in left] == [
    *(f'late-00{n}' for n in range(COUNT)), 'z-003',
  ]  # fmt: skip
  assert not list((tmp_path / 'out').glob('.hearing*'))
  assert hearing.hear(corpus, tmp_path / 'out', ALIGNMENT) == told


def test_killed_it_goes_on(corpus, tmp_path, monkeypatch):
  hearing.hear(corpus, tmp_path / 'calm', ALIGNMENT)
  real, heard = hearing._heard, []

  def killed(folder, track, alignment):
    if len(heard) in (1, 3):
      heard.append(None)
      raise KeyboardInterrupt
    heard.append(track[0].audio)
    return real(folder, track, alignment)

  monkeypatch.setattr(hearing, '_heard', killed)
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      hearing.hear(corpus, tmp_path / 'out', ALIGNMENT)
    assert not (tmp_path / 'out' / 'manifest.jsonl').exists()
  hearing.hear(corpus, tmp_path / 'out', ALIGNMENT)
  assert [one for one in heard if one] == [
    'audio/a.wav', 'audio/late.wav', 'audio/z.wav',
  ]  # fmt: skip
  assert stores.contents(tmp_path / 'out') == stores.contents(tmp_path / 'calm')


def test_recordings_that_cannot_be_read(corpus, tmp_path):
  path = corpus / 'audio' / 'a.wav'
  path.unlink()
  path.write_bytes(b'RIFF')
  told = hearing.hear(corpus, tmp_path / 'out', ALIGNMENT)
  assert told['gates']['audio'] == {'passed': 12, 'unmeasured': 6}
  first = next(files.read_jsonl(tmp_path / 'out' / 'quarantine.jsonl'))
  assert first['id'] == 'a-000' and 'a.wav' in first['reason']


def test_in_a_bucket(corpus, tmp_path, gs_folder):
  hearing.hear(corpus, tmp_path / 'here', ALIGNMENT, copy=True)
  hearing.hear(corpus, gs_folder / 'there', ALIGNMENT)
  assert stores.contents(tmp_path / 'here') == stores.contents(
    gs_folder / 'there'
  )


def test_what_is_refused(corpus, tmp_path):
  never = alignment.Alignment(ALIGNMENT.gates, least=1.0)
  with pytest.raises(errors.UserError, match='none of 18 clips passed; the fi'):
    deaf = speech.Recognised(transcribe=lambda waves, tags: [''] * len(waves))
    hearing.hear(
      corpus, tmp_path / 'x', alignment.Alignment(line.Gates((deaf,)))
    )  # fmt: skip
  hearing.hear(corpus, tmp_path / 'out', ALIGNMENT)
  with pytest.raises(errors.UserError, match='made of another corpus or with'):
    hearing.hear(corpus, tmp_path / 'out', never)
  with pytest.raises(errors.UserError, match='that `songs` did not finish'):
    hearing.hear(tmp_path / 'out', corpus, ALIGNMENT)
  manifest.write(
    tmp_path, [manifest.Utterance(id='t', kind='text', text='no sound')]
  )
  with pytest.raises(errors.UserError, match='no recordings, expected songs'):
    hearing.hear(tmp_path, tmp_path / 'y', ALIGNMENT)


def test_the_door(corpus, tmp_path, capsys):
  gin = tmp_path / 'songs.gin'
  gin.write_text(
    """
from __gin__ import dynamic_registration
from data_pipelines.factory.gates import ears
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import speech
from data_pipelines.factory.tracks import alignment

alignment.Alignment.gates = @line.Gates()
line.Gates.gates = (@speech.Recognised(),)
speech.Recognised.transcribe = @ears.Stranger()
ears.Stranger.model = 'whisper'
"""
  )
  argv = ['data_pipelines', 'songs', f'--corpus={corpus}', '--json',
          f'--output={tmp_path}/out', f'--gin_file={gin}']  # fmt: skip
  assert cli.dispatch('data_pipelines', doors.DOORS, [*argv, '--dry_run']) == 0
  told = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert told == {'dry_run': True, 'tracks': 3, 'clips': 18}
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 2
  assert 'whisper: no such folder' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()
