"""One ingestion: what a reader yields → manifest, quarantine, counts.

Memory holds 64 bits of each id, text and name of a file; about 300 MB for a
million recordings.
"""

import collections
import errno
import hashlib
import json
import os
import pathlib
import re
from typing import IO, Any, Callable, Iterable, Iterator

from data_pipelines import tally
from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.chats import own
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

# The corpus folder is at fault, not the item.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
ODD = (
  'notes on recordings that are not what their headers or the corpus say: '
  'notes.jsonl'
)
_KINDS = 50  # of notes, counted one by one
_NUMBER = re.compile(r'\d[\d.]*')
_SHOWN = 500  # characters of a reason; of a name less


class OutputError(errors.UserError):
  """The corpus folder cannot be written to."""


class Intake:
  """Items in; lines of the manifest and of the quarantine out.

  Attributes:
    read: Items so far; always `kept + quarantined` between two of them.
    kept: Lines of the manifest.
    quarantined: Lines of the quarantine.
    first: Place and reason of the first refusal.
    tally: Figures of what was kept.
    notes: What is worth telling of what was kept: sentence → lines.
  """

  def __init__(
    self,
    put: Callable[[pathlib.Path | bytes, str], None],
    rules: admission.Rules,
  ):
    """Nothing read yet.

    Args:
      put: (file or its bytes, name in the corpus) → the corpus holds it.
      rules: What is kept.
    """
    self._put, self._rules = put, rules
    self._seen: set[int] = set()
    self._placed: dict[int, int] = {}  # name → recording, as digests
    self._last: tuple[str, Any] = '', None  # the last of these
    self.tally = tally.Tally()
    self.notes: dict[str, int] = {}
    self._odd: collections.Counter[str] = collections.Counter()
    self.read = self.kept = self.quarantined = 0
    self.first = 'it is empty.'

  def counts(self) -> dict[str, int]:
    """What was read, kept and left out."""
    return {
      'read': self.read,
      'kept': self.kept,
      'quarantined': self.quarantined,
    }

  def result(self) -> dict[str, Any]:
    """The counts, and figures and notes of what was kept."""
    result = {**self.counts(), **self.tally.result()}
    notes = [f'{count} {note}' for note, count in self.notes.items()]
    if self._odd:
      result['audio_notes'] = dict(self._odd.most_common(_KINDS))
      count = self._odd.total()
      notes.append(f'{count} {ODD}')
    if notes:
      result['notes'] = [*result.get('notes', ()), *notes]
    return result

  def lines(
    self,
    found: Iterable[base.Item | base.Rejected],
    quarantine: IO[str],
    odd: IO[str] | None = None,
  ) -> Iterator[dict[str, Any]]:
    """Yields the lines that are kept; writes those that are not.

    Args:
      found: What a reader found.
      quarantine: Takes what is left out, with the reason.
      odd: Takes what is kept although its recording is odd, with how.
    """
    for item in found:
      self.read += 1
      if isinstance(item, base.Rejected):
        refused = item
      else:
        try:
          told: list[str] = []
          utterance = self._accept(item, told)
        except OutputError:
          raise
        except errors.UserError as error:
          files.raise_outage(error)
          refused = base.Rejected(
            item.where,
            str(error),
            id=item.fields.get('id'),
            line=item.line,
            file=item.audio_name or item.image_name,
          )
        else:
          self.kept += 1
          self.tally.add(utterance, item.fields.get('heard'))
          self._tell(item, told, odd)
          yield utterance.to_json()
          continue
      if not self.quarantined:
        self.first = f'{_shown(refused.where)}: {_shown(refused.reason)}'
      self.quarantined += 1
      quarantine.write(json.dumps(_entry(refused), ensure_ascii=False) + '\n')

  def _tell(self, item: base.Item, told: list[str], odd: IO[str] | None):
    """Counts and writes what is odd about a recording that is kept."""
    for note in told:
      kind = _NUMBER.sub('N', note)
      if kind in self._odd or len(self._odd) < _KINDS:
        self._odd[kind] += 1
      else:
        self._odd['other'] += 1
      if odd is not None:
        told_of = base.Rejected(
          item.where, note, item.fields.get('id'), item.line, item.audio_name
        )
        entry = _entry(told_of)
        entry['note'] = entry.pop('reason')
        odd.write(json.dumps(entry, ensure_ascii=False) + '\n')

  def _accept(self, item: base.Item, told: list[str]) -> manifest.Utterance:
    utterance = admission.admit(item, self._rules, self.notes, told)
    name = digests.number(utterance.id)
    if name in self._seen:
      raise errors.UserError(
        f'id: {utterance.id!r} occurs twice; give each line an `id`.'
      )
    for spoken in own.spoken(utterance.all_turns):
      if digests.number(spoken) not in self._seen:
        raise errors.UserError(
          f'turns: {spoken!r} was left out, or is none; expected a recording '
          'in front of the chat.'
        )
    for target, content in (
      (utterance.audio, item.audio),
      (utterance.image, item.image),
    ):
      if target is not None:
        self._place(target, content)
    self._seen.add(name)
    return utterance

  def _place(self, target: str, content: pathlib.Path | bytes) -> None:
    """Places a file once; two files do not share a name."""
    if content is self._last[1] and target == self._last[0]:
      return  # parts of a recording mostly follow each other
    key = digests.number(target)
    if isinstance(content, bytes):
      raw = hashlib.blake2b(content, digest_size=8).digest()
      value = int.from_bytes(raw, 'little')
    else:
      value = digests.number(os.fspath(content))
    if key in self._placed:
      if self._placed[key] != value:
        raise errors.UserError(
          f'{target}: another file of the corpus has this name.'
        )
      self._last = target, content
      return
    try:
      self._put(content, target)
    except OSError as error:
      if error.errno in _FATAL:
        raise OutputError(f'{target}: {error.strerror}.') from error
      missing = error.errno == errno.ENOENT
      reason = 'no such file' if missing else error.strerror
      raise errors.UserError(f'{target}: {reason}.') from error
    self._placed[key] = value
    self._last = target, content


def _entry(refused: base.Rejected) -> dict[str, Any]:
  """A line of the quarantine."""
  return {
    'id': _shown(refused.id, 200),
    'line': refused.line,
    'file': _shown(refused.file, 200),
    'where': _shown(refused.where),
    'reason': _shown(refused.reason),
  }


def _shown(value: Any, limit: int = _SHOWN) -> str | None:
  """One line that any file can hold."""
  if value is None:
    return None
  text = ' '.join(str(value).splitlines())
  if len(text) > limit:
    text = f'{text[: limit - 1]}…'
  return text.encode('utf-8', 'backslashreplace').decode()
