"""The trained text vocabulary: places, bytes, round trips."""

import hypothesis
from hypothesis import strategies as st
import pytest
import sentencepiece

from data_pipelines.tasks import vocabulary as trainer
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.corpus import manifest

TEXTS = ['the cat sees', 'a dog', '小猫喜欢书', 'big  red'] * 30


@pytest.fixture(scope='module')
def char():
  return sentencepiece.SentencePieceProcessor(
    model_proto=trainer.train(TEXTS, model_type='char')
  )


@pytest.mark.parametrize('model_type, size', [('unigram', 350), ('bpe', 360)])
def test_control_pieces_stand_at_their_ids(model_type, size, char):
  model = trainer.train(TEXTS, model_type=model_type, size=size)
  for processor in (
    char,
    sentencepiece.SentencePieceProcessor(model_proto=model),
  ):
    for piece, place in vocabulary.CONTROL.items():
      assert processor.id_to_piece(place) == piece
      assert processor.piece_to_id(piece) == place
    assert processor.id_to_piece(40) == '<spare_40>'
    assert processor.is_control(40)
    assert processor.id_to_piece(68) == '<0x00>'
    assert processor.id_to_piece(323) == '<0xFF>'


def test_char_has_a_piece_for_every_character(char):
  ids = char.encode('the 小猫')
  assert len(ids) == 6
  assert min(ids) >= trainer.BYTES + vocabulary.CONTROL_SIZE
  assert char.encode('<|EOT|>') != [vocabulary.EOT]


@hypothesis.settings(deadline=None)
@hypothesis.given(
  st.text(st.characters(codec='utf-8', exclude_characters='\x00▁'))
)
def test_any_text_comes_back(char, text):
  assert char.decode(char.encode(text)) == text


def test_a_model_with_other_places_is_refused(tmp_path):
  prefix = str(tmp_path / 'plain')
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS), model_prefix=prefix, model_type='char',
    vocab_size=40, hard_vocab_limit=False, minloglevel=2,
  )  # fmt: skip
  with open(prefix + '.model', 'rb') as handle:
    with pytest.raises(errors.UserError, match='piece 3 is'):
      trainer.check(handle.read())


@pytest.mark.parametrize(
  'settings, said',
  [
    ({'model_type': 'words'}, 'model_type: found'),
    ({'model_type': 'unigram', 'size': 0}, 'expected more than 324'),
    ({'model_type': 'bpe', 'size': 325}, 'cannot train|expected'),
  ],
)
def test_impossible_settings_are_said(settings, said):
  with pytest.raises(errors.UserError, match=said):
    trainer.train(TEXTS, **settings)


def test_make_trains_once_and_again_when_the_texts_change(tmp_path):
  corpus = tmp_path / 'text'

  def write(*texts):
    manifest.write(
      corpus,
      [
        manifest.Utterance(id=f't{k}', kind='text', text=text)
        for k, text in enumerate(texts)
      ],
    )

  model = tmp_path / 'text.model'
  write('the cat', 'a dog')
  first = trainer.make(model, [str(corpus)])
  assert first['made'] and first['size'] == 68 + 256 + 9
  stamp = model.stat().st_mtime_ns
  assert not trainer.make(model, [str(corpus)])['made']
  assert model.stat().st_mtime_ns == stamp
  write('the cat', 'a dog', '书')
  again = trainer.make(model, [str(corpus)], overwrite=True)
  assert again['size'] == first['size'] + 1
  with pytest.raises(errors.UserError, match="no split 'train'"):
    write()
    trainer.make(model, [str(corpus)])
