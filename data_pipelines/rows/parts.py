"""What a worker makes of a folder of rows: all of it, or one part of many.

A part is the rows of some of a task's documents, packed by themselves. It is a
folder of rows of its own, `<task>/.<split>.parts/00003-of-00016`, until all
parts stand and become one folder. How many parts there are is a setting; how
many workers make them, and how often they were killed, changes nothing.
"""

import dataclasses
import pathlib
import threading
import time
from typing import Any, Iterator, Sequence

from data_pipelines.documents import examples
from data_pipelines.interleaving import report as interleaving_report
from data_pipelines.rows import folders as rows_lib
from data_pipelines.rows import packing
from data_pipelines.tasks import definitions as definitions_lib
from data_pipelines.tasks import modules as modules_lib
from step_audio_jax import errors
from step_audio_jax import pairs
from step_audio_jax import vocabulary
from step_audio_jax.chats import habits
from step_audio_jax.chats import preferences
from step_audio_jax.chats import rendering
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import pairs as pairs_lib


@dataclasses.dataclass(frozen=True)
class Settings:
  """How rows are made.

  Attributes:
    length: Row length L, tokens.
    window: Documents that the packer chooses from.
    shard_rows: Rows per file.
    parts: Parts that a task is built in; each may end with a row that is not
      full.
  """

  length: int = 256
  window: int = 4096
  shard_rows: int = 4096
  parts: int = 1

  def __post_init__(self):
    for name, least in (
      ('length', 16),
      ('window', 2),
      ('shard_rows', 1),
      ('parts', 1),
    ):
      if getattr(self, name) < least:
        raise errors.UserError(
          f'--{name}: found {getattr(self, name)}, expected at least {least}.'
        )

  def to_json(self) -> dict[str, int]:
    """For a digest; the rows of one part are those before there were parts."""
    told = dataclasses.asdict(self)
    if self.parts == 1:
      del told['parts']
    return told


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

  @property
  def parts_folder(self) -> pathlib.Path:
    return self.folder.with_name(f'.{self.folder.name}.parts')


@dataclasses.dataclass(frozen=True)
class Work:
  """What one worker is handed; picklable.

  Attributes:
    job: The folder that it is for.
    settings: How rows are made.
    part: Which of its parts.
    definition: Of the task; None for one that was written by hand.
    modules: Those that register it.
  """

  job: Job
  settings: Settings
  part: examples.Part = examples.Part()
  definition: definitions_lib.Definition | None = None
  modules: tuple[str, ...] = ()

  @property
  def folder(self) -> pathlib.Path:
    index, count = self.part
    if count == 1:
      return self.job.folder
    return self.job.parts_folder / f'{index:05d}-of-{count:05d}'

  @property
  def inputs(self) -> str:
    if self.part.count == 1 or not self.job.inputs:
      return self.job.inputs
    told = f'{self.job.inputs}/{self.part.index}/{self.part.count}'
    return digests.of_bytes(told.encode())

  def is_done(self) -> bool:
    return bool(self.inputs) and rows_lib.is_done(self.folder, self.inputs)


_BUILDING = threading.Lock()  # what is left out is known of one at a time


def make_in_worker(work: Work) -> None:
  """What a Beam worker does: it knows no task yet, and may have threads."""
  from data_pipelines.tasks import corpora

  with _BUILDING:
    if work.is_done():
      return
    modules_lib.import_all(work.modules)
    if work.definition is not None:
      corpora.register(work.definition)
    make(work)


def make(work: Work) -> dict[str, Any]:
  """Builds the folder of one part; its task is registered.

  Returns:
    What its `stats.json` says.

  Raises:
    UserError: No document could be packed, and there are no other parts.
  """
  job, settings = work.job, work.settings
  table = _table(work)
  left_out, cuts, counts = [], [], {'documents': 0}
  report, begin = interleaving_report.Report(), time.monotonic()

  def counted():
    for document in documents_of(work, left_out, cuts):
      counts['documents'] += 1
      report.add(document)
      yield document

  definition = work.definition
  about = {
    'task': job.task,
    'split': job.split,
    'inputs': work.inputs,
    'text_model': definition.text_model if definition else None,
    'corpus': definition.corpus if definition else None,
  }

  tokenizer = definition.speech_tokenizer() if definition else None
  if tokenizer:
    about[bindings.TOKENIZER] = tokenizer
  if definition and (tags := definition.tags(job.split)):
    about[bindings.TAGS] = tags
  if definition and (edits := definition.edits(job.split)):
    about[bindings.EDITS] = edits
  if definition and (layout := definition.layout()):
    about[habits.KEY] = layout
  if definition and (categories := definition.categories(job.split)):
    about[pairs_lib.CATEGORIES] = categories

  def rows():
    yield from packing.pack(counted(), settings.length, window=settings.window)
    if not counts['documents'] and work.part.count == 1:
      raise _nothing(job, left_out)
    about.update(counts)
    if cuts:
      about['cut'] = _cut_figures(cuts)
    told = report.to_json(time.monotonic() - begin)
    if told:
      about['interleaving'] = told

  return rows_lib.write(
    work.folder,
    rows(),
    table=table,
    length=settings.length,
    about=about,
    quarantine=left_out,
    shard_rows=settings.shard_rows,
    image_shape=_image_shape(definition),
  )


