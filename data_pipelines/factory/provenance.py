"""How each item of a corpus was made: a file beside the manifest.

    CORPUS/manifest.jsonl
    CORPUS/provenance.jsonl      one line about the corpus, then one an item

    {"provenance": 1, "manifest": "<SHA-256>", "items": 2, "voices": {…},
     "writers": {…}, "settings": {…}, "counts": {"kept": 2, "rejected": 1, …}}
    {"id": "a1", "seed": 7, "writer": "grammar", "voice": "joe",
     "speech": {"rate": 1.1}, "augmentation": {…}, "gates": {"cer": {…}}}

The manifest stays what any corpus has. The first line carries its digest, so
that a manifest that was changed is told from the one that the file is about;
what many items share (a voice's files and licence, a writer's model and digest)
stands there once. Items are in the manifest's order. Made for the synthesis
jobs of `data_pipelines`; read by `inspect`.
"""

import collections
import dataclasses
import itertools
import json
import os
from typing import Any, Iterable, Iterator, Mapping, Sequence

from data_pipelines.factory.gates import base as gates_base
from step_audio_jax import errors
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

NAME = 'provenance.jsonl'
QUARANTINE = 'quarantine.jsonl'
VERSION = 1
_NEW = '.provenance-'  # before names of what is not shown yet


@dataclasses.dataclass(frozen=True)
class Job:
  """What the items of a corpus share.

  Attributes:
    seed: Of the job; with an item's id it decides everything.
    settings: What was asked for, JSON-able.
    voices: Name → licence, origin, digests (`voices.voice.record`).
    writers: Name → what wrote or rewrote texts: model, digest, address.
    counts: `gates.line.Counts.result` of all that was made.
    made_with: Versions.
  """

  seed: int
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  voices: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  writers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  counts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  made_with: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check_types(self, _JOB, 'provenance')
    for name in ('voices', 'writers'):
      for key, value in getattr(self, name).items():
        if not isinstance(value, Mapping):
          raise errors.UserError(
            f'provenance: {name}: {key}: found {value!r}, expected an object.'
          )
    _check_counts(self.counts)


@dataclasses.dataclass(frozen=True)
class Origin:
  """How one item was made.

  Attributes:
    id: Of the item.
    seed: That it was made with.
    writer: Who wrote its text, a name of `Job.writers`.
    voice: Who says it, a name of `Job.voices`.
    speech: How it was said: speaker, rate, pitch, style, …
    augmentation: As of `chain.Changed`; None where nothing was changed.
    gates: Name → {'outcome', 'score'}, as of `gates.line.Report`.
    sources: Ids of what it was made from: a prompt, a neutral recording.
  """

  id: str
  seed: int
  writer: str | None = None
  voice: str | None = None
  speech: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  augmentation: Mapping[str, Any] | None = None
  gates: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  sources: Sequence[str] = ()

  def __post_init__(self):
    _check_types(self, _ORIGIN, f'provenance: {self.id}')
    where = f'provenance: {self.id}'
    for one in self.sources:
      if not isinstance(one, str):
        raise errors.UserError(
          f'{where}: sources: found {one!r}, expected ids.'
        )
    if self.augmentation is not None:
      try:
        chain.read(self.augmentation, _NOWHERE)
      except errors.UserError as error:
        raise errors.UserError(f'{where}: augmentation: {error}') from error
    for name, told in self.gates.items():
      outcome = told.get('outcome') if isinstance(told, Mapping) else None
      if outcome != gates_base.PASSED:
        # What was not passed, or not measured, is no item of a corpus.
        raise errors.UserError(
          f'{where}: gates: {name}: found {told!r}, expected an outcome '
          f'{gates_base.PASSED!r}: the item is kept.'
        )

  def to_json(self) -> dict[str, Any]:
    """A line of the file; what is absent is left out."""
    value = {k: getattr(self, k) for k in _ORIGIN}
    value['sources'] = list(self.sources)
    must = ('id', 'seed')
    return {
      k: v for k, v in value.items() if k in must or v not in (None, {}, [])
    }


class _Nowhere:
  """Stands for recordings that are not looked at."""

  where = ''


