"""GGUF files become the runs that their folders become."""

import json
import re

import gguf
import jax
import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import pre_tokenizers

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.generation import restore
from step_audio_jax.interop.formats import gguf_files
from step_audio_jax.interop.language import gguf_model
from step_audio_jax.tokenizers.text import text_models
from tests.interop.language import tiny_folders as tiny
from tests.interop.language import tiny_gguf

PROBES = (
  "The cat's dog, 12345 DAYS; we'LL see!  Two\n\n lines\t\r\n x = a[3] <= $9^2",
  'naïve e\u0301 妈妈有水 🙂 \u00a0end ',
  'the cat sees a dog',
  '',
)
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'


def split(pattern):
  """As the tokenizer.json of Llama 3 and of Qwen2 cut."""
  return pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(pattern), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )


# As published in the tokenizer.json of each.
SOURCES = {
  'smollm': {
    'pre_tokenizer': pre_tokenizers.Sequence(
      [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
      ]
    )
  },
  'qwen2': {
    'pre_tokenizer': split(_WORDS + r'|\p{N}' + _REST),
    'normalizer': tokenizers.normalizers.NFC(),
  },
  'llama-bpe': {
    'pre_tokenizer': split(_WORDS + r'|\p{N}{1,3}' + _REST),
    'ignore_merges': True,
  },
  'gpt-2': {},
}


@pytest.fixture(autouse=True)
def rows(monkeypatch):
  monkeypatch.setattr(tiny, 'V', 283)


def convert(capsys, *argv):
  argv = ['-', 'convert', *map(str, argv)]
  status = cli.dispatch('step_audio_jax', doors.DOORS, argv)
  return status, capsys.readouterr()


def imported(capsys, source, target, *flags):
  status, (_, err) = convert(
    capsys, f'--from={source}', f'--to={target}', *flags
  )
  assert status == 0, err
  return restore.load_model(target)


def same(found, want):
  ours, theirs = found[1]['params'], want[1]['params']
  for path, value in flat(theirs).items():
    np.testing.assert_array_equal(flat(ours)[path], value, err_msg=path)


def flat(tree, prefix=''):
  if not isinstance(tree, dict):
    return {prefix: np.asarray(tree)}
  out = {}
  for name, value in tree.items():
    out |= flat(value, f'{prefix}/{name}')
  return out


@pytest.mark.parametrize('family', ['llama', 'qwen2', 'qwen3'])
@pytest.mark.parametrize('tied', [False, True])
def test_a_file_is_its_folder(tmp_path, capsys, family, tied):
  """To the bit; so rows of q and k are where they were."""
  tokenizer = tiny_gguf.bpe()
  tensors = tiny_gguf.make(tmp_path / 'm.gguf', family, tied, tokenizer)
  config = tiny.config_of(family, tied, eos_token_id=281, bos_token_id=280)
  folder = tiny.write(tmp_path / 'folder', config, tensors)
  tokenizer.save(str(folder / 'tokenizer.json'))
  want = imported(capsys, folder, tmp_path / 'a')
  found = imported(capsys, tmp_path / 'm.gguf', tmp_path / 'b')
  assert found[0].config == want[0].config
  same(found, want)
  assert found[2].describe().keys() == want[2].describe().keys()
  tokens = np.asarray([found[2].encode_text(PROBES[2])])
  logits = jax.jit(want[0].apply)  # one program: the models are the same
  np.testing.assert_array_equal(
    logits(found[1], tokens), logits(want[1], tokens)
  )
  told = json.loads((tmp_path / 'b/config.json').read_text())
  assert told['converted_from'] == str(tmp_path / 'm.gguf')
  kept = json.loads(
    (tmp_path / 'b/huggingface/tokenizer_config.json').read_text()
  )
  assert kept['chat_template'] == tiny_gguf.TEMPLATE
  assert kept['eos_token'] == '<|end|>'


