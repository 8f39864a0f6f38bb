"""Texts of SSML are said in their style, or refused by name."""

import collections

import numpy as np
import pytest
import soundfile

from data_pipelines.factory import provenance
from data_pipelines.factory.making import items as items_lib
from data_pipelines.factory.making import job
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import styled
from step_audio_jax.audio.meters import measure
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from step_audio_jax.styles import markup

PLAIN = 'The old dog sleeps in front of the house.'
TEXTS = {
  'plain': PLAIN,
  'slow': f'<speak><prosody rate="slow">{PLAIN}</prosody></speak>',
  'loud': f'<speak><prosody volume="+8dB">{PLAIN}</prosody></speak>',
  'break': '<speak>The old dog sleeps <break time="1s"/>in front of the '
           'house.</speak>',
  'mixed': '<speak xml:lang="en">The old dog <prosody pitch="+4st" rate="125%">'
           'sleeps in front</prosody> <break time="700ms"/>of the house.'
           '</speak>',
  'voice': f'<speak><voice name="x">{PLAIN}</voice></speak>',
  'chinese': '<speak>He said <lang xml:lang="zh">你好</lang></speak>',
}  # fmt: skip


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  root = tmp_path_factory.mktemp('ssml')
  manifest.write(
    root / 'texts',
    [
      manifest.Utterance(id=name, kind='text', text=text)
      for name, text in TEXTS.items()
    ],
  )
  recipe = items_lib.Recipe(rates=(1.0, 1.0))
  voices = [espeak.Espeak()]
  planned = items_lib.plan_items([root / 'texts'], recipe, voices)
  # One speaker says all of it, so that lines can be compared.
  one = planned.items[0].line.voice
  items = [
    items_lib.dataclasses.replace(
      item, line=items_lib.dataclasses.replace(item.line, voice=one)
    )
    for item in planned.items
  ]
  planned = items_lib.dataclasses.replace(planned, items=items)
  return root / 'made', job.make(root / 'made', planned, recipe, voices)


def test_what_is_made_of_ssml(made):
  folder, told = made
  kept = {one.id: one for one in manifest.read(folder)}
  assert list(kept) == ['plain', 'slow', 'loud', 'break', 'mixed']
  assert {one.text for one in kept.values()} == {PLAIN}
  assert kept['plain'].marked is None
  assert kept['slow'].marked == f'(慢速2){PLAIN}'
  assert kept['mixed'].marked == (
    'The old dog (快速2)(高音4)sleeps in front (正常)(停顿3)of the house.'
  )
  quarantine = {
    one['id']: one for one in files.read_jsonl(folder / 'quarantine.jsonl')
  }
  assert quarantine['voice']['gate'] == 'text'
  assert '<voice>: not supported' in quarantine['voice']['reason']
  assert quarantine['chinese']['gate'] == 'voice'
  assert '(chinese), which is made of no' in quarantine['chinese']['reason']
  assert told['gates']['text'] == {'failed': 1, 'not_asked': 6}
  assert not list(provenance.faults(folder, collections.Counter()))


def test_it_sounds_as_it_says(made):
  folder, _ = made
  kept = {one.id: one for one in manifest.read(folder)}
  figures = {
    name: measure.measure(*read(one.audio_path(folder)), text=PLAIN)
    for name, one in kept.items()
  }
  pace = {name: found.rate for name, found in figures.items()}
  assert pace['slow'] < 0.9 * pace['plain']
  words = kept['break'].words
  assert words[4][1] - words[3][2] > 0.9  # the silence is nobody's
  assert [word for word, *_ in kept['mixed'].words] == PLAIN.split()
  starts = [start for _, start, _ in kept['mixed'].words]
  assert starts == sorted(starts)


def read(path):
  samples, rate = soundfile.read(path, dtype='float32')
  return samples, rate


def test_provenance_tells_of_each_part(made):
  folder, _ = made
  _, items = provenance.read(folder)
  styles = {one.id: origin.speech.get('style') for one, origin in items}
  assert styles['plain'] is None
  assert styles['slow']['marked'] == f'(慢速2){PLAIN}'
  parts = styles['mixed']['parts']
  assert [part['recipe']['semitones'] for part in parts] == [0.0, 4.0, 0.0]


def test_parts_are_joined_as_they_are_said_alone():
  voice = espeak.Espeak()
  speaker = speakers.cast([voice])[0]
  spans = markup.parse('one two (high pitch 3)three (normal)(pause 2)four')
  how = {'speaker': speaker, 'language': 'en'}
  whole = styled.speak_all(voice, spans, seed=5, **how).speech
  alone = [
    styled.speak(voice, [span], seed=5 + n, **how).speech
    for n, span in enumerate(spans)
  ]
  np.testing.assert_array_equal(
    whole.samples[: len(alone[0].samples)], alone[0].samples
  )
  np.testing.assert_array_equal(
    whole.samples[-len(alone[2].samples) :], alone[2].samples
  )
  seconds = [len(one.samples) / one.sample_rate for one in alone]
  assert len(whole.samples) / whole.sample_rate == pytest.approx(
    sum(seconds), abs=1e-3
  )
  places = [place for place, _ in whole.words]
  assert places == [0, 4, 8, 14]
  assert whole.words[3][1] == pytest.approx(
    sum(seconds[:2]) + alone[2].words[0][1], abs=1e-3
  )
