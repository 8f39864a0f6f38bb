"""Text is characters, whole, whatever the author left in a tokenizer.

The oracles are the libraries themselves: the same model to which no special
piece was ever added, and round trips.
"""

import io
import json

import hypothesis
from hypothesis import strategies as st
import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors
from tokenizers import trainers

from step_audio_jax import vocabulary
from step_audio_jax.tokenizers.text import characters
from step_audio_jax.tokenizers.text import text_models as text_lib

LINES = ['the cat sees a dog', 'a dog\tand    a cow', '妈妈有水', 'say <s>'] * 5
SPECIAL = ['<|endoftext|>', '</s>', '[SEP]', '<s>', '[UNK]']
SIGNS = ['<tool_call>', '[INST]', '<|User|>', '<｜end｜>', '__end__']
WRITTEN = [*SPECIAL, *SIGNS, *vocabulary.CONTROL, '<audio_5>', '<0x41>']
TEXTS = st.lists(
  st.sampled_from(WRITTEN)
  | st.text(st.characters(exclude_categories=['Cs']), max_size=6),
  max_size=6,
).map(' '.join)


def byte_level():
  """A byte-level BPE, as of GPT-2, Llama 3 and Qwen."""
  model = tokenizers.Tokenizer(models.BPE())
  model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  model.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=330,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(LINES, trainer)
  return model


def unigram():
  """A unigram model with bytes, made from SentencePiece: its control pieces
  are ordinary pieces of the best score."""
  pieces = [(name, 0.0) for name in ('<unk>', '<s>', '</s>')]
  pieces += [(f'<0x{byte:02X}>', 0.0) for byte in range(256)]
  pieces += [('▁', -2.0), ('▁the', -3.0), ('<', -3.5), ('cat', -4.5)]
  pieces += [(letter, -5.0) for letter in 'acdeghost']
  model = tokenizers.Tokenizer(
    models.Unigram(pieces, unk_id=0, byte_fallback=True)
  )
  model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='never')
  model.decoder = decoders.Sequence(
    [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()]
  )
  return model


def words(kind):
  """A table of words, among them the special ones."""
  table = {name: i for i, name in enumerate([*SPECIAL, 'the', 'cat', 'a'])}
  model = tokenizers.Tokenizer(kind(table, unk_token='[UNK]'))
  model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  return model


def left_by_its_author(model, special=(), plain=()):
  """The tokenizer.json with all that an author may leave in it."""
  model = tokenizers.Tokenizer.from_str(model.to_str())
  model.add_special_tokens(list(special))
  model.add_tokens([tokenizers.AddedToken(t, special=False) for t in plain])
  if special:
    first = special[0]
    model.post_processor = processors.TemplateProcessing(
      f'{first} $A {first}',
      None,
      [(first, model.token_to_id(first))],
    )
    model.enable_padding(pad_token=first, length=12)
  model.enable_truncation(5)
  return json.loads(model.to_str())


def loaded(folder, tree):
  path = folder / 'tokenizer.json'
  path.write_text(json.dumps(tree))
  return text_lib.load(path)


def own_ids(text, ids):
  return [i - text.moved for i in ids]


@pytest.fixture(scope='module', params=['byte_level', 'unigram'])
def pair(request, tmp_path_factory):
  """A tokenizer as its author left it, and the bare one."""
  bare = {'byte_level': byte_level, 'unigram': unigram}[request.param]()
  tree = left_by_its_author(bare, SPECIAL, [*SIGNS, '<|EOT|>', '<audio_5>'])
  if request.param == 'byte_level':
    tree['model']['dropout'] = 0.5
  return loaded(tmp_path_factory.mktemp('pair'), tree), bare


@hypothesis.given(TEXTS)
def test_any_text_comes_back(pair, line):
  text, bare = pair
  hypothesis.assume('▁' not in line)  # unigram's own sign of a space
  ids = text.encode(line)
  assert text.decode(ids) == line
  if isinstance(bare.model, models.BPE):  # no special piece ever lay in it
    assert own_ids(text, ids) == bare.encode(line).ids


