"""Tokenising a corpus: shards, quarantine, resumption, Beam."""

import json
import struct

import numpy as np
import pytest
import soundfile

from data_pipelines import __main__ as doors
from data_pipelines import records
from data_pipelines.codes import encoding
from data_pipelines.codes import shards as code_shards
from data_pipelines.codes import tokenize
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import array_records
from step_audio_jax.storage import files
from tests.data_pipelines import stand_in


@pytest.fixture
def corpus(tmp_path):
  """Seven utterances of ragged length."""
  rng = np.random.default_rng(0)
  root = tmp_path / 'corpus'
  (root / 'wav').mkdir(parents=True)
  utterances = []
  for k in range(7):
    samples = rng.normal(0, 0.1, 4000 + 2311 * k).astype(np.float32)
    soundfile.write(root / 'wav' / f'{k}.wav', samples, 16000)
    utterances.append(
      manifest.Utterance(
        id=f'u{k}',
        audio=f'wav/{k}.wav',
        duration=len(samples) / 16000,
        sample_rate=16000,
        text=f'text {k}',
      )
    )
  manifest.write(root, utterances)
  return root


@pytest.fixture
def tokenizer(tmp_path):
  return stand_in.save(tmp_path / 'tokenizer')


def run(corpus, tokenizer, **settings):
  settings = {'shard_size': 3, 'batch_size': 2, **settings}
  output = corpus.parent / 'codes'
  stats = tokenize.tokenize(
    corpus, output, tokenizer, load=stand_in.StandIn, **settings
  )
  return output, stats


def change(corpus, place, **fields):
  lines = list(files.read_jsonl(corpus / 'manifest.jsonl'))
  lines[place] |= fields
  files.write_jsonl(corpus / 'manifest.jsonl', lines)


def test_codes_are_those_of_the_tokenizer_alone(corpus, tokenizer):
  output, stats = run(corpus, tokenizer)
  codes = speech_codes.read_codes(output)
  assert list(codes) == [f'u{k}' for k in range(7)]
  alone = stand_in.StandIn(tokenizer)
  for utterance in manifest.read(corpus):
    wave, _ = soundfile.read(utterance.audio_path(corpus), dtype='float32')
    for found, want in zip(codes[utterance.id], alone.encode(wave)):
      assert found.dtype == np.uint16
      np.testing.assert_array_equal(found, want)
  assert stats['read'] == stats['kept'] == 7
  assert stats['shards'] == stats['shards_made'] == 3
  assert stats['semantic'] == sum(len(pair[1]) for pair in codes.values())
  assert (output / 'quarantine.jsonl').read_text() == ''


def test_offsets_cut_the_right_part(corpus, tokenizer):
  change(corpus, 6, offset=0.24, duration=0.48)
  output, _ = run(corpus, tokenizer)
  samples, _ = soundfile.read(corpus / 'wav' / '6.wav', dtype='float32')
  want = stand_in.StandIn(tokenizer).encode(samples[3840:11520])
  for found, codes in zip(speech_codes.read_codes(output)['u6'], want):
    np.testing.assert_array_equal(found, codes)


def test_only_what_changed_is_made_again(corpus, tokenizer):
  output, _ = run(corpus, tokenizer)
  before = stand_in.StandIn.calls
  assert run(corpus, tokenizer)[1]['shards_made'] == 0
  assert stand_in.StandIn.calls == before
  change(corpus, 4, duration=0.5)
  assert run(corpus, tokenizer)[1]['shards_made'] == 1
  rng = np.random.default_rng(1)
  soundfile.write(corpus / 'wav' / '0.wav', rng.normal(0, 0.1, 4001), 16000)
  assert run(corpus, tokenizer)[1]['shards_made'] == 1
  records.shards_of(output, 'codes')[2].unlink()
  with pytest.raises(errors.UserError, match='found 2 shards, expected 3'):
    speech_codes.read_codes(output)
  assert run(corpus, tokenizer)[1]['shards_made'] == 1
  stand_in.save(tokenizer, linguistic=32)
  assert run(corpus, tokenizer)[1]['shards_made'] == 3
  codes = speech_codes.read_codes(output)
  assert max(pair[0].max() for pair in codes.values()) < 32


