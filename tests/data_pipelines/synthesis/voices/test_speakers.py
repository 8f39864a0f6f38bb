"""A corpus that a voice of Piper's speaks, with speakers made of it."""

import dataclasses

import numpy as np
import pytest
import soundfile

from data_pipelines import __main__ as doors
from data_pipelines.synthesis import plan
from data_pipelines.synthesis import speech
from data_pipelines.synthesis import synthesize
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.synthesis.voices import tiny

SMALL = plan.Config(
  train=9, dev=2, test=2, unseen=2, images=10, text_lines=10, part=3
)


@dataclasses.dataclass(frozen=True)
class Tone:
  """A `Voice` that hums at 200 Hz, longer where it is slower."""

  speakers: tuple[str, ...] = ('0',)
  name: str = 'tone'
  languages = ('en',)
  sample_rate = 20000
  licence = 'CC0'
  origin = 'here'
  files = {'tone': '1' * 64}
  made_with = ()
  sha256 = '1' * 64

  def speak(self, text, *, language, speaker, rate, pitch=50, seed=0):
    assert language in self.languages and pitch == 50
    time = np.arange(round(self.sample_rate / rate)) / self.sample_rate
    wave = 0.1 * np.sin(2 * np.pi * 200 * time).astype(np.float32)
    return voice_lib.Speech(wave, self.sample_rate, ((0, 0.0), (4, 0.5 / rate)))


def test_the_factor_moves_the_pitch_and_keeps_the_time():
  for speaker in speakers.cast([Tone()]):
    said = speakers.speak(
      Tone(), 'ab cd', speaker=speaker, language='en', rate=1.25, seed=0
    )
    assert len(said.samples) / said.sample_rate == pytest.approx(0.8, abs=1e-3)
    assert said.words[1][1] == pytest.approx(0.4, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(said.samples))
    peak = np.argmax(spectrum) * said.sample_rate / len(said.samples)
    assert peak == pytest.approx(200 * speaker.factor, abs=2)


def test_who_is_held_out():
  alone = speakers.cast([Tone()])
  assert [s.name for s in alone if s.held_out] == ['tone@1.045']
  assert [s.name for s in alone if not s.held_out] == [
    'tone', 'tone@0.93', 'tone@1.09'
  ]  # fmt: skip
  several = speakers.cast([Tone(('ann', 'bob', 'eve'))])
  assert {s.of for s in several if s.held_out} == {'eve'}
  assert {s.of for s in several if not s.held_out} == {'ann', 'bob'}
  assert len({s.name for s in several}) == 9
  with pytest.raises(errors.UserError, match="two voices are called 'tone'"):
    plan.Config(speakers=(*alone, *alone))


def test_espeak_is_a_voice_too():
  said = espeak.Espeak().speak('the cat sees', language='en', rate=0.875)
  same = espeak.speak('the cat sees', voice='en-us+m1', rate=140)
  np.testing.assert_array_equal(said.samples, same.samples)
  assert voice_lib.record(espeak.Espeak())['made_with'][0].startswith('espeak')
  with pytest.raises(errors.UserError, match="language: found 'xx'"):
    espeak.Espeak().speak('a', language='xx')


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  root = tmp_path_factory.mktemp('spoken')
  voice = tiny.voice(root / 'voice')
  synthesize.synthesize(root / 'corpus', SMALL, processes=1, voices=[voice])
  return root


def test_english_is_the_voices_and_the_rest_is_espeaks(corpus):
  lines = manifest.read(corpus / 'corpus' / 'speech')
  for line in lines:
    ours = line.speaker.startswith('tiny')
    assert ours == (line.language == 'en')
    if ours:
      unseen = line.split == manifest.UNSEEN_VOICE
      assert (line.speaker == 'tiny@1.045') == unseen
      assert [w for w, _, _ in line.words] == line.text.split()
      times = [t for _, start, end in line.words for t in (start, end)]
      assert times == sorted(times) and times[-1] <= line.duration
    samples, rate = soundfile.read(line.audio_path(corpus / 'corpus/speech'))
    assert rate == speech.SAMPLE_RATE and 0.05 < np.abs(samples).max() <= 1
  stamp = files.read_json(corpus / 'corpus/speech/corpus.json')
  voice = stamp['voices']['tiny']
  assert set(voice['files']) == {'tiny.onnx', 'tiny.onnx.json'}
  assert stamp['voices']['espeak-ng']['licence'] == 'GPL-3.0-or-later'
  assert [s['factor'] for s in stamp['settings']['speakers']] == [
    1.0, 0.93, 1.09, 1.045
  ]  # fmt: skip


def test_a_voice_that_is_lost_is_noted_in_the_corpus(tmp_path, capsys):
  few = ('train', 'dev', 'test', 'unseen', 'images', 'text_lines')
  argv = [
    'data_pipelines',
    'synthesize',
    f'--output={tmp_path}',
    '--processes=1',
    '--optional_voice=package:no-such-voice',
    *(f'--{name}=1' for name in few),
  ]
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  (note,) = files.read_json(tmp_path / 'speech/corpus.json')['notes']
  assert f'note: {note}' in capsys.readouterr().err
  assert 'notes' not in files.read_json(tmp_path / 'text/corpus.json')


def test_the_number_of_processes_changes_nothing(corpus, tmp_path):
  voice = tiny.voice(corpus / 'voice')
  synthesize.synthesize(tmp_path, SMALL, processes=2, voices=[voice])
  for path in (corpus / 'corpus').rglob('*'):
    if path.is_file():
      other = tmp_path / path.relative_to(corpus / 'corpus')
      assert path.read_bytes() == other.read_bytes(), path


def test_another_voice_is_another_corpus(corpus, tmp_path):
  with pytest.raises(
    errors.UserError, match=r'spoken by tiny \(.*\), asked for espeak-ng;'
  ):
    synthesize.synthesize(corpus / 'corpus', SMALL)
  other = tiny.voice(tmp_path, inference={})
  with pytest.raises(errors.UserError, match=r'spoken by tiny .* for tiny \('):
    synthesize.synthesize(corpus / 'corpus', SMALL, voices=[other])
