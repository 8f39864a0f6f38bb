"""Small vocabularies of every kind, and walks under masks."""

import functools
import io
import pathlib
import tempfile

import numpy as np
import sentencepiece
import tokenizers

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation.schemas import limits
from step_audio_jax.tokenizers.text import text_models

CONTROL = vocabulary_lib.CONTROL
CALL, CALLED = CONTROL['<|CALL_START|>'], CONTROL['<|CALL_END|>']
EOT = vocabulary_lib.EOT
KINDS = ('own', 'llama', 'bytes', 'metaspace')
# Walks at random do not end soon by themselves.
SMALL = limits.Limits(characters=40, items=3, depth=5)

_TEXTS = [
  '{"name": "get_weather", "arguments": {"city": "Zürich", "days": 12}}',
  '{"a": [1, 2.5, -3, 1e-05], "b": null, "c": true, "d": false, "e": {}}',
  'the cat says "hello": 妈妈有水 \\" \\\\ \\n [] {} , : ",  "}]}',
  'a dog named "Rex", "5", ["x", "y"]] and {"k": [{"l": {"m": "n"}}]}',
  '2026-12-01T08:30:00Z is when 3f2504e0-4f89-41d3-9a0c-0305e82c3301 came',
] * 4


def _pieces():
  pieces = [f'<spare_{k}>' for k in range(vocabulary_lib.CONTROL_SIZE)]
  for piece, place in CONTROL.items():
    pieces[place] = piece
  return pieces[3:]


def _sentencepiece(path, **keywords):
  out = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(_TEXTS),
    model_writer=out,
    hard_vocab_limit=False,
    byte_fallback=True,
    character_coverage=1.0,
    pad_id=-1,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    minloglevel=2,
    **keywords,
  )
  path.write_bytes(out.getvalue())


def _bytes(path):
  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=480,
    special_tokens=['<|endoftext|>'],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(_TEXTS, trainer)
  model.add_tokens(['   ', ' "'])
  model.save(str(path))


def _metaspace(path):
  """BPE with names of bytes, as Llama's is in the other format."""
  pieces = {'<unk>': 0} | {f'<0x{n:02X}>': n + 1 for n in range(256)}
  for text in _TEXTS:
    for one in text.replace(' ', '▁'):
      pieces.setdefault(one, len(pieces))
  merges = [('"', ','), ('"', ':'), ('{', '"'), ('▁', '"'), ('▁', 'a')]
  for left, right in merges:
    pieces.setdefault(left + right, len(pieces))
  model = tokenizers.Tokenizer(
    tokenizers.models.BPE(
      pieces, merges, byte_fallback=True, unk_token='<unk>', fuse_unk=True
    )
  )
  model.normalizer = tokenizers.normalizers.Sequence(
    [
      tokenizers.normalizers.Prepend('▁'),
      tokenizers.normalizers.Replace(' ', '▁'),
    ]
  )
  decoders = tokenizers.decoders
  model.decoder = decoders.Sequence(
    [
      decoders.Replace('▁', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(content=' ', left=1),
    ]
  )
  model.save(str(path))


@functools.cache
def vocabulary(kind):
  """A vocabulary: one of ours, two of Llama's kind, one of GPT-2's."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'text.model'
    if kind == 'own':
      _sentencepiece(
        path,
        model_type='unigram',
        vocab_size=480,
        control_symbols=_pieces(),
        add_dummy_prefix=False,
      )
    elif kind == 'llama':
      _sentencepiece(path, model_type='bpe', vocab_size=420)
    else:
      path = path.with_suffix('.json')
      (_bytes if kind == 'bytes' else _metaspace)(path)
    return vocabulary_lib.Vocabulary.over(text_models.load(path))


def behind(table, text):
  """Ids of a text that stands behind another."""
  before = table.encode_text('\n')
  ids = table.encode_text('\n' + text)
  assert ids[: len(before)] == before
  return ids[len(before) :]


def walk(reply, rng, most=3000):
  """Ids that a model which knows nothing may write, up to the end."""
  ids = []
  while len(ids) < most:
    allowed = np.flatnonzero(reply.mask())
    if reply.done and EOT in allowed and rng.random() < 0.7:
      ids.append(EOT)
      reply.advance(EOT)
      return ids
    ids.append(int(rng.choice(allowed)))
    reply.advance(ids[-1])
    if ids[-1] == EOT:
      return ids
  raise AssertionError(f'no end within {most} ids')


def accepts(reply, ids):
  """Whether ids may be written, one behind the other, up to the end."""
  for token in ids:
    if not reply.mask()[token]:
      return False
    reply.advance(token)
  return reply.done
