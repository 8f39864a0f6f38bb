"""The `speak` door, from its command line to the wav."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.doors import speak as door
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import dual
from tests.decoder import test_editing
from tests.decoder import tiny_decoder as tiny
from tests.evaluation import parrot


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A working directory with a run, a tokenizer and a decoder."""
  monkeypatch.chdir(tmp_path)
  for variable in ('STEP_AUDIO_MODEL', 'STEP_AUDIO_DECODER'):
    monkeypatch.delenv(variable, raising=False)
  root = tmp_path / 'runs/quickstart'
  files.write_json(root / 'sft/config.json', {'model': {}, 'vocabulary': {}})
  files.write_json(
    root / 'tokenizer/dual.json',
    {'linguistic_codes': 27, 'semantic_codes': 5},
  )
  (root / 'decoder').mkdir()
  decoder = speech.SpeechDecoder(
    tiny.Painted(), tiny.Steps(), tiny.speaker(), tiny.MEL, tiny.voice(2)
  )
  monkeypatch.setattr(speech.SpeechDecoder, 'load', lambda folder: decoder)
  monkeypatch.setattr(dual.DualTokenizer, 'load', lambda folder: tiny.Ruler())
  monkeypatch.setattr(
    restore,
    'load_model',
    lambda run: (parrot.Parrot(), parrot.VARIABLES, parrot.VOCABULARY),
  )
  decoder.flow.calls.clear()
  return decoder


def speak(capsys, *words):
  """(status, result or the sentence on stderr)."""
  status = cli.run('speak', door.DOOR, [*words, '--json'])
  out, err = capsys.readouterr()
  if status:
    assert err.count('\n') == 1, err
    return status, err.strip()
  return status, json.loads(out.splitlines()[-1])


def recording(path='ref.wav', seconds=1.0, level=0.1):
  rng = np.random.default_rng(0)
  io.write_audio(path, rng.normal(size=int(16000 * seconds)) * level, 16000)
  return path


def test_a_text_becomes_a_wav(place, capsys):
  status, result = speak(capsys, 'the', 'cat\na dog', '--out=x.wav')
  assert status == 0
  pieces = ['the cat', 'a dog']
  assert result['sentences'] == pieces
  wave, rate = soundfile.read('x.wav')
  assert rate == result['sample_rate'] == 8000
  frames = [place.flow.frames(5 * n) for n in (7, 5)]
  assert len(wave) == sum(frames) * 64 + 1600
  assert result['seconds'] == pytest.approx(len(wave) / 8000, abs=1e-3)
  assert result['vocoder'] == 'steps' and result['stopped'] == [True, True]
  assert result['rtf'] > 0 and result['layout'] == 'document'
  # The decoder's own voice was the prompt.
  assert place.flow.calls == [(10, 35), (10, 25)]
  assert not np.any(wave[frames[0] * 64 :][:1600])  # a pause


def test_speed_changes_the_length_only(place, capsys):
  _, plain = speak(capsys, 'the cat', '--out=x.wav')
  _, fast = speak(capsys, 'the cat', '--out=y.wav', '--speed=1.25')
  assert fast['seconds'] == pytest.approx(plain['seconds'] / 1.25, abs=0.002)
  assert fast['ids'] == plain['ids']


