"""Every item of every part by itself: `rows/<step>/<task>-<set>.jsonl`.

A line has all that the part holds of an item, with the text as it was and as
it is compared, its edits, the seed, and `latency`, its share of the seconds
that the part took.
"""

import pathlib
import re
from typing import Any, Mapping

from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

FOLDER = 'rows'
_VERSION = 2  # of the lines
_PLAIN = re.compile(r'[\w.+@=-]{1,100}')


def path_of(folder: pathlib.Path, step: int, kept: Mapping[str, Any]):
  """File of a part's rows.

  Args:
    folder: Of the evaluation.
    step: Of the checkpoint.
    kept: The part.
  """
  name = kept['name']
  if not _PLAIN.fullmatch(name):
    name = digests.of_bytes(name.encode('utf-8', 'surrogatepass'))[:20]
  return folder / FOLDER / str(step) / f'{kept["task"]}-{name}.jsonl'


def of(
  folder: pathlib.Path,
  step: int,
  kept: Mapping[str, Any],
  family: family_lib.Family,
  memory: identity.DigestCache,
) -> list[dict[str, Any]]:
  """Rows of a part, from its file; that is written where it is not there.

  Args:
    folder: Of the evaluation.
    step: Of the checkpoint.
    kept: The part.
    family: Whose part it is.
    memory: Knows which part the file is of.
  """
  path = path_of(folder, step, kept)
  made_from = [
    _VERSION, kept['condition'], kept['model'], kept['seconds']
  ]  # fmt: skip

  def make() -> int:
    found = list(family.rows(kept))
    if not found:
      files.remove(path)
      return 0
    seed = kept['settings'].get('seed')
    latency = round(kept['seconds'] / len(found), 4)
    return files.write_jsonl(
      path, ({'seed': seed, 'latency': latency, **row} for row in found)
    )

  name = f'rows {step} {path.name}'
  count = memory.derived(name, made_from, make)
  if count and not files.is_file(path):
    count = make()
  return list(files.read_jsonl(path)) if count else []
