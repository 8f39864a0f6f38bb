"""Tiny GGUF files, written by the package of that name.

Names of tensors are that package's, the order of rows is that of llama.cpp's
`convert_hf_to_gguf.py`; nothing is shared with `interop`.
"""

import json

import gguf
import numpy as np
import tokenizers

from tests.interop.language import tiny_folders as tiny

TEXTS = ['the cat sees a dog', "a dog's 1234 days", '妈妈有水', 'two  spaces\n']
SPECIAL = ('<|begin|>', '<|end|>', '<|turn|>')
TEMPLATE = (
  "{% for m in messages %}{{ '<|turn|>' + m['role'] + '\n' + m['content'] | "
  "trim + '<|end|>' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)


def bpe(pre_tokenizer=None, normalizer=None, ignore_merges=False, size=280):
  """A byte-level BPE with `SPECIAL` behind its words."""
  model = tokenizers.Tokenizer(
    tokenizers.models.BPE(ignore_merges=ignore_merges)
  )
  if normalizer is not None:
    model.normalizer = normalizer
  model.pre_tokenizer = pre_tokenizer or tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=size,
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(TEXTS * 5, trainer)
  model.add_special_tokens(list(SPECIAL))
  return model


def tokenizer_values(model, pre='gpt-2', **changes):
  """What a file says of a byte-level BPE."""
  places = model.get_vocab(with_added_tokens=True)
  tokens = sorted(places, key=places.get)
  merges = json.loads(model.to_str())['model']['merges']
  values = {
    'model': 'gpt2',
    'pre': pre,
    'tokens': tokens,
    'token_type': [3 if token in SPECIAL else 1 for token in tokens],
    'merges': [' '.join(merge) for merge in merges],
    'bos_token_id': np.uint32(places[SPECIAL[0]]),
    'eos_token_id': np.uint32(places[SPECIAL[1]]),
    'add_bos_token': False,
  }
  return {f'tokenizer.ggml.{k}': v for k, v in (values | changes).items()}


def model_values(family, **changes):
  """What a file says of a model of `tiny_folders`' sizes."""
  values = {
    'block_count': np.uint32(tiny.L),
    'context_length': np.uint32(64),
    'embedding_length': np.uint32(tiny.E),
    'feed_forward_length': np.uint32(tiny.F),
    'attention.head_count': np.uint32(tiny.H),
    'attention.head_count_kv': np.uint32(tiny.G),
    'attention.key_length': np.uint32(tiny.D),
    'attention.value_length': np.uint32(tiny.D),
    'attention.layer_norm_rms_epsilon': np.float32(1e-5),
    'rope.freq_base': np.float32(10000.0),
    'rope.dimension_count': np.uint32(tiny.D),
  }
  return {f'{family}.{k}': v for k, v in (values | changes).items()}


def interleaved(rows, heads):
  """Rows as the converter of llama.cpp puts them."""
  shape = rows.shape
  pairs = rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
  return pairs.swapaxes(1, 2).reshape(shape)


def named(family, tensors):
  """Tensors of a folder as a file has them."""
  arch = {
    'llama': gguf.MODEL_ARCH.LLAMA,
    'qwen2': gguf.MODEL_ARCH.QWEN2,
    'qwen3': gguf.MODEL_ARCH.QWEN3,
  }[family]
  names = gguf.get_tensor_name_map(arch, tiny.L)
  out = {}
  for name, value in tensors.items():
    if family == 'llama' and 'q_proj' in name:
      value = interleaved(value, tiny.H)
    if family == 'llama' and 'k_proj' in name:
      value = interleaved(value, tiny.G)
    out[names.get_name(name, ('.weight', '.bias'))] = value
  return out


def write(path, family, values, tensors, kinds=None):
  """A file; a value that is None is left out."""
  writer = gguf.GGUFWriter(path, family)
  for name, value in values.items():
    match value:
      case None:
        continue
      case str():
        writer.add_string(name, value)
      case bool():
        writer.add_bool(name, value)
      case list():
        writer.add_array(name, value)
      case np.floating():
        writer.add_float32(name, float(value))
      case _:
        writer.add_uint32(name, int(value))
  for name, value in tensors.items():
    kind = (kinds or {}).get(name)
    if kind is not None:
      raw = gguf.quants.quantize(value, kind)
      writer.add_tensor(name, raw, raw_dtype=kind)
    else:
      writer.add_tensor(name, value)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def make(path, family='llama', tied=False, model=None, seed=0, **changes):
  """A whole file and the folder's tensors; `changes` are values of it.

  Rows are as many as `model` (by default `bpe()`) has tokens: `tiny.V` must
  say so.
  """
  tensors = tiny.tensors_of(family, tied, seed=seed)
  values = model_values(family) | tokenizer_values(model or bpe())
  values['tokenizer.chat_template'] = TEMPLATE
  write(path, family, values | changes, named(family, tensors))
  return tensors
