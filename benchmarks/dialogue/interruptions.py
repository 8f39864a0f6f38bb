"""How far the history is from what was heard, after random interruptions.

    python -m benchmarks.dialogue.interruptions --count=1000

Replies of several sentences in several languages are spoken in parts of random
length, at random speeds and with pauses, some with the text behind the sound,
and interrupted at a random millisecond, half of these while no more was made.
The timeline of words and groups is that of the simulation, and nobody but the
simulation knows it. The history must hold every group whose sound was played to
its end and no other, and the words that ended by then; where words of a
sentence are not spoken at an even pace (`--uneven`), or are not all made, words
are shared out in proportion and may be off. Prints one JSON line last; errors
are in groups of 120 ms.
"""

import argparse
import bisect
import dataclasses
import json
import random
import statistics
from typing import Sequence

import numpy as np

from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import cutting
from step_audio_jax.dialogue.context import played

GROUP_MS = 120
RATES = (16000, 22050, 24000, 44100)
ENGLISH = (
  'well the train leaves at noon and you should bring water because it will '
  'be hot there take care of yourself certainly'
).split()
MANDARIN = '今天天气很好我们一起去公园走走吧然后再回家吃晚饭看电影'


@dataclasses.dataclass(frozen=True)
class Word:
  """What is not divided: its text, and the groups of the reply it lasts."""

  text: str
  begin: float
  end: float


@dataclasses.dataclass(frozen=True)
class Reply:
  """A spoken reply and its true timeline.

  Attributes:
    rate: Hz.
    speed: That was asked for.
    sounds: That go out.
    ends: Milliseconds at which each group of the reply has been played.
    words: In order.
    sentences: Milliseconds at which each sentence ends.
    behind: Whether the text of a sentence comes behind its sound.
  """

  rate: int
  speed: float
  sounds: Sequence[services.Sound]
  ends: Sequence[float]
  words: Sequence[Word]
  sentences: Sequence[float]
  behind: bool

  @property
  def text(self) -> str:
    return ''.join(word.text for word in self.words)

  @property
  def ms(self) -> float:
    return 1000 * sum(len(s.samples_S) for s in self.sounds) / self.rate

  def ledger(self, until_ms: float = float('inf')) -> played.Ledger:
    """What is told of the sound that went out until then."""
    ledger = played.Ledger(self.rate, self.speed)
    if self.behind:
      ledger.announce(self.text)
    sent = 0.0
    for sound in self.sounds:
      if sent >= until_ms:
        break
      ledger.add(sound)
      sent += 1000 * len(sound.samples_S) / self.rate
    return ledger

  def finish(self, ledger: played.Ledger, sent: float) -> None:
    """Makes the rest of a sentence, of which `sent` ms went out."""
    made = 0.0
    for sound in self.sounds:
      if made >= sent - 1e-6:
        if not ledger.is_within_sentence:
          return
        ledger.add(sound, is_sent=False)
      made += 1000 * len(sound.samples_S) / self.rate


def reply(rng: random.Random, uneven: float = 0.0) -> Reply:
  """A random reply; `uneven` spreads the pace of its words."""
  rate, speed = rng.choice(RATES), rng.choice((0.5, 0.8, 1.0, 1.0, 1.3, 2.0))
  behind = rng.random() < 0.5
  sounds, ends, words, sentences = [], [], [], []
  samples, count = 0, 0
  for number in range(rng.randint(1, 5)):
    texts = _sentence(rng, first=not number)
    weights = np.array([max(cutting.cuts(t).weight, 1) for t in texts], float)
    groups = max(1, round(weights.sum() / 1.5 * rng.uniform(0.8, 1.25)))
    paces = weights * np.exp(
      uneven * np.array([rng.gauss(0, 1) for _ in texts])
    )
    borders = np.concatenate([[0], np.cumsum(paces)]) / paces.sum() * groups
    words += [
      Word(text, count + begin, count + end)
      for text, begin, end in zip(texts, borders, borders[1:])
    ]
    pause = np.zeros(0, np.float32)
    if rng.random() < 0.7:
      pause = np.zeros(round(rng.uniform(0.05, 0.6) * rate), np.float32)
    samples += len(pause)
    if rng.random() < 0.3:  # a part of its own; else with the first of speech
      sounds.append(services.Sound(pause))
      pause = pause[:0]
    made = 0
    while made < groups:
      # A mouth makes parts of any length, its ids whole groups.
      part = min(rng.choice((1, 2, 3, 5, 8)), groups - made)
      is_last = made + part == groups
      border = [_samples(k, rate, speed) for k in (made, made + part)]
      for k in range(made, made + part):
        ends.append(1000 * (samples + _samples(k + 1, rate, speed)) / rate)
      sounds.append(
        services.Sound(
          np.concatenate(
            [pause, np.full(border[1] - border[0], 0.1, np.float32)]
          ),
          ''.join(texts) if (is_last if behind else not made) else '',
          np.arange(5 * part, dtype=np.int32),
          is_last,
        )
      )
      made, pause = made + part, pause[:0]
    samples += _samples(groups, rate, speed)
    sentences.append(1000 * samples / rate)
    count += groups
  return Reply(rate, speed, sounds, ends, words, sentences, behind)


