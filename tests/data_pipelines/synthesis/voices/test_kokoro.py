"""Voices of Kokoro: letters, styles, times, and what is refused."""

import json

import numpy as np
import pytest

from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import kokoro
from data_pipelines.synthesis.voices import runtime
from data_pipelines.synthesis.voices import sources
from data_pipelines.synthesis.voices import speakers
from step_audio_jax import errors
from tests.data_pipelines.synthesis.voices import tiny

INPUTS = ('tokens', 'style', 'speed')
LETTERS = ' .,!?ˈˌAIOTWYabdfhijklmnpstuvwzæðŋɑɔəɛɡɪɹʃʊʌʒʤʧθᵊᵻ'
VOCABULARY = {letter: k + 1 for k, letter in enumerate(LETTERS)}
STYLES = {
  'af_ann': np.arange(40 * 4, dtype=np.float32).reshape(40, 1, 4),
  'am_bob': -np.ones((40, 1, 4), np.float32),
}


def write(folder, inputs=INPUTS, vocab=VOCABULARY, styles=STYLES, width=None):
  folder.mkdir(parents=True, exist_ok=True)
  model = b''.join(
    tiny.wire.field(11, tiny.info(name, 1, width if name == 'style' else None))
    for name in inputs
  ) + tiny.node('Clip', ['speed'], 'frames')
  (folder / 'kokoro.onnx').write_bytes(tiny.wire.field(7, model))
  (folder / 'vocab.json').write_text(json.dumps({'vocab': vocab}))
  np.savez(folder / 'voices.npz', **styles)
  return folder


class Session:
  """Says the style's first number, three frames of ten samples a letter."""

  def __init__(self):
    self.fed = []

  def run(self, names, feed):
    self.fed.append(feed)
    count = feed['tokens'].shape[1]
    sound = np.full(30 * count, feed['style'][0, 0] / 1000, np.float32)
    return [sound, np.full(count, 3)]


@pytest.fixture
def voice(tmp_path):
  found = kokoro.load(sources.find(str(write(tmp_path))))
  fields = ('source', 'vocabulary', 'speakers', 'inputs', 'lengths')
  known = {name: getattr(found, name) for name in fields}
  return kokoro.Kokoro(**known, session=Session())


def test_diphthongs_and_affricates_are_one_letter():
  assert kokoro.letters('tʃˈeɪndʒ ɹˈoʊd bˈɔɪ aɪ nˈaʊ') == 'ʧˈAnʤ ɹˈOd bˈY I nˈW'
  assert kokoro.letters('wˈɔːɾɚ bˈɜːd bˈɑːɾəl') == 'wˈɔTəɹ bˈɜɹd bˈɑTᵊl'


def test_the_style_is_that_of_the_length(voice):
  said = voice.speak('a cat', language='en', rate=1.25)
  (feed,) = voice.session.fed
  (ids,) = feed['tokens']
  count = len(ids) - 2
  assert ids[0] == ids[-1] == 0
  np.testing.assert_array_equal(
    feed['style'], STYLES['af_ann'][count - 1].reshape(1, 4)
  )
  assert feed['speed'] == np.float32(1.25)
  # Behind the first id, the letter `ə` and the space.
  frames = [time * said.sample_rate / 10 for _, time in said.words]
  assert frames == pytest.approx([3, 9])
  voice.speak('a cat', language='en', speaker='am_bob')
  assert (voice.session.fed[-1]['style'] == -1).all()


def test_all_styles_are_speakers_and_the_last_is_held_out(voice):
  cast = speakers.cast([voice])
  assert {s.of for s in cast if s.held_out} == {'am_bob'}
  assert {s.of for s in cast if not s.held_out} == {'af_ann'}


@pytest.mark.parametrize(
  'text, change, said',
  [
    ('кот', {}, "found 'к'"),
    ('a', {'language': 'ja'}, 'says en, not ja'),
    ('a', {'speaker': 'eve'}, "no speaker 'eve', it has af_ann, am_bob"),
    ('a', {'rate': 3.0}, r'rate: found 3.0, expected 0\.5\.\.2'),
    ('a', {'pitch': 1}, 'pitch: found 1'),
    ('the cat ' * 9, {}, r'has \d+ letters, expected at most 40'),
  ],
)
def test_what_cannot_be_said_is_told(voice, text, change, said):
  with pytest.raises(errors.UserError, match=said) as told:
    voice.speak(text, **{'language': 'en', **change})
  assert '\n' not in str(told.value)


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'inputs': tiny.INPUTS}, 'inputs input, input_lengths, scales, expected'),
    ({'vocab': {'a': 'b'}}, 'found no vocab'),
    ({'vocab': None}, 'found no vocab'),
    ({'styles': {}}, 'found no styles'),
    ({'styles': {'a': np.zeros(3)}}, r'a has the shape \(3,\)'),
    ({'styles': {'a': np.zeros((0, 4))}}, r'a has the shape \(0, 4\)'),
    ({'styles': {'a': np.zeros((9, 4), int)}}, 'a is of int64, expected float'),
    ({'styles': {'a': np.full((9, 1, 4), np.nan)}}, 'a has NaN or an infinity'),
    ({'styles': {'a': np.full((9, 4), 1e300)}}, 'a has NaN or an infinity'),
    (
      {'styles': {**STYLES, 'x': np.zeros((9, 3))}},
      'x has 3 numbers a style, expected 4',
    ),
    ({'width': 256}, 'af_ann has 4 numbers a style, expected 256'),
  ],
)
def test_files_that_are_no_voice_are_refused(tmp_path, changes, said):
  source = sources.find(str(write(tmp_path, **changes)))
  with pytest.raises(errors.UserError, match=said) as told:
    kokoro.load(source)
  assert '\n' not in str(told.value)


def test_styles_that_are_missing_or_no_arrays(tmp_path):
  write(tmp_path)
  (tmp_path / 'voices.npz').write_bytes(b'no arrays')
  with pytest.raises(errors.UserError, match='found no arrays'):
    kokoro.load(sources.find(str(tmp_path)))
  (tmp_path / 'voices.npz').unlink()
  with pytest.raises(errors.UserError, match='found 0 .npz or .bin files'):
    sources.find(str(tmp_path))


def test_the_catalogue_tells_kinds_apart(tmp_path, monkeypatch):
  monkeypatch.setattr(runtime, 'require', lambda: None)
  assert catalogue.load(str(write(tmp_path / 'k'))).name == 'kokoro'
  assert catalogue.load(str(tiny.write(tmp_path / 'p'))).name == 'tiny'
