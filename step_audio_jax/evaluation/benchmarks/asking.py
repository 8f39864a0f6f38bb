"""Asks a checkpoint the items of a benchmark.

Prompts of all items are laid out first, as the run has learnt them (`chats`,
`documents`), and put in order of length; each chunk of them is one batch of the
decoder, whose shapes climb a ladder, so that all checkpoints of a run, and all
benchmarks, share a handful of compiled programs. What an item's answer is does
not depend on what else is asked.
"""

import dataclasses
import os
import time
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

import jax
import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.chats import habits as habits_lib
from step_audio_jax.chats import rendering
from step_audio_jax.chats import views
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import journal as journal_lib
from step_audio_jax.evaluation.benchmarks import likelihood
from step_audio_jax.evaluation.benchmarks import recordings as recordings_lib
from step_audio_jax.evaluation.benchmarks import sounding as sounding_lib
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.generation import complete
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

_SEEDS = 2**31

Item = benchmark.Item
Answer = benchmark.Answer


@dataclasses.dataclass(frozen=True)
class Asking:
  """How checkpoints are asked.

  Attributes:
    tokenizer: Folder of the speech tokenizer, of what is heard.
    sound: What makes speech sound; None leaves it codes.
    batch_size: Items decoded at a time.
    chunk: Batches of items that are kept together; within a chunk an item takes
      the place of one that is done, so larger ones are faster, and lose more
      in a kill.
    share: Which part of the work is this process's; None is what JAX says.
    cascade: Run of a text model that is asked what the run itself heard, where
      that is a control; None is the run itself.
  """

  tokenizer: str | None = None
  sound: sound_lib.SoundConfig | None = None
  batch_size: int = 32
  chunk: int = 4
  share: journal_lib.Share | None = None
  cascade: str | None = None

  def __post_init__(self):
    errors.at_least_one('asking', self, ('batch_size', 'chunk'))

  @property
  def its_share(self) -> journal_lib.Share:
    """What was given, or what JAX knows of processes."""
    if self.share is not None:
      return self.share
    return journal_lib.Share(jax.process_index(), jax.process_count())


class Prompt(NamedTuple):
  """What a model is given for an item.

  Attributes:
    ids: Of its table.
    stops: Ids that end an answer.
    grammar: Which ids may be chosen.
  """

  ids: Sequence[int]
  stops: tuple[int, ...]
  grammar: grammar_lib.Grammar