def _samples(groups: int, rate: int, speed: float) -> int:
  return round(groups * GROUP_MS / 1000 * rate / speed)


def _sentence(rng: random.Random, first: bool) -> list[str]:
  """Words of a sentence, with the white space in front of them."""
  if rng.random() < 0.3:
    return [*rng.choices(MANDARIN, k=rng.randint(3, 20)), '吧。']
  words = rng.choices(ENGLISH, k=rng.randint(2, 14))
  words[-1] += '.'
  return [
    word if first and not n else f' {word}' for n, word in enumerate(words)
  ]


def _interrupt(found: Reply, rng: random.Random):
  """Milliseconds that a client says were played, and what was sent then."""
  ms = rng.choice((0, round(found.ms * rng.random()), int(found.ms)))
  if ms not in (0, int(found.ms)) and rng.random() < 0.5:
    return ms, found.ledger(ms + 1)  # no more was made
  return ms, found.ledger()


def measure(
  count: int, seed: int = 0, uneven: float = 0.0, gives_up: bool = False
) -> dict:
  """What comes out of `count` interruptions."""
  rng = random.Random(seed)
  ids, words, unfinished, never = [], [], [], 0
  for _ in range(count):
    spoken = reply(rng, uneven)
    ms, ledger = _interrupt(spoken, rng)
    sent = ledger.sent_ms
    ledger.cut(ms)
    if not gives_up:
      spoken.finish(ledger, sent)
    kept = ledger.played
    over = bisect.bisect(spoken.ends, ms + 0.05)
    heard = over + _begun(spoken, over, ms)
    ids.append(abs(kept.groups - heard))
    # A client says whole milliseconds: another one may have been played.
    never += len(kept.ids) > 5 * bisect.bisect(spoken.ends, ms + 1)
    # How far from the interruption words are that are told and were not heard,
    # or the other way round.
    true = sum(word.end <= heard + 1e-3 for word in spoken.words)
    low, high = sorted((true, _told(spoken.words, kept.text)))
    error = max((abs(w.end - heard) for w in spoken.words[low:high]), default=0)
    whole = next((end for end in spoken.sentences if end >= ms), 0)
    (words if sent >= whole - 1 else unfinished).append(error)
  return {
    'benchmark': 'interruptions',
    'interruptions': count,
    'ids_error_groups_max': round(max(ids), 3),
    'ids_error_groups_mean': round(statistics.mean(ids), 3),
    'never_played_in_history': never,
    'history_error_groups_max': round(max(words, default=0), 3),
    'history_error_groups_mean': round(statistics.mean(words or [0]), 3),
    'unfinished_sentences': len(unfinished),
    'unfinished_error_groups_median': round(
      statistics.median(unfinished or [0]), 3
    ),
    'unfinished_error_groups_max': round(max(unfinished, default=0), 3),
  }


def _begun(spoken: Reply, over: int, ms: float) -> float:
  """How much of the group that is playing was heard."""
  if over == len(spoken.ends):
    return 0.0
  length = GROUP_MS / spoken.speed
  return min(max(1 - (spoken.ends[over] - ms) / length, 0.0), 1.0)


def _told(words: Sequence[Word], text: str) -> int:
  """How many words a text of the history has.

  Raises:
    ValueError: It is not the beginning of the reply, or ends within a word.
  """
  at = ''
  if not text:
    return 0
  for n, word in enumerate(words):
    at += word.text
    if at == text:
      return n + 1
  raise ValueError(f'{text!r} is no beginning of {at!r}.')


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--count', type=int, default=100)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--uneven', type=float, default=0.0, help='spread of the pace of words'
  )
  parser.add_argument(
    '--gives_up', action='store_true', help='makes no rest of a sentence'
  )
  args = parser.parse_args()
  found = measure(args.count, args.seed, args.uneven, args.gives_up)
  print(json.dumps(found))


if __name__ == '__main__':
  main()
