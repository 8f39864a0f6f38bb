"""Parquet as Hugging Face and others write it."""

import functools
import io

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq
import pytest
import soundfile

from data_pipelines.readers import parquet
from data_pipelines.readers.common import base
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = functools.partial(ingesting.ingested, format='parquet')

WAV = trees.tone(0.25)


def write(path, columns, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(pa.table(columns), path, **options)
  return path


@pytest.mark.parametrize(
  'audio',
  [
    {'bytes': WAV, 'path': None},
    {'bytes': WAV, 'path': '/home/them/a.wav'},
    {'bytes': None, 'path': 'wavs/a.wav'},
    {'path': 'wavs/a.wav'},
    {'bytes': WAV},
    WAV,
    'wavs/a.wav',
  ],
)
@pytest.mark.parametrize(
  'column',
  ['audio', 'audio_data', 'speech', 'wav', 'audio_path', 'audio_filepath'],
)
def test_where_a_recording_may_be(audio, column, tmp_path):
  trees.put(tmp_path / 'in' / 'wavs' / 'a.wav', WAV)
  write(tmp_path / 'in' / 'x.parquet', {column: [audio], 'text': ['hi']})
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert left == [] and kept['x-1'].text == 'hi'
  assert kept['x-1'].audio_path(tmp_path / 'out').read_bytes() == WAV


@pytest.mark.parametrize('column', ['path', 'file', 'file_name'])
def test_a_column_of_paths_to_recordings(column, tmp_path):
  trees.put(tmp_path / 'in' / 'wavs' / 'a.wav', WAV)
  columns = {column: ['wavs/a.wav'], 'sentence': ['hi']}
  write(tmp_path / 'in' / 'x.parquet', columns)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', format='auto')
  assert left == [] and kept['x-1'].text == 'hi'
  assert kept['x-1'].kind == 'speech'
  assert kept['x-1'].audio_path(tmp_path / 'out').read_bytes() == WAV


@pytest.mark.parametrize('shape', [(1000,), (2, 1000), (1000, 2)])
def test_samples_in_columns(shape, tmp_path):
  count = np.arange(np.prod(shape)).reshape(shape) % 200 / 400
  audio = [{'array': count.tolist(), 'sampling_rate': 8000, 'path': None}]
  write(tmp_path / 'x.parquet', {'audio': audio, 'text': ['hi']})
  kept, _ = ingested(tmp_path / 'x.parquet', tmp_path / 'out')
  path = kept['x-1'].audio_path(tmp_path / 'out')
  found, rate = soundfile.read(path)
  expected = count.T if shape[0] == 2 else count
  np.testing.assert_allclose(found, expected, atol=1 / 2**15)
  assert rate == 8000


@pytest.mark.parametrize(
  'audio, reason',
  [
    ({'bytes': None, 'path': '../secret.wav'}, "without '..'"),
    ({'bytes': None, 'path': '/etc/passwd'}, 'leads out of'),
    ({'bytes': None, 'path': 'link.wav'}, 'leads out of'),
    ({'bytes': None, 'path': 'gone.wav'}, 'no such file'),
    ({'bytes': None, 'path': None}, 'without bytes or a path'),
    ({'bytes': b'', 'path': None}, 'audio: it is empty'),
    ({'bytes': b'MZ\x90\x00', 'path': 'a.wav'}, 'found bytes that begin with'),
    ({'bytes': WAV[:-100], 'path': None}, 'cut short'),
    (None, 'audio: null'),
  ],
)
def test_a_recording_that_is_none(audio, reason, tmp_path):
  trees.put(tmp_path / 'secret.wav', WAV)
  trees.put(tmp_path / 'in' / 'a.wav', WAV)
  (tmp_path / 'in' / 'link.wav').symlink_to(tmp_path / 'secret.wav')
  good = {'bytes': WAV, 'path': None}
  write(
    tmp_path / 'in' / 'x.parquet',
    {'audio': [audio, good], 'text': ['bad', 'good'], 'path': ['a.wav'] * 2},
  )
  kept, (left,) = ingested(tmp_path / 'in', tmp_path / 'out')
  assert list(kept) == ['x-2'] and reason in left['reason']
  assert left['line'] == 1


@pytest.mark.parametrize(
  'array, rate, reason',
  [
    ([0.5, 30.0], 8000, 'a sample of 30'),
    ([float('nan')], 8000, 'not finite'),
    ([], 8000, 'found samples of shape (0,)'),
    ([0.5], -1, 'a sample rate of -1'),
    ([0.5], 0, 'sampling_rate: found'),
    ([0.5], None, 'sampling_rate: found None'),
    ([0.5], float('nan'), 'sampling_rate: found nan'),
    ([None, 0.5], 8000, 'samples of type object'),
    (['loud'], 8000, 'expected numbers'),
    ([[0.1], [0.2, 0.3]], 8000, 'not samples'),
    ([[[0.1]]], 8000, 'found samples of shape (1, 1, 1)'),
    ([[0.1] * 2000] * 2000, 8000, 'make no WAV file'),
  ],
)
def test_samples_that_are_none(array, rate, reason):
  with pytest.raises(errors.UserError) as caught:
    parquet._samples({'array': array, 'sampling_rate': rate})
  assert reason in str(caught.value)


def test_splits_languages_and_names_of_columns(tmp_path):
  source = tmp_path / 'in'
  audio = {'bytes': WAV, 'path': None}
  for name in (
    'data/train-00000-of-00002', 'data/train-00001-of-00002',
    'fr/validation/0000', 'evaluation', 'other',
  ):  # fmt: skip
    row = {'audio': [audio], 'wrong': [f'{name}'], 'client_id': [5]}
    row |= {'text': [None], 'locale': ['fr-CA']}
    write(source / f'{name}.parquet', row)
  kept, left = ingested(source, tmp_path / 'out', text='wrong')
  assert left == []
  assert {u.text: u.split for u in kept.values() if u.text != 'other'} == {
    'data/train-00000-of-00002': 'train',
    'data/train-00001-of-00002': 'train',
    'fr/validation/0000': 'dev',
    'evaluation': 'test',
  }
  assert {(u.speaker, u.language) for u in kept.values()} == {('5', 'fr')}


def test_a_cell_that_is_not_utf8_costs_its_row(tmp_path):
  raw = pa.array([b'one', b'caf\xe9', b'three'], pa.binary())
  text = pa.Array.from_buffers(pa.utf8(), 3, raw.buffers())
  write(tmp_path / 'x.parquet', {'text': text})
  source = tmp_path / 'x.parquet'
  kept, (left,) = ingested(source, tmp_path / 'out', format='text_parquet')
  assert [u.text for u in kept.values()] == ['one', 'three']
  assert 'not UTF-8' in left['reason'] and left['line'] == 2


def test_damage_costs_the_rest_of_a_row_group(tmp_path):
  source = tmp_path / 'in'
  rng = np.random.default_rng(0)
  texts = [rng.bytes(2000).hex() for _ in range(40)]
  for name in 'abcd':
    names = [f'{name}{k}' for k in range(40)]
    write(
      source / f'{name}.parquet', {'text': texts, 'id': names},
      row_group_size=10, use_dictionary=False, compression='none',
      write_statistics=False,
    )  # fmt: skip
  raw = (source / 'b.parquet').read_bytes()
  (source / 'b.parquet').write_bytes(raw[:-1000])
  broken = bytearray(raw)
  # In front of a text is its length.
  place = raw.index(texts[25].encode()) - 4
  broken[place : place + 4] = b'\xff' * 4
  place = raw.index(texts[3].encode()) + 7
  broken[place] = 0xFF
  (source / 'c.parquet').write_bytes(broken)
  write(source / 'e.parquet', {'other': [1]})
  kept, left = ingested(source, tmp_path / 'out', format='text_parquet')
  # The ids of c are those of b, of which nothing could be read.
  assert set(kept) == {
    *(f'{name}{k}' for name in 'ad' for k in range(40)),
    *(f'b{k}' for k in range(40) if k != 3 and k // 10 != 2),
  }
  assert [kept[f'b{k}'].text for k in (4, 39)] == [texts[4], texts[39]]
  reasons = [
    'not a whole parquet file', 'not UTF-8', 'row group 2 is damaged behind',
    'found the columns other; expected one of text',
  ]  # fmt: skip
  assert len(left) == len(reasons)
  assert all(r in one['reason'] for r, one in zip(reasons, left))


def test_nothing_to_read(tmp_path):
  path = write(tmp_path / 'in' / 'x.parquet', {'text': ['a'], 'n': [1]})
  with pytest.raises(errors.UserError, match='text_parquet reads texts'):
    ingested(path, tmp_path / 'out')
  with pytest.raises(errors.UserError, match="no column 'b'; there are n, te"):
    ingested(path, tmp_path / 'out', format='text_parquet', text='b')
  with pytest.raises(errors.UserError, match="unknown option 'audio'"):
    ingested(path, tmp_path / 'out', format='text_parquet', audio='b')
  (tmp_path / 'in' / 'x.parquet').write_text('PAR1')
  with pytest.raises(errors.UserError, match='not a whole parquet file'):
    ingested(tmp_path / 'in', tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_images_and_captions(tmp_path):
  red, blue = trees.png('red'), trees.png('blue')
  rows = {
    'image': [{'bytes': red, 'path': None}, {'bytes': blue, 'path': 'b'}, None],
    'caption': ['red', 'blue', 'none'],
  }
  write(tmp_path / 'x.parquet', rows)
  kept, (left,) = ingested(tmp_path / 'x.parquet', tmp_path / 'out')
  assert [(u.kind, u.text) for u in kept.values()] == [
    ('image_text', 'red'), ('image_text', 'blue'),
  ]  # fmt: skip
  assert kept['x-2'].image_path(tmp_path / 'out').read_bytes() == blue
  assert 'image: null' in left['reason']
  # A file with both is speech unless the image is asked for.
  both = rows | {'audio': [{'bytes': WAV}] * 3}
  path = write(tmp_path / 'y.parquet', both)
  kept, _ = ingested(path, tmp_path / 'two')
  assert {u.kind for u in kept.values()} == {'speech'}
  kept, _ = ingested(path, tmp_path / 'three', image='image')
  assert {u.kind for u in kept.values()} == {'image_text'}


def test_a_cache_of_links(tmp_path):
  """`huggingface_hub` keeps files in blobs/ and links to them."""
  blob = write(tmp_path / 'blobs' / '3f2a', {'text': ['a']})
  (tmp_path / 'snapshots' / 'x').mkdir(parents=True)
  link = tmp_path / 'snapshots' / 'x' / 'train.parquet'
  link.symlink_to('../../blobs/3f2a')
  with pytest.raises(errors.UserError, match='--audio_root names another'):
    ingested(link.parent, tmp_path / 'out', format='text_parquet')
  kept, _ = ingested(
    link.parent, tmp_path / 'out', format='text_parquet', root=blob.parent
  )
  assert kept['train-1'].split == 'train'


def test_a_row_group_is_not_held_as_a_whole(tmp_path):
  rng = np.random.default_rng(0)
  audio = [
    {'bytes': b'RIFF' + rng.bytes(2**18), 'path': None} for _ in range(128)
  ]
  path = write(
    tmp_path / 'x.parquet', {'audio': audio, 'text': ['a'] * 128},
    row_group_size=128, use_dictionary=False, write_batch_size=8,
  )  # fmt: skip
  before = pa.total_allocated_bytes()
  most = 0
  for _ in parquet.read(path, base.Options()):
    most = max(most, pa.total_allocated_bytes() - before)
  assert path.stat().st_size > 32 * 2**20 > 2 * most


def test_hidden_and_other_files_are_passed_over(tmp_path):
  write(tmp_path / 'in' / 'a.parquet', {'text': ['a']})
  for name in ('.b.parquet', '.cache/c.parquet', 'README.md'):
    trees.put(tmp_path / 'in' / name, 'no parquet')
  kept, left = ingested(
    tmp_path / 'in', tmp_path / 'out', format='text_parquet'
  )
  assert list(kept) == ['a-1'] and left == []


def test_a_file_like_the_published_ones(tmp_path):
  """CosyVoice: utt, spk, text, audio_data and columns nobody asks for."""
  flac = io.BytesIO()
  soundfile.write(flac, np.zeros(2000), 8000, format='FLAC')
  row = {
    'utt': ['u1'], 'audio_data': [flac.getvalue()], 'text': ['你好'],
    'spk': ['s1'], 'utt_embedding': [[0.1] * 192], 'speech_token': [[1, 2]],
  }  # fmt: skip
  write(tmp_path / 'in' / 'parquet_000000000.parquet', row)
  kept, _ = ingested(tmp_path / 'in', tmp_path / 'out')
  one = kept['u1']
  assert (one.speaker, one.text, one.duration) == ('s1', '你好', 0.25)
  assert one.audio.endswith('.flac')
