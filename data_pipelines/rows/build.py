"""`build`: SeqIO tasks → rows of one length, packed task by task.

Rows have one length, so a ratio of rows is a ratio of tokens; each task is
packed from its own documents alone. A folder is made again only if something
that decides its content has changed. What cannot become a document, or is
longer than a row, goes into `quarantine.jsonl` with its reason.

A large task is built in `parts` (`rows.parts`), which Beam maps over workers;
parts that stand when a build is killed are not made again.
"""

import contextlib
import dataclasses
import difflib
import json
import os
import sys
import time
from typing import Any, Iterator, Mapping, Sequence

from absl import flags

from data_pipelines import beam
from data_pipelines.documents import examples
from data_pipelines.rows import bindings
from data_pipelines.rows import folders as rows_lib
from data_pipelines.rows import parts as row_parts
from data_pipelines.tasks import definitions as definitions_lib
from data_pipelines.tasks import modules as modules_lib
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.commands import cli
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

VERSION = 1  # part of every digest; raise it when rows change
SPLITS = ('train', 'dev', 'test')
_POLL_SECONDS = 2.0

Job = row_parts.Job
Settings = row_parts.Settings
Tasks = Mapping[str, definitions_lib.Definition | Sequence[str]]


def select(names: Sequence[str], known: Sequence[str]) -> list[str]:
  """The tasks that were asked for; if none were, all but those on request.

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
  on_request = tuple(f'_{task}' for task in definitions_lib.ON_REQUEST)
  return list(names) or [n for n in known if not n.endswith(on_request)]


def plan(
  tasks: Tasks,
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
          told = [VERSION, settings.to_json(), task.digest(split)]
          raw = json.dumps(told, sort_keys=True).encode()
          inputs = digests.of_bytes(raw)
        folder = files.path(output) / name / split
        jobs.append(Job(name, split, folder, inputs))
  absent = sorted(set(splits) - available)
  if absent:
    raise errors.UserError(
      f'--splits: no task has the split {absent[0]!r}; there are '
      f'{", ".join(sorted(available)) or "none"}.'
    )
  return jobs


def build(
  tasks: Tasks,
  splits: Sequence[str],
  output: str | os.PathLike,
  settings: Settings,
  *,
  modules: Sequence[str] = (),
  runner: str = 'local',
  beam_options: Sequence[str] = (),
) -> dict[str, Any]:
  """Builds every folder that is not there yet.

  Args:
    tasks: As `plan`.
    splits: As `plan`.
    output: Folder of all rows.
    settings: How rows are made.
    modules: Those that register the tasks, for Beam's workers.
    runner: `local`, or a Beam runner such as `DirectRunner`.
    beam_options: More options for Beam, as flags.

  Returns:
    `<task>/<split>` → the figures of its `stats.json`.

  Raises:
    UserError: As `plan`; no document of a task could be packed; or the folder
      would hold rows of several vocabularies or speech tokenizers.
  """
  jobs = plan(tasks, splits, output, settings)
  bindings.check(jobs, tasks, output)
  left = [job for job in jobs if not job.is_done()]
  if left:
    works = [works_of(job, tasks[job.task], settings, modules) for job in left]
    if runner == 'local':
      _run_here(left, works)
    else:
      _run_on_beam(left, works, output, runner, beam_options)
  result = {}
  for job in jobs:
    stats = rows_lib.open_folder(job.folder).stats
    result[f'{job.task}/{job.split}'] = {
      key: stats[key]
      for key in (
        'rows', 'tokens', 'padding', 'loss_tokens', 'documents', 'dropped'
      )
    }  # fmt: skip
    for key in ('cut', 'pairs'):
      if key in stats:
        result[f'{job.task}/{job.split}'][key] = stats[key]
  return result


def works_of(
  job: Job,
  task: definitions_lib.Definition | Sequence[str],
  settings: Settings,
  modules: Sequence[str] = (),
) -> list[row_parts.Work]:
  """The parts of a folder."""
  definition = task if isinstance(task, definitions_lib.Definition) else None
  return [
    row_parts.Work(
      job,
      settings,
      examples.Part(index, settings.parts),
      definition,
      tuple(modules),
    )
    for index in range(settings.parts)
  ]


def _run_here(jobs, works) -> None:
  print('importing SeqIO and TensorFlow …', file=sys.stderr, flush=True)
  from data_pipelines.tasks import corpora

  for work, *_ in works:
    if work.definition is not None:
      corpora.register(work.definition)
  with _Meter(sum(map(len, works))) as meter:
    for job, parts in zip(jobs, works):
      for work in parts:
        meter.add(None if work.is_done() else row_parts.make(work))
      if len(parts) > 1:
        row_parts.join(job, parts)


class _Meter:
  """A bar over parts, with the speed at which they are made."""

  def __init__(self, parts: int):
    self._bar = progress.bar(total=parts, label='build', unit='part')
    self._rows, self._tokens, self._begin = 0, 0, time.monotonic()

  def __enter__(self):
    self._bar.__enter__()
    return self

  def __exit__(self, *error):
    self._bar.__exit__(*error)

  def add(self, stats: Mapping[str, Any] | None) -> None:
    """Counts a part, by its `stats.json`; None for one that stood already."""
    if stats is not None:
      self._rows += stats['rows']
      self._tokens += stats['tokens']
      seconds = max(time.monotonic() - self._begin, 1e-3)
      self._bar.set_postfix_str(
        f'{self._rows} rows, {self._tokens / seconds:,.0f} tokens/s',
        refresh=False,
      )
    self._bar.update(1)


def _run_on_beam(jobs, works, output, runner, options) -> None:
  parts = [work for parts in works for work in parts]
  left = [work for work in parts if not work.is_done()]
  with _watched(left):
    beam.map_shards(
      row_parts.make_in_worker,
      left,
      output=files.path(output),
      runner=runner,
      options=options,
    )
  for job, parts in zip(jobs, works):
    if len(parts) > 1:
      row_parts.join(job, parts)


@contextlib.contextmanager
def _watched(works) -> Iterator[None]:
  """Shows what workers elsewhere do, by what they leave behind."""
  with _Meter(len(works)) as meter:
    waiting = list(works)

    def look():
      for work in [work for work in waiting if work.is_done()]:
        meter.add(rows_lib.open_folder(work.folder).stats)
        waiting.remove(work)

    with progress.watching(look, _POLL_SECONDS):
      yield
    look()


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
  for name, needs in (('starts', fv.chat or fv.speech), ('last_only', fv.chat)):
    if fv[name].value and not needs:
      raise errors.UserError(
        f'--{name}: says how chats are laid out, expected it beside --chat.'
      )
  if fv.speech or fv.text or fv.images or fv.chat:
    if not fv.text_model:
      raise errors.UserError('--text_model: missing, a corpus needs it.')
  if fv.speech:
    if not fv.codes:
      raise errors.UserError('--codes: missing, --speech needs it.')
    found += definitions_lib.speech(
      fv.name,
      fv.speech,
      fv.codes,
      fv.text_model,
      interleaving=fv.interleaving,
      streams=fv.streams,
      starts=fv.starts,
      sft=True,
    )
  if fv.text:
    found += definitions_lib.text(
      fv.name, fv.text, fv.text_model, voice=fv.voice
    )
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
      fv.name,
      fv.chat,
      fv.text_model,
      codes=fv.codes,
      streams=fv.streams,
      starts=fv.starts,
      last_only=fv.last_only,
      sft=True,
    )
    found += definitions_lib.preference(
      fv.name,
      fv.chat,
      fv.text_model,
      codes=fv.codes,
      streams=fv.streams,
      starts=fv.starts,
    )
  tasks = {definition.name: definition for definition in found}
  if len(tasks) < len(found):
    raise errors.UserError(
      f'--voice: {fv.name}_interleaved is a task of --speech already; build '
      'the text by itself, with another --name.'
    )
  if modules:
    tasks |= modules_lib.tasks_of(modules)
  if not tasks:
    raise errors.UserError(
      'nothing to build: name a corpus with --speech, --text, --images or '
      '--chat, or a module that registers some with --module or MODULES.'
    )
  return tasks


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
    ('chat', None, 'Its chats and preferences: a corpus folder.'),
    ('text_model', None, 'Text vocabulary (.model or tokenizer.json).'),
    ('voice', None, 'A run with TTS; it speaks a part of the plain text.'),
    (
      'interleaving',
      None,
      'How speech is interleaved: segments, words or poisson; by default '
      'words where there are word times, and else segments.',
    ),
  ):
    flags.DEFINE_string(name, value, help_text, flag_values=fv)
  flags.DEFINE_enum(
    'streams',
    documents.BOTH,
    documents.STREAMS,
    'Which codes ASR and chats hear; the other tasks always have both.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'starts',
    False,
    'Turns of chats and of tts_turns have <s> behind every <|BOT|>, as '
    'released code has it. Rows and runs say so, and doors follow.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'last_only',
    False,
    'The task chat learns the last reply alone, as the other tasks of SFT do.',
    flag_values=fv,
  )
  flags.DEFINE_list(
    'tasks',
    [],
    'Only these tasks; by default all but those that docs/sft.md and '
    'docs/alignment.md list.',
    flag_values=fv,
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
    ('parts', default.parts, 'Parts of a task, which workers can share.'),
    ('image_size', 32, 'Side of the images, pixels.'),
    ('patch_size', 8, 'Side of a patch, pixels; as the model has it.'),
  ):
    flags.DEFINE_integer(name, value, help_text, flag_values=fv)
  beam.define_flags(fv)


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  modules, settings = cli.configure(fv, configured)()
  given = {
    name: fv[name].value
    for name in ('length', 'window', 'shard_rows', 'parts')
    if fv[name].present
  }
  settings = dataclasses.replace(settings, **given)
  modules = [*modules, *fv.module]
  files.check_writable(fv.output, '--output', folder=True)
  tasks = defined_tasks(fv, modules)
  tasks = {name: tasks[name] for name in select(fv.tasks, list(tasks))}
  if fv.dry_run:
    jobs = plan(tasks, fv.splits, fv.output, settings)
    bindings.check(jobs, tasks, fv.output)
    left = [job for job in jobs if not job.is_done()]
    for job in left:
      print(f'would build {job.folder}')
    return {'dry_run': True, 'folders': len(jobs), 'left': len(left)}
  result = build(
    tasks,
    fv.splits,
    fv.output,
    settings,
    modules=modules,
    runner=fv.runner,
    beam_options=fv.beam_option,
  )
  for name, stats in result.items():
    print(
      f'{name}: {stats["rows"]} rows, {stats["documents"]} documents, '
      f'padding {100 * stats["padding"]:.2f} %, left out {stats["dropped"]}'
    )
    if stats.get('cut'):
      print(
        f'{name}: {stats["cut"]["documents"]} chats are longer than a row: '
        f'{stats["cut"]["turns"]} of their oldest turns were left out, '
        f'{stats["cut"]["tokens"]} ids'
      )
  return result


DOOR = cli.Door(
  summary="""Builds packed rows from the tasks of a corpus.

    python -m data_pipelines build --name=quickstart --length=256 \\
      --speech=data/quickstart/speech --codes=data/quickstart/codes \\
      --text=data/quickstart/text --images=data/quickstart/images \\
      --text_model=data/quickstart/text.model --output=data/quickstart/rows

A corpus can also be registered in Python (data_pipelines/tasks/corpora.py), and
its module named with --module, or in gin:

    python -m data_pipelines build --gin_file=gin/pretrain/rows.gin \\
      --gin.MODULES="['my_corpora']" --output=data/rows

Many workers share a task that is built in parts:

    python -m data_pipelines build --parts=64 --runner=FlinkRunner …

Left-out documents are in OUTPUT/TASK/SPLIT/quarantine.jsonl. After a kill, the
same command continues: finished folders and parts are not made again.
""",
  main=_main,
  define=_define,
  texts=('beam_option',),
)
