"""One shard of a job: some items, made by whichever worker takes it.

    OUTPUT/wav/0000017.wav                  what passed, 16 kHz, 16 bit
    OUTPUT/.parts-…/00000-of-00004.jsonl    a shard that stands
    OUTPUT/.parts-…/00001-of-00004.journal  batches of one that is unfinished

A shard is a pure function of its items, the voices and the recipe. Batches that
are in its journal are not made again; recordings of a batch are written before
the journal has it, and again by whoever was killed in between.
"""

import dataclasses
import json
from typing import Any, Iterator, Mapping

import numpy as np

from data_pipelines.codes import journal
from data_pipelines.factory import provenance
from data_pipelines.factory.gates import base
from data_pipelines.factory.making import items as items_lib
from data_pipelines.synthesis import speech
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio.augmentation import chain as chain_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

_TOGETHER = 64  # items of a batch; what recognisers are given at once


@dataclasses.dataclass(frozen=True)
class Shard:
  """The work of one shard; picklable.

  Attributes:
    output: Corpus folder.
    parts: Folder of the job's shards.
    number: Which shard; `count` of them in all.
    count: Number of shards.
    first: Number of its first item in the job.
    items: What is made.
    recipe: How.
    performers: Who says a line, by its voice.
    digest: Of everything that decides what is made.
  """

  output: str
  parts: str
  number: int
  count: int
  first: int
  items: tuple[items_lib.Item, ...]
  recipe: items_lib.Recipe
  performers: Mapping[str, speech.Performer]
  digest: str

  @property
  def path(self) -> files.AnyPath:
    name = f'{self.number:05d}-of-{self.count:05d}.jsonl'
    return files.path(self.parts) / name

  def is_done(self) -> bool:
    return files.exists(self.path)

  def lines(self) -> Iterator[dict[str, Any]]:
    """What became of its items, in order; the shard stands."""
    return files.read_jsonl(self.path)


def make_shard(shard: Shard) -> int:
  """Makes a shard unless it stands; returns how many items it has."""
  with journal.open_journal(
    shard.path.with_suffix('.journal'), shard.digest
  ) as book:
    if not shard.is_done():  # another worker may have made it meanwhile
      made = [files.parsed(entry) for entry in book.entries]
      for batch in range(len(made), -(-len(shard.items) // _TOGETHER)):
        made.append(_make_batch(shard, batch * _TOGETHER))
        book.append(json.dumps(made[-1], ensure_ascii=False).encode())
      files.write_jsonl(shard.path, [one for part in made for one in part])
    book.done()
  return len(shard.items)


def _make_batch(shard: Shard, start: int) -> list[dict[str, Any]]:
  """Makes some items: {'utterance', 'origin'} each, or {'quarantine'}."""
  batch = shard.items[start : start + _TOGETHER]
  said: dict[int, tuple[chain_lib.Changed, Any, Any]] = {}
  made: list[dict[str, Any]] = [{} for _ in batch]
  for place, item in enumerate(batch):
    try:
      said[place] = _say(shard, item)
    except errors.UserError as error:
      files.raise_outage(error)
      refused = items_lib.refusal(
        item.line.id, items_lib.VOICE, base.UNMEASURED, str(error)
      )
      outcomes = {items_lib.VOICE: base.UNMEASURED}
      made[place] = {'quarantine': refused, 'outcomes': outcomes}
  takes = [
    base.Take(
      batch[place].line.id,
      changed.samples,
      speech.SAMPLE_RATE,
      batch[place].text,
      batch[place].line.language,
      batch[place].line.voice,
    )
    for place, (changed, *_) in said.items()
  ]
  reports = shard.recipe.gates.check(takes)
  with files.background(shard.output) as call:
    for (place, heard), report in zip(said.items(), reports):
      if report.passed:
        number = shard.first + start + place
        kept = _keep(shard, batch[place], number, *heard, report, call)
      else:
        kept = {'quarantine': report.quarantine()}
      made[place] = {**kept, 'outcomes': report.outcomes}
  for item, told in zip(batch, made):
    if item.writer:
      told['outcomes'] = {items_lib.WRITER: base.PASSED, **told['outcomes']}
  return made


def _say(shard, item):
  """What is judged, times of its words, and how it was put into a style."""
  performer, style = shard.performers[item.line.voice], None
  if item.group or item.marked:
    wave_S, words, style = speech.speak_styled(item.line, performer, item.spans)
  else:
    samples, words = speech.speak_line(item.line, performer)
    wave_S = samples.astype(np.float32) / 32768
  # The levels of a text differ in nothing but their level.
  operations = shard.recipe.chain.draw(item.group or item.line.id)
  changed = chain_lib.apply(wave_S, speech.SAMPLE_RATE, operations)
  return changed, chain_lib.moved(words, operations), style


def _keep(shard, item, number, changed, words, style, report, call):
  audio = f'wav/{number:07d}.wav'
  path = files.path(shard.output) / audio
  call(audio_io.write_audio, path, changed.samples, speech.SAMPLE_RATE)
  line, told = item.line, changed.provenance
  if languages.is_spaceless(line.language, item.text):
    words = None  # the voice was given no words
  utterance = manifest.Utterance(
    id=line.id,
    split=line.split,
    text=item.text,
    language=line.language,
    audio=audio,
    duration=round(len(changed.samples) / speech.SAMPLE_RATE, 6),
    sample_rate=speech.SAMPLE_RATE,
    speaker=line.voice,
    words=words,
    marked=item.marked or None,
  )
  voice, speaker = shard.performers[line.voice]
  origin = provenance.Origin(
    id=line.id,
    seed=line.seed,
    writer=item.writer or None,
    voice=voice.name,
    speech={
      'speaker': speaker.of,
      'factor': speaker.factor,
      'words_per_minute': line.rate,
      **({} if style is None else {'style': style}),
    },
    augmentation=told if told['operations'] else None,
    gates=report.to_json(),
    sources=tuple(filter(None, (item.source, item.answer))),
  )
  return {'utterance': utterance.to_json(), 'origin': origin.to_json()}
