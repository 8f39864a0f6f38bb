"""Vocabularies from files, and the table that gin files ask for."""

import pytest
import tokenizers

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.tokenizers.text import vocabularies

WORDS = {'<unknown>': 0, 'cat': 1, 'dog': 2, 'sees': 3, 'tea': 4}
OWN = len(WORDS) + vocabulary.CONTROL_SIZE  # ids of text, control pieces first


@pytest.fixture(scope='module')
def text_model(tmp_path_factory):
  path = tmp_path_factory.mktemp('text') / 'tokenizer.json'
  model = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(WORDS, unk_token='<unknown>')
  )
  model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  model.save(str(path))
  return str(path)


@pytest.mark.parametrize('multiple', [1, 7, 128, 4096])
@pytest.mark.parametrize('speech', [True, False])
def test_the_table_is_rounded_up(text_model, speech, multiple):
  table = vocabularies.load(
    text_model=text_model, speech=speech, multiple=multiple
  )
  assert table.text_size == OWN == 73
  assert table.end == OWN + (5120 if speech else 0)
  rows = vocabulary.table_size(table)
  assert rows == table.table_size and rows % multiple == 0
  assert 0 <= rows - table.end < multiple


def test_text_and_speech_in_one_line(text_model):
  table = vocabularies.load(text_model=text_model)
  ids = table.encode('<s>cat sees<audio_0><audio_1024>dog<|EOT|>')
  assert ids == [1, 69, 71, 73, 73 + 1024, 70, 3]
  assert table.decode(ids) == 'cat sees dog'
  assert table.is_linguistic(ids[3]) and table.is_semantic(ids[4])


def test_a_backbone_without_ears_has_no_speech(text_model):
  table = vocabularies.load(text_model=text_model, speech=False, multiple=128)
  assert table.encode('cat<|EOT|>') == [69, 3]
  assert not any(
    table.is_linguistic(i) or table.is_semantic(i)
    for i in range(table.table_size)
  )
  with pytest.raises(errors.UserError, match='<audio_0>'):
    table.encode('cat<audio_0>')
  with pytest.raises(errors.UserError, match='linguistic codes: code 0'):
    table.interleave([0, 0], [0, 0, 0])


def test_speech_is_appended_behind_the_text(text_model):
  """So rows of text keep their places when a backbone learns to hear."""
  deaf = vocabularies.load(text_model=text_model, speech=False)
  hearing = vocabularies.load(text_model=text_model)
  line = 'the cat sees tea'
  assert deaf.encode(line) == hearing.encode(line)
  assert hearing.linguistic_offset == deaf.table_size


@pytest.mark.parametrize('speech', [True, False])
def test_rows_of_text_are_counted_without_its_file(text_model, speech):
  settings = {'speech': speech, 'multiple': 128}
  read = vocabularies.load(text_model=text_model, **settings)
  counted = vocabularies.load(text_model=None, text_rows=len(WORDS), **settings)
  assert counted == read and counted.text is None
  # A file that is there says itself how many it has.
  told = vocabularies.load(text_model=text_model, text_rows=9, **settings)
  assert told == read
  with pytest.raises(errors.UserError, match='load.text_model: missing'):
    vocabularies.load(text_model=None)


def test_a_file_that_is_none_is_told(tmp_path):
  with pytest.raises(errors.UserError, match='absent.model: no such'):
    vocabularies.load(text_model=str(tmp_path / 'absent.model'))
  (tmp_path / 'x.json').write_text('[]')
  with pytest.raises(errors.UserError, match='x.json: not a tokenizer.json'):
    vocabularies.load(text_model=str(tmp_path / 'x.json'), speech=False)


def test_the_released_layout():
  table = vocabulary.STEP_AUDIO
  assert (table.text_size, table.end, table.table_size) == (65536, 70656, 74752)
  assert vocabulary.table_size(table) - table.end == 4096
  assert table == vocabulary.Vocabulary(table_size=74752)
  assert table.to_audio_string(table.interleave([5, 6], [0, 1, 4095])) == (
    '<audio_5><audio_6><audio_1024><audio_1025><audio_5119>'
  )


def test_vocabularies_are_equal_by_their_sizes(text_model):
  a, b = (vocabularies.load(text_model=text_model) for _ in range(2))
  assert a == b and hash(a) == hash(b)
  assert a != vocabularies.load(text_model=text_model, multiple=4096)
