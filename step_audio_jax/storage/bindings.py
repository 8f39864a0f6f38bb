"""What ids belong to, compared wherever ids of two origins meet.

Text ids belong to a text model: what is made of them carries the `vocabulary`
that `Vocabulary.describe` tells, with the digest of its pieces. Speech codes
belong to a speech tokenizer: what is made of them carries

    "speech_tokenizer": {"folder": "runs/mine/tokenizer", "sha256": "…"}

Rows, runs, decoders and exported models carry these under the same two keys.
Equal sizes prove nothing: two text models of one size, or a tokenizer that was
trained again into the same folder, give ids that mean something else. What was
made before there were digests cannot be checked; that is said once, and sizes
are compared as far as they are known.
"""

import pathlib
import sys
from typing import Any, Callable, Mapping

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

VOCABULARY = 'vocabulary'
TOKENIZER = 'speech_tokenizer'
EDITS = 'edits'  # tags by which recordings are changed in the rows, the same
TAGS = 'tags'  # of how texts are spoken, that are in the rows, as written
TURNS = 'turns'  # how they are laid out, as `chats.habits` reads it
PIECES = 'pieces_sha256'
ENCODER = 'encoder_sha256'
# Key of an exported `config.json`, or file beside exported adapters.
EXPORTED = 'step_audio_jax_ids'
_CODES = 'codes'  # first part of the names of their shards
_BLOCK = ('linguistic_size', 'semantic_size')

Described = Mapping[str, Any] | None

_said: set[str] = set()


def warn_once(sentence: str) -> None:
  """Says a sentence on stderr, once in a process."""
  if sentence not in _said:
    _said.add(sentence)
    print(f'note: {sentence}', file=sys.stderr, flush=True)


def vocabulary_name(described: Described) -> str:
  """A vocabulary as messages call it: its file, digest and size."""
  if not described:
    return 'an unknown vocabulary'
  pieces = described.get(PIECES)
  told = f'pieces {digests.short(pieces)}' if pieces else 'pieces unknown'
  return (
    f'{described.get("text_model") or "a text model"} ({told}, '
    f'{described.get("text_size", "?")} text ids)'
  )


def tokenizer_name(described: Described) -> str:
  """A speech tokenizer as messages call it: its folder and digest."""
  if not described:
    return 'an unknown speech tokenizer'
  return f'{described["folder"]} ({digests.short(described["sha256"])})'


def origin_name(told: Mapping[str, Any]) -> str:
  """What the ids of rows or of a run belong to, in a few words."""
  found = f'text of {vocabulary_name(told.get(VOCABULARY))}'
  if told.get(TOKENIZER):
    found += f', codes of {tokenizer_name(told[TOKENIZER])}'
  return found


def tokenizer(folder: Any, digest: str | None) -> dict[str, str] | None:
  """The entry of a speech tokenizer; None where its digest is not known."""
  return {'folder': str(folder), 'sha256': digest} if digest else None


def tokenizer_of(value: Any, path: str | pathlib.Path) -> Described:
  """The speech tokenizer that a JSON object tells; None if it tells none.

  Raises:
    UserError: The entry is not what `tokenizer` makes.
  """
  entry = value.get(TOKENIZER) if isinstance(value, Mapping) else None
  if entry is None:
    return None
  if not isinstance(entry, Mapping) or not all(
    isinstance(entry.get(key), str) for key in ('folder', 'sha256')
  ):
    raise errors.UserError(
      f'{path}: {TOKENIZER}: found {entry!r}, expected a folder and its sha256.'
    )
  return entry


def read_export(config: Mapping[str, Any]) -> dict[str, Any]:
  """What an exported model says of its ids, from the `config.json` of a run."""
  vocabulary = config.get(VOCABULARY) or {}
  digests_ = {k: vocabulary[k] for k in (PIECES, ENCODER) if k in vocabulary}
  told: dict[str, Any] = {}
  if digests_:
    told[VOCABULARY] = digests_ | {'text_size': vocabulary['text_size']}
  if config.get(TOKENIZER):
    told[TOKENIZER] = dict(config[TOKENIZER])
  if config.get(TURNS):
    told[TURNS] = dict(config[TURNS])
  return told


def of_export(config: Mapping[str, Any], path: Any) -> dict[str, Any]:
  """What `read_export` wrote into a `config.json`; {} where there is nothing.

  Raises:
    UserError: It is not what `read_export` writes.
  """
  told = config.get(EXPORTED) or {}
  objects = (VOCABULARY, TURNS)
  if not isinstance(told, Mapping) or not all(
    isinstance(told.get(key, {}), Mapping) for key in objects
  ):
    raise errors.UserError(f'{path}: {EXPORTED}: found no JSON object.')
  found = {k: dict(told[k]) for k in objects if k in told}
  tokenizer_ = tokenizer_of(told, path)
  return found | ({TOKENIZER: dict(tokenizer_)} if tokenizer_ else {})