def test_speech_rows_and_out_again(tmp_path, capsys):
  tiny_gguf.make(tmp_path / 'm.gguf')
  run = imported(capsys, tmp_path / 'm.gguf', tmp_path / 'run', '--speech')
  assert run[2].linguistic_size == 1024 and run[2].text_size == 68 + 283
  plain = imported(capsys, tmp_path / 'm.gguf', tmp_path / 'plain')
  table, grown = (
    r[1]['params']['transformer']['embedding'] for r in (plain, run)
  )
  np.testing.assert_array_equal(grown[: 68 + 283], table)
  status, (_, err) = convert(
    capsys, f'--from={tmp_path}/plain', f'--to={tmp_path}/out'
  )
  assert status == 0, err
  same(imported(capsys, tmp_path / 'out', tmp_path / 'again'), plain)


def test_dry_run_and_dtype(tmp_path, capsys):
  tiny_gguf.make(tmp_path / 'm.gguf')
  status, _ = convert(
    capsys, f'--from={tmp_path}/m.gguf', f'--to={tmp_path}/run', '--dry_run'
  )
  assert status == 0 and not (tmp_path / 'run').exists()
  run = imported(
    capsys, tmp_path / 'm.gguf', tmp_path / 'run', '--dtype=bfloat16'
  )
  assert run[1]['params']['transformer']['embedding'].dtype.name == 'bfloat16'


@pytest.mark.parametrize('pre', SOURCES)
def test_a_tokenizer_cuts_as_its_source(tmp_path, capsys, pre):
  source = tiny_gguf.bpe(**SOURCES[pre])
  tiny.V = source.get_vocab_size()
  values = tiny_gguf.tokenizer_values(source, pre)
  tiny_gguf.make(tmp_path / 'm.gguf', model=source, **values)
  imported(capsys, tmp_path / 'm.gguf', tmp_path / 'run')
  found = tokenizers.Tokenizer.from_file(str(tmp_path / 'run/tokenizer.json'))
  assert found.get_vocab() == source.get_vocab()
  for text in (*PROBES, '<|turn|>user\nhi<|end|>'):
    ids = source.encode(text).ids
    assert found.encode(text).ids == ids
    assert found.decode(ids) == source.decode(ids)
  assert found.encode('<|turn|>').ids == [source.token_to_id('<|turn|>')]


def test_the_cut_of_no_name(tmp_path, capsys):
  """llama.cpp's own fallback: threes of digits, punctuation by itself."""
  source = tiny_gguf.bpe()
  values = tiny_gguf.tokenizer_values(source, None)
  tiny_gguf.make(tmp_path / 'm.gguf', model=source, **values)
  imported(capsys, tmp_path / 'm.gguf', tmp_path / 'run')
  found = tokenizers.Tokenizer.from_file(str(tmp_path / 'run/tokenizer.json'))
  pieces = [
    p for p, _ in found.pre_tokenizer.pre_tokenize_str("it's 12345!? ok")
  ]
  assert pieces == ['it', "'", 's', 'Ġ', '123', '45', '!?', 'Ġok']


def test_texts_that_begin_with_a_token(tmp_path, capsys):
  source = tiny_gguf.bpe()
  values = tiny_gguf.tokenizer_values(source, add_bos_token=True)
  tiny_gguf.make(tmp_path / 'm.gguf', model=source, **values)
  *_, text = imported(capsys, tmp_path / 'm.gguf', tmp_path / 'run')
  assert text.text.opening == [68 + source.token_to_id('<|begin|>')]
  assert text.encode_text('a') == [68 + i for i in source.encode('a').ids]


def test_rows_that_pad_the_table(tmp_path, capsys):
  """As in files of Qwen: tokens of type 5, to which no text leads."""
  source = tiny_gguf.bpe()
  tiny.V = source.get_vocab_size() + 5
  values = tiny_gguf.tokenizer_values(source)
  kinds = values['tokenizer.ggml.token_type'] + [5] * 5
  tokens = values['tokenizer.ggml.tokens'] + [f'[PAD{i}]' for i in range(5)]
  values['tokenizer.ggml.token_type'] = kinds
  values['tokenizer.ggml.tokens'] = tokens
  tiny_gguf.make(tmp_path / 'm.gguf', model=source, **values)
  *_, text = imported(capsys, tmp_path / 'm.gguf', tmp_path / 'run')
  assert text.text_size == 68 + source.get_vocab_size()
  assert text.table_size == text.text_size + 5
  found = tokenizers.Tokenizer.from_file(str(tmp_path / 'run/tokenizer.json'))
  assert found.get_vocab() == source.get_vocab()


