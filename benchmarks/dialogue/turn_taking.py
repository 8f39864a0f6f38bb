"""Who speaks when: false ends of turns, waits, false stops.

    python -m benchmarks.dialogue.turn_taking --part=unseen --seed=1

Full-Duplex-Bench-style stimuli (`stimuli`) are heard by the real detector of
speech, the finder of echoes and the controller, in simulated time. Words come
as a server has them: in small letters, without punctuation, `--delay` after the
controller asks for them at a pause, `--errors` of them wrong, none with
`--without_words`. While a reply is held what is played of it falls silent, as
it does for a user. Prints one JSON line last; times are milliseconds.

    false_turn_ends   turns that were ended before their speaker had finished
    response          from the true end of a turn to the reply's permission
    first_audio       to its first sound, which is there `--behind` the
                      permission and `--made` after the reply was begun;
                      `alone`: as if none were begun at a pause
    false_stops       coughs, back-channels and echoes that ended a reply, and
                      interruptions in front of which it was ended
    stop_after_vad    from the first frame of speech, of those that the detector
                      is sure of, to the silence of what is played
    stop              from the true begin of an interruption to that silence
    missed            interruptions that did not end the reply
    holds             of replies without an interruption, by kind, and the
                      longest of them
"""

import argparse
import collections
import dataclasses
import json

import numpy as np
import scipy.signal

from benchmarks.dialogue import stimuli
from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.dialogue.turns import echo as echo_lib
from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.dialogue.turns import metrics as metrics_lib
from step_audio_jax.dialogue.turns import vad

_LATE = 0.1  # seconds of a word that may be missing of what is written down


@dataclasses.dataclass(frozen=True)
class Recogniser:
  """How words come.

  Attributes:
    is_on: Whether they do.
    delay: Seconds behind a pause.
    errors: Part of them that is lost or another.
  """

  is_on: bool = True
  delay: float = 0.2
  errors: float = 0.0

  def hears(self, stimulus: stimuli.Stimulus, rng) -> list[tuple[str, float]]:
    """What it makes of a stimulus."""
    found = []
    for word, end in stimulus.words:
      if rng.random() >= self.errors:
        found.append((word, end))
      elif rng.random() < 0.5:
        found.append(('blue', end))
    return found

  def writes(self, heard, pause: ev.Paused) -> list[ev.Words]:
    """What it gives of what was said up to a pause."""
    if not self.is_on:
      return []
    said = [word for word, end in heard if end < pause.at + _LATE]
    join = '' if said and not said[-1].isascii() else ' '
    return [ev.Words(pause.at + self.delay, join.join(said), pause.at)]


def run(
  stimulus: stimuli.Stimulus,
  recogniser: Recogniser,
  rng,
  settings: controller_lib.Settings,
  metrics: metrics_lib.Metrics,
) -> tuple[list[ev.Action], list[float]]:
  """What a controller does, and when the detector is sure of speech."""
  controller = controller_lib.Controller(settings)
  found: list[ev.Action] = []
  sure: list[float] = []
  heard = recogniser.hears(stimulus, rng)
  words: collections.deque[ev.Words] = collections.deque()

  def feed(event):
    actions = controller.feed(event)
    metrics.observe(event, actions)
    found.extend(actions)
    for action in actions:
      if isinstance(action, ev.Paused):
        words.extend(recogniser.writes(heard, action))

  echo = echo_lib.Echo()
  is_playing = stimulus.played_S is not None
  heard_S, said = np.array(stimulus.heard_S, np.float64), 0
  if is_playing:
    feed(ev.Asked(0.0))
  detector = vad.detector('silero')
  for begin in range(0, len(heard_S) - vad.FRAME + 1, vad.FRAME):
    at = (begin + vad.FRAME) / vad.RATE
    state = controller.state
    playing = state == controller_lib.State.BOT_REPLYING
    if is_playing and playing and not controller.is_held:
      # What is held goes on where it stopped, and so does its echo.
      part_S = stimulus.played_S[said : said + vad.FRAME]
      said += vad.FRAME
      echo.played(begin / vad.RATE, part_S)
      back_S = scipy.signal.fftconvolve(part_S, stimulus.room_S)
      room = heard_S[begin : begin + len(back_S)]
      room += back_S[: len(room)]
    frame_S = heard_S[begin : begin + vad.FRAME].astype(np.float32)
    speech = detector(frame_S)
    while words and words[0].at <= at:
      feed(words.popleft())
    is_echo = echo.hears(at, frame_S, speech >= settings.release)
    if speech >= settings.threshold and not is_echo:
      sure.append(at)
    feed(ev.Frame(at, speech, vad.SECONDS, is_echo))
  return found, sure


@dataclasses.dataclass(frozen=True)
class Making:
  """How long a reply takes.

  Attributes:
    made: Seconds to its first sound.
    behind: Seconds from the permission to its first sound, if that is made.
  """

  made: float = 0.34
  behind: float = 0.08

  def first_audio(self, actions, ends: float) -> tuple[float, float]:
    """Milliseconds behind a turn's end, of a reply begun early and of not."""
    reply = next(a for a in actions if isinstance(a, ev.Reply))
    begun = [
      a.at
      for a in actions
      if isinstance(a, ev.Speculate) and a.reply == reply.reply
    ]
    alone = reply.at + self.made
    early = alone
    if begun:
      early = min(alone, max(reply.at + self.behind, begun[0] + self.made))
    return 1000 * (early - ends), 1000 * (alone - ends)


