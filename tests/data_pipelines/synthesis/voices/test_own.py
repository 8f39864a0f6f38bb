"""A run of ours is a voice like any other."""

import json
import pickle
import types

import numpy as np
import pytest

from data_pipelines.factory import provenance
from data_pipelines.factory.making import items as items_lib
from data_pipelines.factory.making import job
from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import own
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import styled
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.evaluation.memory import identity as identity_lib
from step_audio_jax.generation import restore
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.training.checkpoints import checkpoints
from tests.decoder import tiny_decoder as tiny
from tests.evaluation import parrot


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A run that speaks letter by letter, with its decoder and tokenizer."""
  files.write_json(tmp_path / 'sft/config.json', {'model': {}})
  files.write_json(
    tmp_path / 'tokenizer/dual.json',
    {'linguistic_codes': 27, 'semantic_codes': 5},
  )
  files.write_json(tmp_path / 'decoder/config.json', {'part': 1})
  encoder = types.SimpleNamespace(embed=lambda wave_S: np.ones(8, np.float32))
  decoder = speech.SpeechDecoder(
    tiny.Painted(), tiny.Steps(), encoder, tiny.MEL, tiny.voice(2)
  )
  monkeypatch.setattr(speech.SpeechDecoder, 'load', lambda folder: decoder)
  monkeypatch.setattr(dual.DualTokenizer, 'load', lambda folder: tiny.Ruler())
  loads = []

  def load_model(run, step=None):
    loads.append(step)
    return parrot.Parrot(), parrot.VARIABLES, parrot.VOCABULARY

  monkeypatch.setattr(restore, 'load_model', load_model)
  monkeypatch.setattr(
    checkpoints, 'step_folder', lambda run, step, ema=False: (run, step or 7)
  )
  monkeypatch.setattr(
    identity_lib.DigestCache,
    'model',
    lambda self, run, step: digests.of_value(['weights', step]),
  )
  for known in (own._loaded, own._voice, own._opened):
    known.cache_clear()
  decoder.flow.calls.clear()
  decoder.loads = loads
  decoder.folder = tmp_path
  return decoder


def settings(place, **more):
  told = {'run': 'sft', 'decoder': 'decoder', 'tokenizer': 'tokenizer', **more}
  files.write_json(place.folder / 'voice.json', told)
  return f'run:{place.folder}/voice.json'


def say(voice, text='the cat', **more):
  return voice.speak(text, language='en', **more)


def test_it_says_what_the_model_writes(place):
  voice = catalogue.load(f'run:{place.folder}/sft')
  said = say(voice)
  assert said.sample_rate == voice.sample_rate == 8000 and not said.words
  # The decoder's own voice was the prompt; seven letters are seven groups.
  assert place.flow.calls == [(10, 35)]
  ids = voice_ids('the cat')
  wave, _ = place.decode(ids, None, 0)
  np.testing.assert_array_equal(said.samples, wave)
  two = say(voice, 'the cat\na dog')
  parts = [place.decode(voice_ids(t), None, 0)[0] for t in ('the cat', 'a dog')]
  joined = np.concatenate([parts[0], np.zeros(1600), parts[1]])
  np.testing.assert_array_equal(two.samples, joined)
  # Twice as fast is half as long.
  assert len(say(voice, rate=2.0).samples) == round(len(wave) / 2)


def voice_ids(text):
  return speech.voice_lib.IDS.interleave(*parrot.codes(text))


def test_who_it_is(place):
  voice = catalogue.load(f'run:{place.folder}/sft')
  assert (voice.name, voice.speakers) == ('sft', ('own',))
  told = voice_lib.record(voice)
  assert told['origin'] == 'sft, step 7' and told['licence'] == 'not stated'
  assert set(told['files']) == {'model', 'decoder', 'settings'}
  assert told['files']['model'] == digests.of_value(['weights', 7])
  json.dumps(told)
  # Where it lies is no part of it; what it is made of is.
  again = catalogue.load(settings(place))
  assert again.sha256 == voice.sha256
  assert catalogue.load(settings(place, step=3)).sha256 != voice.sha256
  colder = catalogue.load(settings(place, temperature=0.1))
  assert colder.sha256 != voice.sha256
  files.write_json(place.folder / 'decoder/config.json', {'part': 2})
  assert catalogue.load(settings(place)).sha256 != voice.sha256


def test_it_goes_to_other_processes_and_loads_once(place):
  voice = catalogue.load(settings(place))
  wave = say(voice).samples
  sent = pickle.dumps(voice)
  assert len(sent) < 3000
  own._loaded.cache_clear()  # as in another process
  place.loads.clear()
  there = pickle.loads(sent)
  np.testing.assert_array_equal(say(there).samples, wave)
  say(there, 'a dog', seed=3)
  assert place.loads == [7]  # the checkpoint that was named, not the newest


def test_recordings_are_speakers(place):
  rng = np.random.default_rng(0)
  for name, seconds in (('a', 1.0), ('b', 1.5)):
    wave = rng.normal(size=int(16000 * seconds)) * 0.1
    io.write_audio(place.folder / f'{name}.wav', wave, 16000)
  recordings = {
    name: {'audio': f'{name}.wav', 'text': 'so it is'} for name in 'ab'
  }
  named = settings(
    place, recordings=recordings, languages=['en'], name='ours', licence='CC0'
  )
  voice = catalogue.load(named)
  assert voice.speakers == ('a', 'b') and voice.licence == 'CC0'
  assert 'recording a' in voice.files
  cast = speakers.cast([voice])
  assert {one.of for one in cast if one.held_out} == {'b'}
  said = speakers.speak(
    voice, 'the cat', speaker=cast[0], language='en', rate=1.0, seed=1
  )
  assert said.sample_rate == 8000
  say(voice, speaker='b')
  # 8 and 12 groups of prompt.
  assert [prompt for prompt, _ in place.flow.calls] == [40, 60]
  with pytest.raises(errors.UserError, match="no speaker 'c', it has a, b"):
    say(voice, speaker='c')
  with pytest.raises(errors.UserError, match='says en, not zh'):
    voice.speak('x', language='zh')
  changed = {'a': {**recordings['a'], 'text': 'so it was'}}
  other = catalogue.load(settings(place, recordings=changed))
  assert other.files['settings'] != voice.files['settings']


def test_tags_that_it_has_learnt_are_asked_of_it(place, monkeypatch):
  files.write_json(
    place.folder / 'sft/config.json',
    {'model': {}, bindings.TAGS: ['快速2', '悲伤1']},
  )
  asked = []
  real = text_to_codes.Writer.write

  def write(self, texts, voice=None, label=None):
    asked.extend(texts)
    return real(self, ['a' for _ in texts], voice, label)

  monkeypatch.setattr(text_to_codes.Writer, 'write', write)
  voice = catalogue.load(f'run:{place.folder}/sft')
  (speaker, *_) = speakers.cast([voice])

  def styled_as(text):
    return styled.speak(
      voice, markup.parse(text), speaker=speaker, language='en'
    )

  made = styled_as('(fast 2)(sad 1)(loud 2)the cat')
  assert asked == ['(悲伤1)(快速2)the cat']
  told = made.provenance
  assert told['asked_of_voice'] == '(悲伤1)(快速2)the cat'
  assert told['marked'] == '(大声2)the cat'
  assert told['recipe'] == {'rate': 1.0, 'semitones': 0.0, 'gain_db': 4.0}
  # What it has not learnt is done to the sound, or by nobody.
  assert 'asked_of_voice' not in styled_as('(slow 2)the cat').provenance
  assert asked[1:] == ['the cat']
  with pytest.raises(errors.UserError, match=r'\(happy 1\), which is made of'):
    styled_as('(happy 1)the cat')


def test_a_corpus_is_made_with_it(place, tmp_path):
  manifest.write(
    tmp_path / 'texts',
    [manifest.Utterance(id='t0', kind='text', text='the cat sees a dog'),
     manifest.Utterance(id='t1', kind='text', text='the <audio_3> cat')],
  )  # fmt: skip
  voices = [catalogue.load(settings(place, languages=['en']))]
  recipe = items_lib.Recipe()
  planned = items_lib.plan_items([tmp_path / 'texts'], recipe, voices)
  told = job.make(tmp_path / 'made', planned, recipe, voices)
  assert (told['kept'], told['rejected']) == (1, 1)
  (refused,) = files.read_jsonl(tmp_path / 'made/quarantine.jsonl')
  assert refused['gate'] == 'voice'
  (one,) = manifest.read(tmp_path / 'made')
  assert one.words is None and one.speaker.startswith('sft')
  told, items = provenance.read(tmp_path / 'made')
  assert told.voices['sft']['files'] == dict(voices[0].files)
  ((_, origin),) = items
  assert origin.voice == 'sft'


@pytest.mark.parametrize(
  'told, message',
  [
    ([], 'found no JSON object'),
    ({'run': 'sft'}, 'decoder: missing'),
    ({'ruN': 'sft'}, 'ruN: unknown, expected one of run, decoder'),
    ({'run': 3}, 'run: found 3, expected a string'),
    ({'step': 'x'}, "step: found 'x', expected an integer or None"),
    ({'recordings': {'a': {'audio': 'x'}}}, "'a': found audio, expected a n"),
    ({'recordings': {'a': 'x.wav'}}, 'recordings: found'),
    ({'languages': []}, 'languages: found none'),
    ({'layout': 'x'}, "layout: found 'x'"),
    ({'temperature': -1.0}, 'temperature'),
    ({'recordings': {'a': {'audio': 'no.wav', 'text': 'x'}}}, 'no.wav'),
  ],
)  # fmt: skip
def test_bad_settings(told, message, place):
  if isinstance(told, dict) and told != {'run': 'sft'}:
    told = {'run': 'sft', 'decoder': 'decoder', **told}
    told.setdefault('tokenizer', 'tokenizer')
  files.write_json(place.folder / 'voice.json', told)
  with pytest.raises(errors.UserError, match=message):
    catalogue.load(f'run:{place.folder}/voice.json')


def test_bad_names(place, tmp_path):
  with pytest.raises(errors.UserError, match="found 'run:', expected run:"):
    catalogue.load('run:')
  with pytest.raises(errors.UserError, match='expected the decoder of the run'):
    catalogue.load(f'run:{tmp_path}/elsewhere/sft')
  for named in ('http://a/voice.onnx', 'run:http://a/sft'):
    with pytest.raises(errors.UserError, match='--voice=.*an address'):
      catalogue.load(named)
  (place.folder / 'tokenizer/dual.json').unlink()
  (place.folder / 'tokenizer').rmdir()
  with pytest.raises(errors.UserError, match='its tokenizer is not known'):
    catalogue.load(f'run:{place.folder}/sft')


def test_a_sentence_that_does_not_end_is_refused(place):
  voice = catalogue.load(settings(place, longest=0.36))
  with pytest.raises(errors.UserError, match="'the cat' is not finished after"):
    say(voice)
