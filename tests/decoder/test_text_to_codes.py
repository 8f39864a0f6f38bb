"""Texts as speech ids, by a model whose every answer is known."""

import numpy as np
import pytest

from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.generation import decode
from step_audio_jax.storage import files
from tests.decoder import tiny_decoder as tiny
from tests.evaluation import parrot

CONTROL = vocabulary_lib.CONTROL


def writer(**manner):
  return text_to_codes.Writer(
    parrot.Parrot(),
    parrot.VARIABLES,
    parrot.VOCABULARY,
    text_to_codes.SpeakOptions(**manner),
  )


def test_each_sentence_becomes_its_own_mixed_ids():
  texts = ['a cat', 'the dog sees a bird', 'x']
  spoken = writer().write(texts)
  assert [piece.text for piece in spoken] == texts
  for piece in spoken:
    assert piece.stopped
    expected = voice_lib.IDS.interleave(*parrot.codes(piece.text))
    np.testing.assert_array_equal(piece.ids, expected)
    voice_lib.check_ids(piece.ids)


def test_a_limit_cuts_and_is_told():
  (piece,) = writer(longest=0.37).write(['abcdef'])
  assert not piece.stopped and len(piece.ids) == 15


def test_codes_that_do_not_exist_are_not_written():
  (piece,) = writer(linguistic_codes=2).write(['abcz'])
  linguistic, _ = voice_lib.IDS.deinterleave(piece.ids)
  assert linguistic[:4].tolist() == [0, 0, 1, 1] and linguistic.max() < 2


def asked(monkeypatch, layout, voice, system=''):
  """The prompt that the model is given for one text."""
  seen = []

  def generate(model, variables, prompts, **keywords):
    seen.extend(prompts)
    return [decode.Output(np.zeros(0, np.int32), np.zeros(0), True)]

  monkeypatch.setattr(decode, 'generate_outputs', generate)
  writer(layout=layout, system=system).write(['abc'], voice)
  return seen[0]


class Breaking(parrot.Alphabet):
  """The alphabet and a line break."""

  size = parrot.Alphabet.size + 1

  def encode(self, text):
    return [
      self.size - 1 if x == '\n' else super(Breaking, self).encode(x)[0]
      for x in text
    ]


def test_the_document_has_no_place_for_a_voice(monkeypatch):
  found = asked(monkeypatch, 'document', tiny.voice(2))
  layout = documents.LAYOUTS['tts']
  assert found == layout.prompt(parrot.VOCABULARY, text='abc')


def test_turns_hold_the_voice_in_the_ids_of_the_model(monkeypatch):
  vocabulary = vocabulary_lib.Vocabulary(text_size=200, text=Breaking())
  monkeypatch.setattr(parrot, 'VOCABULARY', vocabulary)
  voice = tiny.voice(2)
  found = asked(monkeypatch, 'turns', voice, system='be kind')
  codes = voice_lib.IDS.deinterleave(voice.tokens)
  turns = documents.tts_turns(
    'abc',
    system='be kind',
    voice_text=voice.text,
    voice_ids=vocabulary.interleave(*codes),
  )
  assert found == documents.TTS_TURNS.prompt(vocabulary, turns)
  silent = text_to_codes.voice_lib.Voice(
    voice.tokens, voice.mel_TM, voice.speaker_D
  )
  with pytest.raises(errors.UserError, match='voice_text: missing'):
    asked(monkeypatch, 'turns', silent)


@pytest.mark.parametrize(
  'text, pieces',
  [
    ('one two', ['one two']),
    ('One. Two! Three?\nfour', ['One.', 'Two!', 'Three?', 'four']),
    ('It cost 3.50 now. Yes.', ['It cost 3.50 now.', 'Yes.']),
    ('今天好。我有书！是', ['今天好。', '我有书！', '是']),
    ('  a  \n\n … \n b ', ['a', 'b']),
    ('(sad) one. two.', ['(sad) one.', 'two.']),
  ],
)
def test_sentences(text, pieces):
  assert text_to_codes.sentences(text) == pieces


@pytest.mark.parametrize(
  'text, message',
  [
    ('', 'text: found no word'),
    (' . ! ', 'text: found no word'),
    ('a <|EOT|> b', r'text: found the control piece <\|EOT\|>'),
    ('<audio_3>', 'text: found <audio_k> pieces'),
    ('caf\udce9', r"text: 'caf\\udce9' is not UTF-8"),
  ],
)
def test_what_is_no_text_is_named(text, message):
  with pytest.raises(errors.UserError, match=message):
    text_to_codes.sentences(text)


def test_unknown_characters_are_named():
  class Small(parrot.Alphabet):
    def encode(self, text):
      return [0 if x == 'é' else 70 for x in text]

  vocabulary = vocabulary_lib.Vocabulary(text_size=200, text=Small())
  small = text_to_codes.Writer(parrot.Parrot(), parrot.VARIABLES, vocabulary)
  with pytest.raises(errors.UserError, match="'café' has a character"):
    small.write(['café'])


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'layout': 'song'}, "layout: found 'song', expected one of document, tu"),
    ({'longest': 0.1}, 'longest: found 0.1 s'),
    ({'longest': float('nan')}, 'longest: found nan s'),
  ],
)
def test_bad_manners_are_named(settings, message):
  with pytest.raises(errors.UserError, match=message):
    text_to_codes.SpeakOptions(**settings)


def test_a_model_without_speech_is_refused():
  deaf = vocabulary_lib.Vocabulary(
    text_size=200, linguistic_size=0, semantic_size=0, text=parrot.Alphabet()
  )
  for vocabulary, what in (
    (deaf, 'speech ids'),
    (vocabulary_lib.STEP_AUDIO, 'text vocabulary'),
  ):
    with pytest.raises(errors.UserError, match=f'has no {what}'):
      text_to_codes.Writer(None, {}, vocabulary)


@pytest.mark.parametrize(
  'config, layout',
  [
    ({'vocabulary': {'text_size': 402, 'table_size': 5522}}, 'document'),
    ({'vocabulary': {'text_size': 65536, 'table_size': 74752}}, 'document'),
    (
      {
        'vocabulary': {'text_size': 65536, 'table_size': 74752},
        'converted_from': 'models/tts',
      },
      'turns',
    ),
    (
      {
        'vocabulary': {'text_size': 402, 'table_size': 5522},
        'converted_from': 'models/qwen',
      },
      'document',
    ),
    ({'feed': {'sources': [{'name': 'sft_tts', 'rows': 3}]}}, 'document'),
    ({'feed': {'sources': [{'name': 'tts_turns', 'rows': 3}]}}, 'turns'),
    ({'feed': {'batch_size': 3}}, 'document'),
  ],
)
def test_the_layout_follows_the_run(tmp_path, config, layout):
  files.write_json(tmp_path / 'config.json', config)
  assert text_to_codes.layout_of(tmp_path) == layout
