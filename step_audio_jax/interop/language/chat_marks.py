"""What an exported `tokenizer.json` does with the marks of our chat template.

`chats.template` says why there are any. The tokenizer takes the pieces out of
the text first, where no mark parts them; then the normaliser drops one mark and
the first pre-tokenizer cuts at the other. What is left is encoded as the run's
own texts are (`tokenizers.text.characters`): each stretch by itself, and no
merge makes a control piece.
"""

import json
from typing import Any

import tokenizers

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import template
from step_audio_jax.tokenizers.text import characters

Tree = dict[str, Any]
# Far below all scores, so that any other way to write it is better.
_WORSE = 100.0
_HEAD = 'human\n'
_SPACED = ('\nx', '\n\nx', ' x', '  x', '    x', '\tx', ' \n x')
_DROP = {
  'type': 'Replace',
  'pattern': {'String': template.PARTED},
  'content': '',
}
_CUT = {
  'type': 'Split',
  'pattern': {'String': template.CUT},
  'behavior': 'Removed',
  'invert': False,
}


def hidden(tree: Tree) -> set[str]:
  """Pieces of a tokenizer that no text may spell."""
  added = tree.get('added_tokens') or ()
  return {
    token['content']
    for token in added
    if characters.is_control(token['content'], token.get('special'))
  }


def first_characters(tree: Tree) -> set[str]:
  """What the template parts from what follows."""
  return {'<', *(piece[0] for piece in hidden(tree) if piece)}


def joins(tree: Tree) -> bool:
  """Whether a tokenizer joins white space to a line break in front of it."""
  model = tokenizers.Tokenizer.from_str(json.dumps(tree))

  def encode(text):
    return model.encode(text, add_special_tokens=False).ids

  head = encode(_HEAD)
  return any(encode(_HEAD + text)[: len(head)] != head for text in _SPACED)


def marked(tree: Tree, cuts: bool) -> Tree:
  """A tokenizer that reads what the template writes.

  Args:
    tree: Stays as it is.
    cuts: As in `template.write`.
  """
  pieces = hidden(tree)
  words = _everywhere(tree.get('pre_tokenizer'))
  if cuts:
    words = _sequence('pretokenizers', _CUT, words)
  return {
    **tree,
    # In normalised text there is no mark.
    'added_tokens': [
      {**token, 'normalized': False} if token['content'] in pieces else token
      for token in tree.get('added_tokens') or ()
    ],
    'normalizer': _sequence('normalizers', _DROP, tree.get('normalizer')),
    'pre_tokenizer': words,
    'model': _model(tree['model'], pieces),
  }


def _sequence(name: str, first: Tree, others: Tree | None) -> Tree:
  """`first` in front of others, if it is not there yet."""
  steps = [others] if others else []
  if others and others.get('type') == 'Sequence':
    steps = others[name]
  steps = [first, *(step for step in steps if step != first)]
  return {'type': 'Sequence', name: steps} if len(steps) > 1 else first


def _everywhere(step: Any) -> Any:
  """A pre-tokenizer whose space in front is before every stretch of text.

  Texts of documents are encoded one by one, so each has it.
  """
  if not isinstance(step, dict):
    return step
  if step.get('type') == 'Sequence':
    inner = [_everywhere(one) for one in step['pretokenizers']]
    return {**step, 'pretokenizers': inner}
  if step.get('prepend_scheme') == 'first':
    return {**step, 'prepend_scheme': 'always'}
  return step


def _model(model: Tree, pieces: set[str]) -> Tree:
  if model.get('merges'):
    merges = list(characters.merges_of(model, pieces))
    return {**model, 'merges': merges}
  if model.get('type') == 'Unigram':
    # A piece with a character that the model has not is taken all the same.
    low = min(score for _, score in model['vocab']) - _WORSE
    kept = pieces | set(vocabulary_lib.CONTROL)
    return {
      **model,
      'vocab': [
        [name, low if name in kept else score] for name, score in model['vocab']
      ],
    }
  return model
