"""Who speaks when: false ends of turns, waits, false stops.

    python -m benchmarks.dialogue.turn_taking --part=test --seed=1

Full-Duplex-Bench-style stimuli (`stimuli`) are heard by the real detector of
speech, the finder of echoes and the controller, in simulated time. Words come
from the stimuli as a recogniser gives them: without punctuation, `--delay`
after each has ended, `--errors` of them wrong, none with `--without_words`.
While a reply is held what is played of it falls silent, as it does for a user.
Prints one JSON line last; times are milliseconds.

    false_turn_ends   turns that were ended before their speaker had finished
    response          from the true end of a turn to the reply's permission
    false_stops       coughs, back-channels and echoes that ended a reply
    stop_after_vad    from the first frame of speech, of those that the detector
                      is sure of, to the silence of what is played
    missed            interruptions that did not end the reply
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


@dataclasses.dataclass(frozen=True)
class Recogniser:
  """How words come.

  Attributes:
    is_on: Whether they do.
    delay: Seconds behind the end of each.
    errors: Part of them that is lost or another.
  """

  is_on: bool = True
  delay: float = 0.15
  errors: float = 0.0

  def events(self, stimulus: stimuli.Stimulus, rng) -> list[ev.Words]:
    """What it gives of a stimulus."""
    if not self.is_on:
      return []
    found, said = [], []
    for word, end in stimulus.words:
      if rng.random() >= self.errors:
        said.append(word)
      elif rng.random() < 0.5:
        said.append('blue')
      join = '' if not word.isascii() else ' '
      found.append(ev.Words(end + self.delay, join.join(said), end))
    return found


def run(
  stimulus: stimuli.Stimulus,
  words: list[ev.Words],
  settings: controller_lib.Settings,
  metrics: metrics_lib.Metrics,
) -> tuple[list[ev.Action], list[float]]:
  """What a controller does, and when the detector is sure of speech."""
  controller = controller_lib.Controller(settings)
  found: list[ev.Action] = []
  sure: list[float] = []

  def feed(event):
    actions = controller.feed(event)
    metrics.observe(event, actions)
    found.extend(actions)

  echo = echo_lib.Echo()
  is_playing = stimulus.played_S is not None
  heard_S, said = np.array(stimulus.heard_S, np.float64), 0
  if is_playing:
    feed(ev.Asked(0.0))
  words = collections.deque(words)
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
    is_echo = echo.hears(at, frame_S)
    if speech >= settings.threshold and not is_echo:
      sure.append(at)
    feed(ev.Frame(at, speech, vad.SECONDS, is_echo))
  return found, sure


def measure(
  part: str,
  seed: int,
  recogniser: Recogniser = Recogniser(),
  settings: controller_lib.Settings = controller_lib.Settings(),
  counts: dict[str, int] | None = None,
  verbose: bool = False,
) -> dict[str, object]:
  """The figures of a part."""
  rng = np.random.default_rng(seed + 1)
  metrics = metrics_lib.Metrics()
  waits, stops, failed = [], [], collections.Counter()
  many: collections.Counter = collections.Counter()
  for stimulus in stimuli.make(part, seed, counts):
    words = recogniser.events(stimulus, rng)
    actions, sure = run(stimulus, words, settings, metrics)
    many[stimulus.kind] += 1
    wrong = False
    if stimulus.kind in stimuli.TURNS:
      ends = [a.at for a in actions if isinstance(a, ev.EndTurn)]
      wrong = not ends or ends[0] < stimulus.ends
      if not wrong:
        waits.append(1000 * (ends[0] - stimulus.ends))
    else:
      stopped = any(isinstance(a, ev.Stop) for a in actions)
      wrong = stopped == (stimulus.kind in stimuli.HARMLESS)
      holds = [a.at for a in actions if isinstance(a, ev.Hold)]
      if stimulus.kind == 'barge_in' and holds and sure:
        # The run of sure frames that ends with the hold began here.
        run_begin = max(
          t
          for t in sure
          if t <= holds[0] and not any(0.04 > t - u > 0.0 for u in sure)
        )
        stops.append(1000 * (holds[0] - run_begin))
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
    'false_turn_ends': round(
      sum(failed[kind] for kind in stimuli.TURNS) / max(turns, 1), 4
    ),
    **{f'response_p{p}_ms': _percentile(waits, p) for p in (50, 90, 95)},
    'false_stops': sum(failed[kind] for kind in stimuli.HARMLESS),
    'harmless': sum(many[kind] for kind in stimuli.HARMLESS),
    'stop_after_vad_max_ms': _percentile(stops, 100),
    'missed': failed['barge_in'],
    'failed': dict(failed),
    'held_and_resumed': metrics.false_interruptions,
    'commit_rate': round(metrics.commit_rate or 0.0, 3),
  }


def _percentile(values: list[float], of: int) -> float | None:
  return round(float(np.percentile(values, of)), 1) if values else None


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--part', choices=stimuli.PARTS, default='test')
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--delay', type=float, default=0.15)
  parser.add_argument('--errors', type=float, default=0.0)
  parser.add_argument('--without_words', action='store_true')
  parser.add_argument(
    '--share', type=float, default=1.0, help='of the usual numbers of stimuli'
  )
  parser.add_argument('--verbose', action='store_true', help='tells failures')
  args = parser.parse_args()
  recogniser = Recogniser(not args.without_words, args.delay, args.errors)
  counts = {k: round(n * args.share) for k, n in stimuli.COUNTS.items()}
  found = measure(
    args.part, args.seed, recogniser, counts=counts, verbose=args.verbose
  )
  print(json.dumps(found))


if __name__ == '__main__':
  main()
