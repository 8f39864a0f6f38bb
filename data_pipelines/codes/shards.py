"""One shard of a tokenised corpus: what a worker makes of its utterances.

Batches of similar length go through the encoder (`encoding`). A batch that is
finished goes into the shard's journal, so that whoever continues after a kill
encodes only what is missing; the journal goes when the shard stands. A shard
is a pure function of its utterances and the tokenizer, whichever worker makes
it and however often it was interrupted.
"""

import dataclasses
import os
import pathlib
import posixpath
from typing import Any, Callable, Sequence

from data_pipelines import records
from data_pipelines.codes import encoding
from data_pipelines.codes import journal
from data_pipelines.codes.encoding import Batch
from data_pipelines.codes.encoding import Progress
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import digests
from step_audio_jax.storage import files


@dataclasses.dataclass(frozen=True)
class Shard:
  """The work of one shard.

  Attributes:
    corpus: Corpus folder.
    output: Folder of the codes.
    number: Which shard; `count` of them in all.
    count: Number of shards.
    utterances: The utterances of this shard.
    tokenizer: Folder of the tokenizer.
    seal: Its digest.
    digest: Of everything that decides what the shard holds.
    batch_size: Utterances per call of the tokenizer, at most.
    batch_seconds: Audio per call of the tokenizer, at most (or one utterance).
    longest: Longer audio is put in quarantine, seconds.
  """

  corpus: str
  output: str
  number: int
  count: int
  utterances: tuple[manifest.Utterance, ...]
  tokenizer: str
  seal: str
  digest: str
  batch_size: int
  batch_seconds: float
  longest: float

  @property
  def path(self) -> pathlib.Path:
    name = records.shard_name(speech_codes.STEM, self.number, self.count)
    return files.path(self.output) / name

  @property
  def receipt(self) -> pathlib.Path:
    """Says what the shard was made from; written after it."""
    return self.path.with_suffix('.json')

  @property
  def journal(self) -> pathlib.Path:
    """Finished batches of a shard that does not stand yet."""
    return self.path.with_suffix('.journal')

  @property
  def seconds(self) -> float:
    """Audio of all its utterances."""
    return sum(utterance.duration for utterance in self.utterances)

  def is_done(self) -> bool:
    """Whether the shard on disk is the one that would be made."""
    return (
      files.exists(self.receipt)
      and files.read_json(self.receipt).get('digest') == self.digest
      and files.is_file(self.path)
    )

  def batches(self) -> list[list[manifest.Utterance]]:
    """Utterances of similar length, the shortest first."""
    out: list[list[manifest.Utterance]] = []
    total = 0.0
    for one in sorted(self.utterances, key=lambda u: (u.duration, u.id)):
      total += one.duration
      full = out and (
        len(out[-1]) == self.batch_size or total > self.batch_seconds
      )
      if full or not out:
        out.append([])
        total = one.duration
      out[-1].append(one)
    return out


def check_same(shard: Shard, tokenizer: encoding.Tokenizer) -> None:
  """Refuses a tokenizer that took the place of the one a shard is for.

  Raises:
    UserError: Its folder was written again meanwhile.
  """
  identity = getattr(tokenizer, 'identity', None)
  if identity and identity['sha256'] != shard.seal:
    raise errors.UserError(
      f'{shard.tokenizer}: another tokenizer '
      f'({digests.short(identity["sha256"])}) than when the job began '
      f'({digests.short(shard.seal)}); start the same command again.'
    )


def tokenize_shard(
  shard: Shard,
  tokenizer: encoding.Tokenizer,
  on_progress: Callable[[Progress, bool], Any] = lambda more, new: None,
) -> dict[str, Any]:
  """Makes one shard and its receipt; returns the receipt.

  Args:
    shard: The work.
    tokenizer: Encodes.
    on_progress: Told what each batch adds, and whether it was encoded now or
      found in the journal.
  """
  with journal.open_journal(shard.journal, shard.digest) as book:
    if shard.is_done():  # another worker made it while this one waited
      book.done()
      return files.read_json(shard.receipt)
    made = [Batch.unpack(entry) for entry in book.entries]
    for batch in made:
      on_progress(batch.progress, False)
    done = {name for batch in made for name in batch.ids}
    left = [
      [one for one in batch if one.id not in done] for batch in shard.batches()
    ]
    left = [part for part in left if part]
    for batch in encoding.encode_batches(
      shard.corpus, left, tokenizer, shard.longest
    ):
      book.append(batch.pack())
      made.append(batch)
      on_progress(batch.progress, True)
    receipt = _write(shard, made)
    book.done()
  return receipt


def progress_of(shard: Shard) -> Progress:
  """How far somebody else is with a shard."""
  if shard.is_done():
    lost = len(files.read_json(shard.receipt)['quarantined'])
    return Progress(len(shard.utterances), lost, shard.seconds)
  batches = [batch.progress for batch in journaled_batches(shard)]
  return Progress(*map(sum, zip(*batches))) if batches else Progress()


def journaled_batches(shard: Shard) -> list[Batch]:
  """The finished batches of a shard that does not stand yet."""
  try:
    payloads, _ = journal.complete_entries(files.read_bytes(shard.journal))
  except OSError:
    return []
  if payloads[:1] != [shard.digest.encode()]:
    return []
  return [Batch.unpack(payload) for payload in payloads[1:]]


def _write(shard, made) -> dict[str, Any]:
  codes = {name: pair for batch in made for name, pair in batch.codes.items()}
  quarantine = [item for batch in made for item in batch.quarantine]
  kept = [u for u in shard.utterances if u.id in codes]
  records.write_shard(
    shard.path,
    (
      records.pack(
        {'linguistic': codes[u.id][0], 'semantic': codes[u.id][1]},
        {'id': u.id},
      )
      for u in kept
    ),
  )
  receipt = {
    'digest': shard.digest,
    'tokenizer_sha256': shard.seal,
    'read': len(shard.utterances),
    'kept': len(kept),
    'quarantined': sorted(quarantine, key=lambda item: item['id']),
    'seconds': round(sum(u.duration for u in kept), 3),
    'linguistic': sum(len(codes[u.id][0]) for u in kept),
    'semantic': sum(len(codes[u.id][1]) for u in kept),
    'worker_seconds': round(sum(batch.worker_seconds for batch in made), 3),
  }
  files.write_json(shard.receipt, receipt)
  return receipt


def file_states(
  corpus: str | os.PathLike, utterances: Sequence[manifest.Utterance]
) -> list[list[int] | None]:
  """Size and time of each utterance's file; None where there is none."""
  # As a bucket names them, which knows no `.` and no empty folder.
  names = [
    None if one.audio is None else posixpath.normpath(one.audio)
    for one in utterances
  ]
  return [
    None if state is None else [state.size, state.changed]
    for state in files.states(corpus, names)
  ]
