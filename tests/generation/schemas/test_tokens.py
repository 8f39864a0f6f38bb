"""What ids write, against the decoders themselves."""

import numpy as np
import pytest
import tokenizers

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation.schemas import tokens
from step_audio_jax.tokenizers.text import text_models
from tests.generation.schemas import material

TEXTS = [
  '{"name": "x  y", "n": [1, 2.50]}',
  ' two  spaces, é妈妈😀 \n\t"\\u" <0x41> ▁ ',
  'the cat says    "hello"',
]


@pytest.fixture(scope='module', params=material.KINDS)
def table(request):
  return material.vocabulary(request.param)


@pytest.mark.parametrize('text', TEXTS)
def test_ids_of_a_text_write_it(table, text):
  found = tokens.of_vocabulary(table)
  ids = material.behind(table, text)
  written = b''.join(found.written[i] for i in ids)
  # A sign of SentencePiece cannot be told from a space.
  assert written == text.encode() or '▁' in text
  assert found.text_V[ids].all()


def test_no_control_piece_and_no_speech_is_text(table):
  found = tokens.of_vocabulary(table)
  assert not found.text_V[: vocabulary_lib.CONTROL_SIZE].any()
  assert not found.text_V[table.text_size :].any()
  assert not any(found.written[table.text_size :])
  special = [n for n, (_, k) in enumerate(table.text.pieces) if k == 'special']
  assert not found.text_V[special].any()


def test_which_decoders_drop_a_space():
  drops = {
    kind: tokens.of_vocabulary(material.vocabulary(kind)).drops_space
    for kind in material.KINDS
  }
  assert drops == {
    'own': False,
    'llama': True,
    'bytes': False,
    'metaspace': True,
  }


def test_a_trie_holds_every_id_once(table):
  found = tokens.of_vocabulary(table)
  trie = found.trie
  reached, nodes = {}, np.zeros(1, np.int64)
  texts = [b'']
  while len(nodes):
    ids, whose = trie.ids_of(nodes)
    for token, place in zip(ids.tolist(), whose.tolist()):
      assert token not in reached
      reached[token] = texts[place]
    nodes, parents = trie.children(nodes)
    texts = [
      texts[p] + bytes([b])
      for p, b in zip(parents.tolist(), trie.byte_M[nodes].tolist())
    ]
  assert reached == {n: one for n, one in enumerate(found.written) if one}


def save(path, model):
  model.save(str(path))
  return vocabulary_lib.Vocabulary.over(text_models.load(path))


def test_what_cannot_write_json(tmp_path):
  with pytest.raises(errors.UserError, match='no text model'):
    tokens.of_vocabulary(vocabulary_lib.STEP_AUDIO)
  pieces = {'[UNK]': 0} | {chr(n): n - 31 for n in range(32, 127)}
  model = tokenizers.Tokenizer(
    tokenizers.models.WordPiece(pieces, unk_token='[UNK]')
  )
  model.decoder = tokenizers.decoders.WordPiece()
  with pytest.raises(errors.UserError, match='is decoded as'):
    tokens.of_vocabulary(save(tmp_path / 'words.json', model))
  alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  some = sorted(set(alphabet) - {'{'})
  model = tokenizers.Tokenizer(
    tokenizers.models.BPE({one: n for n, one in enumerate(some)}, [])
  )
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  model.decoder = tokenizers.decoders.ByteLevel()
  with pytest.raises(errors.UserError, match='no piece for the byte 0x7B'):
    tokens.of_vocabulary(save(tmp_path / 'bytes.json', model))