def test_sentencepiece_by_scores(tmp_path, capsys):
  prefix = str(tmp_path / 'source')
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(tiny_gguf.TEXTS * 5),
    model_prefix=prefix,
    model_type='bpe',
    vocab_size=310,
    hard_vocab_limit=False,
    byte_fallback=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    minloglevel=2,
  )
  source = sentencepiece.SentencePieceProcessor(model_file=prefix + '.model')
  count = source.vocab_size()
  tiny.V = count
  kinds = [
    2 if source.is_unknown(i) else 3 if source.is_control(i)
    else 6 if source.is_byte(i) else 1
    for i in range(count)
  ]  # fmt: skip
  values = {
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.pre': None,
    'tokenizer.ggml.merges': None,
    'tokenizer.ggml.add_bos_token': None,
    'tokenizer.ggml.tokens': [source.id_to_piece(i) for i in range(count)],
    'tokenizer.ggml.scores': [source.get_score(i) for i in range(count)],
    'tokenizer.ggml.token_type': kinds,
    'tokenizer.ggml.bos_token_id': np.uint32(1),
    'tokenizer.ggml.eos_token_id': np.uint32(2),
  }
  tiny_gguf.make(tmp_path / 'm.gguf', **values)
  imported(capsys, tmp_path / 'm.gguf', tmp_path / 'run')
  found = text_models.load(tmp_path / 'run/tokenizer.model')
  for text in PROBES:
    assert found.encode(text) == [68 + i for i in source.encode(text)]
  assert found.opening == [69]


def test_positions_are_stretched_as_the_folder_says(tmp_path, monkeypatch):
  monkeypatch.setattr(tiny, 'D', 64)
  monkeypatch.setattr(tiny, 'E', 256)

  def scaling(values=(), extra=()):
    path = tmp_path / 'm.gguf'
    tensors = tiny_gguf.named('llama', tiny.tensors_of('llama'))
    told = tiny_gguf.model_values('llama', **dict(values))
    told |= tiny_gguf.tokenizer_values(tiny_gguf.bpe())
    tiny_gguf.write(path, 'llama', told, tensors | dict(extra))
    with gguf_model.opened_as_folder(path) as (folder, _):
      return json.loads((folder / 'config.json').read_text())['rope_scaling']

  assert scaling() is None
  linear = {'rope.scaling.type': 'linear', 'rope.scaling.factor': np.float32(4)}
  assert scaling(linear) == {'rope_type': 'linear', 'factor': 4.0}
  assert scaling({'rope.scale_linear': np.float32(2)}) == {
    'rope_type': 'linear',
    'factor': 2.0,
  }
  yarn = {
    'rope.scaling.type': 'yarn',
    'rope.scaling.factor': np.float32(4),
    'rope.scaling.original_context_length': np.uint32(32),
  }
  assert scaling(yarn) == {
    'rope_type': 'yarn',
    'factor': 4.0,
    'original_max_position_embeddings': 32,
  }
  # The loop of convert_hf_to_gguf.py, with Llama 3.2's numbers.
  factors = []
  for frequency in 500000.0 ** -(np.arange(0, 64, 2) / 64):
    wave = 2 * np.pi / frequency
    smooth = (8192 / wave - 1.0) / 3.0
    if wave < 8192 / 4.0:
      factors.append(1.0)
    elif wave > 8192 / 1.0:
      factors.append(32.0)
    else:
      factors.append(1 / ((1 - smooth) / 32.0 + smooth))
  factors = np.array(factors, np.float32)
  base = {'rope.freq_base': np.float32(500000.0)}
  assert scaling(base, {'rope_freqs.weight': factors}) == {
    'rope_type': 'llama3',
    'factor': 32.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 8192,
  }
  with pytest.raises(Exception, match='a way of its own'):
    scaling(base, {'rope_freqs.weight': factors * 1.1})


