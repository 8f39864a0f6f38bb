"""`build`: SeqIO tasks → rows of one length, packed task by task.

Rows have one length, so a ratio of rows is a ratio of tokens; each task is
packed from its own documents alone. A folder is made again only if something
that decides its content has changed. What cannot become a document, or is
longer than a row, goes into `quarantine.jsonl` with its reason.
"""

import dataclasses
import difflib
import hashlib
import importlib
import json
import os
import pathlib
import sys
import time
from typing import Any, Iterator, Mapping, Sequence

from absl import flags

from data_pipelines import definitions as definitions_lib
from data_pipelines import interleaving_report
from data_pipelines import packing
from data_pipelines import rows as rows_lib
from step_audio_jax import cli
from step_audio_jax import errors
from step_audio_jax import progress

VERSION = 1  # part of every digest; raise it when rows change
SPLITS = ('train', 'dev', 'test')


@dataclasses.dataclass(frozen=True)
class Settings:
  """How rows are made.

  Attributes:
    length: Row length L, tokens.
    window: Documents that the packer chooses from.
    shard_rows: Rows per file.
  """

  length: int = 256
  window: int = 4096
  shard_rows: int = 4096

  def __post_init__(self):
    for name, least in (('length', 16), ('window', 2), ('shard_rows', 1)):
      if getattr(self, name) < least:
        raise errors.UserError(
          f'--{name}: found {getattr(self, name)}, expected at least {least}.'
        )


@dataclasses.dataclass(frozen=True)
class Job:
  """One folder of rows.

  Attributes:
    task: Name in the SeqIO registry.
    split: Of the task.
    folder: Where the rows go.
    inputs: Digest of everything that decides the rows; empty where it is
      not known, as for tasks that were written by hand.
  """

  task: str
  split: str
  folder: pathlib.Path
  inputs: str

  def is_done(self) -> bool:
    return bool(self.inputs) and rows_lib.is_done(self.folder, self.inputs)


def select(names: Sequence[str], known: Sequence[str]) -> list[str]:
  """The tasks that were asked for; all known ones if none were.

  Raises:
    UserError: A task is not known; the closest name is said.
  """
  for name in names:
    if name not in known:
      close = difflib.get_close_matches(name, known, n=1, cutoff=0)
      raise errors.UserError(
        f'--tasks: no task {name!r}'
        + (f'; did you mean {close[0]!r}?' if close else '.')
        + f' Known: {", ".join(sorted(known)) or "none"}.'
      )
  return list(names) or list(known)


def plan(
  tasks: Mapping[str, definitions_lib.Definition | Sequence[str]],
  splits: Sequence[str],
  output: str | os.PathLike,
  settings: Settings,
) -> list[Job]:
  """The folders to make.

  Args:
    tasks: Name → definition, or the splits of a task written by hand.
    splits: Wanted splits; a task without one of them is passed over. None
      are those of `SPLITS` that are there.
    output: Folder of all rows.
    settings: How rows are made.

  Raises:
    UserError: No task has a split of `splits`.
  """
  jobs, available = [], set()
  for name, task in tasks.items():
    defined = isinstance(task, definitions_lib.Definition)
    found = task.splits() if defined else list(task)
    available.update(found)
    for split in splits or SPLITS:
      if split in found:
        inputs = ''
        if defined:
          told = [VERSION, dataclasses.asdict(settings), task.digest(split)]
          raw = json.dumps(told, sort_keys=True).encode()
          inputs = hashlib.sha256(raw).hexdigest()
        folder = pathlib.Path(output) / name / split
        jobs.append(Job(name, split, folder, inputs))
  absent = sorted(set(splits) - available)
  if absent:
    raise errors.UserError(
      f'--splits: no task has the split {absent[0]!r}; there are '
      f'{", ".join(sorted(available)) or "none"}.'
    )
  return jobs


def documents_of(job: Job, settings: Settings, left_out: list) -> Iterator:
  """The documents of a SeqIO task that fit into a row.

  What the task itself leaves out, and what is too long, joins `left_out`.
  """
  import seqio

  from data_pipelines import corpora

  task = seqio.TaskRegistry.get(job.task)
  size = _table(job.task).table_size
  dataset = task.get_dataset(
    sequence_length=None, split=job.split, shuffle=False
  )
  with corpora.quarantine() as found:
    for number, example in enumerate(corpora.examples_of(dataset)):
      document = corpora.to_document(example, f'{job.task}-{number}')
      reason = _fault(document, size, settings.length)
      if reason:
        left_out.append({'id': document.id, 'file': None, 'reason': reason})
      else:
        yield document
  left_out.extend(found)


