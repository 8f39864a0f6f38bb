"""What an exported folder says of ids: where a text ends, what a row is called.

The oracles are the `tokenizers` library, which reads what was written, and the
tables of the run itself.
"""

import json

import ml_dtypes
import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import processors

from data_pipelines.tasks import vocabulary as vocabulary_door
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import restore
from step_audio_jax.interop.language import exporting
from step_audio_jax.interop.language import importing
from step_audio_jax.interop.language import rows as rows_lib
from step_audio_jax.interop.language import tokenizer_files
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.tokenizers.text import text_models as text_lib
from tests.interop.language import tiny_folders as tiny

CONTROL = vocabulary_lib.CONTROL
WORDS = [f'w{i}' for i in range(15)]


def their_tokenizer(special=('<|begin|>', '<|end|>')):
  """A word tokenizer that begins each text, and cuts and fills it."""
  table = {word: i for i, word in enumerate(WORDS)}
  model = tokenizers.Tokenizer(models.WordLevel(table, unk_token='w0'))
  model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  model.add_special_tokens(list(special))
  begin = special[0]
  model.post_processor = processors.TemplateProcessing(
    f'{begin} $A', None, [(begin, model.token_to_id(begin))]
  )
  model.enable_truncation(4)
  model.enable_padding(length=4, pad_token=begin)
  return model


def their_folder(path, *, special=('<|begin|>', '<|end|>'), **settings):
  folder, tensors = tiny.make(
    path, 'llama', bos_token_id=15, eos_token_id=[16], **settings
  )
  their_tokenizer(special).save(str(folder / 'tokenizer.json'))
  files.write_json(
    folder / 'generation_config.json',
    {
      'eos_token_id': [16],
      'temperature': 0.6,
      'forced_eos_token_id': 16,
      'stop_strings': ['<|end|>'],
    },
  )
  files.write_json(
    folder / 'tokenizer_config.json',
    {'eos_token': '<|end|>', 'chat_template': 'old', 'model_max_length': 99},
  )
  files.write_json(folder / 'special_tokens_map.json', {'eos_token': '<|end|>'})
  (folder / 'chat_template.jinja').write_text('old')
  (folder / 'merges.txt').write_text('old')
  return folder, tensors


def trained(base, run, *, speech=True, padding=0, **changes):
  """A run that began from `base`: what training makes of an import."""
  importing.import_folder(base, run, speech=speech)
  config = files.read_json(run / 'config.json')
  del config['converted_from']
  config |= {'init_from': [str(base)], **changes}
  files.write_json(run / 'config.json', config)
  return run


def read(folder, name):
  return json.loads((folder / name).read_text(encoding='utf-8'))


def exported(run, out, **settings):
  facts = exporting.export_run(run, out, **settings)
  return facts, tokenizers.Tokenizer.from_file(str(out / 'tokenizer.json'))


def table_of(folder):
  return np.asarray(shards.read_folder(folder)['model.embed_tokens.weight'])


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """A run that began from their folder, and its export."""
  root = tmp_path_factory.mktemp('world')
  base, _ = their_folder(root / 'base')
  run = trained(base, root / 'run')
  return run, root / 'out', *exported(run, root / 'out')


def test_a_folder_may_be_named(world, tmp_path):
  run, out, facts, _ = world
  told, _ = exported(run, tmp_path / 'out', like=run.with_name('base'))
  assert told == facts
  for path in out.glob('*.json'):
    assert (tmp_path / 'out' / path.name).read_bytes() == path.read_bytes()


def test_every_file_says_where_a_text_ends(world):
  _, out, facts, found = world
  end = found.token_to_id('<|EOT|>')
  begin, pad = found.token_to_id('<s>'), found.token_to_id('<unk>')
  table = table_of(out)
  assert len(table) == 17 + 5120 + 68 and end == 17 + 5120 + 3
  assert facts['ids'] == {
    'bos_token_id': begin,
    'eos_token_id': end,
    'pad_token_id': pad,
  }
  for name in ('config.json', 'generation_config.json'):
    told = read(out, name)
    assert (told['bos_token_id'], told['eos_token_id']) == (begin, end), name
    assert told['pad_token_id'] == pad
  generation = read(out, 'generation_config.json')
  assert generation['temperature'] == 0.6
  assert not {'forced_eos_token_id', 'stop_strings'} & set(generation)
  want = {'bos_token': '<s>', 'eos_token': '<|EOT|>', 'pad_token': '<unk>'}
  assert read(out, 'special_tokens_map.json') == want
  config = read(out, 'tokenizer_config.json')
  assert {k: config[k] for k in want} == want
  assert 'chat_template' not in config and config['model_max_length'] == 99
  decoder = config['added_tokens_decoder']
  assert decoder[str(end)]['content'] == '<|EOT|>'
  assert decoder[str(end)]['special'] and decoder['16']['content'] == '<|end|>'
  assert read(out, 'added_tokens.json')['<|EOT|>'] == end
  assert read(out, 'config.json')['vocab_size'] == len(table)
  names = {path.name for path in out.iterdir()}
  assert not {'merges.txt', 'vocab.json'} & names