@hypothesis.given(TEXTS)
def test_no_text_is_a_control_piece(pair, line):
  text, bare = pair
  found = set(own_ids(text, text.encode(line)))
  whole = tokenizers.Tokenizer.from_file(text.path)
  assert not found & {whole.token_to_id(t) for t in [*SPECIAL, *SIGNS]}


def test_unigram_is_the_library_where_no_piece_is_called(tmp_path):
  bare = unigram()
  text = loaded(tmp_path, left_by_its_author(bare, ['</s>', '<s>', '<unk>']))
  for line in ('the cat goes', 'cathode  of the dog', 'naïve < the 妈妈', ''):
    assert own_ids(text, text.encode(line)) == bare.encode(line).ids
  ids = own_ids(text, text.encode('</s>a<unk>'))
  # '<' is a piece, '/' and '>' are bytes.
  pieces = [bare.id_to_token(i) for i in ids]
  assert pieces[:5] == ['<', '<0x2F>', 's', '<0x3E>', 'a']
  assert text.decode(text.encode('<0x41>b the <0x0a>')) == '<0x41>b the <0x0a>'


@pytest.mark.parametrize('normal', [None, normalizers.NFKC()])
@pytest.mark.parametrize('scheme', ['always', 'first', 'never'])
def test_names_of_bytes_beside_any_start_of_words(tmp_path, normal, scheme):
  bare = unigram()
  bare.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
  if normal is not None:
    bare.normalizer = normal
  text = loaded(tmp_path, left_by_its_author(bare, ['<s>']))
  line = 'the <0x41>cat ﬁ<0x42>'
  lead = '' if scheme == 'never' else ' '
  want = line.replace('ﬁ', 'fi') if normal is not None else line
  assert text.decode(text.encode(line)) == lead + want
  ids = own_ids(text, text.encode('the cat'))
  assert ids == bare.encode('the cat').ids


def test_ten_thousand_words_stay_ten_thousand(tmp_path):
  bare = words(models.WordLevel)
  text = loaded(tmp_path, left_by_its_author(bare, SPECIAL))
  ids = text.encode('the cat ' * 5000)
  assert len(ids) == 10_000
  assert own_ids(text, ids[:2]) == bare.encode('the cat').ids
  assert len(text.encode('the')) == 1  # not filled up, nothing around it


@pytest.mark.parametrize('kind', [models.WordLevel, models.WordPiece])
def test_special_words_of_a_table_are_unknown_words(tmp_path, kind):
  text = loaded(tmp_path, left_by_its_author(words(kind), SPECIAL))
  ids = own_ids(text, text.encode('the [SEP] cat <|endoftext|> [UNK]'))
  unknown = SPECIAL.index('[UNK]')
  assert ids == [5, unknown, 6, unknown, unknown]


def test_merges_make_no_control_piece(tmp_path):
  """Converted SentencePiece models have merges that spell `</s>`, a byte."""
  names = ['</s>', '<0x41>', '<', '/', 's', '>', '</', 's>', '0', 'x', '4']
  names += ['1', '41>', '<0x', '<0', 'x4']
  table = {name: i for i, name in enumerate(names)}
  merges = [('<', '/'), ('s', '>'), ('</', 's>'), ('1', '>'), ('4', '1>')]
  table['1>'] = len(table)
  merges += [('<', '0'), ('<0', 'x'), ('<0x', '41>')]
  bare = tokenizers.Tokenizer(models.BPE(table, merges, byte_fallback=True))
  assert bare.encode('</s>').ids == [0] and bare.encode('<0x41>').ids == [1]
  tree = left_by_its_author(bare, ['</s>'])
  for spelling in (tree['model']['merges'], [' '.join(m) for m in merges]):
    tree['model']['merges'] = spelling
    text = loaded(tmp_path, tree)
    pieces = [bare.id_to_token(i) for i in own_ids(text, text.encode('</s>'))]
    assert pieces == ['</', 's>']
    pieces = [bare.id_to_token(i) for i in own_ids(text, text.encode('<0x41>'))]
    assert pieces == ['<0x', '41>']


