"""Text vocabularies of both kinds, and where control pieces stand."""

import io

import pytest
import sentencepiece
import tokenizers

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.tokenizers.text import text_models

TEXTS = ['the cat sees a dog', 'a dog', '妈妈有水', 'the old king has tea'] * 5


def train(path, pieces):
  out = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS),
    model_writer=out,
    model_type='char',
    vocab_size=len(pieces) + 400,
    hard_vocab_limit=False,
    byte_fallback=True,
    control_symbols=pieces,
    pad_id=-1,
    normalization_rule_name='identity',
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    minloglevel=2,
  )
  path.write_bytes(out.getvalue())
  return path


def step_audio_pieces():
  pieces = [f'<spare_{k}>' for k in range(vocabulary.CONTROL_SIZE)]
  for piece, place in vocabulary.CONTROL.items():
    pieces[place] = piece
  return pieces[3:]


@pytest.fixture(scope='module')
def own(tmp_path_factory):
  path = tmp_path_factory.mktemp('own') / 'text.model'
  return text_models.load(train(path, step_audio_pieces()))


@pytest.fixture(scope='module')
def foreign(tmp_path_factory):
  path = tmp_path_factory.mktemp('foreign') / 'text.model'
  return text_models.load(train(path, []))


@pytest.fixture(scope='module')
def hugging_face(tmp_path_factory):
  path = tmp_path_factory.mktemp('hf') / 'tokenizer.json'
  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=['<|endoftext|>'],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(TEXTS, trainer)
  model.save(str(path))
  return text_models.load(path)


@pytest.fixture(params=['own', 'foreign', 'hugging_face'])
def any_text(request):
  return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
  'line', ['the cat', 'a  dog ', '妈妈 sees 水', 'naïve → 9', '']
)
def test_round_trip(any_text, line):
  ids = any_text.encode(line)
  assert all(vocabulary.CONTROL_SIZE <= i < any_text.size for i in ids)
  assert any_text.decode(ids) == line


def test_control_ids_are_left_out(any_text):
  ids = any_text.encode('a dog')
  framed = [vocabulary.BOS, *ids, vocabulary.EOT, any_text.size + 3]
  assert any_text.decode(framed) == 'a dog'


def test_a_model_with_the_control_pieces_keeps_its_ids(own):
  model = sentencepiece.SentencePieceProcessor(model_file=own.path)
  assert own.encode('the cat') == model.encode('the cat')
  assert own.size == model.vocab_size()


def test_other_models_are_moved_up(foreign, hugging_face):
  model = sentencepiece.SentencePieceProcessor(model_file=foreign.path)
  assert foreign.encode('the cat') == [i + 68 for i in model.encode('the cat')]
  assert foreign.size == model.vocab_size() + 68
  other = tokenizers.Tokenizer.from_file(hugging_face.path)
  assert hugging_face.encode('the cat') == [
    i + 68 for i in other.encode('the cat').ids
  ]
  assert hugging_face.size == other.get_vocab_size() + 68


def test_audio_pieces_do_not_count_as_text(tmp_path):
  pieces = step_audio_pieces()
  whole = train(tmp_path / 'whole.model', pieces)
  with_audio = train(
    tmp_path / 'audio.model', pieces + [f'<audio_{k}>' for k in range(9)]
  )
  first = sentencepiece.SentencePieceProcessor(
    model_file=str(with_audio)
  ).piece_to_id('<audio_0>')
  assert text_models.load(with_audio).size == first
  assert text_models.load(whole).size > first


def test_a_vocabulary_stands_on_it(any_text):
  table = vocabulary.Vocabulary.over(any_text)
  ids = table.encode('<|BOT|>a dog<audio_1><|EOT|>')
  assert ids[0] == 4 and ids[-1] == 3
  assert ids[-2] == any_text.size + 1
  assert table.decode(ids) == 'a dog'


def test_bad_files_say_what_is_wrong(tmp_path):
  with pytest.raises(errors.UserError, match='absent.model: no such'):
    text_models.load(tmp_path / 'absent.model')
  with pytest.raises(errors.UserError, match='unknown kind'):
    text_models.load(tmp_path / 'words.txt')
  for suffix, kind in (('model', 'SentencePiece'), ('json', 'tokenizer.json')):
    broken = tmp_path / f'x.{suffix}'
    broken.write_bytes(b'{"version": 1')
    with pytest.raises(errors.UserError, match=f'x.{suffix}: not a {kind}'):
      text_models.load(broken)