@pytest.mark.parametrize('source', ['json', 'string', 'wav'])
def test_codes_are_spoken_again(place, capsys, source):
  ids = voice_lib.IDS.interleave(*tiny.Ruler().encode(np.zeros(16000)))
  if source == 'wav':
    given = recording('a.wav')
  elif source == 'json':
    given = 'codes.json'
    pathlib.Path(given).write_text(json.dumps(ids.tolist()))
  else:
    given = voice_lib.IDS.to_audio_string(ids)
  status, result = speak(capsys, f'--codes={given}', '--out=x.wav')
  assert status == 0 and result['ids'] == [ids.tolist()]
  wave, _ = soundfile.read('x.wav')
  # A painted frame is the id that is spoken at its time.
  seconds = (np.arange(len(wave) // 64) + 0.5) * 64 / 8000
  expected = np.tanh(ids[(seconds * 125 / 3).astype(int)] / 5120.0)
  np.testing.assert_allclose(wave[::64], expected, atol=1e-4)


@pytest.fixture
def editor(place, monkeypatch):
  """The run is one that has learnt to edit: it leaves the first group out."""
  monkeypatch.setattr(
    restore,
    'load_model',
    lambda run: (
      test_editing.model(), {'sure': 50.0}, test_editing.VOCABULARY
    ),
  )  # fmt: skip
  config = {'model': {}, 'vocabulary': {}, 'edits': ['快速1', '停顿1']}
  files.write_json('runs/quickstart/sft/config.json', config)
  return place


def test_a_recording_is_edited_and_what_came_out_again(editor, capsys):
  ids = voice_lib.IDS.interleave(*tiny.Ruler().encode(np.zeros(16000)))
  given = recording('a.wav')
  words = ['the', 'cat', f'--edit={given}', '--out=x.wav', '--temperature=0']
  for times in (1, 3):
    status, result = speak(
      capsys, *words, '--style=(fast 1)', f'--times={times}'
    )
    assert status == 0 and result['sentences'] == ['(快速1)the cat']
    assert result['ids'] == [ids[5 * times :].tolist()]
    assert result['groups'] == [8 - k for k in range(times + 1)]
    # By the speaker of the recording, though the decoder has a voice.
    assert editor.flow.calls.pop() == (0, 5 * (8 - times))
  status, again = speak(capsys, *words[:2], *words[3:], '--style=a bit faster',
                        '--edit=x.wav', '--dry_run')  # fmt: skip
  assert status == 0 and again['sentences'] == ['(快速1)the cat']
  text = voice_lib.IDS.to_audio_string(ids)
  status, result = speak(capsys, 'the (pause 1)cat', f'--edit={text}',
                         '--out=y.wav', '--temperature=0')  # fmt: skip
  assert status == 0 and result['ids'] == [ids[5:].tolist()]
  # Codes have no speaker: the decoder's own voice was the prompt.
  assert editor.flow.calls.pop()[0] == 10


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--edit=a.wav', '--style=(fast 1)'], 'found nothing to say'),
    (['a b', '--edit=a.wav'], "text: 'a b' has no tag, expected some"),
    (['a b', '--edit=a.wav', '--style=(slow 1)'], r'--edit: found (slow 1), e'),
    (['a b', '--edit=a.wav', '--codes=a.wav'], 'a text and --codes'),
    (['--codes=a.wav', '--times=2'], '--times: found without --edit'),
    (['a b', '--times=2'], '--times: found without --edit'),
    (['a b', '--edit=a.wav', '--system=x'], '--edit: found with --system'),
    (['a b', '--edit=a.wav', '--layout=turns'], 'found with --layout'),
    (['a b', '--edit=b.wav', '--style=(fast 1)'], 'b.wav'),
  ],
)
def test_what_is_not_edited(editor, capsys, words, message):
  recording('a.wav')
  status, error = speak(capsys, *words, '--out=x.wav')
  assert status == 2 and message in error
  assert not pathlib.Path('x.wav').exists()


def test_a_run_that_has_learnt_no_edits(place, capsys):
  given = recording('a.wav')
  status, error = speak(
    capsys, 'a b', f'--edit={given}', '--style=(fast 1)', '--out=x.wav'
  )
  assert status == 2 and 'learnt to edit nothing' in error


def test_a_recording_of_codes_brings_its_own_speaker(place, capsys):
  place.voice = None
  given = recording('a.wav')
  status, _ = speak(capsys, f'--codes={given}', '--out=x.wav')
  assert status == 0
  assert place.flow.calls == [(0, 40)]  # no prompt
  text = voice_lib.IDS.to_audio_string(tiny.ids(2))
  status, error = speak(capsys, f'--codes={text}', '--out=y.wav')
  assert status == 2 and 'no voice; expected a recording of one' in error


def test_a_voice_is_cloned(place, capsys):
  given = recording()
  status, _ = speak(
    capsys, 'the cat', '--out=x.wav', f'--voice={given}', '--voice_text=a b'
  )
  assert status == 0
  assert place.flow.calls == [(40, 35)]


def test_streaming_makes_the_same_length(place, capsys):
  text = 'the quick brown fox jumps over'
  status, plain = speak(capsys, text, '--out=x.wav')
  status, streamed = speak(capsys, text, '--out=y.wav', '--stream')
  assert status == 0 and streamed['ids'] == plain['ids']
  assert streamed['seconds'] == plain['seconds']
  assert 0 < streamed['first_audio_seconds'] < streamed['wall_seconds']
  assert 'first_audio_seconds' not in plain


def test_a_long_voice_is_told_by_its_whole_length(place, capsys):
  recording('ref.wav', seconds=64.2)
  words = ['the cat', '--out=x.wav', '--voice=ref.wav', '--dry_run']
  assert cli.run('speak', door.DOOR, words) == 0
  told = capsys.readouterr().err
  assert told.startswith('ref.wav: 64.2 s of voice; the first 30 s are used')
  assert told.count('\n') == 1
  recording('ref.wav', seconds=30.0)
  assert cli.run('speak', door.DOOR, words) == 0
  assert not capsys.readouterr().err


def test_dry_run_writes_nothing(place, capsys):
  status, plan = speak(capsys, 'a cat. b', '--out=x.wav', '--dry_run')
  assert status == 0 and not pathlib.Path('x.wav').exists()
  assert plan['sentences'] == ['a cat.', 'b'] and plan['vocoder'] == 'steps'
  assert plan['model'] == 'runs/quickstart/sft'
  assert not place.flow.calls


def test_folders_come_from_the_environment(place, capsys, monkeypatch):
  monkeypatch.setenv('STEP_AUDIO_MODEL', 'elsewhere')
  status, error = speak(capsys, 'a', '--out=x.wav')
  assert status == 2 and 'elsewhere' in error


