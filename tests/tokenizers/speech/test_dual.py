"""Codes of waveforms: golden, ragged batches, folders, the door."""

import errno
import json
import pathlib

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.interop.tokenizer import s3 as import_s3
from step_audio_jax.models import blocks
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.tokenizers import door
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import dual_stream
from step_audio_jax.tokenizers.speech import linguistic
from step_audio_jax.tokenizers.speech import semantic
from step_audio_jax.tokenizers.speech import storage
from tests.tokenizers.speech import tiny_dual

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'


@pytest.fixture(scope='module')
def golden():
  return np.load(GOLDEN / 'linguistic_A.npz')


@pytest.fixture(scope='module')
def original(golden):
  """The recorded linguistic tokenizer.

  The recording has no energy normalisation; a wave scaled to its peak undoes
  it.
  """
  return tiny_dual.recorded_linguistic(golden)


@pytest.fixture
def no_normalisation(monkeypatch):
  from step_audio_jax.audio import preparation

  monkeypatch.setattr(
    preparation, 'normalise_energy', lambda wave, lengths: wave
  )


def test_linguistic_codes_match_golden(golden, original, no_normalisation):
  """From samples to codes, ragged, with the recorded tails."""
  wave = golden['in/wav']
  cuts = [len(wave), 2000, 8160, 8580, 500]
  batch = np.zeros((len(cuts), len(wave) + 1234), np.float32)
  for row, cut in zip(batch, cuts):
    row[:cut] = wave[:cut]
  samples = np.array(cuts, np.int32)
  codes, counts = map(np.asarray, original.encode_padded(batch, samples))
  hidden, _ = original.frames_padded(batch, samples)
  np.testing.assert_array_equal(codes[0, : counts[0]], golden['out/vq02'])
  np.testing.assert_allclose(
    hidden[0, : counts[0]], golden['out/stream_enc'], atol=5e-3
  )
  for row, cut in list(enumerate(cuts))[1:4]:
    expected = golden[f'out/tail{cut}_enc']
    assert counts[row] == len(expected)
    np.testing.assert_allclose(
      hidden[row, : len(expected)], expected, atol=5e-3
    )
  assert counts[4] == 0


def test_semantic_codes_match_golden(no_normalisation):
  z = np.load(GOLDEN / 'semantic_A.npz')
  c = json.loads(str(z['config']))['model']
  config = s3.S3Config(
    bands=c['n_mels'],
    width=c['n_audio_state'],
    heads=c['n_audio_head'],
    layers=c['n_audio_layer'],
    positions=c['n_audio_ctx'],
    codes=c['n_codebook_size'],
  )
  tokenizer = semantic.SemanticTokenizer(
    config, *import_s3.encoder_params(tiny_dual.weights(z))
  )
  waves = [z['in/wav'], z['in/wav3']]
  batch = np.zeros((2, 44000), np.float32)
  for row, wave in zip(batch, waves):
    row[: len(wave)] = wave
  samples = np.array([len(w) for w in waves], np.int32)
  codes, counts = map(np.asarray, tokenizer.encode_padded(batch, samples))
  assert counts[:, 0].tolist() == [65, 13]
  np.testing.assert_array_equal(codes[0, 0, :65], z['out/codes_single'][0])
  np.testing.assert_array_equal(codes[1, 0, :13], z['out/codes_single3'][0])


@pytest.fixture(scope='module')
def tokenizer():
  return tiny_dual.small()


LENGTHS = (16000, 8000, 30719, 30720, 700, 100, 13500)


def test_encode_batch_is_in_order_and_ragged(tokenizer):
  waves = [tiny_dual.speechlike(n, n) for n in LENGTHS]
  pairs = tokenizer.encode_batch(waves)
  for wave, (one, two) in zip(waves, pairs):
    alone = tokenizer.encode(wave)
    np.testing.assert_array_equal(one, alone[0])
    np.testing.assert_array_equal(two, alone[1])
    assert one.dtype == two.dtype == np.uint16
  assert [len(p[0]) for p in pairs] == [16, 8, 32, 32, 0, 0, 14]
  assert len(pairs[0][1]) == 25 and len(pairs[4][1]) == 1
  assert len(pairs[5][1]) == 0  # below 480 samples a piece is dropped


