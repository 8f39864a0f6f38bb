"""What a synthesised corpus is to hold: who says which sentence, and how.

Everything follows from the seed, and nothing is written here.
"""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from data_pipelines.synthesis import grammar
from data_pipelines.synthesis import questions
from data_pipelines.synthesis.voices import speakers as speakers_lib
from step_audio_jax import errors
from step_audio_jax.corpus import manifest

VERSION = 2  # part of the fingerprint; raise it when the output changes
# Splits of questions that are scored, by voices of training and by the unseen.
ASKED, ASKED_UNSEEN = 'test_asked', 'test_asked_unseen_voice'
REQUESTED, REQUESTED_UNSEEN = 'test_requested', 'test_requested_unseen_voice'
# What is said in questions: so that dev stays what ASR is chosen on, and train
# what it is learnt on, whose sentences are others. One question in four is
# learnt by tokenizers and ASR, too, which then know the words.
_ASKED_TRAIN, _ASKED_DEV = 'train_asked', 'dev_asked'
_READ_EVERY = 4
_WRITTEN = 'written'
_POLICY = 'policy'
# How often what is learnt answers a request in each of `questions.MANNERS`.
_MANNERS = (0.4, 0.3, 0.15, 0.15)
# What answers are compared in → the manner of the worse one.
_DISLIKED = {
  'right': questions.WRONG,
  'brief': questions.WORDY,
  'topic': questions.ASIDE,
  'deaf': questions.DEAF,
}
_CHAT_SPLITS = {_ASKED_DEV: 'dev', _ASKED_TRAIN: 'train', _WRITTEN: 'train'}


@dataclasses.dataclass(frozen=True)
class Config:
  """How much of what.

  Attributes:
    seed: Everything follows from it.
    train: Training utterances; `dev`, `test`, `unseen` likewise.
    images: Images in train; a tenth of that again in dev and in test.
    text_lines: Training lines of plain text.
    english_share: Of the utterances; the rest is Mandarin.
    text_english_share: Of the plain text.
    voices: espeak-ng variants of train, dev and test.
    unseen_voice: The variant that is held out.
    english_rates, mandarin_rates: Lowest and highest words per minute.
    pitches: Lowest and highest pitch, 0..100.
    part: Utterances per resumable part.
    questions: Spoken questions of train, with their answers; an eighth of that
      again by its voices in the split `test_asked`, a tenth by the unseen one,
      a twentieth in dev.
    written: The same in writing, of train.
    requests: Spoken requests of train, which are answered in manners of which
      people like one; twice as many in writing. Three fifths of the spoken ones
      again by its voices in the split `test_requested`, two fifths by the
      unseen one.
    preferences: Whether there are pairs of answers, of which people like one,
      to questions and requests.
    speakers: Who speaks in place of espeak-ng, in the languages they can;
      espeak-ng speaks the others.
  """

  seed: int = 0
  train: int = 1600
  dev: int = 60
  test: int = 70
  unseen: int = 30
  images: int = 320
  text_lines: int = 6000
  english_share: float = 0.6
  text_english_share: float = 0.75
  voices: tuple[str, ...] = (
    'm1', 'm3', 'm5', 'm7', 'm2', 'f1', 'f2', 'f4'
  )  # fmt: skip
  unseen_voice: str = 'f3'
  english_rates: tuple[int, int] = (140, 180)
  mandarin_rates: tuple[int, int] = (160, 210)
  pitches: tuple[int, int] = (40, 60)
  part: int = 100
  questions: int = 0
  written: int = 0
  requests: int = 0
  preferences: bool = False
  speakers: tuple[speakers_lib.Speaker, ...] = ()

  def __post_init__(self):
    for name in (
      *('seed', 'train', 'dev', 'test', 'unseen', 'images', 'text_lines'),
      *('questions', 'written', 'requests'),
    ):
      if getattr(self, name) < 0:
        raise errors.UserError(
          f'--{name}: found {getattr(self, name)}, expected 0 or more.'
        )
    if not 0 <= self.english_share <= 1:
      raise errors.UserError(
        f'--english_share: found {self.english_share}, expected 0..1.'
      )
    if self.unseen_voice in self.voices:
      raise errors.UserError(
        f'unseen_voice: {self.unseen_voice!r} is also one of the voices.'
      )
    names = [speaker.name for speaker in self.speakers]
    names += [*self.voices, self.unseen_voice] if names else []
    for name in names:
      if names.count(name) > 1:
        raise errors.UserError(
          f'--voice: two voices are called {name!r}; rename one of them.'
        )

  @property
  def languages(self) -> tuple[str, ...]:
    """Subtags of what is spoken."""
    shares = {'en': self.english_share, 'zh': 1 - self.english_share}
    return tuple(name for name in grammar.GRAMMARS if shares[name] > 0)

  @property
  def settings(self) -> dict[str, Any]:
    """What a corpus writes of it; what is not asked for is left out."""
    found = dataclasses.asdict(self)
    for name in (
      *('questions', 'written', 'requests', 'preferences', 'speakers'),
    ):
      if not found[name]:
        del found[name]
    return found

  def voices_of(self, language: str, held_out: bool) -> tuple[str, ...]:
    """Names of those who speak a language, in a split of unseen ones or not."""
    found = [s for s in self.speakers if language in s.languages]
    if found:
      return tuple(s.name for s in found if s.held_out == held_out)
    return (self.unseen_voice,) if held_out else self.voices

  @property
  def fingerprint(self) -> str:
    """Two configs with one fingerprint make the same corpus."""
    rules = {k: dataclasses.asdict(v) for k, v in grammar.GRAMMARS.items()}
    value = {'version': VERSION, 'rules': rules, **self.settings}
    raw = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(raw).hexdigest()[:16]


