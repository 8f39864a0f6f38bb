"""Embeddings of a corpus: the door, what is left out, the file."""

import json

import numpy as np
import pytest
import soundfile

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.speaker import embeddings
from step_audio_jax.decoder.speaker import encoder as speaker
from step_audio_jax.storage import files
from tests.decoder.speaker import tiny_speaker


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpus')
  lines = [
    (f'é-{i}', ('ann', 'bob')[i % 2], seconds, ('train', 'dev')[i // 3])
    for i, seconds in enumerate((1.7, 0.45, 1.1, 0.9, 1.3))
  ]
  tiny_speaker.write_corpus(folder, [*lines, ('short', 'ann', 0.2, 'dev')])
  utterances = manifest.read(folder)
  io.write_audio(folder / 'wav' / 'quiet.wav', np.zeros(16000, np.float32))
  (folder / 'wav' / 'broken.wav').write_bytes(b'RIFF')
  for name in ('quiet', 'broken'):
    utterances.append(
      manifest.Utterance(
        id=name, audio=f'wav/{name}.wav', duration=1.0, sample_rate=16000
      )
    )
  utterances.append(manifest.Utterance(id='unheard'))
  manifest.write(folder, utterances)
  return folder


@pytest.fixture(scope='module')
def encoder():
  return speaker.SpeakerEncoder(tiny_speaker.CONFIG, tiny_speaker.tree())


@pytest.fixture(scope='module')
def sealed(encoder, tmp_path_factory):
  """What of a speech decoder tells who speaks."""
  folder = tmp_path_factory.mktemp('sealed')
  encoder.save(folder)
  files.write_json(
    folder / 'config.json',
    {
      'format': 'step_audio_jax.decoder',
      'speaker': vars(tiny_speaker.CONFIG),
    },
  )
  return folder


def embed(capsys, *argv):
  argv = ['-', 'embed', *map(str, argv)]
  status = cli.dispatch('step_audio_jax', doors.DOORS, argv)
  return status, *capsys.readouterr()


def test_the_door_writes_one_vector_for_each_utterance(
  corpus, sealed, encoder, tmp_path, capsys
):
  output = tmp_path / 'deep' / 'speakers.npz'
  argv = [f'--corpus={corpus}', f'--speaker={sealed}', f'--output={output}']
  status, out, err = embed(capsys, *argv, '--dry_run', '--json')
  assert status == 0 and not output.exists(), err
  assert json.loads(out.splitlines()[-1])['utterances'] == 9
  status, out, err = embed(capsys, *argv, '--json')
  assert status == 0, err
  told = json.loads(out.splitlines()[-1])
  assert (told['embedded'], told['size']) == (5, 6)
  assert set(told['left_out']) == {'short', 'quiet', 'broken', 'unheard'}
  assert err.count('is left out') == 3 and 'silence' in err
  found = embeddings.read(output)
  assert list(found) == [f'é-{i}' for i in range(5)]
  for utterance in manifest.read(corpus)[:5]:
    wave, _ = io.read_audio(utterance.audio_path(corpus))
    np.testing.assert_allclose(
      found[utterance.id], encoder.embed(wave), atol=1e-4
    )
  status, out, _ = embed(capsys, *argv, '--splits=dev', '--json')
  assert status == 0
  assert list(embeddings.read(output)) == ['é-3', 'é-4']


def test_each_channel_has_its_own_vector(
  corpus, sealed, encoder, tmp_path, capsys
):
  """Of one file; what cancels, is level or is no sound is left out."""
  root = tmp_path / 'channels'
  sides = [
    io.read_audio(u.audio_path(corpus))[0][:7000]
    for u in manifest.read(corpus)[:2]
  ]
  whole = np.round(32768 * np.stack([*sides, -sides[0]], 1))
  (root / 'wav').mkdir(parents=True)
  for name, samples in {
    'whole': whole, 'phase': whole[:, ::2] / 32768, 'wild': 1000.5 * sides[0],
    'level': np.full(7000, 0.2),
  }.items():  # fmt: skip
    soundfile.write(root / 'wav' / f'{name}.wav', samples, 16000, 'FLOAT')
  manifest.write(
    root,
    [
      manifest.Utterance(
        id=name, audio=f'wav/{file}.wav', duration=7000 / 16000,
        sample_rate=16000, channel=channel,
      )
      for name, file, channel in (
        ('one', 'whole', 0), ('two', 'whole', 1), ('phase', 'phase', None),
        ('wild', 'wild', None), ('level', 'level', None), ('gone', 'whole', 3),
      )
    ],
  )  # fmt: skip
  argv = [f'--corpus={root}', f'--speaker={sealed}', f'--output={root}/e.npz']
  status, out, err = embed(capsys, *argv, '--json')
  assert status == 0, err
  left = json.loads(out.splitlines()[-1])['left_out']
  for name, said in (
    ('phase', 'channels cancel'), ('wild', 'a sample of'), ('level', 'silence'),
    ('gone', 'channel 3: the recording has 3'),
  ):  # fmt: skip
    assert said in left.pop(name)
  assert not left
  found = embeddings.read(root / 'e.npz')
  for name, side in zip(('one', 'two'), sides):
    np.testing.assert_allclose(found[name], encoder.embed(side), atol=1e-3)


def test_bad_flags_get_one_sentence(corpus, sealed, tmp_path, capsys):
  argv = {
    '--corpus': corpus,
    '--speaker': sealed,
    '--output': tmp_path / 'e.npz',
  }
  for flag, value, said in (
    ('--output', tmp_path / 'e.txt', 'expected a name ending in .npz'),
    ('--speaker', tmp_path, 'config.json: no such file'),
    ('--corpus', tmp_path, 'manifest.jsonl: no such file'),
    ('--splits', 'test', "no split 'test'"),
  ):
    given = {**argv, flag: value}
    status, _, err = embed(capsys, *(f'{k}={v}' for k, v in given.items()))
    assert status == 2 and said in err and err.count('\n') == 1
  assert not list(tmp_path.iterdir())


def test_a_corpus_without_a_voice_is_refused(encoder, tmp_path, capsys):
  tiny_speaker.write_corpus(tmp_path, [('short', 'ann', 0.2, 'train')])
  with pytest.raises(errors.UserError, match='no utterance to embed; left out'):
    embeddings.embed_corpus(tmp_path, encoder)
  assert 'short is left out' in capsys.readouterr().err


def test_the_file_comes_back(tmp_path):
  path = tmp_path / 'e.npz'
  rng = np.random.default_rng(0)
  vectors = {name: rng.normal(size=3) for name in ('a', 'much longer', '名')}
  embeddings.write(path, vectors)
  found = embeddings.read(path)
  assert list(found) == list(vectors)
  for name, value in vectors.items():
    assert found[name].dtype == np.float32
    np.testing.assert_allclose(found[name], value, rtol=1e-6)


GOOD = np.array(['a', 'b'])


@pytest.mark.parametrize(
  'arrays, said',
  [
    ({'ids': GOOD}, 'not a file of embeddings.*embeddings'),
    (
      {'ids': np.array(['a', None], object), 'embeddings': np.ones((2, 3))},
      'not a file of embeddings.*allow_pickle',
    ),
    (
      {'ids': np.arange(2), 'embeddings': np.ones((2, 3))},
      r'ids: found \(2,\) of int64, expected \(N,\) of text',
    ),
    (
      {'ids': GOOD, 'embeddings': np.ones((3, 3))},
      r'embeddings: found \(3, 3\), expected \(2, D\)',
    ),
    (
      {'ids': GOOD, 'embeddings': np.array([[1.0], [np.inf]])},
      'numbers that are not finite',
    ),
    (
      {'ids': np.array(['a', 'a']), 'embeddings': np.ones((2, 3))},
      'ids: one occurs twice',
    ),
  ],
)
def test_other_arrays_are_refused(tmp_path, arrays, said):
  path = tmp_path / 'e.npz'
  np.savez(path, **arrays)
  with pytest.raises(errors.UserError, match=said) as caught:
    embeddings.read(path)
  assert str(caught.value).startswith(f'{path}: ')


@pytest.mark.parametrize('raw', [b'', b'text', b'PK\x03\x04rest'])
def test_other_files_are_refused(tmp_path, raw):
  path = tmp_path / 'e.npz'
  path.write_bytes(raw)
  with pytest.raises(errors.UserError, match='not a file of embeddings'):
    embeddings.read(path)
  with pytest.raises(errors.UserError, match='no such file'):
    embeddings.read(tmp_path / 'none.npz')


def test_a_cut_file_is_refused(tmp_path):
  path = tmp_path / 'e.npz'
  embeddings.write(path, {str(i): np.ones(50) for i in range(50)})
  whole = path.read_bytes()
  for share in (0.2, 0.6, 0.99):
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(errors.UserError, match='not a file of embeddings'):
      embeddings.read(path)
