"""Who says which sentence and asks which question; nothing is written here."""

import dataclasses
import re
from typing import Any

import numpy as np

from data_pipelines.synthesis import grammar
from data_pipelines.synthesis import plan as plan_lib
from data_pipelines.synthesis.quiz import facts as facts_lib
from data_pipelines.synthesis.voices import speakers as speakers_lib
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests

VERSION = 1  # part of the fingerprint; raise it when the output changes
# Splits of questions by the unseen voice.
ASKED, HEARD = 'test_asked', 'test_heard'
# The same of chats with a question before, and of recordings of nobody.
FOLLOWED, SILENT = 'test_followed', 'test_silent'
NOT_HEARD = 'I did not hear you.'
_QUIET = 'quiet'  # split of such recordings: there is nothing to transcribe
_DEV_EVERY = 12  # of the questions that are trained, one is kept for dev
_SLOT = re.compile(r'\{(\w+)\}')
# Without a voice of their own, espeak-ng's say it.
_VARIANTS, _UNSEEN = ('m1', 'm3', 'f1'), 'f3'


@dataclasses.dataclass(frozen=True)
class Config:
  """How much of what.

  Attributes:
    seed: Everything follows from it.
    sentences: That are only transcribed, in train.
    test: The same in dev, in test and by the unseen voice.
    times: How often each question that is trained is said, each time by
      another speaker or at another rate.
    follow_ups: Chats of train that ask a second time: the first question is
      there in writing, with its answer, and "And Peru?" is said. Two fifths of
      that again are asked by the unseen voice.
    silences: Chats of train in which nobody speaks; a third of that again is
      scored.
    rates: Lowest and highest words per minute.
    part: Utterances of a resumable part.
    speakers: Who speaks in place of espeak-ng.
  """

  seed: int = 0
  sentences: int = 2400
  test: int = 60
  times: int = 6
  follow_ups: int = 0
  silences: int = 0
  rates: tuple[int, int] = (150, 190)
  part: int = 100
  speakers: tuple[speakers_lib.Speaker, ...] = ()

  def __post_init__(self):
    for name in (
      *('seed', 'sentences', 'test', 'times', 'follow_ups', 'silences'),
    ):
      least = 1 if name in ('sentences', 'times') else 0
      if getattr(self, name) < least:
        raise errors.UserError(
          f'--{name}: found {getattr(self, name)}, expected {least} or more.'
        )

  @property
  def settings(self) -> dict[str, Any]:
    """What the corpus writes of it; what is not asked for is left out."""
    found = dataclasses.asdict(self)
    for name in ('follow_ups', 'silences'):
      if not found[name]:
        del found[name]
    return found

  @property
  def fingerprint(self) -> str:
    """Two configs with one fingerprint make the same corpus."""
    world = [
      VERSION,
      [self._of_fact(fact) for fact in facts_lib.facts()],
      sorted(facts_lib.heard_only()),
      facts_lib.SLOTS,
      facts_lib.PATTERNS,
      self.settings,
    ]
    return digests.of_value(world)[:16]

  def _of_fact(self, fact: facts_lib.Fact) -> dict[str, Any]:
    found = dataclasses.asdict(fact)
    if not self.follow_ups:
      del found['named']
    return found

  def voices(self, held_out: bool) -> tuple[str, ...]:
    """Names of who speaks."""
    if not self.speakers:
      return (_UNSEEN,) if held_out else _VARIANTS
    found = [s.name for s in self.speakers if s.held_out == held_out]
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Plan:
  """A corpus before it is spoken.

  Attributes:
    lines: What is said, in the order of the manifest.
    chats: Questions with their answers; spoken ones name a line.
  """

  lines: list[plan_lib.Line]
  chats: list[manifest.Utterance]


def sentences(config: Config) -> dict[str, list[str]]:
  """Split → sentences; none of them occurs twice.

  Slots are filled in turn, so that every country, city and word is heard
  about equally often.

  Raises:
    UserError: The patterns have too few.
  """
  rng = np.random.default_rng([config.seed, 1])
  decks: dict[str, list[str]] = {}

  def drawn(match):
    slot = match[1]
    if not decks.get(slot):
      values = facts_lib.SLOTS[slot]
      decks[slot] = [values[i] for i in rng.permutation(len(values))]
    return decks[slot].pop()

  counts = {
    'train': config.sentences,
    'dev': config.test,
    'test': config.test,
    manifest.UNSEEN_VOICE: config.test,
  }
  found: dict[str, list[str]] = {}
  seen, tries = set(), 0
  for split, count in counts.items():
    found[split] = []
    while len(found[split]) < count:
      pattern = facts_lib.PATTERNS[tries % len(facts_lib.PATTERNS)]
      tries += 1
      text = _SLOT.sub(drawn, pattern)
      if text not in seen:
        seen.add(text)
        found[split].append(text)
      elif tries > 20 * (len(seen) + 100):
        raise errors.UserError(
          f'--sentences: found {sum(counts.values())}, the patterns have not '
          'so many.'
        )
  return found