@pytest.mark.parametrize(
  'words, message',
  [
    (
      ['--out=x.wav'],
      'found nothing to say, expected either a',
    ),
    (['a', '--codes=<audio_1>', '--out=x.wav'], 'found a text and --codes'),
    (['a'], '--out=FILE.wav is missing'),
    (['a', '--out=x.mp3'], "--out: found 'x.mp3', expected a file .wav"),
    (['a', '--out=x.wav', '--speed=3'], 'speed: found 3.0, expected a number'),
    (['a', '--out=x.wav', '--steps=0'], '--steps: found 0'),
    (['a', '--out=x.wav', '--seed=-1'], '--seed: found -1'),
    (['a', '--out=x.wav', '--seed=4294967296'], '--seed: found 4294967296'),
    (['a', '--out=x.wav', '--top_p=0'], 'top_p is 0.0'),
    (['a', '--out=x.wav', '--temperature=-1'], 'temperature is -1.0'),
    (['a', '--out=x.wav', '--repetition_share=2'], 'share is 2.0'),
    (['a', '--out=x.wav', '--voice_text=b'], '--voice_text without --voice'),
    (['a', '--out=x.wav', '--voice=no.wav'], 'no.wav: no such file'),
    (['a', '--out=x.wav', '--voice=short.wav'], 'short.wav: 0.200 s of audio'),
    (['a', '--out=x.wav', '--voice=quiet.wav'], 'quiet.wav: silence'),
    (['<|EOT|>', '--out=x.wav'], 'text: found the control piece'),
    (['...', '--out=x.wav'], 'text: found no word'),
    (['a', '--out=x.wav', '--longest=0'], 'longest: found 0.0 s'),
    (['a', '--out=x.wav', '--model=no'], 'no/config.json'),
    (['a', '--out=x.wav', '--tokenizer=no'], 'no/dual.json: no such file'),
    (['--codes=<audio_9999>', '--out=x.wav'], '<audio_9999>: expected 0..5119'),
    (['--codes=<audio_1>', '--out=x.wav'], 'found 1 ids, expected a multiple'),
    (['--codes=no.json', '--out=x.wav'], 'no.json: no such file'),
    (['--codes=quiet.wav', '--out=x.wav'], 'quiet.wav: silence'),
    (['a', '--out=x.wav', '--voice=level.wav'], 'level.wav: silence'),
    (['a', '--out=x.wav', '--voice=phase.wav'], 'phase.wav: its 2 channels'),
    (['--codes=phase.wav', '--out=x.wav'], 'phase.wav: its 2 channels cancel'),
    (['a', '--out=x.wav', '--voice=wild.wav'], 'wild.wav: a sample of'),
    (['--codes=wild.wav', '--out=x.wav'], 'wild.wav: a sample of'),
    (
      ['a', '--out=x.wav', '--voice=phase.wav', '--channel=2'],
      'phase.wav: channel 2: the recording has 2',
    ),
  ],
)
def test_bad_input_is_one_sentence_and_no_wav(place, capsys, words, message):
  recording('short.wav', seconds=0.2)
  recording('quiet.wav', level=0.0)
  io.write_audio('level.wav', np.full(16000, 0.5))
  sound, rate = soundfile.read(recording())
  for name, samples in (
    ('phase', np.stack([sound, -sound], 1)),
    ('wild', 1000.5 * sound),
  ):
    soundfile.write(f'{name}.wav', samples, rate, 'FLOAT')
  status, error = speak(capsys, *words)
  assert status == 2 and message in error
  assert not pathlib.Path('x.wav').exists()


def test_one_channel_of_a_recording_speaks(place, capsys):
  """Of whole numbers kept as floats, two of which cancel; voice and codes."""
  sound, rate = soundfile.read(recording())
  quiet = sound[::-1]
  whole = np.round(32768 * np.stack([quiet, -quiet, sound], 1))
  soundfile.write('a.wav', whole, rate, 'FLOAT')
  results = []
  for words in (['--voice=ref.wav'], ['--voice=a.wav', '--channel=2']):
    status, result = speak(capsys, 'a cat', '--out=x.wav', *words)
    assert status == 0
    results.append(soundfile.read('x.wav')[0])
  np.testing.assert_array_equal(*results)
  status, result = speak(capsys, '--codes=a.wav', '--channel=2', '--out=x.wav')
  assert status == 0
  assert (
    result['ids'] == speak(capsys, '--codes=ref.wav', '--out=x.wav')[1]['ids']
  )


def test_numbers_that_are_not_finite_leave_the_old_wav(place, capsys):
  pathlib.Path('x.wav').write_bytes(b'before')
  place.flow.broken = True
  status, error = speak(capsys, 'a', '--out=x.wav')
  assert status == 2 and 'the flow made a mel that is not finite' in error
  assert pathlib.Path('x.wav').read_bytes() == b'before'


@pytest.mark.parametrize(
  'folder, message',
  [
    ('sft', 'no model: expected --model=FOLDER or $STEP_AUDIO_MODEL'),
    ('decoder', 'no decoder: expected --decoder=FOLDER or $STEP_AUDIO_DECODER'),
  ],
)
def test_missing_folders_are_named(place, capsys, folder, message):
  root = pathlib.Path('runs/quickstart')
  (root / folder).rename('moved')
  status, error = speak(capsys, 'a', '--out=x.wav')
  assert status == 2 and message in error