NOBODY = 'nobody'  # the voice of lines without words


@dataclasses.dataclass(frozen=True)
class Line:
  """One utterance to be spoken, or by `NOBODY`."""

  id: str
  split: str
  language: str
  words: tuple[str, ...]
  voice: str
  rate: int
  pitch: int
  seed: int

  @property
  def text(self) -> str:
    return grammar.GRAMMARS[self.language].joint.join(self.words)


def plan_sentences(
  config: Config,
) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
  """Split → [(language, words)]; held-out splits are disjoint from train."""
  rng = np.random.default_rng([config.seed, 1])
  counts = {
    'dev': config.dev,
    'test': config.test,
    manifest.UNSEEN_VOICE: config.unseen,
    'train': config.train,
  }
  plan = {split: [] for split in counts}
  for language, rules in grammar.GRAMMARS.items():
    seen = set()
    for split, count in counts.items():
      english = round(count * config.english_share)
      count = english if language == 'en' else count - english
      found = rules.draw_unique(rng, count, seen)
      seen.update(rules.joint.join(words) for words in found)
      plan[split] += [(language, words) for words in found]
  for sentences in plan.values():
    rng.shuffle(sentences)
  return plan


def plan_speech(config: Config) -> list[Line]:
  """Every utterance of the speech corpus, in the manifest's order."""
  rng = np.random.default_rng([config.seed, 2])
  lines = []
  for split, sentences in sorted(plan_sentences(config).items()):
    for place, (language, words) in enumerate(sentences):
      voices = config.voices_of(language, split == manifest.UNSEEN_VOICE)
      lines.append(
        _said(
          config,
          rng,
          voices,
          id=f'{split}-{place:05d}',
          split=split,
          language=language,
          words=tuple(str(word) for word in words),
          seed=len(lines),
        )
      )
  return lines


def _said(config: Config, rng, voices, *, language: str, **told) -> Line:
  """A line whose voice, rate and pitch are drawn."""
  rates = {'en': config.english_rates, 'zh': config.mandarin_rates}
  return Line(
    language=language,
    voice=voices[rng.integers(len(voices))],
    rate=int(rng.integers(*rates[language], endpoint=True)),
    pitch=int(rng.integers(*config.pitches, endpoint=True)),
    **told,
  )


@dataclasses.dataclass(frozen=True)
class Asked:
  """Questions of a corpus.

  Attributes:
    lines: What is said of them.
    chats: Questions with their answers; spoken ones name a line.
    by_chat: Chat → what it asks.
  """

  lines: list[Line]
  chats: list[manifest.Utterance]
  by_chat: dict[str, questions.Question] = dataclasses.field(
    default_factory=dict
  )


def plan_questions(config: Config, first: int) -> Asked:
  """Every question.

  Args:
    config: How many.
    first: Lines before them.
  """
  counts = {
    _ASKED_DEV: config.questions // 20,
    ASKED: config.questions // 8,
    ASKED_UNSEEN: config.questions // 10,
    _ASKED_TRAIN: config.questions,
    _WRITTEN: config.written,
  }
  rng = np.random.default_rng([config.seed, 4])
  return _plan_asked(config, rng, first, counts, 'question')


def plan_requests(config: Config, first: int) -> Asked:
  """Every request; as `plan_questions`.

  What is learnt answers them in all manners, what is scored in the one that
  people like.
  """
  counts = {
    REQUESTED: config.requests * 3 // 5,
    REQUESTED_UNSEEN: config.requests * 2 // 5,
    _ASKED_TRAIN: config.requests,
    _WRITTEN: 2 * config.requests,
  }
  rng = np.random.default_rng([config.seed, 5])
  return _plan_asked(config, rng, first, counts, 'request')