def edited(path, changes, tensors=()):
  values = tiny_gguf.model_values('llama')
  values |= tiny_gguf.tokenizer_values(tiny_gguf.bpe()) | changes
  held = tiny_gguf.named('llama', tiny.tensors_of('llama')) | dict(tensors)
  held = {name: value for name, value in held.items() if value is not None}
  return tiny_gguf.write(path, 'llama', values, held)


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'llama.attention.head_count': 8}, "'blk.0.attn_q.weight' has shape"),
    ({'llama.attention.head_count': 3}, r'head_count_kv is 2, expected a div'),
    ({'llama.attention.head_count_kv': 4}, "'blk.0.attn_k.weight' has shape"),
    ({'llama.attention.head_count': 'x'}, "head_count is 'x', expected a"),
    ({'llama.block_count': 4}, "'blk.3.attn_norm.weight' is missing"),
    ({'llama.block_count': 2}, "'blk.2.attn_norm.weight' is unexpected"),
    ({'llama.embedding_length': 24}, 'embedding_length 24'),
    ({'llama.feed_forward_length': 8}, "'blk.0.ffn_gate.weight' has shape"),
    ({'llama.rope.dimension_count': 4}, 'dimension_count is 4, expected 6'),
    ({'llama.attention.value_length': 4}, 'value_length is 4, expected 6'),
    ({'llama.vocab_size': 282}, 'vocab_size is 282, expected 283'),
    ({'llama.expert_count': 8}, 'expert_count is 8, expected 0'),
    ({'llama.rope.scaling.type': 'longrope'}, "type is 'longrope', expected"),
    ({'llama.attention.layer_norm_rms_epsilon': None}, 'epsilon is None'),
    ({'split.count': 3}, 'split.count is 3, expected a whole model'),
    ({'tokenizer.ggml.tokens': ['a', 'b']}, 'tokens is 2 tokens, expected 283'),
    ({'tokenizer.ggml.token_type': [1]}, 'token_type is 1 values, expected 2'),
    ({'tokenizer.ggml.token_type': [9] * 283}, 'token_type is 9'),
    ({'tokenizer.ggml.tokens': ['a'] * 283}, "'a' for id 1, that of id 0"),
    ({'tokenizer.ggml.merges': ['qq zz']}, "'qq zz' at 0, expected two"),
    ({'tokenizer.ggml.merges': None}, 'merges is .NoneType., expected an'),
    ({'tokenizer.ggml.model': 'rwkv'}, "model is 'rwkv', expected 'gpt2'"),
    ({'tokenizer.ggml.pre': 'tekken'}, "pre is 'tekken', expected one"),
    ({'tokenizer.ggml.eos_token_id': 283}, 'eos_token_id is 283, expected a'),
  ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(tmp_path, capsys, changes, match):
  path = edited(tmp_path / 'm.gguf', changes)
  status, (_, err) = convert(capsys, f'--from={path}', f'--to={tmp_path}/run')
  assert status == 2 and not (tmp_path / 'run').exists()
  assert err.startswith(f'error: {path}: ') and err.count('\n') == 1
  assert re.search(match, err), err


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('split.count', 'a whole number'),
    ('llama.expert_count', 'a whole number'),
    ('llama.attention.sliding_window', 'a whole number'),
    ('llama.context_length', 'a whole number'),
    ('llama.rope.freq_base', 'a number'),
    ('llama.rope.scaling.type', 'a text'),
    ('tokenizer.ggml.model', 'a text'),
    ('tokenizer.ggml.pre', 'a text'),
    ('tokenizer.ggml.eos_token_id', 'a whole number'),
    ('tokenizer.ggml.eot_token_id', 'a whole number'),
    ('tokenizer.chat_template', 'a text'),
  ],
)
def test_values_of_another_kind_are_refused(tmp_path, capsys, name, expected):
  for value, found in (
    (True, 'True'),
    ([1, 2], 'an array of 2 values'),
    (['a', 'b', 'c'], 'an array of 3 values'),
  ):
    path = edited(tmp_path / 'm.gguf', {name: value})
    status, (_, err) = convert(capsys, f'--from={path}', f'--to={tmp_path}/run')
    assert status == 2
    assert err == f'error: {path}: {name} is {found}, expected {expected}.\n'


