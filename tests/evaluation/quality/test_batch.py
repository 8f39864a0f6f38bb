"""Folders and rows of recordings, measured and counted."""

import json
import pickle

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.decoder.speaker import encoder as speaker
from step_audio_jax.evaluation.benchmarks import means
from step_audio_jax.evaluation.quality import batch
from step_audio_jax.evaluation.quality import dnsmos
from step_audio_jax.evaluation.quality import door
from step_audio_jax.evaluation.quality import sources
from tests.decoder.speaker import tiny_speaker
from tests.evaluation.quality import sounds

GROUPS = ('levels', 'pitch')


@pytest.fixture
def folders(tmp_path):
  """Recordings of which some are none, and references of two."""
  ours, theirs = tmp_path / 'ours', tmp_path / 'theirs'
  (ours / 'zh').mkdir(parents=True)
  theirs.mkdir()
  voice_S = sounds.voice(0.5)
  soundfile.write(ours / 'a.wav', voice_S, 16000)
  soundfile.write(ours / 'zh' / 'b.flac', sounds.voice(0.5, rate=24000), 24000)
  soundfile.write(ours / 'c.wav', np.full(9000, np.nan), 16000, 'FLOAT')
  (ours / 'd.wav').write_bytes(b'')
  (ours / 'e.wav').write_bytes(b'RIFF and no more')
  soundfile.write(ours / 'f.wav', voice_S[:400], 16000)
  soundfile.write(ours / 'g.wav', voice_S, 16000)
  (ours / 'notes.txt').write_text('nothing to hear')
  soundfile.write(theirs / 'a.flac', voice_S, 16000)
  soundfile.write(theirs / 'g.wav', np.full(9000, np.inf), 16000, 'FLOAT')
  return ours, theirs


def test_all_is_counted(folders, tmp_path, capsys):
  ours, theirs = folders
  words = [f'--audio={ours}', f'--reference={theirs}']
  words += [f'--output={tmp_path / "out"}', '--groups=levels,pitch', '--json']
  assert cli.run('measure', door.DOOR, [*words, '--dry_run']) == 0
  assert 'would measure 7 recordings, 2 of them' in capsys.readouterr().out
  assert not (tmp_path / 'out').exists()
  assert cli.run('measure', door.DOOR, words) == 0
  out = capsys.readouterr().out
  told = json.loads(out.splitlines()[-1])
  assert told['recordings'] == 7 and told['measured'] == 2
  assert told['left_out'] == {
    'empty': 1,
    'its reference: samples that are not finite': 1,
    'samples that are not finite': 1,
    'shorter than 0.1 s': 1,
    'unreadable': 1,
  }
  assert told['sample_rates'] == {'16000': 1, '24000': 1}
  cents = told['figures']['f0_cents']
  assert cents['n'] == 1 and cents['mean'] == cents['median'] < 0.1
  assert cents['not_computed'] == {'no reference': 1}
  assert told['figures']['peak_db']['n'] == 2
  lines = (tmp_path / 'out' / 'quality.jsonl').read_text().splitlines()
  rows = {row['id']: row for row in map(json.loads, lines)}
  assert list(rows) == ['a', 'c', 'd', 'e', 'f', 'g', 'zh/b']
  assert rows['c']['why'].startswith(str(ours / 'c.wav'))
  assert rows['zh/b']['sample_rate'] == 24000
  assert cents['low'] == cents['high'] == cents['mean']
  assert '| 0 | 1 | 1: no reference |' in out
  assert 'left out: 1, unreadable' in out
  files = sorted(path.name for path in (tmp_path / 'out').iterdir())
  assert files == ['quality.json', 'quality.jsonl', 'quality.md']


def test_processes_share_the_work(folders, monkeypatch):
  ours, theirs = folders
  found = door.paired(sources.read(ours), sources.read(theirs))
  alone = batch.measure_files(found, groups=GROUPS)
  monkeypatch.setattr(batch, '_TOGETHER', 2)

  def spread(function, jobs, processes):
    # What `runtimes.processes` does: jobs travel, and end in any order.
    assert processes == 3 and len(jobs) == 4
    for job in reversed(jobs):
      function, job = pickle.loads(pickle.dumps((function, job)))
      yield pickle.loads(pickle.dumps(function(*job)))

  monkeypatch.setattr(batch.processes_lib, 'spread', spread)
  assert batch.measure_files(found, groups=GROUPS, processes=3) == alone
  with pytest.raises(errors.UserError, match='config.json'):
    batch.measure_files(found, groups=('speaker',), speaker=ours)