def test_long_audio_is_cut_into_pieces(tokenizer):
  """Here the table holds 12,800 samples; each piece stands alone."""
  wave = tiny_dual.speechlike(2 * 12800 + 300, 1)
  _, codes = tokenizer.encode(wave)
  assert len(codes) == 40  # the rest of 300 samples is dropped
  scaled = wave / np.abs(wave).max()
  for piece in range(2):
    part = scaled[piece * 12800 : (piece + 1) * 12800].copy()
    part[0] = np.sign(part[0] or 1.0)  # the same gain as the whole
    _, alone = tokenizer.encode(part)
    same = alone[2:] == codes[piece * 20 + 2 : (piece + 1) * 20]
    assert same.mean() > 0.8


def test_loudness_does_not_change_codes(tokenizer):
  wave = tiny_dual.speechlike(16000, 3)
  loud, quiet = tokenizer.encode_batch([wave, wave * np.float32(0.25)])
  np.testing.assert_array_equal(loud[0], quiet[0])
  np.testing.assert_array_equal(loud[1], quiet[1])


def test_batches_cover_every_wave_once_with_few_shapes():
  waves = [np.ones(n, np.float32) for n in range(1, 60000, 371)]
  seen, shapes = [], set()
  for part, wave, samples in storage.batches(waves):
    shapes.add(wave.shape)
    seen += part
    for row, index in enumerate(part):
      assert samples[row] == len(waves[index]) == wave[row].sum()
    assert not samples[len(part) :].any()
  assert sorted(seen) == list(range(len(waves)))
  assert len(shapes) <= 6


@pytest.mark.parametrize(
  'wave, pattern',
  [
    (np.zeros(0, np.float32), '0 samples'),
    (np.array([0.1, np.nan]), 'not finite'),
    (np.zeros((2, 9), np.float32), 'expected mono'),
    (np.zeros(9, np.int16), 'expected mono floating-point'),
  ],
)
def test_bad_waves_say_what_is_wrong(tokenizer, wave, pattern):
  with pytest.raises(errors.UserError, match=f'waveform 1.*{pattern}'):
    tokenizer.encode_batch([np.zeros(1600, np.float32), wave])


@pytest.fixture(scope='module')
def folder(tokenizer, tmp_path_factory):
  folder = tmp_path_factory.mktemp('tokenizer')
  tokenizer.save(folder)
  return folder


def test_folder_round_trip(tokenizer, folder):
  again = dual.DualTokenizer.load(folder)
  wave = tiny_dual.speechlike(20000, 4)
  for a, b in zip(tokenizer.encode(wave), again.encode(wave)):
    np.testing.assert_array_equal(a, b)
  files = {str(p.relative_to(folder)) for p in folder.rglob('*.*')}
  assert files == {
    'dual.json',
    'linguistic/config.json',
    'linguistic/encoder.safetensors',
    'linguistic/centroids.npy',
    'semantic/config.json',
    'semantic/model.safetensors',
  }


def test_broken_folders_say_which_file(tokenizer, tmp_path):
  with pytest.raises(errors.UserError, match='dual.json: no such file'):
    dual.DualTokenizer.load(tmp_path)
  tokenizer.save(tmp_path)
  path = tmp_path / 'semantic' / 'model.safetensors'
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(errors.UserError, match='model.safetensors.*sha256'):
    dual.DualTokenizer.load(tmp_path)
  with pytest.raises(errors.UserError, match='not a whole safetensors'):
    semantic.SemanticTokenizer.load(tmp_path / 'semantic')
  path.unlink()
  with pytest.raises(errors.UserError, match='model.safetensors: no such'):
    dual.DualTokenizer.load(tmp_path)


def test_saving_that_fails_leaves_the_old_tokenizer(
  tokenizer, tmp_path, monkeypatch
):
  folder = tmp_path / 'tokenizer'
  tokenizer.save(folder)
  before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}

  def failing(path):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with monkeypatch.context() as patched:
    patched.setattr(tokenizer.semantic, 'save', failing)
    with pytest.raises(errors.UserError, match='No space left'):
      tokenizer.save(folder)
  assert {
    p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()
  } == before
  (folder / 'notes.txt').write_text('mine')
  with pytest.raises(errors.UserError, match="holds 'notes.txt'"):
    tokenizer.save(folder)
  assert (folder / 'dual.json').is_file()


def test_a_config_that_does_not_fit_is_refused(tokenizer, tmp_path):
  tokenizer.save(tmp_path)
  path = tmp_path / 'linguistic' / 'config.json'
  config = json.loads(path.read_text())
  path.write_text(json.dumps({**config, 'mlp_width': 17}))
  with pytest.raises(errors.UserError, match='found .*, expected .*17'):
    linguistic.LinguisticTokenizer.load(tmp_path / 'linguistic')
  path.write_text(json.dumps({**config, 'depth': 3}))
  with pytest.raises(errors.UserError, match='not a ParaformerConfig'):
    linguistic.LinguisticTokenizer.load(tmp_path / 'linguistic')


