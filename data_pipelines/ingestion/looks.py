"""Looks at recordings and images of a bucket before it is their turn.

Each look waits for an answer, and a corpus has many: those of the next items
are made side by side. `admission` remembers what was seen.
"""

import collections
from typing import Iterable, Iterator

from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.storage import files

_KNOWN = 512  # fewer than `admission` remembers, more than are on their way

Found = base.Item | base.Rejected


def looked_at(
  root: files.AnyPath, found: Iterable[Found], rules: admission.Rules
) -> Iterator[Found]:
  """The items as they are, in order; unless `root` is in a bucket, at once."""
  if not files.is_address(root):
    return iter(found)
  known: collections.OrderedDict[files.Address, None] = (
    collections.OrderedDict()
  )

  def items():
    for item in found:
      yield item, _is_new(item, known)

  return files.ahead(root, lambda pair: _looked(*pair, rules), items())


def _is_new(item: Found, known) -> bool:
  """Whether nobody has looked at its file; parts of one follow each other."""
  if isinstance(item, base.Rejected):
    return False
  path = item.audio if item.audio is not None else item.image
  if not isinstance(path, files.Address) or path in known:
    return False
  known[path] = None
  if len(known) > _KNOWN:
    known.popitem(last=False)
  return True


def _looked(item: Found, is_new: bool, rules: admission.Rules) -> Found:
  if not is_new:
    return item
  try:
    if item.audio is None:
      admission.check_image(item)
    elif not admission.is_trusted(item, rules):
      admission.examine(item)
    elif not files.is_file(item.audio):
      return base.Rejected(
        item.where,
        f'audio/{item.audio_name}: no such file.',
        id=item.fields.get('id'),
        line=item.line,
        file=item.audio_name,
      )
  except errors.UserError as error:
    files.raise_outage(error)
    # Who admits the item says what else is wrong, in its turn.
  return item