@pytest.mark.parametrize('special', [(), SPECIAL])
def test_ordinary_pieces_that_were_added_still_match(tmp_path, special):
  """With their own ids, also where special pieces lie before or among them."""
  added = ['    ', '<tool_call>', '\n\n', 'covid-19', '新冠', '🙂', '...']
  text = loaded(tmp_path, left_by_its_author(byte_level(), special, added))
  whole = tokenizers.Tokenizer.from_file(text.path)
  for piece in added:
    ids = text.encode(f'a{piece}b')
    called = whole.token_to_id(piece) in own_ids(text, ids)
    assert called == (piece != '<tool_call>'), piece
    assert text.decode(ids) == f'a{piece}b'


@pytest.mark.parametrize('sign', [*SIGNS, '<extra_id_0>', '>>TITLE<<', '|end|'])
def test_pieces_that_are_written_like_signs_do_not(tmp_path, sign):
  text = loaded(tmp_path, left_by_its_author(byte_level(), (), [sign]))
  line = f'a {sign} b'
  assert own_ids(text, text.encode(line)) == byte_level().encode(line).ids


def test_a_byte_order_mark_and_utf_16(tmp_path):
  tree = left_by_its_author(byte_level(), SPECIAL)
  path = tmp_path / 'tokenizer.json'
  want = byte_level().encode('a 妈').ids
  for encoding in ('utf-8-sig', 'utf-16', 'utf-8'):
    path.write_bytes(json.dumps(tree, ensure_ascii=False).encode(encoding))
    text = text_lib.load(path)
    assert own_ids(text, text.encode('a 妈')) == want


def sentence_piece(path, **settings):
  out = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(LINES),
    model_writer=out,
    model_type='unigram',
    vocab_size=330,
    hard_vocab_limit=False,
    byte_fallback=True,
    pad_id=-1,
    normalization_rule_name='identity',
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    minloglevel=2,
    **settings,
  )
  path.write_bytes(out.getvalue())
  return text_lib.load(path)


@pytest.fixture(scope='module')
def user_defined(tmp_path_factory):
  """A SentencePiece model in whose texts pieces are called."""
  called = [*list(vocabulary.CONTROL)[3:], '<audio_5>', '<tool_call>', 'cow']
  path = tmp_path_factory.mktemp('spm') / 'text.model'
  return sentence_piece(path, user_defined_symbols=called)


@hypothesis.given(TEXTS)
def test_sentencepiece_calls_nothing_either(user_defined, line):
  text = user_defined
  hypothesis.assume('▁' not in line and '\0' not in line)
  ids = text.encode(line)
  assert text.decode(ids) == line
  whole = sentencepiece.SentencePieceProcessor(model_file=text.path)
  pieces = [whole.id_to_piece(i) for i in own_ids(text, ids)]
  assert not any(
    characters.is_control(piece) and not characters.BYTE.fullmatch(piece)
    for piece in pieces
  )


def test_sentencepiece_keeps_words_that_were_added(user_defined):
  whole = sentencepiece.SentencePieceProcessor(model_file=user_defined.path)
  ids = own_ids(user_defined, user_defined.encode('a cowdog'))
  assert whole.piece_to_id('cow') in ids
  assert ids == whole.encode('a cowdog')


def test_documents_and_prompts_spell_templates_call(user_defined):
  table = vocabulary.Vocabulary.over(user_defined)
  line = 'a <|EOT|><audio_5> dog'
  spelt = table.encode_text(line)
  assert all(vocabulary.CONTROL_SIZE <= i < table.text_size for i in spelt)
  called = table.encode(line)
  assert vocabulary.EOT in called and table.text_size + 5 in called