def _plan_asked(config: Config, rng, first: int, counts, what: str) -> Asked:
  is_request = what == 'request'
  drawn: dict[str, list[questions.Question]] = {split: [] for split in counts}
  for language in config.languages:
    some = {}
    for split, count in counts.items():
      english = round(count * config.english_share)
      some[split] = english if language == 'en' else count - english
    found = questions.draw_unique(rng, language, some, is_request)
    for split in counts:
      drawn[split] += found[split]
  lines, chats, known = [], [], {}
  for split, asked in drawn.items():
    for place, at in enumerate(rng.permutation(len(asked))):
      one = asked[at]
      turn = {'role': 'user', 'text': one.text}
      name = f'{split}-{what}-{place:05d}'
      if split != _WRITTEN:
        unseen = split in (ASKED_UNSEEN, REQUESTED_UNSEEN)
        voices = config.voices_of(one.language, unseen)
        is_read = split == _ASKED_TRAIN and place % _READ_EVERY == 0
        lines.append(
          _said(
            config,
            rng,
            voices,
            id=f'{name}-said',
            split='train' if is_read else split,
            language=one.language,
            words=one.words,
            seed=first + len(lines),
          )
        )
        turn = {'role': 'user', 'speech': lines[-1].id}
      answer = one.answer
      if is_request and split in (_ASKED_TRAIN, _WRITTEN):
        manner = rng.choice(questions.MANNERS, p=_MANNERS)
        answer = questions.answer(rng, one, manner)
      chats.append(
        manifest.Utterance(
          id=name,
          kind='chat',
          split=_CHAT_SPLITS.get(split, split),
          language=one.language,
          turns=(turn, _reply(one, answer)),
        )
      )
      known[name] = one
  return Asked(lines, chats, known)


def _reply(one: questions.Question, words: questions.Words) -> dict[str, str]:
  return {'role': 'assistant', 'text': one.written(words)}


def plan_prompts(asked: Asked, requests: Asked) -> list[manifest.Utterance]:
  """What a policy is asked, in the split `policy`, with the answers to learn.

  All spoken requests of train, where they are answered in all manners, and as
  many spoken questions.
  """
  found = []
  for some in (requests, asked):
    spoken = [
      chat
      for chat in some.chats
      if chat.split == 'train' and 'speech' in chat.turns[0]
    ]
    for chat in spoken[: len(found) or None]:
      one = some.by_chat[chat.id]
      turns = chat.turns[0], _reply(one, one.answer)
      found.append(
        dataclasses.replace(
          chat, id=f'policy-{chat.id}', split=_POLICY, turns=turns
        )
      )
  return found if requests.chats else []


def plan_preferences(config: Config, asked: Asked) -> list[manifest.Utterance]:
  """Pairs of an answer that people like and one that they do not.

  In train a spoken question has a wrong answer and one of another kind, a
  written one has one of any kind; elsewhere each has all four.

  Args:
    config: Whether there are some.
    asked: What is answered.
  """
  if not config.preferences:
    return []
  rng = np.random.default_rng([config.seed, 6])
  kinds, found = list(_DISLIKED), []
  for chat in asked.chats:
    one = asked.by_chat[chat.id]
    some = kinds
    if chat.split == 'train':
      spoken = 'speech' in chat.turns[0]
      some = [kinds[rng.integers(spoken, len(kinds))]]
      some += [kinds[0]] if spoken else []
    for category in some:
      worse = questions.answer(rng, one, _DISLIKED[category])
      found.append(
        manifest.Utterance(
          id=f'{chat.id}-{category}',
          kind='preference',
          split=chat.split,
          language=chat.language,
          turns=chat.turns[:1],
          chosen=_reply(one, one.answer),
          rejected=_reply(one, worse),
          category=category,
        )
      )
  return found


def plan_text(config: Config) -> list[manifest.Utterance]:
  """The plain-text corpus: train lines, and the held-out sentences."""
  rng = np.random.default_rng([config.seed, 3])
  sentences = plan_sentences(config)
  lines = []
  for language, rules in grammar.GRAMMARS.items():
    held = {
      rules.joint.join(words)
      for split in ('dev', 'test', manifest.UNSEEN_VOICE)
      for spoken, words in sentences[split]
      if spoken == language
    }
    english = round(config.text_lines * config.text_english_share)
    count = english if language == 'en' else config.text_lines - english
    lines += [
      ('train', language, rules.joint.join(words))
      for words in rules.draw_unique(rng, count, held)
    ]
  rng.shuffle(lines)
  for split in ('dev', 'test'):
    lines += [
      (split, language, grammar.GRAMMARS[language].joint.join(words))
      for language, words in sentences[split]
    ]
  return [
    manifest.Utterance(
      id=f'text-{place:06d}',
      kind='text',
      split=str(split),
      language=str(language),
      text=str(text),
    )
    for place, (split, language, text) in enumerate(lines)
  ]