def test_more_codes_than_places_are_refused(tokenizer):
  part = tokenizer.linguistic
  held = part._arrays['params']
  big = linguistic.LinguisticTokenizer(
    part.config,
    {**held, 'blocks': blocks.stack(held['blocks'])},
    {'shift': np.zeros(560), 'scale': np.ones(560)},
    np.zeros((1025, 16)),
  )
  with pytest.raises(errors.UserError, match='1025 codes.*at most 1024'):
    dual.DualTokenizer(big, tokenizer.semantic)


def test_door_prints_the_codes(tokenizer, folder, tmp_path, capsys):
  wave = tiny_dual.speechlike(16000, 5)
  io.write_audio(tmp_path / 'a.wav', wave)
  argv = [f'--tokenizer={folder}', str(tmp_path / 'a.wav'), '--json']
  assert cli.run('tokenize', door.DOOR, argv) == 0
  result = json.loads(capsys.readouterr().out)['files'][0]
  assert result['seconds'] == 1.0
  read, _ = io.read_audio(tmp_path / 'a.wav')
  one, two = tokenizer.encode(read)
  assert result['linguistic'] == one.tolist()
  assert result['semantic'] == two.tolist()
  assert result['audio_string'].startswith(
    f'<audio_{one[0]}><audio_{one[1]}><audio_{1024 + two[0]}>'
  )


