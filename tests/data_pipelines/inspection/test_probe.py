"""The `probe` door: whispers of voices that it has not heard."""

import json

import pytest

from data_pipelines import __main__ as doors
from data_pipelines.synthesis.voices import espeak
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest

TEXTS = (
  'the red cat sees a small ball',
  'an old dog sleeps in front of the house',
  'seven birds are in the tree',
)
WHISPERS = ('whisper', 'whisperf')


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpus')
  voice = espeak.Espeak(('m1', 'm3', 'f1', 'f4', *WHISPERS))
  lines = []
  for speaker in voice.speakers:
    for number, text in enumerate(TEXTS):
      name = f'{speaker}.{number}'
      said = voice.speak(text, language='en', speaker=speaker)
      io.write_audio(folder / f'{name}.wav', said.samples, said.sample_rate)
      lines.append(
        manifest.Utterance(
          id=name,
          audio=f'{name}.wav',
          duration=len(said.samples) / said.sample_rate,
          sample_rate=said.sample_rate,
          text=text,
          speaker=speaker,
          marked=f'(whisper){text}' if speaker in WHISPERS else None,
        )
      )
  manifest.write(folder, lines)
  return folder


def call(capsys, *flags):
  argv = ['data_pipelines', 'probe', '--json', *map(str, flags)]
  status = cli.dispatch('data_pipelines', doors.DOORS, argv)
  out, err = capsys.readouterr()
  return json.loads(out.splitlines()[-1]) if not status else err.strip()


def test_it_is_trained_and_asked(corpus, tmp_path, capsys):
  path = tmp_path / 'probe.json'
  train = [f'--corpus={corpus}', '--axis=style', f'--output={path}']
  told = call(capsys, *train, '--dry_run')
  assert not path.exists()
  assert told == call(capsys, *train)
  assert told['accuracy'] == 1 and told['low'] > told['chance']
  assert told['trained_on'] == {'none': 12, '耳语': 6}
  found = call(capsys, f'--probe={path}', f'--path={corpus}/whisperf.1.wav')
  assert found['probabilities']['耳语'] > 0.9
  found = call(capsys, f'--probe={path}', f'--path={corpus}')
  assert found == {
    'as_marked': 1.0, 'heard_as': {'none': {'none': 12}, '耳语': {'耳语': 6}},
  }  # fmt: skip


def test_what_is_no_corpus_to_learn_from(corpus, tmp_path, capsys):
  train = [f'--corpus={corpus}', f'--output={tmp_path}/p.json']
  assert 'found none, expected two classes' in call(capsys, *train)
  told = call(capsys, *train, '--split=dev')
  assert "no speech with recordings in it in the split 'dev'" in told
  assert 'found --corpus, expected --corpus and --output' in call(
    capsys, f'--corpus={corpus}'
  )
  assert not list(tmp_path.iterdir())