_NOWHERE = _Nowhere()
_TEXT = (str, type(None))
_JOB = {
  'seed': (int,),
  **dict.fromkeys(
    ('settings', 'voices', 'writers', 'counts', 'made_with'), (Mapping,)
  ),
}
_ORIGIN = {
  'id': (str,),
  'seed': (int,),
  'writer': _TEXT,
  'voice': _TEXT,
  'speech': (Mapping,),
  'augmentation': (Mapping, type(None)),
  'gates': (Mapping,),
  'sources': (list, tuple),
}


def path_of(corpus: str | os.PathLike) -> files.AnyPath:
  """The file beside the manifest of a corpus."""
  return manifest.path_of(corpus).parent / NAME


def write(
  corpus: str | os.PathLike,
  job: Job,
  items: Iterable[tuple[manifest.Utterance, Origin]],
) -> int:
  """Writes a manifest and what is beside it; returns the number of items.

  The manifest is shown last. Killed before that, an older one is found not to
  be what the file is about.

  Raises:
    UserError: An item and its origin have other ids or an id occurs twice; a
      voice or a writer is not among the job's; a gate is not among its counts.
  """
  root = manifest.path_of(corpus).parent
  listed, told = root / f'{_NEW}manifest.jsonl', root / f'{_NEW}items.jsonl'

  def utterances(handle) -> Iterator[manifest.Utterance]:
    for utterance, origin in items:
      _check_belongs(utterance.id, origin, job)
      handle.write(json.dumps(origin.to_json(), ensure_ascii=False) + '\n')
      yield utterance

  try:
    with files.atomic(told, 'w') as handle:
      count = manifest.write(listed, utterances(handle))
    head = {
      'provenance': VERSION,
      'manifest': digests.of_file(listed),
      'items': count,
      **{name: getattr(job, name) for name in _JOB},
    }
    lines = itertools.chain([head], files.read_jsonl(told))
    files.write_jsonl(root / NAME, lines)
    files.move(listed, root / manifest.NAME)
  finally:
    files.remove(listed)
    files.remove(told)
  return count


def read(
  corpus: str | os.PathLike,
) -> tuple[Job, Iterator[tuple[manifest.Utterance, Origin]]]:
  """What a corpus says of itself, item by item, in constant memory.

  Raises:
    UserError: There is no such file, or it is of another manifest; and, when
      it is reached, a line that is wrong or missing.
  """
  path, job, head = _head(corpus)
  return job, _items(corpus, path, job, head)


def _head(corpus):
  path = path_of(corpus)
  head = next(files.read_jsonl(path), None)
  if not isinstance(head, Mapping) or head.get('provenance') != VERSION:
    found = head.get('provenance') if isinstance(head, Mapping) else head
    raise errors.UserError(
      f'{path}:1: provenance: found {found!r}, expected {VERSION}.'
    )
  given = {k: v for k, v in head.items() if k in _JOB}
  missing = sorted(set(_JOB) - set(given))
  if missing:
    raise errors.UserError(f'{path}:1: {missing[0]}: missing.')
  try:
    job = Job(**given)
  except errors.UserError as error:
    raise errors.UserError(f'{path}:1: {error}') from error
  listed = manifest.path_of(corpus)
  digest = digests.of_file(listed)
  if head.get('manifest') != digest:
    raise errors.UserError(
      f'{path}: made of another {listed.name} '
      f'({digests.short(str(head.get("manifest")))}) than lies there '
      f'({digests.short(digest)}).'
    )
  return path, job, head


def _items(corpus, path, job, head):
  told = files.read_numbered_jsonl(path)
  next(told)
  count = 0
  for utterance in manifest.stream(corpus):
    number, value = next(told, (None, None))
    if number is None:
      raise errors.UserError(
        f'{path}: ends before {utterance.id!r}, expected a line for each item '
        'of the manifest.'
      )
    try:
      origin = _origin(value)
      _check_belongs(utterance.id, origin, job)
    except errors.UserError as error:
      raise errors.UserError(f'{path}:{number}: {error}') from error
    count += 1
    yield utterance, origin
  more = next(told, None)
  if more is not None or head.get('items') != count:
    raise errors.UserError(
      f'{path}: tells of {"more" if more else head.get("items")} items, the '
      f'manifest has {count}.'
    )