def _fault(document, size, length) -> str | None:
  """Why a document cannot be packed; None if it can."""
  tokens = document.tokens
  if not len(tokens):
    return 'the document is empty.'
  if len(document.loss_weights) != len(tokens):
    return (
      f'loss_weights: {len(document.loss_weights)} of them, expected '
      f'{len(tokens)}, one for each token.'
    )
  if tokens.min() < 0 or tokens.max() >= size:
    wrong = tokens.min() if tokens.min() < 0 else tokens.max()
    return f'tokens: id {wrong} is out of range, expected 0..{size - 1}.'
  if not packing.fits(document, length):
    return (
      f'{len(tokens)} tokens, expected at most {length}, the row length; '
      'build with a larger --length.'
    )
  return None


def make(job: Job, settings: Settings) -> dict[str, Any]:
  """Builds one folder of rows.

  Raises:
    UserError: No document could be packed.
  """
  from data_pipelines import corpora

  definition = corpora.DEFINITIONS.get(job.task)
  table = _table(job.task)
  left_out, counts = [], {'documents': 0}
  report, begin = interleaving_report.Report(), time.monotonic()

  def counted():
    for document in documents_of(job, settings, left_out):
      counts['documents'] += 1
      report.add(document)
      yield document

  about = {
    'task': job.task,
    'split': job.split,
    'inputs': job.inputs,
    'text_model': definition.text_model if definition else None,
    'corpus': definition.corpus if definition else None,
  }

  def rows():
    empty = True
    for row in packing.pack(counted(), settings.length, window=settings.window):
      empty = False
      yield row
    if empty:
      first = left_out[0] if left_out else {'id': 'nothing', 'reason': 'read.'}
      raise errors.UserError(
        f'{job.task}, split {job.split!r}: no document could be packed; the '
        f'first, {first["id"]}: {first["reason"]}'
      )
    about.update(counts)
    told = report.to_json(time.monotonic() - begin)
    if told:
      about['interleaving'] = told

  return rows_lib.write(
    job.folder,
    rows(),
    table=table,
    length=settings.length,
    about=about,
    quarantine=left_out,
    shard_rows=settings.shard_rows,
    image_shape=_image_shape(definition),
  )


def _image_shape(
  definition: definitions_lib.Definition | None,
) -> tuple[int, ...] | None:
  """Of every image, () for none; None for a task written by hand."""
  if definition is None:
    return None
  if definition.kind != 'image_text':
    return ()
  return definition.image_size, definition.image_size, 3


def _table(task: str):
  from data_pipelines import corpora
  from step_audio_jax import vocabulary

  if task in corpora.DEFINITIONS:
    return corpora.DEFINITIONS[task].vocabulary()
  return vocabulary.Vocabulary()


def build(
  tasks: Mapping[str, definitions_lib.Definition | Sequence[str]],
  splits: Sequence[str],
  output: str | os.PathLike,
  settings: Settings,
) -> dict[str, Any]:
  """Builds every folder that is not there yet.

  Returns:
    `<task>/<split>` → the figures of its `stats.json`.

  Raises:
    UserError: As `plan` and `make`.
  """
  jobs = plan(tasks, splits, output, settings)
  left = [job for job in jobs if not job.is_done()]
  if left:
    print('importing SeqIO and TensorFlow …', file=sys.stderr, flush=True)
    from data_pipelines import corpora

    for task in tasks.values():
      if isinstance(task, definitions_lib.Definition):
        corpora.register(task)
    for job in progress.bar(left, label='build', unit='task'):
      make(job, settings)
  result = {}
  for job in jobs:
    stats = rows_lib.open_folder(job.folder).stats
    result[f'{job.task}/{job.split}'] = {
      key: stats[key]
      for key in (
        'rows', 'tokens', 'padding', 'loss_tokens', 'documents', 'dropped'
      )
    }  # fmt: skip
  return result


def configured(
  modules: Sequence[str] = (), settings: Settings = Settings()
) -> tuple[Sequence[str], Settings]:
  """What a gin file says: modules that register corpora, and settings."""
  return modules, settings


