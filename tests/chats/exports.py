"""Folders with the tokenizer and the chat template of a run, small ones."""

import json

import jinja2
from jinja2 import sandbox
import sentencepiece
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import trainers

from data_pipelines.tasks import vocabulary as vocabulary_door
from step_audio_jax.interop.language import rows as rows_lib
from step_audio_jax.interop.language import tokenizer_files
from step_audio_jax.tokenizers.text import vocabularies
from tests.chats import conversations

LINES = [*conversations.WORDS, 'human', 'assistant', 'system', 'unk'] * 3
SPECIAL = ['<s>', '<|im_end|>', '[INST]', '__end__']


def byte_level(path):
  """As Llama 3 and Qwen: line breaks are joined to what follows."""
  model = tokenizers.Tokenizer(models.BPE())
  model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  model.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=330,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(['\n\n\n', '<|EOT|>', '<s>'] * 9 + LINES, trainer)
  model.add_special_tokens(SPECIAL)
  model.save(str(path / 'tokenizer.json'))
  return path / 'tokenizer.json'


def spaced(path, normalizer, pre_tokenizer):
  """As Llama 2 and Mistral: spaces are pieces, and bytes fall back."""
  pieces = ['<unk>', *(f'<0x{i:02X}>' for i in range(256)), '▁', 'a', 't', 'h']
  pieces += ['▁a', 'th', '▁th', '\n', '<', '>', 's', '|']
  merges = [('▁', 'a'), ('t', 'h'), ('▁', 'th')]
  model = tokenizers.Tokenizer(
    models.BPE(
      {piece: i for i, piece in enumerate(pieces)}, merges, byte_fallback=True,
      unk_token='<unk>', fuse_unk=True,
    )
  )  # fmt: skip
  model.normalizer, model.pre_tokenizer = normalizer, pre_tokenizer
  model.decoder = decoders.Sequence(
    [
      decoders.Replace('▁', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
    ]
  )
  model.add_special_tokens(
    [
      tokenizers.AddedToken(piece, normalized=True, special=True)
      for piece in SPECIAL
    ]
  )
  model.save(str(path / 'tokenizer.json'))
  return path / 'tokenizer.json'


def prepending(path):
  steps = [normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')]
  return spaced(path, normalizers.Sequence(steps), None)


def metaspace(path):
  step = pre_tokenizers.Metaspace('▁', 'first', split=False)
  return spaced(path, None, step)


def own(path):
  model = path / 'text.model'
  model.write_bytes(vocabulary_door.train(LINES))
  return model


def theirs(path):
  """A SentencePiece model as it is trained by default."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(LINES),
    model_prefix=str(path / 'text'),
    vocab_size=400,
    hard_vocab_limit=False,
    character_coverage=1.0,
    byte_fallback=True,
    user_defined_symbols=['<tool>'],
    minloglevel=2,
  )
  return path / 'text.model'


# Whose texts are cut in ways of their own.
KINDS = [byte_level, prepending, metaspace, own, theirs]


def raise_exception(message):
  raise jinja2.TemplateError(message)


def rendered(source, messages, **settings):
  """As `transformers` does it."""
  world = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=['jinja2.ext.loopcontrols']
  )
  world.filters['tojson'] = lambda x: json.dumps(x, ensure_ascii=False)
  world.globals['raise_exception'] = raise_exception
  return world.from_string(source).render(messages=messages, **settings)


class Export:
  """A folder, and what it has to say."""

  def __init__(self, folder, model):
    self.table = vocabularies.load(text_model=str(model))
    self.rows = rows_lib.Rows.of_vocabulary(self.table.describe(), True)
    tokenizer_files.write(folder, self.rows, model, trained=True)
    self.tree = json.loads((folder / 'tokenizer.json').read_text())
    self.tokenizer = tokenizers.Tokenizer.from_str(json.dumps(self.tree))
    self.source = (folder / 'chat_template.jinja').read_text()
    config = json.loads((folder / 'tokenizer_config.json').read_text())
    self.bos = config['bos_token']

  def row_of(self, ids):
    moved = self.rows.moved
    return [
      i - moved if i >= moved else self.rows.control_starts + i
      for i in map(int, ids)
    ]

  def ids(self, value, **settings):
    text = rendered(
      self.source,
      conversations.for_template(self.table, value),
      bos_token=self.bos,
      tools=value.get('tools'),
      **settings,
    )
    return self.tokenizer.encode(text, add_special_tokens=False).ids