def _origin(value) -> Origin:
  if not isinstance(value, Mapping):
    raise errors.UserError(
      f'found {type(value).__name__}, expected a JSON object.'
    )
  unknown = sorted(set(value) - set(_ORIGIN))
  if unknown:
    raise errors.UserError(
      f'{unknown[0]}: unknown field, expected {", ".join(_ORIGIN)}.'
    )
  for name in ('id', 'seed'):
    if name not in value:
      raise errors.UserError(f'{name}: missing.')
  return Origin(**value)


def faults(
  corpus: str | os.PathLike, checked: collections.Counter
) -> Iterator[str]:
  """Says what is wrong with the file of a corpus; nothing where none is there.

  Args:
    corpus: Corpus folder.
    checked: Counts what was looked at.
  """
  path = path_of(corpus)
  if not files.is_file(path):
    return
  try:
    job, items = read(corpus)
    for _ in items:
      checked['provenance'] += 1
  except errors.UserError as error:
    yield str(error)
    return
  kept = job.counts.get('kept')
  if kept is not None and kept != checked['provenance']:
    yield (
      f'{path}:1: counts: {kept} kept, the manifest has '
      f'{checked["provenance"]}.'
    )
  quarantine, rejected = path.parent / QUARANTINE, job.counts.get('rejected')
  if rejected is not None and files.is_file(quarantine):
    found = sum(1 for _ in files.read_jsonl(quarantine))
    if found != rejected:
      yield f'{path}:1: counts: {rejected} rejected, {quarantine} has {found}.'


def figures(corpus: str | os.PathLike) -> dict[str, Any]:
  """What `inspect` shows: items by voice, writer and change; gates.

  Raises:
    UserError: As `read`.
  """
  job, items = read(corpus)
  voices, writers = collections.Counter(), collections.Counter()
  changes, count = collections.Counter(), 0
  for _, origin in items:
    count += 1
    voices[origin.voice or 'none'] += 1
    writers[origin.writer or 'none'] += 1
    done = (origin.augmentation or {}).get('operations', ())
    changes.update({one['kind'] for one in done} or {'none'})
  result = {
    'items': count,
    'seed': job.seed,
    'voices': dict(voices.most_common()),
    'writers': dict(writers.most_common()),
    'augmentation': dict(changes.most_common()),
  }
  return {**result, **job.counts}


def _check_belongs(name: str, origin: Origin, job: Job) -> None:
  if origin.id != name:
    raise errors.UserError(
      f'id: found {origin.id!r}, expected {name!r}, as in the manifest.'
    )
  for field, known in (('voice', job.voices), ('writer', job.writers)):
    value = getattr(origin, field)
    if value is not None and value not in known:
      raise errors.UserError(
        f'{name}: {field}: found {value!r}, expected one of the corpus: '
        f'{", ".join(known) or "it has none"}.'
      )
  asked = job.counts.get('gates', {})
  for gate in origin.gates:
    if gate not in asked:
      raise errors.UserError(
        f'{name}: gates: found {gate!r}, expected one of the counts: '
        f'{", ".join(asked) or "there is none"}.'
      )


def _check_types(value, kinds: Mapping[str, tuple], where: str) -> None:
  for name, expected in kinds.items():
    found = getattr(value, name)
    if isinstance(found, bool) or not isinstance(found, expected):
      raise errors.UserError(
        f'{where}: {name}: found {found!r}, expected {errors.kinds(expected)}.'
      )


def _check_counts(counts: Mapping[str, Any]) -> None:
  """As `gates.line.Counts.result` gives them, or none."""
  whole = [counts.get('kept', 0), counts.get('rejected', 0)]
  by_gate = counts.get('gates', {})
  right = isinstance(by_gate, Mapping) and all(
    isinstance(found, Mapping) for found in by_gate.values()
  )
  if right:
    whole += [n for found in by_gate.values() for n in found.values()]
    right = all(type(n) is int and n >= 0 for n in whole)
  if not right or set(counts) - {'kept', 'rejected', 'gates'}:
    raise errors.UserError(
      f'provenance: counts: found {counts!r}, expected kept, rejected and '
      'gates with whole numbers.'
    )