class Model:
  """A checkpoint that is asked.

  Attributes:
    hears: Whether it has speech in its vocabulary.
    devices: That its rows lie on.
  """

  def __init__(
    self,
    run: str | os.PathLike,
    step: int | None,
    loaded: tuple[Any, Mapping[str, Any], Any],
    asking: Asking,
    recordings: recordings_lib.Recordings,
    sounds: str | os.PathLike,
  ):
    """Takes a checkpoint that is loaded.

    Args:
      run: Its directory.
      step: Of it.
      loaded: `restore.load_model` of it.
      asking: How it is asked.
      recordings: Codes of what it hears.
      sounds: Folder of what it speaks.
    """
    model, variables, self.vocabulary = loaded
    self._run, self._asking = run, asking
    self._recordings, self._sounds = recordings, sounds
    self._scored = model
    self._model = restore.unroll_layers(model)
    self.devices, self._variables, self._place = _on_devices(
      variables, asking.batch_size
    )
    self._description = complete.describe(run, step)
    self._habits = habits_lib.of_run(
      self._description, files.path(run) / 'config.json'
    )
    self._is_converted = complete.is_converted(run, self._description)
    self.hears = bool(self.vocabulary.linguistic_size)
    self._grammar = grammar_lib.build(self.vocabulary)

  def ask(
    self,
    way: str,
    items: Sequence[Item],
    control: str,
    decoding: benchmark.Decoding,
    journal: journal_lib.Journal,
    *,
    aloud: bool = False,
    label: str = 'asking',
    transcripts: Mapping[str, str] | None = None,
  ) -> list[Answer]:
    """Answers to all items, in their order.

    Args:
      way: Of `benchmark.WAYS`.
      items: What is asked.
      control: Of `benchmark.CONTROLS`.
      decoding: Limits and sampling.
      journal: Keeps answers, and has those that were given before.
      aloud: Whether written answers are spoken, too.
      label: Of the progress bar.
      transcripts: Item → what the run itself heard, for `cascade`.
    """
    if way == benchmark.SPEAK:
      ordered, make = self._texts(items, decoding)
    elif way == benchmark.RESYNTHESIZE:
      ordered, make = self._sounds_again(items)
    elif way == benchmark.CHOOSE:
      ordered, make = self._choices(items)
    else:
      ordered, make = self._prompts(
        way, items, control, decoding, aloud, transcripts or {}
      )
    size = self._asking.batch_size
    if way in (benchmark.TRANSCRIBE, benchmark.ANSWER):
      size *= self._asking.chunk
    chunks = [ordered[n : n + size] for n in range(0, len(ordered), size)]
    with progress.bar(total=len(items), label=label, unit='item') as bar:
      found = journal.fill(
        [[item.id for item in chunk] for chunk in chunks],
        lambda place: make(chunks[place]),
        bar.update,
      )
    return [found[item.id] for item in items]

  # Text that is written: transcripts and answers.

  def _prompts(self, way, items, control, decoding, aloud, transcripts):
    said = transcripts if control == benchmark.CASCADE else {}
    prompt_of = self._prompting(way, items, control, said)
    laid: dict[str, Prompt | str] = {}
    for item in items:
      try:
        laid[item.id] = prompt_of(item)
      except errors.UserError as error:
        laid[item.id] = str(error)

    def length(item):
      prompt = laid[item.id]
      return 0 if isinstance(prompt, str) else len(prompt.ids)

    def make(chunk):
      asked = [item for item in chunk if length(item)]
      said = self._decoded([laid[item.id] for item in asked], asked, decoding)
      answers = dict(zip([item.id for item in asked], said, strict=True))
      if aloud:
        answers = self._aloud(asked, answers, decoding)
      return [
        answers[item.id] if length(item) else Answer(None, fault=laid[item.id])
        for item in chunk
      ]

    return sorted(items, key=length), make

  def _decoded(self, prompts, items, decoding) -> Iterator[Answer]:
    """One chunk; its prompts have one grammar and one set of stops."""
    if not prompts:
      return []
    began = time.monotonic()
    B, longest = self._asking.batch_size, max(len(one.ids) for one in prompts)
    outputs = decode.generate_outputs(
      self._model,
      self._variables,
      [one.ids for one in prompts],
      max_new_tokens=decoding.most,
      sampler=sampling.Sampler(decoding.temperature, top_p=decoding.top_p),
      grammar=prompts[0].grammar,
      start=grammar_lib.State.TEXT,
      stop_ids=prompts[0].stops,
      rng=[seed_of(decoding.seed, item.id) for item in items],
      # A ring of rows that come and go finds its lengths by itself.
      shapes=decode.Shapes(
        batch_size=B,
        prompt=decode.rung(longest - 1) if len(prompts) <= B else 0,
      ),
      place=self._place,
    )
    seconds = round((time.monotonic() - began) / len(prompts), 4)
    return [self._answer(one, seconds) for one in outputs]

  def _answer(self, output: decode.Output, seconds: float) -> Answer:
    text, calls = rendering.answer_of(self.vocabulary, output.tokens)
    told = [
      {'name': call.name, 'arguments': dict(call.arguments)}
      if isinstance(call, chats_lib.Call)
      else call
      for call in calls
    ]
    return Answer(text, told, output.stopped, seconds)

  def _prompting(
    self, way, items, control, transcripts
  ) -> Callable[[Item], Prompt]:
    """Lays out one item; raises what is wrong with it."""
    reads = control in (benchmark.WRITTEN, benchmark.CASCADE)
    calls = way == benchmark.ANSWER and any(item.chat.tools for item in items)
    grammar = grammar_lib.with_calls(self._grammar) if calls else self._grammar
    codes = {}
    if not reads:
      codes = self._recordings.codes(
        (one for item in items for one in item.recordings),
        silenced=control == benchmark.SILENCED,
      )

    def ids_of(speech):
      found = codes[self._recordings.digest(speech)]
      if isinstance(found, str):
        raise errors.UserError(found)
      if not self.hears:
        raise errors.UserError('the model has no speech in its vocabulary')
      ids = self.vocabulary.interleave(found.linguistic, found.semantic)
      streams = self._habits.streams or documents_lib.BOTH
      return documents_lib.in_streams(self.vocabulary, ids, streams)

    def transcribing(item):
      layout = documents_lib.LAYOUTS['asr']
      ids = layout.prompt(self.vocabulary, speech=ids_of(_only_recording(item)))
      return Prompt(ids, _STOPS, grammar)

    def answering(item):
      chat = item.chat
      if reads:
        chat = _in_writing(chat, transcripts.get(item.id))
      elif self._habits.history == habits_lib.READ:
        chat = _earlier_in_writing(chat)
      turns = rendering.turns_of(chat, ids_of)
      if reads or not item.recordings:
        asked = complete.ask_chat(
          self._run, self._description, self.vocabulary, turns
        )
        told = grammar
        if asked.converted:
          told = complete.grammar_of(self.vocabulary, asked)
        return Prompt(asked.prompt, tuple(asked.stops), told)
      ids, _ = rendering.prompt(
        self.vocabulary, turns, style=self._habits.layout()
      )
      return Prompt(ids, _STOPS, grammar)

    return transcribing if way == benchmark.TRANSCRIBE else answering

  # Speech that is spoken.

  def _texts(self, items, decoding):
    sounding = self._sounding()

    def make(chunk):
      began = time.monotonic()
      said = sounding.speak(
        [item.text for item in chunk],
        [next(iter(item.recordings), None) for item in chunk],
        decoding,
        seed_of(decoding.seed, chunk[0].id),
      )
      seconds = round((time.monotonic() - began) / len(chunk), 4)
      return [one._replace(seconds=seconds) for one in said]

    return sorted(items, key=lambda item: len(item.text)), make

  def _sounds_again(self, items):
    sounding = self._sounding()

    def make(chunk):
      return sounding.sound_again([_only_recording(item) for item in chunk])

    return list(items), make

  def _aloud(self, items, answers, decoding) -> dict[str, Answer]:
    """Written answers with their sound."""
    said = [item for item in items if (answers[item.id].text or '').strip()]
    if not said:
      return answers
    spoken = self._sounding().speak(
      [answers[item.id].text for item in said],
      [None] * len(said),
      decoding,
      seed_of(decoding.seed, said[0].id),
    )
    for item, one in zip(said, spoken, strict=True):
      answers[item.id] = answers[item.id]._replace(
        codes=one.codes, wav=one.wav, fault=one.fault
      )
    return answers

  def _sounding(self) -> sounding_lib.Sounding:
    if self._asking.sound is None:
      raise errors.UserError(
        'benchmarks: sound: missing, expected a decoder and a tokenizer '
        '(sound.SoundConfig): something is to be spoken.'
      )
    return sounding_lib.Sounding(
      self._run,
      (self._model, self._variables, self.vocabulary),
      self._asking.sound,
      self._recordings,
      self._sounds,
    )

  # Likelihoods.

  def _choices(self, items):
    def encode(text):
      return self.vocabulary.encode_text(text)

    opening = [vocabulary_lib.BOS]
    if self._is_converted:  # as its own tokenizer opens a text
      opening = list(self.vocabulary.text.opening)
    laid = {
      item.id: likelihood.rows_of(item, encode, opening) for item in items
    }

    def length(item):
      return max(len(ids) for ids, _ in laid[item.id])

    def make(chunk):
      found = likelihood.sums(
        self._scored,
        self._variables,
        [row for item in chunk for row in laid[item.id]],
        decode.rung,
      )
      answers, start = [], 0
      for item in chunk:
        stop = start + len(laid[item.id])
        some = zip(
          found[start:stop], item.about[likelihood.CHOICES], strict=True
        )
        told = [(nats, ids, len(text)) for (nats, ids), text in some]
        answers.append(Answer(None, likelihoods=told))
        start = stop
      return answers

    return sorted(items, key=length), make