def measure(
  part: str,
  seed: int,
  recogniser: Recogniser = Recogniser(),
  settings: controller_lib.Settings = controller_lib.Settings(),
  counts: dict[str, int] | None = None,
  verbose: bool = False,
  making: Making = Making(),
) -> dict[str, object]:
  """The figures of a part."""
  rng = np.random.default_rng(seed + 1)
  metrics = metrics_lib.Metrics()
  waits, stops, true_stops = [], [], []
  audio: tuple[list, list] = [], []
  failed: collections.Counter = collections.Counter()
  held: collections.Counter = collections.Counter()
  longest = 0.0  # hold without an interruption
  early = 0  # replies that ended in front of the interruption
  many: collections.Counter = collections.Counter()
  for stimulus in stimuli.make(part, seed, counts):
    actions, sure = run(stimulus, recogniser, rng, settings, metrics)
    many[stimulus.kind] += 1
    wrong = False
    if stimulus.kind in stimuli.TURNS:
      ends = [a.at for a in actions if isinstance(a, ev.EndTurn)]
      wrong = not ends or ends[0] < stimulus.ends
      if not wrong:
        waits.append(1000 * (ends[0] - stimulus.ends))
        figures = making.first_audio(actions, stimulus.ends)
        for values, figure in zip(audio, figures, strict=True):
          values.append(figure)
    else:
      stopped = [a.at for a in actions if isinstance(a, ev.Stop)]
      holds = [a.at for a in actions if isinstance(a, ev.Hold)]
      if stimulus.kind in stimuli.HARMLESS:
        wrong = bool(stopped)
        held[stimulus.kind] += len(holds)
        longest = max(longest, _longest_hold(actions))
      elif any(at < stimulus.begins for at in stopped):
        # Its own echo ended it: whether the user would have is not known.
        early += 1
      else:
        wrong = not stopped
        holds = [at for at in holds if at >= stimulus.begins]
        if holds:
          true_stops.append(1000 * (holds[0] - stimulus.begins))
        starts = [
          t
          for t in sure
          if holds and t <= holds[0] and not any(0 < t - u < 0.04 for u in sure)
        ]
        if starts:  # of the run of sure frames that ends with the hold
          stops.append(1000 * (holds[0] - starts[-1]))
    failed[stimulus.kind] += wrong
    if wrong and verbose:
      told = [(type(a).__name__, round(a.at, 2)) for a in actions]
      print(stimulus.kind, repr(stimulus.text), round(stimulus.ends, 2), told)
  turns = sum(many[kind] for kind in stimuli.TURNS)
  return {
    'benchmark': 'turn_taking',
    'part': part,
    'seed': seed,
    'words': recogniser.is_on,
    'errors': recogniser.errors,
    'stimuli': sum(many.values()),
    'turns': turns,
    'false_turn_ends': round(
      sum(failed[kind] for kind in stimuli.TURNS) / max(turns, 1), 4
    ),
    **{f'response_p{p}_ms': _percentile(waits, p) for p in (50, 90, 95)},
    **{f'first_audio_p{p}_ms': _percentile(audio[0], p) for p in (50, 90, 95)},
    **{f'alone_p{p}_ms': _percentile(audio[1], p) for p in (50, 95)},
    'false_stops': early + sum(failed[kind] for kind in stimuli.HARMLESS),
    'stopped_early': early,
    'harmless': sum(many[kind] for kind in stimuli.HARMLESS),
    'stop_after_vad_max_ms': _percentile(stops, 100),
    **{f'stop_p{p}_ms': _percentile(true_stops, p) for p in (50, 100)},
    'missed': failed['barge_in'],
    'failed': dict(failed),
    'holds': dict(held),
    'longest_hold_ms': round(1000 * longest),
    'held_and_resumed': metrics.false_interruptions,
    'commit_rate': round(metrics.commit_rate or 0.0, 3),
  }


def _longest_hold(actions) -> float:
  """Seconds for which a reply that went on was silent."""
  longest, since = 0.0, 0.0
  for action in actions:
    if isinstance(action, ev.Hold):
      since = action.at
    elif isinstance(action, ev.Resume):
      longest = max(longest, action.at - since)
  return longest


def _percentile(values: list[float], of: int) -> float | None:
  return round(float(np.percentile(values, of)), 1) if values else None


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--part', choices=stimuli.PARTS, default='unseen')
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--delay', type=float, default=0.2)
  parser.add_argument('--errors', type=float, default=0.0)
  parser.add_argument('--without_words', action='store_true')
  parser.add_argument('--made', type=float, default=Making.made)
  parser.add_argument('--behind', type=float, default=Making.behind)
  parser.add_argument(
    '--share', type=float, default=1.0, help='of the usual numbers of stimuli'
  )
  parser.add_argument('--verbose', action='store_true', help='tells failures')
  args = parser.parse_args()
  recogniser = Recogniser(not args.without_words, args.delay, args.errors)
  counts = {k: round(n * args.share) for k, n in stimuli.COUNTS.items()}
  found = measure(
    args.part,
    args.seed,
    recogniser,
    counts=counts,
    verbose=args.verbose,
    making=Making(args.made, args.behind),
  )
  print(json.dumps(found))


if __name__ == '__main__':
  main()