def test_another_cut_leaves_no_old_shards(corpus, tokenizer):
  run(corpus, tokenizer)
  output, stats = run(corpus, tokenizer, shard_size=4)
  assert stats['shards'] == 2
  assert len(list(output.iterdir())) == 2 * 2 + 2
  assert len(speech_codes.read_codes(output)) == 7


def test_a_failure_in_the_middle_is_continued(corpus, tokenizer, monkeypatch):
  real = code_shards.tokenize_shard

  def fails(shard, *args):
    if shard.number == 1:
      raise KeyboardInterrupt
    return real(shard, *args)

  monkeypatch.setattr(code_shards, 'tokenize_shard', fails)
  with pytest.raises(KeyboardInterrupt):
    run(corpus, tokenizer)
  output = corpus.parent / 'codes'
  assert not (output / 'stats.json').exists()
  with pytest.raises(errors.UserError, match='found 1 shards, expected 3'):
    speech_codes.read_codes(output)
  monkeypatch.undo()
  assert run(corpus, tokenizer)[1]['shards_made'] == 2
  assert len(speech_codes.read_codes(output)) == 7


def test_bad_audio_goes_into_quarantine_with_its_reason(corpus, tokenizer):
  wav = corpus / 'wav'
  (wav / '0.wav').write_bytes(b'')
  (wav / '1.wav').write_bytes(b'not audio at all')
  whole = (wav / '2.wav').read_bytes()
  (wav / '2.wav').write_bytes(whole[: len(whole) // 2])
  change(corpus, 3, audio='wav/none.wav')
  change(corpus, 4, audio=None, duration=0, sample_rate=0)
  soundfile.write(wav / '5.wav', np.zeros(16000), 16000)
  change(corpus, 5, duration=1.0)
  output, stats = run(corpus, tokenizer)
  assert (stats['read'], stats['kept'], stats['quarantined']) == (7, 1, 6)
  assert list(speech_codes.read_codes(output)) == ['u6']
  lines = list(files.read_jsonl(output / 'quarantine.jsonl'))
  reasons = {line['id']: line['reason'] for line in lines}
  for name, said in {
    'u0': 'empty',
    'u1': 'not readable as audio',
    'u2': 'cut short',
    'u3': 'no such file',
    'u4': 'audio is null',
    'u5': 'silence, no sample is above 0.001',
  }.items():
    assert said in reasons[name], reasons
  assert lines[3]['file'] == 'wav/none.wav'


def test_silence_has_codes_where_nobody_is_said_to_speak(corpus, tokenizer):
  for number in (4, 5, 6):
    path = corpus / 'wav' / f'{number}.wav'
    soundfile.write(path, np.zeros(16000), 16000)
    change(corpus, number, duration=1.0, text=['', None, 'hello'][number - 4])
  output, stats = run(corpus, tokenizer)
  assert (stats['kept'], stats['quarantined']) == (5, 2)
  assert 'u4' in speech_codes.read_codes(output)
  lines = files.read_jsonl(output / 'quarantine.jsonl')
  assert {line['id'] for line in lines} == {'u5', 'u6'}


def test_lengths_are_checked(corpus, tokenizer):
  change(corpus, 0, duration=9.0)
  change(corpus, 1, duration=0.1)
  _, stats = run(corpus, tokenizer, longest=1.0)
  lines = files.read_jsonl(corpus.parent / 'codes' / 'quarantine.jsonl')
  reasons = {line['id']: line['reason'] for line in lines}
  assert 'expected at most 1 s' in reasons['u0']
  assert 'expected at least 0.12 s' in reasons['u1']
  assert 'expected at most 1 s' in reasons['u6']
  change(corpus, 0, duration=0.8)
  run(corpus, tokenizer)
  lines = files.read_jsonl(corpus.parent / 'codes' / 'quarantine.jsonl')
  reasons = {line['id']: line['reason'] for line in lines}
  assert 'expected 0.80 s as the manifest says' in reasons['u0']


def test_long_recordings_are_encoded_from_their_files(
  corpus, tokenizer, monkeypatch
):
  want = speech_codes.read_codes(run(corpus, tokenizer)[0])
  # The last three are longer than this.
  monkeypatch.setattr(encoding, 'LONG_SECONDS', 0.75)
  change(corpus, 5, duration=9.0)
  opened = []
  real = stand_in.StandIn.encode_file

  def encode_file(self, path, **part):
    opened.append(path.name)
    return real(self, path, **part)

  monkeypatch.setattr(stand_in.StandIn, 'encode_file', encode_file)
  output, stats = run(corpus, tokenizer, longest=10.0)
  assert sorted(opened) == ['4.wav', '5.wav', '6.wav']
  assert (stats['kept'], stats['quarantined']) == (6, 1)
  (line,) = files.read_jsonl(output / 'quarantine.jsonl')
  assert line['id'] == 'u5' and 'expected 9.00 s' in line['reason']
  for name, pair in speech_codes.read_codes(output).items():
    for found, codes in zip(pair, want[name]):
      np.testing.assert_array_equal(found, codes)


def test_codes_outside_their_book_are_quarantined(corpus, tmp_path):
  wild = stand_in.save(tmp_path / 'wild', linguistic=10**9)
  with pytest.raises(errors.UserError, match='none of 7 .*expected 0..1023'):
    run(corpus, wild)


def test_what_cannot_start_is_said(corpus, tokenizer, tmp_path):
  with pytest.raises(errors.UserError, match='dual.json: no such file'):
    run(corpus, tmp_path / 'nowhere')
  change(corpus, 0, kind='video')
  with pytest.raises(errors.UserError, match="item 1 .u0.: kind: found 'vid"):
    run(corpus, tokenizer)
  manifest.write(corpus, [manifest.Utterance(id='a', kind='text', text='b')])
  with pytest.raises(errors.UserError, match='no speech'):
    run(corpus, tokenizer)


def contents(output):
  """Bytes of the shards; everything else without what a clock says."""
  shards, told = {}, {}
  for path in output.iterdir():
    if path.suffix == '.array_record':
      shards[path.name] = path.read_bytes()
    elif path.suffix == '.json':
      told[path.name] = {
        name: value
        for name, value in files.read_json(path).items()
        if name not in ('worker_seconds', 'real_time_factor')
      }
    else:
      told[path.name] = path.read_bytes()
  return shards, told


def test_beam_makes_the_same_files(corpus, tokenizer):
  output, _ = run(corpus, tokenizer)
  want = contents(output)
  assert len(want[0]) == 3
  for path in output.iterdir():
    path.unlink()
  _, stats = run(corpus, tokenizer, runner='DirectRunner')
  assert contents(output) == want
  assert stats['real_time_factor'] > 0


def test_the_door(corpus, tokenizer, capsys, monkeypatch):
  monkeypatch.setattr(tokenize, '_load_dual', stand_in.StandIn)
  flags = [
    f'--corpus={corpus}', f'--tokenizer={tokenizer}',
    f'--output={corpus.parent}/codes', '--json',
  ]  # fmt: skip

  def call(*more):
    argv = ['data_pipelines', 'tokenize', *flags, *more]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    last = out.out.splitlines()[-1] if out.out else '{}'
    return status, json.loads(last) if status == 0 else out.err

  status, said = call('--dry_run')
  assert status == 0 and said['left'] == 1
  assert not (corpus.parent / 'codes').exists()
  assert call()[1]['kept'] == 7
  flags[1] = '--tokenizer=/nowhere'
  status, said = call()
  assert status == 2 and said.startswith('error: /nowhere/dual.json')
  assert len(said.strip().splitlines()) == 1


def test_records_are_whole_or_absent(tmp_path):
  def broken():
    yield records.pack({'a': np.arange(3)})
    raise RuntimeError('stop')

  path = tmp_path / records.shard_name('x', 0, 1)
  with pytest.raises(RuntimeError):
    records.write_shard(path, broken())
  assert not list(tmp_path.iterdir())
  assert records.write_shard(path, []) == 0
  assert records.read_shard(path) == []
  tensors = {'a': np.arange(6).reshape(2, 3), 'b': np.float32(1)}
  records.write_shard(path, [records.pack(tensors, {'id': '小'})])
  (record,) = records.read_shard(path)
  again, metadata = array_records.unpack(record)
  np.testing.assert_array_equal(again['a'], tensors['a'])
  assert metadata == {'id': '小'}
  with pytest.raises(ValueError, match='cut off'):
    array_records.unpack(struct.pack('<I', 3))