def test_an_architecture_is_a_text(tmp_path):
  path = edited(tmp_path / 'm.gguf', {})
  file = gguf_files.read(path)
  for value in (['llama'], np.ones(2), True):
    file.values['general.architecture'] = value
    with pytest.raises(errors.UserError, match='architecture is .*a text'):
      gguf_model._Reader(file)


def test_counts_of_layers_are_whole_numbers(tmp_path, capsys):
  name = 'llama.feed_forward_length'
  path = edited(tmp_path / 'm.gguf', {name: [8.5, 8.5, 8.5]})
  status, (_, err) = convert(capsys, f'--from={path}', f'--to={tmp_path}/run')
  assert status == 2 and f'{name} is an array of 3 values, expected' in err


def test_tensors_that_do_not_belong(tmp_path, capsys):
  for name, value, match in (
    ('blk.0.attn_q.bias', np.ones(24, np.float32), 'is unexpected'),
    ('blk.1.ffn_up.weight', None, 'is missing'),
    ('token_embd.weight', None, "'token_embd.weight' is missing"),
  ):
    path = edited(tmp_path / 'm.gguf', {}, {name: value})
    status, (_, err) = convert(capsys, f'--from={path}', f'--to={tmp_path}/run')
    assert status == 2 and match in err and name in err


def test_other_files(tmp_path, capsys):
  path = tiny_gguf.write(
    tmp_path / 'm.gguf', 'gemma3', {}, {'a': np.ones((2, 2), np.float32)}
  )
  for source, match in (
    (path, "general.architecture is 'gemma3', expected one of llama, qwen2"),
    (tmp_path / 'none.gguf', 'no such folder'),
    (__file__, 'a file that is no GGUF'),
  ):
    status, (_, err) = convert(
      capsys, f'--from={source}', f'--to={tmp_path}/run'
    )
    assert status == 2 and match in err and err.count('\n') == 1
  status, (_, err) = convert(
    capsys, f'--from={path}', f'--to={tmp_path}/run', '--step=1'
  )
  assert '--step: means nothing when --from is a GGUF file' in err


def test_quantised_files(tmp_path, capsys, monkeypatch):
  """A whole model of 4-bit blocks is the folder of the same numbers."""
  monkeypatch.setattr(tiny, 'E', 32)
  monkeypatch.setattr(tiny, 'F', 64)
  monkeypatch.setattr(tiny, 'D', 8)
  kind = gguf.GGMLQuantizationType.Q4_1
  held = tiny_gguf.named('llama', tiny.tensors_of('llama', True))
  kinds = {name: kind for name, value in held.items() if value.ndim == 2}
  values = tiny_gguf.model_values('llama')
  values |= tiny_gguf.tokenizer_values(tiny_gguf.bpe())
  tiny_gguf.write(tmp_path / 'q', 'llama', values, held, kinds)
  plain = {
    name: gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind)
    if name in kinds
    else value
    for name, value in held.items()
  }
  tiny_gguf.write(tmp_path / 'f', 'llama', values, plain)
  same(
    imported(capsys, tmp_path / 'q', tmp_path / 'a'),
    imported(capsys, tmp_path / 'f', tmp_path / 'b'),
  )


def test_a_broken_head_is_told_in_one_sentence(tmp_path):
  """Bytes of the head are changed by chance: nothing but a sentence."""
  path = tmp_path / 'm.gguf'
  tiny_gguf.make(path)
  whole = path.read_bytes()
  head = whole.rindex(b'output_norm') + 64
  rng, told = np.random.default_rng(3), 0
  for _ in range(150):
    raw = bytearray(whole)
    # Between texts of tokens lies what counts: half of the hits go there.
    place = int(rng.integers(head) if rng.random() < 0.5 else rng.integers(900))
    raw[place] = int(rng.integers(256))
    path.write_bytes(raw)
    try:
      with gguf_model.opened_as_folder(path) as (_, tensors):
        for tensor in tensors.values():
          assert np.asarray(tensor).shape == tensor.shape
    except errors.UserError as error:
      told += 1
      assert str(error).startswith(f'{path}: ') and '\n' not in str(error)
  assert told > 30