def same_pieces(one: Described, two: Described) -> bool | None:
  """Whether text ids mean the same; None where that is not known."""
  pieces = [(described or {}).get(PIECES) for described in (one, two)]
  return pieces[0] == pieces[1] if all(pieces) else None


def check_vocabulary(
  what: str,
  found: Described,
  whose: str,
  expected: Described,
  way_on: str,
  *,
  speech: bool = True,
) -> None:
  """Refuses ids of one vocabulary where those of another are expected.

  Args:
    what: Holds the ids, for messages: 'rows/asr/train'.
    found: Its vocabulary.
    whose: What is to read them.
    expected: The vocabulary of that.
    way_on: How to go on, a clause.
    speech: Whether there are speech ids among them; without any, the places
      of the speech block need not agree.

  Raises:
    UserError: The vocabularies differ; both are named.
  """
  if not found or not expected:
    return
  same = same_pieces(found, expected)
  wrong = same is False
  if same is None:
    wrong = found.get('text_size') != expected.get('text_size')
  elif speech and not wrong:
    wrong = found.get('text_size') != expected.get('text_size')
  if wrong:
    raise errors.UserError(
      f'{what}: its ids belong to the vocabulary {vocabulary_name(found)}, but '
      f'{whose} has {vocabulary_name(expected)}; {way_on}.'
    )
  for name in _BLOCK if speech else ():
    if found.get(name) != expected.get(name):
      raise errors.UserError(
        f'{what}: {name} of its vocabulary is {found.get(name)}, but '
        f'{expected.get(name)} in {whose}; {way_on}.'
      )
  if same is None:
    warn_once(
      f'{what} and {whose}: the text model of one is not known by its pieces, '
      'so whether their ids mean the same cannot be checked beyond sizes.'
    )
  elif found.get(ENCODER) != expected.get(ENCODER):
    warn_once(
      f'{what} and {whose}: equal pieces, but the encoder differs '
      f'({digests.short(found.get(ENCODER))} and '
      f'{digests.short(expected.get(ENCODER))}): texts are cut in another way.'
    )


def check_tokenizer(
  what: str,
  found: Described,
  whose: str,
  expected: Described,
  way_on: str,
  *,
  say: Callable[[str], None] = warn_once,
) -> None:
  """Refuses speech codes of one tokenizer where another's are expected.

  Args:
    what: Holds the codes, for messages.
    found: The tokenizer that made them.
    whose: What is to read them.
    expected: The tokenizer that it was made for.
    way_on: How to go on, a clause.
    say: Told a sentence where one of the two is not known.

  Raises:
    UserError: They differ; both are named.
  """
  if found and expected:
    if found['sha256'] != expected['sha256']:
      raise errors.UserError(
        f'{what}: its codes are those of the speech tokenizer '
        f'{tokenizer_name(found)}, but {whose} takes those of '
        f'{tokenizer_name(expected)}; {way_on}.'
      )
    return
  silent = [
    name for name, known in ((what, found), (whose, expected)) if not known
  ]
  say(
    f'{" and ".join(silent)}: which speech tokenizer made the codes is not '
    'known, so whether they mean the same cannot be checked.'
  )


def of_codes(folder: str | pathlib.Path) -> Described:
  """The speech tokenizer whose codes a folder holds; None if not known.

  Raises:
    UserError: Its shards come of several, as a job that was stopped in the
      middle may leave them.
  """
  folder = files.path(folder)
  stats = folder / 'stats.json'
  told = files.read_json(stats) if files.is_file(stats) else {}
  found = {stats.name: told.get('tokenizer_sha256')}
  for receipt in sorted(files.glob(folder, f'{_CODES}-*-of-*.json')):
    found[receipt.name] = files.read_json(receipt).get('tokenizer_sha256')
  known = {name: digest for name, digest in found.items() if digest}
  if len(set(known.values())) > 1:
    one, two = (
      next(name for name in known if known[name] == digest)
      for digest in sorted(set(known.values()))[:2]
    )
    raise errors.UserError(
      f'{folder}: {one} says that its codes are those of the tokenizer '
      f'{digests.short(known[one])}, {two} of {digests.short(known[two])}; run '
      '`python -m data_pipelines tokenize` again to finish them.'
    )
  digest = next(iter(known.values()), None)
  return tokenizer(told.get('tokenizer') or 'a tokenizer', digest)