@pytest.mark.parametrize(
  'argv, pattern',
  [
    ([], 'expected recordings, or --export=FOLDER'),
    (['good.wav'], 'no tokenizer: expected --tokenizer=FOLDER or $STEP'),
    (['--stream', '--mode=overlap', 'good.wav'], 'does not go with --stream'),
    (['--tokenizer=no', 'short.wav'], 'short.wav: 0.010 s of audio, expected'),
    (['--tokenizer=no', 'none.wav'], 'none.wav: 0 samples of audio'),
    (['--tokenizer=no', 'nan.wav'], 'nan.wav: sample 3 is nan'),
    (
      ['--tokenizer=no', 'cut.flac'],
      'cut.flac: cut short: the header announces',
    ),
    (['--mode=windows', 'good.wav'], 'pieces|overlap'),
    (['--export=x'], '--linguistic=RUN is missing'),
    (['--export=x', '--linguistic=no', '--semantic=no'], 'no/config.json'),
    (['--tokenizer=no', 'text.wav'], 'not readable as audio'),
    (['--tokenizer=no', 'zero.wav'], 'zero.wav: silence, no sample is above'),
    (['--tokenizer=no', 'good.wav', 'level.wav'], 'level.wav: silence, no'),
    (['--tokenizer=no', 'phase.wav'], 'phase.wav: its 2 channels cancel each'),
    (['--tokenizer=no', 'phase.wav', '--channel=2'], 'phase.wav: channel 2: t'),
    (['--tokenizer=no', 'wild.wav'], 'wild.wav: a sample of'),
    (['--tokenizer=no', 'good.wav'], 'no/dual.json: no such file'),
  ],
)
def test_door_tells_bad_input(argv, pattern, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'text.wav').write_text('hello')
  sound = tiny_dual.speechlike(16000, 5)
  for name, samples in (
    ('zero', 0 * sound),
    ('level', 0 * sound + 0.3),
    ('phase', np.stack([sound, -0.999 * sound], 1)),
    ('wild', 20 * sound / np.abs(sound).max()),
  ):
    soundfile.write(f'{name}.wav', samples, 16000, 'FLOAT')
  monkeypatch.delenv(door.VARIABLE, raising=False)
  wave = tiny_dual.speechlike(48000)
  io.write_audio(tmp_path / 'good.wav', wave[:1920])
  io.write_audio(tmp_path / 'short.wav', wave[:160])
  io.write_audio(tmp_path / 'none.wav', wave[:0])
  soundfile.write(tmp_path / 'cut.flac', wave, 16000)
  whole = (tmp_path / 'cut.flac').read_bytes()
  (tmp_path / 'cut.flac').write_bytes(whole[: len(whole) // 2])
  wave[3] = np.nan
  soundfile.write(tmp_path / 'nan.wav', wave[:1920], 16000, 'FLOAT')
  assert cli.run('tokenize', door.DOOR, argv) == 2
  message = capsys.readouterr().err
  assert pattern in message and message.count('\n') == 1
  assert not (tmp_path / 'x').exists()


def test_door_takes_every_rate_and_every_mode(
  tokenizer, folder, tmp_path, monkeypatch, capsys
):
  """8 kHz and six channels of 96 kHz."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv(door.VARIABLE, str(folder))
  wave = tiny_dual.speechlike(96000, 6)
  soundfile.write('low.wav', wave[:8000], 8000)
  soundfile.write('six.wav', np.repeat(wave[:, None], 6, axis=1), 96000)
  argv = ['low.wav', 'six.wav', '--mode=overlap', '--json']
  assert cli.run('tokenize', door.DOOR, argv) == 0
  out, told = capsys.readouterr()
  assert not told
  results = json.loads(out)['files']
  reads = [io.read_audio(result['file'])[0] for result in results]
  pairs = tokenizer.encode_batch(reads, 'overlap')
  for result, (one, two) in zip(results, pairs, strict=True):
    assert result['linguistic'] == one.tolist() and len(one) == 16
    assert result['semantic'] == two.tolist() and len(two) == 25
    assert result['mode'] == 'overlap' and result['seconds'] == 1.0


@pytest.mark.parametrize('longest', [60.0, 0.5])
def test_door_hears_the_channel_that_is_named(
  tokenizer, folder, longest, tmp_path, monkeypatch, capsys
):
  """Of channels that cancel, and of a file of whole numbers kept as floats."""
  monkeypatch.setattr(door, '_SHORT', longest)
  sound = tiny_dual.speechlike(16000, 5)
  other = tiny_dual.speechlike(16000, 6)
  whole = np.round(32768 * np.stack([sound, -sound, other], 1))
  path = tmp_path / 'a.wav'
  soundfile.write(path, whole, 16000, 'FLOAT')
  for channel, want in ((1, -sound), (2, other)):
    argv = [f'--tokenizer={folder}', f'--channel={channel}', str(path)]
    assert cli.run('tokenize', door.DOOR, [*argv, '--json']) == 0
    result = json.loads(capsys.readouterr().out)['files'][0]
    want = (np.round(32768 * want) / 32768).astype(np.float32)
    one, two = tokenizer.encode(want)
    assert result['linguistic'] == one.tolist()
    assert result['semantic'] == two.tolist()
    pair = tokenizer.encode_file(path, channel=channel)
    assert [codes.tolist() for codes in pair] == [one.tolist(), two.tolist()]


def test_a_file_of_silence_has_no_codes(tokenizer, tmp_path):
  io.write_audio(tmp_path / 'a.wav', np.full(16000, 0.1, np.float32))
  with pytest.raises(errors.UserError, match='a.wav: silence, no sample is'):
    tokenizer.encode_file(tmp_path / 'a.wav')


def test_door_reads_long_recordings_by_blocks(
  tokenizer, folder, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(dual, '_CHUNKS_AT_ONCE', 3)
  io.write_audio(tmp_path / 'long.wav', tiny_dual.speechlike(16000 * 61, 6))
  argv = [f'--tokenizer={folder}', str(tmp_path / 'long.wav'), '--json']
  assert cli.run('tokenize', door.DOOR, argv) == 0
  result = json.loads(capsys.readouterr().out)['files'][0]
  one, two = tokenizer.encode_file(tmp_path / 'long.wav')
  assert result['linguistic'] == one.tolist() and len(one) == 1016
  assert result['semantic'] == two.tolist()


def test_door_streams(folder, tmp_path, monkeypatch, capsys):
  """The tiny table holds no block of the usual size: a smaller one."""
  monkeypatch.setattr(
    dual_stream.DualStream.__init__,
    '__kwdefaults__',
    {'rows': 1, 'peaks': None, 'left': 9, 'block': 3, 'right': 4},
  )
  tokenizer = tiny_dual.small()
  io.write_audio(tmp_path / 'a.wav', tiny_dual.speechlike(16000, 6))
  argv = [f'--tokenizer={folder}', '--stream', str(tmp_path / 'a.wav')]
  assert cli.run('tokenize', door.DOOR, argv) == 0
  lines = capsys.readouterr().out.splitlines()
  live = [line for line in lines if line.startswith('heard')]
  assert len(live) > 2
  assert live[0].startswith('heard 0.48 s, codes up to 0.24 s: <audio_')
  text = ''.join(line.split(': ')[1] for line in live)
  assert lines[-1].strip() == text
  read, _ = io.read_audio(tmp_path / 'a.wav')
  one, _ = tokenizer.encode(read)
  assert lines[-3] == f'  linguistic {one[:16].tolist()}'