def test_voices_are_compared_by_a_network(folders, tmp_path, capsys):
  ours, theirs = folders
  encoder = speaker.SpeakerEncoder(tiny_speaker.CONFIG, tiny_speaker.tree())
  sealed = tmp_path / 'sealed'
  sealed.mkdir()
  encoder.save(sealed)
  config = {'format': 'decoder', 'speaker': vars(tiny_speaker.CONFIG)}
  (sealed / 'config.json').write_text(json.dumps(config))
  row = {'wav': 'a.wav', 'reference_wav': str(theirs / 'a.flac')}
  (ours / 'rows.jsonl').write_text(json.dumps(row))
  words = [f'--audio={ours / "rows.jsonl"}', f'--speaker={sealed}']
  words += [f'--output={tmp_path / "out"}', '--groups=speaker', '--json']
  assert cli.run('measure', door.DOOR, words) == 0
  told = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert told['figures']['speaker_similarity']['mean'] > 0.999
  assert len(told['speaker']['digest']) == 64


def test_benchmarks_measure_their_sounds(folders, monkeypatch):
  monkeypatch.setattr(dnsmos, 'opened', Networks)
  found = means.MeansConfig(quality=True).build(folders[0], folders[0])
  told = found.quality('zh/b.flac')
  assert told['sample_rate'] == 24000 and not told['not_computed']
  assert told['figures']['dnsmos_ovrl'] == 3
  with pytest.raises(errors.UserError, match='c.wav: sample 0 is nan'):
    found.quality('c.wav')


class Networks:
  """Stands in for DNSMOS."""

  def score(self, wave_S):
    assert len(wave_S) == 8000  # at 16 kHz
    return dict.fromkeys(dnsmos.SCORES, 3.0)


def test_rows_name_recordings(folders, tmp_path):
  ours, _ = folders
  path = tmp_path / 'rows.jsonl'
  rows = [
    {'wav': 'ours/a.wav', 'text': 'la la la la', 'codes': [1, 2, 1, 2, 1, 2]},
    {'wav': 'ours/zh/b.flac', 'id': 'b', 'reference_wav': 'theirs/a.flac'},
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  found = sources.read(path)
  assert list(found) == ['ours/a', 'b']
  assert found['b'].reference == tmp_path / 'theirs/a.flac'
  (one, two) = batch.measure_files(list(found.values()), groups=GROUPS)
  assert one['figures']['text_repetition'] == 0.5
  assert one['figures']['codes_repetition'] == 0.5
  assert two['figures']['f0_cents'] < 5


@pytest.mark.parametrize(
  'text, told',
  [
    ('[1]', 'rows.jsonl:1: found no field wav'),
    ('{"wav": 3}', r'rows.jsonl:1: wav: found 3, expected a string'),
    ('{"wav": "a.wav", "codes": [0.5]}', 'codes: found what is no whole'),
    ('{"wav": "a.wav"}\n{"wav": "a.flac"}', "2: the recording 'a' occurs twi"),
    ('', 'found no recording, expected some'),
    ('{', 'not a JSON line'),
  ],
)
def test_rows_that_are_none(tmp_path, text, told):
  (tmp_path / 'rows.jsonl').write_text(text)
  with pytest.raises(errors.UserError, match=told):
    sources.read(tmp_path / 'rows.jsonl')


def test_what_is_named_wrongly(folders, tmp_path, capsys):
  ours, _ = folders
  with pytest.raises(errors.UserError, match='no such folder or file'):
    sources.read(tmp_path / 'nowhere')
  (tmp_path / 'others').mkdir()
  soundfile.write(tmp_path / 'others' / 'x.wav', sounds.voice(0.2), 16000)
  words = [f'--audio={ours}', f'--output={tmp_path / "out"}']
  for more, said in (
    (f'--reference={tmp_path / "others"}', 'expected the same names in both'),
    ('--groups=mos', "found 'mos'"),
  ):
    assert cli.run('measure', door.DOOR, [*words, more]) == 2
    assert said in capsys.readouterr().err