def test_every_row_has_its_piece(world):
  """Read with the library, against the tables of the run."""
  run, out, _, found = world
  _, variables, vocabulary = restore.load_model(run)
  ours = variables['params']['transformer']['embedding']
  theirs = table_of(out)
  for piece in ('<|EOT|>', '<|BOT|>', '<audio_start>', '<|TTS|>', '<im_patch>'):
    row = theirs[found.token_to_id(piece)]
    np.testing.assert_array_equal(row, ours[CONTROL[piece]])
  for k in (0, 1, 1023, 1024, 5119):
    place = found.token_to_id(f'<audio_{k}>')
    np.testing.assert_array_equal(theirs[place], ours[vocabulary.text_size + k])
  for i, word in enumerate(WORDS):
    assert found.token_to_id(word) == i
    np.testing.assert_array_equal(theirs[i], ours[68 + i])
  assert found.get_vocab_size() == len(theirs)
  codes = vocabulary.interleave([3, 900], [0, 17, 4095])
  line = vocabulary.to_audio_string(codes)
  ids = found.encode(line, add_special_tokens=False).ids
  assert ids == [int(i) - 68 for i in codes]
  assert found.decode(ids).replace(' ', '') == line
  assert found.decode([*ids, found.token_to_id('<|EOT|>')]).endswith('5119>')


def test_documents_have_the_same_ids_there(world):
  """A row of the run, spelt out, is the same document through their files."""
  run, _, _, found = world
  _, _, table = restore.load_model(run)
  layouts = documents.LAYOUTS
  speech = table.interleave(np.arange(4), np.arange(6))
  words = 'w3 w5 w7 w9 w11 w13 w2'
  size = table.text_size - 68
  row_of = {
    **{i: i - 68 for i in range(68, table.end)},
    **{i: size + 5120 + i for i in range(68)},
  }
  for document, spelt in (
    (layouts['text'].document(table, 'x', text=words), f'{words}<|EOT|>'),
    (
      layouts['tts'].document(table, 'x', text=words, speech=speech),
      f'<|TTS|><text_start>{words}<audio_start>'
      f'{table.to_audio_string(speech)}<|EOT|>',
    ),
  ):
    want = [row_of[int(i)] for i in document.tokens]
    assert found.encode(spelt).ids == want  # `<s>` by itself, all of it


def test_rows_that_pad_the_table_are_named_too(world):
  config = files.read_json(world[0] / 'config.json')
  rows = rows_lib.Rows.of_vocabulary(config['vocabulary'], True)
  wide = rows_lib.Rows(68, rows.text_size, 5120, rows.table_size + 9, True)
  known = {word: i for i, word in enumerate([*WORDS, 'x', 'y'])}
  found = tokenizer_files.missing_pieces(wide, known)
  assert sorted(found.values()) == list(range(17, wide.table_size))
  assert found['<|EOT|>'] == wide.table_size - 65
  assert found['<audio_5119>'] == 17 + 5119
  assert [n for n in found if 'reserved' in n] == [
    f'<|reserved_{i}|>' for i in range(17 + 5120, 17 + 5129)
  ]
  assert tokenizer_files.special_ids(wide)['eos_token_id'] == found['<|EOT|>']


def test_pieces_whose_names_are_taken_get_others(tmp_path):
  base, _ = their_folder(tmp_path / 'base', special=('<s>', '</s>'))
  run = trained(base, tmp_path / 'run')
  facts, found = exported(run, tmp_path / 'out')
  assert found.token_to_id('<s>') == 15
  begin = found.token_to_id('<|step_audio:s|>')
  assert begin == facts['ids']['bos_token_id'] == 17 + 5120 + 1
  config = read(tmp_path / 'out', 'tokenizer_config.json')
  assert config['bos_token'] == '<|step_audio:s|>'
  assert found.encode('w3').ids == [begin, 3]


