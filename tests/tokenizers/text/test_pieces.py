"""Digests of text models: what ids mean, and how texts are cut."""

import shutil

import pytest
from sentencepiece import sentencepiece_model_pb2
import tokenizers

from data_pipelines.tasks import vocabulary as trainer
from step_audio_jax import vocabulary
from step_audio_jax.tokenizers.text import text_models as text_lib
from step_audio_jax.tokenizers.text import vocabularies

TEXTS = ['the cat sees a dog', 'a bird hears the dog']


def save(folder, name, model):
  path = folder / f'{name}.model'
  path.write_bytes(
    model if isinstance(model, bytes) else model.SerializeToString()
  )
  return text_lib.load(path)


@pytest.fixture(scope='module')
def unigram():
  raw = trainer.train(TEXTS, model_type='unigram', size=345)
  return sentencepiece_model_pb2.ModelProto.FromString(raw)


def copy_of(proto):
  other = sentencepiece_model_pb2.ModelProto()
  other.CopyFrom(proto)
  return other


def test_the_place_of_the_file_does_not_matter(unigram, tmp_path):
  one = save(tmp_path, 'one', unigram)
  (tmp_path / 'elsewhere').mkdir()
  path = shutil.copy(one.path, tmp_path / 'elsewhere/two.model')
  two = text_lib.load(path)
  assert one.pieces_digest == two.pieces_digest
  assert one.encoder_digest == two.encoder_digest


def test_other_scores_cut_texts_otherwise_and_mean_the_same(unigram, tmp_path):
  other = copy_of(unigram)
  for piece in other.pieces:
    piece.score -= 0.5
  one, two = save(tmp_path, 'one', unigram), save(tmp_path, 'two', other)
  assert one.pieces == two.pieces and one.pieces_digest == two.pieces_digest
  assert one.encoder_digest != two.encoder_digest


def test_the_same_pieces_in_another_order_are_another_vocabulary(
  unigram, tmp_path
):
  other = copy_of(unigram)
  a, b = other.pieces[330], other.pieces[331]
  a.piece, b.piece = b.piece, a.piece
  one, two = save(tmp_path, 'one', unigram), save(tmp_path, 'two', other)
  assert one.size == two.size and sorted(one.pieces) == sorted(two.pieces)
  assert one.pieces_digest != two.pieces_digest


def test_equal_sizes_of_other_pieces_are_other_vocabularies(tmp_path):
  one = save(tmp_path, 'one', trainer.train(['abc']))
  two = save(tmp_path, 'two', trainer.train(['abd']))
  assert one.size == two.size and one.pieces_digest != two.pieces_digest
  assert one.pieces[:3] == (
    ('<unk>', 'control'), ('<s>', 'control'), ('</s>', 'control'),
  )  # fmt: skip
  assert one.pieces[68] == ('<0x00>', 'byte')
  assert set(one.pieces[68 + 256 :]) ^ set(two.pieces[68 + 256 :]) == {
    ('c', 'normal'),
    ('d', 'normal'),
  }


def words(path, vocab, special=()):
  model = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocab, unk_token='unknown')
  )
  model.add_special_tokens(list(special))
  model.save(str(path))
  return text_lib.load(path)


def test_a_moved_model_keeps_its_own_special_pieces_apart(tmp_path):
  vocab = {'unknown': 0, 'cat': 1, 'dog': 2}
  text = words(tmp_path / 'tokenizer.json', vocab, ['<s>'])
  assert text.moved == vocabulary.CONTROL_SIZE
  assert text.pieces[1] == ('<s>', 'control')
  assert text.pieces[68:] == (
    ('unknown', 'normal'), ('cat', 'normal'), ('dog', 'normal'),
    ('<s>', 'special'),
  )  # fmt: skip
  swapped = words(
    tmp_path / 'b.json', {'unknown': 0, 'dog': 1, 'cat': 2}, ['<s>']
  )
  assert swapped.pieces_digest != text.pieces_digest
  holes = words(tmp_path / 'c.json', {'unknown': 0, 'cat': 2})
  assert holes.pieces[68:] == (
    ('unknown', 'normal'), ('', 'unused'), ('cat', 'normal'),
  )  # fmt: skip


def test_a_vocabulary_tells_its_digests(tmp_path):
  text = save(tmp_path, 'one', trainer.train(['abc']))
  told = vocabulary.Vocabulary.over(text).describe()
  assert told['pieces_sha256'] == text.pieces_digest
  assert told['encoder_sha256'] == text.encoder_digest
  assert told['text_model'] == str(tmp_path / 'one.model')
  again = vocabulary.Vocabulary.of_sizes(told, text)
  assert again == vocabulary.Vocabulary.over(text)
  deaf = vocabularies.load(text_model=text.path, speech=False).describe()
  assert deaf['pieces_sha256'] == told['pieces_sha256']
  assert 'pieces_sha256' not in vocabulary.Vocabulary().describe()