_STOPS = (vocabulary_lib.EOT,)


def seed_of(seed: int, name: str) -> int:
  """Of an item: the same in whatever company it is asked."""
  return digests.number(f'{seed}/{name}') % _SEEDS


def _only_recording(item: Item) -> chats_lib.Speech:
  if len(item.recordings) != 1:
    raise errors.UserError(
      f'{item.id}: found {len(item.recordings)} recordings, expected one that '
      'is written down.'
    )
  return item.recordings[0]


def _in_writing(chat, transcript) -> chats_lib.Conversation:
  """All turns read; `transcript` stands for the last recording, if given."""
  last = [turn for turn in chat.turns if turn.speech][-1:]
  turns = []
  for turn in chat.turns:
    words = transcript if turn in last and transcript is not None else None
    if words is not None:
      parts = tuple(
        part if isinstance(part, str) else words for part in turn.parts
      )
      turns.append(dataclasses.replace(turn, parts=('\n'.join(parts),)))
    else:
      turns.append(views.in_writing(turn, lambda s: s.text))
  return chats_lib.Conversation(tuple(turns))


def _earlier_in_writing(chat) -> chats_lib.Conversation:
  """Turns before the last one of the user are read, where words are known."""
  last = max(
    n for n, turn in enumerate(chat.turns) if turn.role == chats_lib.USER
  )
  return chats_lib.Conversation(
    tuple(
      views.in_writing(turn, lambda s: s.text)
      if n < last and turn.speech and turn.speech.text
      else turn
      for n, turn in enumerate(chat.turns)
    )
  )


def _on_devices(variables, rows: int):
  """Devices, variables on all of this host's, and what puts rows there.

  Each device has all parameters and its share of the rows.
  """
  devices = jax.local_devices()
  count = len(devices)
  while rows % count:
    count -= 1
  if count == 1:
    return 1, variables, None
  mesh = jax.sharding.Mesh(np.asarray(devices[:count]), ('rows',))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('rows'))
  return (
    count,
    jax.device_put(variables, everywhere),
    lambda value: jax.device_put(value, split),
  )