def test_a_text_model_keeps_the_rows_that_end_it(tmp_path):
  """Without speech too: documents end with a row that the base has not."""
  base, theirs = their_folder(tmp_path / 'base')
  run = trained(base, tmp_path / 'run', speech=False)
  facts, found = exported(run, tmp_path / 'out')
  table = table_of(tmp_path / 'out')
  assert len(table) == tiny.V + 68
  np.testing.assert_array_equal(
    table[: tiny.V], theirs['model.embed_tokens.weight']
  )
  end = facts['ids']['eos_token_id']
  assert end == found.token_to_id('<|EOT|>') == tiny.V + 3
  _, variables, _ = restore.load_model(run)
  ours = variables['params']['transformer']['embedding']
  np.testing.assert_array_equal(table[end], ours[3])
  assert found.token_to_id('<audio_0>') is None
  # And back, as it is or with speech behind.
  importing.import_folder(tmp_path / 'out', tmp_path / 'again')
  _, again, vocabulary = restore.load_model(tmp_path / 'again')
  np.testing.assert_array_equal(
    again['params']['transformer']['embedding'], ours
  )
  assert vocabulary.text_size == 68 + 17
  importing.import_folder(tmp_path / 'out', tmp_path / 'heard', speech=True)
  _, heard, vocabulary = restore.load_model(tmp_path / 'heard')
  assert vocabulary == vocabulary_lib.Vocabulary(text_size=68 + 17)
  np.testing.assert_array_equal(
    heard['params']['transformer']['embedding'][: 68 + 17], ours[: 68 + 17]
  )
  # Once more out of there, nothing is lost.
  exporting.export_run(tmp_path / 'again', tmp_path / 'out2')
  np.testing.assert_array_equal(table_of(tmp_path / 'out2'), table)
  again = read(tmp_path / 'out2', 'generation_config.json')
  assert again['eos_token_id'] == end


def test_what_was_only_converted_ends_as_it_did(tmp_path):
  base, _ = their_folder(tmp_path / 'base')
  importing.import_folder(base, tmp_path / 'run', speech=True)
  facts, found = exported(tmp_path / 'run', tmp_path / 'out')
  assert facts['ids'] == {'bos_token_id': 15, 'eos_token_id': [16]}
  told = read(tmp_path / 'out', 'generation_config.json')
  assert told == read(base, 'generation_config.json')
  assert (
    read(tmp_path / 'out', 'tokenizer_config.json')['eos_token'] == '<|end|>'
  )
  assert (tmp_path / 'out/chat_template.jinja').read_text() == 'old'
  # Rows that it has more are named all the same.
  assert found.token_to_id('<audio_7>') == 17 + 7
  assert found.token_to_id('<|EOT|>') == 17 + 5120 + 3
  assert found.encode('w3').ids[:2] == [15, 3]


@pytest.mark.parametrize(
  ('base_dtype', 'tied'), [(ml_dtypes.bfloat16, True), (np.float16, False)]
)
def test_all_tensors_are_of_the_base_dtype(tmp_path, base_dtype, tied):
  """A run in float32 of a base in another, of which config.json lies."""
  base, theirs = their_folder(tmp_path / 'base', dtype=base_dtype, tied=tied)
  run = tmp_path / 'run'
  importing.import_folder(base, run, speech=True, dtype='float32')
  config = files.read_json(run / 'config.json')
  del config['converted_from']
  files.write_json(run / 'config.json', config | {'init_from': [str(base)]})
  for path in (run / 'huggingface').iterdir():
    path.unlink()
  facts, _ = exported(run, tmp_path / 'out', shard_gb=1e-5)
  found = shards.read_folder(tmp_path / 'out')
  assert {tensor.dtype for tensor in found.values()} == {np.dtype(base_dtype)}
  name = np.dtype(base_dtype).name
  assert read(tmp_path / 'out', 'config.json')['torch_dtype'] == name
  assert ('lm_head.weight' in found) != tied and facts['files'] > 1
  index = read(tmp_path / 'out', 'model.safetensors.index.json')
  assert set(index['weight_map']) == set(found)
  size = sum(tensor.nbytes for tensor in found.values())
  assert index['metadata']['total_size'] == size == facts['bytes']
  np.testing.assert_array_equal(
    np.asarray(found['model.norm.weight']), theirs['model.norm.weight']
  )
  exporting.export_run(run, tmp_path / 'asked', dtype='float32')
  found = shards.read_folder(tmp_path / 'asked')
  assert {tensor.dtype for tensor in found.values()} == {np.dtype('float32')}


def test_without_a_base_mixed_dtypes_become_the_widest(tmp_path):
  base, _ = their_folder(tmp_path / 'base')
  run = trained(base, tmp_path / 'run', init_from=[])
  for path in (run / 'huggingface').iterdir():
    path.unlink()
  exporting.export_run(run, tmp_path / 'out')
  assert table_of(tmp_path / 'out').dtype == np.float32
  told = read(tmp_path / 'out', 'config.json')
  assert told['eos_token_id'] == 17 + 5120 + 3


