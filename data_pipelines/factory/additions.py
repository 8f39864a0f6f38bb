"""What a door adds to a corpus: preferences behind the chats they are made of.

    CORPUS/manifest.jsonl     the pairs of a chat stand behind it
    CORPUS/DOOR.json          settings and counts
    CORPUS/DOOR.jsonl         what was left out, and why

A door knows which lines are its own, and replaces those that are there: the
same command adds nothing twice. The manifest is whole or as it was, whenever a
door is killed. Where it has a provenance, the new lines are in it.
"""

import dataclasses
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from absl import flags

from data_pipelines.factory import provenance
from data_pipelines.factory.leaks import held_out as held_out_lib
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import preferences
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

_TEST = 'test'  # how the splits begin that nothing is learnt of
Line = manifest.Utterance


class Told(NamedTuple):
  """A line of a manifest.

  Attributes:
    line: It.
    source: Id of what it was made of or copied from; None of what was there
      before.
  """

  line: Line
  source: str | None = None


def check_splits(splits: Sequence[str]) -> None:
  """Refuses splits that nothing may be made of.

  Raises:
    UserError: There are none, or one is of tests.
  """
  if not any(splits):
    raise errors.UserError('--splits: found none, expected some.')
  for split in splits:
    if split.startswith(_TEST):
      raise errors.UserError(
        f'--splits: found {split!r}, a test split, expected splits that are '
        'learnt of or that choose a checkpoint, such as train,dev.'
      )


def preference(
  chat: Line, name: str, chosen: str, rejected: str, **fields: Any
) -> Line:
  """Two written answers to what a chat asks last.

  Args:
    chat: Its last turn is the assistant's.
    name: Behind the chat's id.
    chosen: The better answer.
    rejected: The other.
    **fields: Of `Utterance`; `turns` in place of those of the chat.
  """
  answers = (
    {'role': chats.ASSISTANT, 'text': text} for text in (chosen, rejected)
  )
  told = {'turns': chat.turns[:-1], **fields}
  return manifest.Utterance(
    id=f'{chat.id}-{name}',
    kind='preference',
    split=chat.split,
    language=chat.language,
    **dict(zip(preferences.ANSWERS, answers)),
    **told,
  )


def write(root: files.AnyPath, told: Sequence[Told], seed: int = 0) -> None:
  """Writes the manifest, and its provenance where it has one.

  Args:
    root: Of the corpus.
    told: All lines in order.
    seed: What was added follows from it.
  """
  lines = [one.line for one in told]
  path = manifest.path_of(root)
  if files.is_file(path) and lines == manifest.read(root):
    return
  if not files.is_file(provenance.path_of(root)):
    manifest.write(root, lines)
    return
  job, items = provenance.read(root)
  origins = {line.id: origin for line, origin in items}
  for line, source in told:
    if source is not None:
      origins[line.id] = provenance.Origin(line.id, seed, sources=[source])
  if 'kept' in job.counts:
    counts = {**job.counts, 'kept': len(lines)}
    job = dataclasses.replace(job, counts=counts)
  provenance.write(root, job, ((line, origins[line.id]) for line in lines))


def write_account(
  root: files.AnyPath,
  door: str,
  result: Mapping[str, Any],
  left: Iterable[Mapping[str, Any]],
) -> None:
  """Writes what a door did, and what it left out."""
  files.write_jsonl(root / f'{door}.jsonl', left)
  files.write_json(root / f'{door}.json', result)


def define_flags(fv: flags.FlagValues, splits: Sequence[str]) -> None:
  """Flags of a door that adds: the corpus, and what may be taken of it."""
  flags.DEFINE_string(
    'corpus', None, 'Corpus folder; its manifest is added to.', flag_values=fv
  )
  flags.mark_flag_as_required('corpus', flag_values=fv)
  flags.DEFINE_list(
    'splits', list(splits), 'Whose questions are taken.', flag_values=fv
  )
  flags.DEFINE_multi_string(
    'held_out',
    [],
    'A corpus whose test splits nothing may be made of.',
    flag_values=fv,
  )


def held_out(fv: flags.FlagValues) -> held_out_lib.HeldOut | None:
  """What the flags say that nothing may be made of.

  Raises:
    UserError: It is no corpus with test splits.
  """
  if not fv.held_out:
    return None
  rules = held_out_lib.Rules(training=tuple({'train', *fv.splits}))
  return held_out_lib.HeldOut(fv.held_out, rules)