def defined_tasks(
  fv: flags.FlagValues, modules: Sequence[str] = ()
) -> dict[str, Any]:
  """The tasks that the flags describe, and those of modules.

  Raises:
    UserError: A flag is missing beside another, or a module does not import.
  """
  found = []
  if fv.speech or fv.text or fv.images or fv.chat:
    if not fv.text_model:
      raise errors.UserError('--text_model: missing, a corpus needs it.')
  if fv.speech:
    if not fv.codes:
      raise errors.UserError('--codes: missing, --speech needs it.')
    found += definitions_lib.speech(fv.name, fv.speech, fv.codes, fv.text_model)
  if fv.text:
    found += definitions_lib.text(fv.name, fv.text, fv.text_model)
  if fv.images:
    if not 0 < fv.patch_size <= fv.image_size or fv.image_size % fv.patch_size:
      raise errors.UserError(
        f'--image_size, --patch_size: found {fv.image_size}, {fv.patch_size}, '
        'expected a side that is a whole number of patches.'
      )
    found += definitions_lib.image_text(
      fv.name,
      fv.images,
      fv.text_model,
      image_size=fv.image_size,
      patches=(fv.image_size // fv.patch_size) ** 2,
    )
  if fv.chat:
    found += definitions_lib.chat(
      fv.name, fv.chat, fv.text_model, codes=fv.codes
    )
  tasks = {definition.name: definition for definition in found}
  modules = [*modules, *fv.module]
  if modules:
    tasks |= import_modules(modules)
  if not tasks:
    raise errors.UserError(
      'nothing to build: name a corpus with --speech, --text, --images or '
      '--chat, or a module that registers some with --module or MODULES.'
    )
  return tasks


def import_modules(modules: Sequence[str]) -> dict[str, Any]:
  """Imports modules that register corpora; returns the tasks they add."""
  sys.path.insert(0, os.getcwd())
  import seqio

  from data_pipelines import corpora

  before = set(seqio.TaskRegistry.names())
  for module in modules:
    try:
      importlib.import_module(module)
    except ImportError as error:
      raise errors.UserError(
        f'--module={module}: cannot be imported: {error}.'
      ) from error
  return {
    name: corpora.DEFINITIONS.get(
      name, tuple(seqio.TaskRegistry.get(name).splits)
    )
    for name in seqio.TaskRegistry.names()
    if name not in before
  }


def _define(fv: flags.FlagValues) -> None:
  default = Settings()
  flags.DEFINE_string(
    'output', None, 'Folder of rows; tasks are below it.', flag_values=fv
  )
  flags.mark_flag_as_required('output', flag_values=fv)
  flags.DEFINE_multi_string(
    'module',
    [],
    'A Python module that registers corpora; repeat it for more.',
    flag_values=fv,
  )
  for name, value, help_text in (
    ('name', 'corpus', 'Name of the corpus that the flags below describe.'),
    ('speech', None, 'Its speech: a corpus folder.'),
    ('codes', None, 'What `tokenize` made of the speech.'),
    ('text', None, 'Its plain text: a corpus folder.'),
    ('images', None, 'Its images with captions: a corpus folder.'),
    ('chat', None, 'Its chats: a corpus folder.'),
    ('text_model', None, 'Text vocabulary (.model or tokenizer.json).'),
  ):
    flags.DEFINE_string(name, value, help_text, flag_values=fv)
  flags.DEFINE_list(
    'tasks', [], 'Only these tasks; by default all.', flag_values=fv
  )
  flags.DEFINE_list(
    'splits',
    [],
    'Which splits; by default those of train, dev and test that are there.',
    flag_values=fv,
  )
  for name, value, help_text in (
    ('length', default.length, 'Row length, tokens.'),
    ('window', default.window, 'Documents to choose from when packing.'),
    ('shard_rows', default.shard_rows, 'Rows per file.'),
    ('image_size', 32, 'Side of the images, pixels.'),
    ('patch_size', 8, 'Side of a patch, pixels; as the model has it.'),
  ):
    flags.DEFINE_integer(name, value, help_text, flag_values=fv)


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  modules, settings = cli.configure(fv, configured)()
  given = {
    name: fv[name].value
    for name in ('length', 'window', 'shard_rows')
    if fv[name].present
  }
  settings = dataclasses.replace(settings, **given)
  tasks = defined_tasks(fv, modules)
  tasks = {name: tasks[name] for name in select(fv.tasks, list(tasks))}
  if fv.dry_run:
    jobs = plan(tasks, fv.splits, fv.output, settings)
    left = [job for job in jobs if not job.is_done()]
    for job in left:
      print(f'would build {job.folder}')
    return {'dry_run': True, 'folders': len(jobs), 'left': len(left)}
  result = build(tasks, fv.splits, fv.output, settings)
  for name, stats in result.items():
    print(
      f'{name}: {stats["rows"]} rows, {stats["documents"]} documents, '
      f'padding {100 * stats["padding"]:.2f} %, left out {stats["dropped"]}'
    )
  return result


DOOR = cli.Door(
  summary="""Builds packed rows from the tasks of a corpus.

    python -m data_pipelines build --name=quickstart --length=256 \\
      --speech=data/quickstart/speech --codes=data/quickstart/codes \\
      --text=data/quickstart/text --images=data/quickstart/images \\
      --text_model=data/quickstart/text.model --output=data/quickstart/rows

A corpus can also be registered in Python (data_pipelines/corpora.py), and its
module named with --module, or in gin:

    python -m data_pipelines build --gin_file=gin/pretrain/rows.gin \\
      --gin.MODULES="['my_corpora']" --output=data/rows

Left-out documents are in OUTPUT/TASK/SPLIT/
quarantine.jsonl.
""",
  main=_main,
  define=_define,
)