@pytest.fixture(scope='module')
def own_model(tmp_path_factory):
  """A text model of this project: control pieces at their places."""
  lines = ['the cat sees a dog', 'a dog', '妈妈有水'] * 5
  path = tmp_path_factory.mktemp('own') / 'text.model'
  path.write_bytes(vocabulary_door.train(lines))
  return path


def own_run(folder, model, room=0):
  """A run of the project's own vocabulary, without any base."""
  text = text_lib.load(model)
  table = vocabulary_lib.Vocabulary(text_size=text.size + room, text=text)
  base, _ = tiny.make(folder / 'm', 'qwen3', tied=True)
  importing.import_folder(base, folder / 'run')
  config = files.read_json(folder / 'run/config.json')
  config['vocabulary'] = {
    'text_model': str(model),
    'text_size': table.text_size,
    'table_size': table.table_size,
    'linguistic_size': 1024,
    'semantic_size': 4096,
  }
  return table, config


def test_step1_with_its_own_pieces(tmp_path, own_model):
  """The whole way: its files, its code beside, and where speech begins."""
  base, _ = tiny.make(
    tmp_path / 'base',
    'step1',
    eos_token_id=2,
    vocab_size=5600,
    auto_map={'AutoModelForCausalLM': 'modeling_step1.Step1ForCausalLM'},
  )
  tensors = tiny.tensors_of('step1')
  table = np.arange(5600 * tiny.E, dtype=np.float32).reshape(5600, tiny.E)
  for name in ('model.embed_tokens.weight', 'lm_head.weight'):
    tensors[name] = table
  shards.write_file(base / 'model.safetensors', tensors)
  (base / 'modeling_step1.py').write_text('never run')
  (base / 'tokenizer.model').write_bytes(own_model.read_bytes())
  files.write_json(base / 'added_tokens.json', {'<old>': 400, '<s>': 1})
  run = trained(base, tmp_path / 'run')
  facts, found = exported(run, tmp_path / 'out')
  size = text_lib.load(own_model).size
  assert facts['ids']['eos_token_id'] == 3 == found.token_to_id('<|EOT|>')
  assert found.token_to_id('<audio_0>') == size
  told = read(tmp_path / 'out', 'config.json')
  note = {'control_rows': 0, 'speech_starts': size}
  assert told['step_audio_jax'] == note == facts['rows']
  assert told['eos_token_id'] == 3 and told['vocab_size'] == 5600
  np.testing.assert_array_equal(table_of(tmp_path / 'out'), table)
  assert (tmp_path / 'out/modeling_step1.py').read_text() == 'never run'
  added = read(tmp_path / 'out', 'added_tokens.json')
  assert added['<s>'] == 1 and '<old>' not in added and len(added) == 5121
  # And back: the same layout, and the same end.
  importing.import_folder(tmp_path / 'out', tmp_path / 'again')
  _, _, vocabulary = restore.load_model(tmp_path / 'again')
  assert (vocabulary.text_size, vocabulary.table_size) == (size, 5600)
  again, _ = exported(tmp_path / 'again', tmp_path / 'out2')
  assert (again['ids'], again['rows']) == (facts['ids'], note)


@pytest.mark.parametrize('room', [0, 7])
def test_a_run_without_a_base_brings_a_tokenizer_too(tmp_path, own_model, room):
  """Its SentencePiece model is told as a tokenizer.json: the same ids."""
  table, config = own_run(tmp_path, own_model, room)
  rows = rows_lib.Rows.of_vocabulary(config['vocabulary'], True)
  out = tmp_path / 'out'
  out.mkdir()
  told = tokenizer_files.write(out, rows, own_model, trained=True)
  found = tokenizers.Tokenizer.from_file(str(out / 'tokenizer.json'))
  assert told['added_tokens'] == 5120 + room
  assert tokenizer_files.special_ids(rows) == {
    'bos_token_id': 1,
    'eos_token_id': 3,
    'pad_token_id': 0,
  }
  assert {n: found.token_to_id(n) for n in CONTROL} == CONTROL
  assert found.token_to_id('<audio_9>') == table.text_size + 9
  line = 'a  dog sees 妈妈, naïve '
  document = documents.LAYOUTS['text'].document(table, 'x', text=line)
  assert found.encode(f'{line}<|EOT|>').ids == document.tokens.tolist()
  assert found.decode(document.tokens.tolist()) == line
  # Read again here, it is the same vocabulary.
  again = text_lib.load(out / 'tokenizer.json')
  assert (again.size, again.moved) == (table.text.size, 0)
  assert again.encode(f'{line}<s>') == table.encode_text(f'{line}<s>')
  assert again.pieces_digest == table.text.pieces_digest


