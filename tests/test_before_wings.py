"""What the doors made before modules moved is read by them as it was.

`golden/before_wings/make.py` made an archive of folders with the version at
commit 9583fd1, and noted what its doors answered about them. The same
questions are asked here. Runs name modules in their gin texts by the places
that these had then.
"""

import json
import pathlib
import shutil
import tarfile
import types

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from data_pipelines import __main__ as data_doors
from data_pipelines import records
from step_audio_jax import __main__ as library_doors
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'before_wings'
DOORS = {
  'data_pipelines': data_doors.DOORS,
  'step_audio_jax': library_doors.DOORS,
}
EXPECTED = json.loads((GOLDEN / 'expected.json').read_text())
QUESTIONS = EXPECTED['questions']

# Other processors and more devices (the folders were made on one) sum in
# another order: a float32 then moves in its seventh digit.
CLOSE = 1e-6


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """The folders, unpacked for all tests, and what was answered about them."""
  root = tmp_path_factory.mktemp('before_wings')
  with tarfile.open(GOLDEN / 'folders.tar.xz') as archive:
    archive.extractall(root, filter='data')
  shutil.copytree(root / 'corpus' / 'speech', root / 'aligned')
  return types.SimpleNamespace(root=root, answers={})


@pytest.fixture
def ask(world, monkeypatch, capsys):
  """Asks a door in the folder of all; the same question only once."""
  monkeypatch.chdir(world.root)

  def go(program, *words):
    if words not in world.answers:
      argv = [program, words[0], '--json', *words[1:]]
      status = cli.dispatch(program, DOORS[program], argv)
      out, err = capsys.readouterr()
      assert status == 0, err
      world.answers[words] = json.loads(out.splitlines()[-1])
    return world.answers[words]

  return go


@pytest.fixture
def made(ask):
  """Asks the question whose door makes a certain file or folder."""

  def go(path):
    (found,) = (
      q
      for q in QUESTIONS
      if any(w.startswith('--') and w.endswith(f'={path}') for w in q['words'])
    )
    ask(found['program'], *found['words'])
    return pathlib.Path(path)

  return go


def name_of(question):
  words = [word for word in question['words'] if '--gin.' not in word]
  return ' '.join(words)[:60]


def check(answer, wanted, place=''):
  """`wanted` is in the answer; there may be more by now."""
  if isinstance(wanted, dict):
    assert set(wanted) <= set(answer), place
    for key, value in wanted.items():
      check(answer[key], value, f'{place}/{key}')
  elif isinstance(wanted, list):
    assert len(answer) == len(wanted), place
    for n, value in enumerate(wanted):
      check(answer[n], value, f'{place}/{n}')
  elif isinstance(wanted, float):
    assert answer == pytest.approx(wanted, rel=CLOSE), place
  else:
    assert answer == wanted, place


@pytest.mark.parametrize('question', QUESTIONS, ids=map(name_of, QUESTIONS))
def test_a_door_answers_as_it_did(ask, question):
  words = [*question['words']]
  if targets := question['answer'].get('targets'):
    # What the quick start should reach has moved; it is asked as it was then.
    words.append(f'--gin.TARGETS={targets}')
  if '--gin_file=gin/quickstart/evaluate_sound.gin' in words:
    words.append("--gin.JUDGE='package:nobody'")  # as where none is installed
  answer = json.loads(json.dumps(question['answer']))
  if words[0] == 'convert' and (ids := answer.get('vocabulary')):
    # Exported tokenizers drop the marks of their chat template by now.
    ids.pop('encoder_sha256')
  check(ask(question['program'], *words), answer)


# Of a tokenizer's run the operative text is asked for above; it costs less.
@pytest.mark.parametrize('name', ['stage3'])
def test_a_run_goes_on_where_it_was_killed(ask, name):
  # Moved, as a run may be, and by the text that it left.
  shutil.copytree(name, f'moved/{name}')
  words = [f'--gin_file={name}/config.gin', f'--gin.RUN_DIR="moved/{name}"']
  assert ask('step_audio_jax', 'train', *words)['steps'] == 4
  lines = pathlib.Path('moved', name, 'metrics.jsonl').read_text().splitlines()
  losses = {str(line['step']): line['loss'] for line in map(json.loads, lines)}
  check(losses, EXPECTED['losses'][name])
  assert len(losses) == 4


def test_codes_and_rows_are_the_same(made):
  codes = speech_codes.read_codes(made('codes_again'))
  wanted = speech_codes.read_codes('codes')
  assert codes.keys() == wanted.keys() and len(codes) == 4
  for name, streams in wanted.items():
    for ours, theirs in zip(codes[name], streams):
      np.testing.assert_array_equal(ours, theirs)
  made('rows_again')
  shards = sorted(pathlib.Path('rows').rglob('*.array_record'))
  assert len(shards) == 16
  for shard in shards:
    again = 'rows_again' / shard.relative_to('rows')
    assert records.read_shard(again) == records.read_shard(shard)


@pytest.mark.parametrize('name', ['tokenizer', 'decoder'])
def test_an_export_is_the_same(made, name):
  again = made(f'{name}_again')
  paths = [p for p in pathlib.Path(name).rglob('*') if p.is_file()]
  assert len(paths) > 4
  for path in paths:
    found = again / path.relative_to(name)
    if path.name == 'config.json':
      # A field that came since then is said as well.
      wanted, has = (json.loads(p.read_text()) for p in (path, found))
      wanted.get('sha256', {}).pop('voice.safetensors', None)  # is computed
      assert _within(wanted, has)
    elif path.suffix == '.safetensors':
      # What was computed differs in its last bits between kinds of cores.
      wanted, has = (safetensors_numpy.load_file(p) for p in (path, found))
      assert wanted.keys() == has.keys()
      for key, value in wanted.items():
        np.testing.assert_allclose(has[key], value, rtol=1e-4, atol=1e-5)
    elif path.suffix != '.npz':
      assert found.read_bytes() == path.read_bytes()


def _within(wanted, found):
  """Whether all that is wanted was found, whatever else was."""
  if isinstance(wanted, dict):
    return all(k in found and _within(v, found[k]) for k, v in wanted.items())
  return wanted == found


def test_voices_are_the_same(made):
  with np.load('speakers.npz') as wanted:
    for path in ('speakers_again.npz', 'speakers_of_decoder.npz'):
      with np.load(made(path)) as found:
        assert found.files == wanted.files
        for key in wanted.files:
          if wanted[key].dtype.kind == 'f':
            np.testing.assert_allclose(found[key], wanted[key], rtol=1e-4)
          else:
            np.testing.assert_array_equal(found[key], wanted[key])


@pytest.mark.parametrize('name', ['codes', 'text'])
def test_what_is_spoken_sounds_the_same(made, name):
  samples, rate = io.read_audio(made(f'{name}.wav'))
  wanted = EXPECTED['sounds'][name]
  assert (rate, len(samples)) == (wanted['rate'], wanted['samples'])
  some = samples[:: max(1, len(samples) // 16)]
  # Through a flow and a vocoder of random weights, then rounded to 16 bit.
  np.testing.assert_allclose(some, wanted['some'], atol=1e-3)


def test_word_times_are_the_same(made):
  words = {u.id: u.words for u in manifest.read(made('aligned'))}
  check(json.loads(json.dumps(words)), EXPECTED['words'])