def join(job: Job, works: Sequence[Work]) -> None:
  """Makes one folder of all parts of a job; they are gone afterwards.

  Raises:
    UserError: No part has a row.
  """
  folders = [rows_lib.open_folder(work.folder) for work in works]
  if not any(folder.stats['rows'] for folder in folders):
    lines = (files.read_jsonl(f.path / 'quarantine.jsonl') for f in folders)
    raise _nothing(job, [line for part in lines for line in part])
  about = {'inputs': job.inputs}
  told = interleaving_report.merge(
    [folder.stats.get('interleaving') for folder in folders]
  )
  if told:
    about['interleaving'] = told
  cut = [folder.stats['cut'] for folder in folders if 'cut' in folder.stats]
  if cut:
    about['cut'] = {key: sum(one[key] for one in cut) for key in cut[0]}
  rows_lib.join(job.folder, folders, about)
  files.remove_tree(job.parts_folder)


def _cut_figures(cuts: Sequence[rendering.Cut]) -> dict[str, int]:
  """How much was left out of chats that are longer than a row."""
  return {
    'documents': len(cuts),
    'turns': sum(cut.turns for cut in cuts),
    'tokens': sum(cut.ids for cut in cuts),
  }


def documents_of(work: Work, left_out: list, cuts: list) -> Iterator:
  """The documents of a SeqIO task that fit into a row.

  What the task itself leaves out, and what is too long, joins `left_out`; what
  long chats lose joins `cuts`.
  """
  from data_pipelines.tasks import datasets
  from data_pipelines.tasks import sources

  seqio = sources.seqio  # imported there without its notices

  job, settings = work.job, work.settings
  size = _table(work).table_size
  index, count = work.part
  dataset = seqio.TaskRegistry.get(job.task).get_dataset(
    sequence_length=None,
    split=job.split,
    shuffle=False,
    shard_info=seqio.ShardInfo(index, count) if count > 1 else None,
  )
  with sources.quarantine() as found, sources.fitting(settings.length) as lost:
    for number, example in enumerate(datasets.examples_of(dataset)):
      # SeqIO gives a part every `count`-th example of a handmade task.
      document = sources.to_document(
        example, f'{job.task}-{number * count + index}'
      )
      reason = fault(document, size, settings.length)
      if reason:
        left_out.append({'id': document.id, 'file': None, 'reason': reason})
      else:
        yield document
  left_out.extend(found)
  cuts.extend(lost)


def fault(document, size: int, length: int) -> str | None:
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
    told = f'{len(tokens)} tokens'
    if isinstance(document, pairs.Pair):
      sizes = zip(document.sizes, preferences.ANSWERS)
      told += f' ({", ".join(f"{n} with {name}" for n, name in sizes if n)})'
    return (
      f'{told}, expected at most {length}, the row length; '
      'build with a larger --length.'
    )
  return None


def _nothing(job: Job, left_out) -> errors.UserError:
  first = left_out[0] if left_out else {'id': 'nothing', 'reason': 'read.'}
  return errors.UserError(
    f'{job.task}, split {job.split!r}: no document could be packed; the '
    f'first, {first["id"]}: {first["reason"]}'
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


def _table(work: Work) -> vocabulary.Vocabulary:
  """The id space of a task; the released sizes where a task tells none."""
  if work.definition is not None:
    return work.definition.vocabulary()
  import seqio

  from data_pipelines.tasks import sources

  feature = seqio.TaskRegistry.get(work.job.task).output_features.get('tokens')
  told = getattr(feature, 'vocabulary', None)
  if isinstance(told, sources.TextAndSpeech):
    return told.table
  return vocabulary.Vocabulary()