@pytest.mark.parametrize('prefix', [True, False])
@pytest.mark.parametrize('kind', ['unigram', 'bpe', 'char'])
def test_sentencepiece_models_of_others(tmp_path, kind, prefix):
  lines = ['the cat sees a dog', 'Ａ dog  and', 'say  it again'] * 5
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines),
    model_prefix=str(tmp_path / 'tokenizer'),
    model_type=kind,
    vocab_size=320,
    hard_vocab_limit=False,
    byte_fallback=prefix,
    add_dummy_prefix=prefix,
    user_defined_symbols=['<tool>'],
    minloglevel=2,
  )
  path = tmp_path / 'tokenizer.model'
  text = text_lib.load(path)
  count = text.size - 68
  rows = rows_lib.Rows(68, text.size, 5120, text.size + 5120, True)
  tokenizer_files.write(tmp_path, rows, path, trained=True)
  found = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
  for line in ('the cat', ' Ａ dog  and', 'naïve 妈妈x', ''):
    ids = found.encode(line, add_special_tokens=False).ids
    assert ids == theirs.encode(line), line
  tool = found.encode('<tool>', add_special_tokens=False).ids
  assert tool == [theirs.piece_to_id('<tool>')]
  assert found.token_to_id('<audio_0>') == count
  assert found.token_to_id('<|EOT|>') == count + 5120 + 3
  # The same pieces mean the same, whichever file tells them.
  again = text_lib.load(tmp_path / 'tokenizer.json')
  assert (again.size, again.moved) == (text.size, 68)
  assert again.pieces_digest == text.pieces_digest
  # Their own <s> stays; ours has another name.
  assert found.token_to_id('<s>') == theirs.bos_id()
  assert found.token_to_id('<|step_audio:s|>') == count + 5120 + 1


def test_ids_with_holes(tmp_path):
  table = {word: 2 * i for i, word in enumerate(WORDS)}
  model = tokenizers.Tokenizer(models.WordLevel(table, unk_token='w0'))
  path = tmp_path / 'tokenizer.json'
  model.save(str(path))
  text = text_lib.load(path)
  assert text.size == 68 + 29
  rows = rows_lib.Rows(68, text.size, 5120, text.size + 5120, True)
  tokenizer_files.write(tmp_path, rows, path, trained=True)
  found = tokenizers.Tokenizer.from_file(str(path))
  assert found.token_to_id('<audio_3>') == 29 + 3
  assert found.encode('w3<|EOT|>').ids[1:] == [6, 29 + 5120 + 3]


def test_adapters_tell_where_texts_end(tmp_path, own_model):
  """Of a base that has every row: its tokenizer and the end come along."""
  table, config = own_run(tmp_path, own_model)
  rows = rows_lib.Rows.of_vocabulary(config['vocabulary'], True)
  out = tmp_path / 'out'
  out.mkdir()
  told = exporting._companions(out, config, None, rows, True, {})
  assert told['tokenizer'] == 'tokenizer.json'
  assert read(out, 'generation_config.json')['eos_token_id'] == 3
  assert read(out, 'tokenizer_config.json')['eos_token'] == '<|EOT|>'


def test_adapters_of_a_base_that_lacks_rows_are_refused(tmp_path):
  base, _ = their_folder(tmp_path / 'base')
  run = trained(base, tmp_path / 'run', lora={'rank': 2, 'alpha': 4.0})
  with pytest.raises(errors.UserError, match='has 23 rows, but speech and co'):
    exporting.export_run(run, tmp_path / 'out', adapter=True)
  assert not (tmp_path / 'out').exists()


def test_the_base_is_found_through_runs(tmp_path):
  base, _ = their_folder(tmp_path / 'base', torch_dtype='bfloat16')
  run = trained(base, tmp_path / 'pretrain')
  later = trained(base, tmp_path / 'sft', init_from=[str(run)])
  for folder in (run, later):
    for path in (folder / 'huggingface').iterdir():
      path.unlink()
  exporting.export_run(later, tmp_path / 'out', dry_run=False)
  assert read(tmp_path / 'out', 'config.json')['rms_norm_eps'] == 1e-5
  assert read(tmp_path / 'out', 'generation_config.json')['temperature'] == 0.6
  assert table_of(tmp_path / 'out').dtype == np.float32  # as the tensors are