def plan(config: Config) -> Plan:
  """Everything that is said, and every chat."""
  rng = np.random.default_rng([config.seed, 2])
  lines: list[plan_lib.Line] = []

  def say(name, split, text, voice):
    low, high = config.rates
    lines.append(
      plan_lib.Line(
        id=name,
        split=split,
        language='en',
        words=tuple(text.split()),
        voice=voice,
        rate=int(rng.integers(low, high, endpoint=True)),
        pitch=50,
        seed=len(lines),
      )
    )

  seen, unseen = config.voices(False), config.voices(True)
  for split, texts in sentences(config).items():
    voices = unseen if split == manifest.UNSEEN_VOICE else seen
    for place, text in enumerate(texts):
      say(f'{split}-{place:05d}', split, text, voices[place % len(voices)])
  heard = facts_lib.heard_only()
  chats = []

  def ask(name, split, fact, text, voice=None):
    turn = {'role': 'user', 'text': text}
    if voice is not None:
      say(f'{name}-said', split, text, voice)
      turn = {'role': 'user', 'speech': f'{name}-said'}
    turns = turn, {'role': 'assistant', 'text': fact.told}
    chats.append(
      manifest.Utterance(id=name, kind='chat', split=split, turns=turns)
    )

  for number, fact in enumerate(facts_lib.facts()):
    split = HEARD if fact.subject in heard else ASKED
    ask(f'{split}-{number:03d}', split, fact, fact.asked[0], unseen[0])
    if fact.subject in heard:
      continue
    for time in range(config.times):
      text = fact.asked[time % len(fact.asked)]
      where = 'dev' if (number + time) % _DEV_EVERY == 0 else 'train'
      voice = seen[(number + time) % len(seen)]
      ask(f'ask-{number:03d}-{time:02d}', where, fact, text, voice)
    for time, text in enumerate(fact.asked):
      ask(f'write-{number:03d}-{time:02d}', 'train', fact, text)

  def follow(name, split, pair, voice):
    first, second = pair
    say(f'{name}-said', split, f'And {second.named}?', voice)
    turns = (
      {'role': 'user', 'text': first.asked[0]},
      {'role': 'assistant', 'text': first.told},
      {'role': 'user', 'speech': f'{name}-said'},
      {'role': 'assistant', 'text': second.told},
    )
    chats.append(
      manifest.Utterance(id=name, kind='chat', split=split, turns=turns)
    )

  pairs = _pairs(config, heard)
  for number, pair in enumerate(pairs['train']):
    voice = seen[number % len(seen)]
    follow(f'follow-{number:04d}', 'train', pair, voice)
  for number, pair in enumerate(pairs[FOLLOWED]):
    follow(f'{FOLLOWED}-{number:04d}', FOLLOWED, pair, unseen[0])
  for split, count in (
    ('train', config.silences),
    (SILENT, -(-config.silences // 3)),
  ):
    for number in range(count):
      name = f'{"silence" if split == "train" else SILENT}-{number:04d}'
      say(f'{name}-said', _QUIET, '', plan_lib.NOBODY)
      turns = (
        {'role': 'user', 'speech': f'{name}-said'},
        {'role': 'assistant', 'text': NOT_HEARD},
      )
      chats.append(
        manifest.Utterance(id=name, kind='chat', split=split, turns=turns)
      )
  return Plan(lines, chats)


def _pairs(config: Config, heard: frozenset[str]):
  """Split → pairs of facts of one kind, none of which is in both splits."""
  rng = np.random.default_rng([config.seed, 3])
  kinds = [
    [fact for fact in some if fact.subject not in heard]
    for some in facts_lib.by_kind().values()
  ]
  counts = {
    'train': config.follow_ups,
    FOLLOWED: -(-2 * config.follow_ups // 5),
  }

  def draw():
    some = kinds[rng.integers(len(kinds))]
    first, second = rng.choice(len(some), 2, replace=False)
    return some[first], some[second]

  def written(pair):
    return f'{pair[0].asked[0]} And {pair[1].named}?'

  seen: set[str] = set()
  return {
    split: grammar.unique(draw, written, count, seen)
    for split, count in counts.items()
  }


def answers() -> dict[str, facts_lib.Fact]:
  """Question as it is worded → its fact."""
  return {text: fact for fact in facts_lib.facts() for text in fact.asked}
