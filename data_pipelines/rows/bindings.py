"""One folder of rows, one vocabulary, one speech tokenizer.

Tasks of a folder are mixed in training, so that an id must mean the same in
all of them: those that are built now, and those that lie there already.
"""

import os
import pathlib
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from data_pipelines import records
from data_pipelines.rows import folders as rows_lib
from data_pipelines.rows import parts
from data_pipelines.tasks import definitions as definitions_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files


class Origin(NamedTuple):
  """What the ids of a folder of rows belong to.

  Attributes:
    name: Of the folder or task, for messages.
    vocabulary: As `Vocabulary.describe` tells it; None if not known.
    tokenizer: As `bindings` has it; None without speech or if not known.
    speech: Whether there are speech ids.
    way_on: What to do where it differs.
  """

  name: str
  vocabulary: bindings.Described
  tokenizer: bindings.Described
  speech: bool
  way_on: str


def check(
  jobs: Sequence[parts.Job],
  tasks: Mapping[str, Any],
  output: str | os.PathLike,
) -> None:
  """Compares all that a folder of rows will hold.

  Args:
    jobs: The folders that are made.
    tasks: Name → definition, or the splits of a task written by hand.
    output: Folder of all rows.

  Raises:
    UserError: Ids of two folders belong to different vocabularies or speech
      tokenizers; both are named.
  """
  made = list(_to_make(jobs, tasks))
  if not made:
    return
  whole = next((origin for origin in made if origin.speech), made[0])
  voiced = [origin for origin in made if origin.tokenizer]
  for origin in [*made, *_there(jobs, files.path(output))]:
    if origin is whole:
      continue
    bindings.check_vocabulary(
      origin.name,
      origin.vocabulary,
      whole.name,
      whole.vocabulary,
      origin.way_on,
      speech=origin.speech and whole.speech,
    )
    if origin.tokenizer and voiced and origin is not voiced[0]:
      bindings.check_tokenizer(
        origin.name,
        origin.tokenizer,
        voiced[0].name,
        voiced[0].tokenizer,
        origin.way_on,
      )


def _to_make(jobs, tasks) -> Iterator[Origin]:
  for name in dict.fromkeys(job.task for job in jobs):
    definition = tasks[name]
    if isinstance(definition, definitions_lib.Definition):
      yield Origin(
        f'task {name}',
        definition.vocabulary().describe(),
        definition.speech_tokenizer(),
        definition.codes is not None or definition.voice is not None,
        'build them into different folders, with another --output',
      )


def _there(jobs, output: pathlib.Path) -> Iterator[Origin]:
  """Folders that stay."""
  replaced = {job.folder for job in jobs}
  for path in sorted(files.glob(output, '*/*/stats.json')):
    folder = path.parent
    shards = records.shards_of(folder, rows_lib.STEM)
    if folder in replaced or not shards:
      continue
    stats = files.read_json(path)
    kinds = stats.get('tokens_by_kind', {})
    known = stats.get('text_model') or stats.get(bindings.VOCABULARY, {}).get(
      bindings.PIECES
    )
    yield Origin(
      str(folder),
      stats.get(bindings.VOCABULARY) if known else None,
      bindings.tokenizer_of(stats, path),
      any(kinds.get(kind) for kind in ('linguistic', 'semantic')),
      'build that task again in the same call, remove its folder, or name '
      'another --output',
    )
