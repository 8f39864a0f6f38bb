"""Voices of Piper: phonemes, ids, times, and what is refused."""

import pickle

import numpy as np
import pytest

from data_pipelines.synthesis.voices import piper
from data_pipelines.synthesis.voices import sources
from step_audio_jax import errors
from tests.data_pipelines.synthesis.voices import tiny


@pytest.fixture
def voice(tmp_path):
  return tiny.voice(tmp_path)


# As piper-phonemize 1.1.0 gives them, with a full stop where no mark ends.
PHONEMES = [
  ('the red cat sees a stone', ['ðə ɹˈɛd kˈæt sˈiːz ɐ stˈoʊn.']),
  (
    'Hello there, my friend! How are you? I am of the opinion: fine; yes.',
    ['həlˈoʊ ðˈɛɹ, maɪ fɹˈɛnd!', 'hˈaʊ ɑːɹ juː?',
     'aɪɐm ʌvðɪ əpˈɪniən: fˈaɪn; jˈɛs.'],
  ),
  ('one of the dogs finds a book today',
   ['wˈʌn ʌvðə dˈɑːɡz fˈaɪndz ɐ bˈʊk tədˈeɪ.']),
  (
    'It costs 3.50 dollars, e.g. (a lot) - ok',
    ['ɪt kˈɔsts θɹˈiː pɔɪnt fˈaɪv zˈiəɹoʊ dˈɑːlɚz, ˌiːdʒˈiː.',
     'ɐ lˈɑːt ˌoʊkˈeɪ.'],
  ),
]  # fmt: skip


@pytest.mark.parametrize('text, phonemes', PHONEMES)
def test_phonemes_are_those_of_piper(voice, text, phonemes):
  assert voice.speak(text, language='en').phonemes == ' '.join(phonemes)
  assert len(voice.session.fed) == len(phonemes)


def test_ids_are_padded_as_piper_does(voice):
  voice.speak('a', language='en')
  (feed,) = voice.session.fed
  names = [tiny.PHONEMES[k] for k in feed['input'][0]]
  assert ''.join(names) == '^_ˈ_e_ɪ_._$'
  np.testing.assert_allclose(feed['scales'], [0.5, 2, 0.25])


def test_words_begin_where_their_phonemes_do(voice):
  said = voice.speak('the red cat', language='en')
  # ^_ ð_ə_ _ ɹ_… : two frames an id.
  first = {0: 2, 4: 8, 8: 18}
  for place, time in said.words:
    frames = time * said.sample_rate / tiny.FRAME
    assert frames == pytest.approx(2 * first[place])
  assert len(said.words) == 3
  # Two words in one breath: nobody knows.
  assert not voice.speak('one of the dogs', language='en').words


def test_the_past_does_not_change_the_sound(voice):
  def say(seed=3):
    return voice.speak('a cat, sees it. yes', language='en', seed=seed).samples

  first = say()
  voice.speak('something else', language='en')
  np.testing.assert_array_equal(first, say())
  assert (say(4) != first).any()
  other = pickle.loads(pickle.dumps(voice))
  again = other.speak('a cat, sees it. yes', language='en', seed=3)
  np.testing.assert_array_equal(first, again.samples)


def test_faster_is_shorter_and_slow_speech_gets_more_noise(voice):
  lengths = [
    len(voice.speak('a cat', language='en', rate=rate).samples)
    for rate in (4, 1, 0.25)
  ]
  assert lengths[0] < lengths[1] < lengths[2]
  monstrous = tiny.config()['inference'] | {'length_scale': 40}
  slow = piper.Piper(
    voice.source,
    {**voice.config, 'inference': monstrous},
    voice.noises,
    voice.lengths,
    tiny.Session(),
  )
  slow.speak('a cat', language='en')
  short, long = slow.session.fed
  # The front of the longer noise is the shorter one.
  np.testing.assert_array_equal(
    long['noise_1'][: len(short['noise_1'])], short['noise_1']
  )


def test_a_voice_without_a_full_stop_gets_none(tmp_path):
  table = {k: v for k, v in TABLE.items() if k != '.'}
  voice = tiny.voice(tmp_path, phoneme_id_map=table)
  assert voice.speak('a', language='en').phonemes == 'ˈeɪ'


def test_sentences_stand_apart(voice):
  one = len(voice.speak('Yes.', language='en').samples)
  two = len(voice.speak('Yes. Yes.', language='en').samples)
  assert two == 2 * one + round(0.2 * 22050)


def test_speakers_of_one_file(tmp_path):
  voice = tiny.voice(
    tmp_path,
    model=tiny.onnx((*tiny.INPUTS, 'sid')),
    num_speakers=3,
    speaker_id_map={'ann': 0, 'bob': 2},
  )
  assert voice.speakers == ('ann', '1', 'bob')
  voice.speak('a', language='en', speaker='bob')
  voice.speak('a', language='en')
  assert [f['sid'].tolist() for f in voice.session.fed] == [[2], [0]]


@pytest.mark.parametrize(
  'text, change, said',
  [
    ('привет', {}, "found 'п' in 'привет', which .* cannot say"),
    ('a 猫', {}, 'it reads Latin letters'),
    ('...', {}, r"nothing to say in '\.\.\.'"),
    ('a', {'language': 'zh'}, 'says en, not zh'),
    ('a', {'speaker': 'eve'}, "no speaker 'eve', it has 0"),
    ('a', {'rate': 9.0}, r'rate: found 9.0, expected 0\.25\.\.4'),
    ('a', {'pitch': 60}, 'pitch: found 60, expected 50'),
    ('loch xhosa', {}, "has no phoneme '.', which 'loch xhosa' needs"),
  ],
)
def test_what_cannot_be_said_is_told(voice, text, change, said):
  with pytest.raises(errors.UserError, match=said) as told:
    voice.speak(text, **{'language': 'en', **change})
  assert '\n' not in str(told.value)


NAN = float('nan')
TABLE = tiny.config()['phoneme_id_map']


@pytest.mark.parametrize(
  'model, changes, said',
  [
    (tiny.onnx(('tokens', 'style')), {}, 'has the inputs tokens, style, expec'),
    (tiny.onnx(), {'num_speakers': 2}, 'expected input, .*, sid of a voice'),
    (tiny.onnx(rows=9), {}, r'has the id \d+, but tiny.onnx has 9 phonemes'),
    (tiny.onnx(metadata=[('sample_rate', '16000')]), {},
     'sample_rate is 22050, but tiny.onnx says 16000'),
    (None, {'audio': {'sample_rate': 'high'}}, 'sample_rate is high, expected'),
    (None, {'audio': {}}, 'sample_rate is None'),
    (None, {'espeak': None}, 'has no espeak, expected'),
    (None, {'espeak': {}}, r'has no espeak\.voice'),
    (None, {'phoneme_type': 'text'}, 'phoneme_type is text, expected espeak'),
    (None, {'num_speakers': 0}, 'num_speakers is 0'),
    (None, {'phoneme_id_map': {**TABLE, 'a': 4}}, "'a' has 4, expected ids"),
    (None, {'phoneme_id_map': {'a': [1]}}, "has no '_'"),
    (None, {'phoneme_id_map': [1]}, r'phoneme_id_map is \[1\], expected an o'),
    (None, {'phoneme_id_map': {**TABLE, '_': []}}, r"'_' has \[\], expected i"),
    (None, {'phoneme_id_map': dict.fromkeys(TABLE, [])}, r'has \[\], expected'),
    (None, {'dataset': ['a']}, r"dataset is \['a'\], expected a name"),
    (None, {'speaker_id_map': ['a']}, r"speaker_id_map is \['a'\], expected"),
    (None, {'speaker_id_map': 'a'}, "speaker_id_map is 'a', expected an obj"),
    (None, {'speaker_id_map': {'a': [0]}}, 'speaker_id_map is .* the number'),
    (None, {'num_speakers': True}, 'num_speakers is True'),
    (None, {'inference': None}, 'inference is None, expected an object'),
    (None, {'inference': 'x'}, "inference is 'x', expected an object"),
    (None, {'inference': {'noise_w': NAN}}, 'noise_w is nan, expected a fini'),
    (None, {'inference': {'noise_scale': '1'}}, "noise_scale is '1', expect"),
    (None, {'inference': {'length_scale': 0}}, 'length_scale is 0, .* above 0'),
    (None, {'inference': {'length_scale': -NAN}}, 'length_scale is nan'),
    (None, {'inference': {'length_scale': 1e39}}, r'length_scale is 1e\+39'),
    (None, {'inference': {'noise_w': True}}, 'noise_w is True'),
    (None, {'inference': {'noise_w': None}}, 'noise_w is None'),
    (None, {'espeak': {'voice': ''}}, "espeak.voice: espeak-ng has no ''"),
    (None, {'espeak': {'voice': 'qq-x'}}, "espeak.voice: espeak-ng has no 'qq"),
    (None, {'espeak': {'voice': '\ud800'}}, 'espeak.voice: espeak-ng has no'),
    (b'no model', {}, 'not a whole ONNX file'),
  ],
)  # fmt: skip
def test_files_that_are_no_voice_are_refused(tmp_path, model, changes, said):
  path = tiny.write(tmp_path, model=model, **changes)
  with pytest.raises(errors.UserError, match=said) as told:
    piper.load(sources.find(str(path)))
  assert str(path) in str(told.value) and '\n' not in str(told.value)
