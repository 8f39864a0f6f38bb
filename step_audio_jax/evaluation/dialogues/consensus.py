"""TurnBench: what three annotators agree on, and the events that follow.

"TurnBench: A Multi-Domain Benchmark for Turn-Taking Dynamics in Spoken
Dialogue", arXiv:2608.25218; the rules are those of `turnbench/README.md` and
of the scorer beside it (SesameAILabs/turnbench), which is what says what the
gold events are: they are published nowhere else.

**Agreement.** An event is agreed on where two or three annotators give a
segment of one label whose starts lie within 0.2 s and whose ends do; its times
are their medians. Annotators are gone through in order, each segment with the
nearest one (by start, within 0.5 s) of each later annotator; the largest group
counts. What belongs to no event and overlaps none is *disputed*. All this is
done twice: by label, and by whether a segment claims the floor (turns, overlaps
and interruptions that take it are one label then).

**Events.** `turn_end`: where a segment of floor ends that the other speaker
follows first, or already speaks over, or that nothing of the speaker's follows.
Elsewhere a *pause*, from there until the speaker goes on, or until something
speaks against a quiet pause: a dispute, a sound of the speaker's that claims no
floor, an interruption by the other. `interruption`: the start of one that takes
the floor. Where a detector must not fire: in pauses; for interruptions, in
backchannels and sounds without content. Interruptions that do not take the
floor are disputed.

Axes: N events or segments.
"""

import bisect
import dataclasses
import itertools
import statistics
from typing import Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax.evaluation.dialogues.timelines import spans

SPEAKERS, ANNOTATORS = (1, 2), ('a', 'b', 'c')
_TOLERANCE, _NEAR = 0.2, 0.5  # s
_MAJORITY = 2
TURN, BACKCHANNEL, NO_CONTENT = 'turn', 'backchannel', 'no content'
INTERRUPTION, ATTEMPT = 'interruption', 'attempt'
# What annotators write → the label that it counts as; nothing else counts.
LABELS = {
  'Normal Turn': TURN,
  'Regular Turn': TURN,
  'Strong Floor Hold': TURN,
  'Bounded Response': TURN,
  'Filler': TURN,
  'Overlap': TURN,
  'Laughter': 'laughter',
  'Awkward Silence': 'silence',
  'Floor-taking Competitive Interruption': INTERRUPTION,
  'Floor-taking Cooperative Interruption': INTERRUPTION,
  'Non-floor Taking Competitive Interruption': ATTEMPT,
  'Non-floor Taking Cooperative Interruption': ATTEMPT,
  'Acknowledgement Backchannel': BACKCHANNEL,
  'Continuer Backchannel': BACKCHANNEL,
  'Reaction Backchannel': BACKCHANNEL,
  'Non-Speech Noise': NO_CONTENT,
  'Channel Bleed': NO_CONTENT,
  'Speech, Non-Linguistic': NO_CONTENT,
}
FLOOR = {
  label: TURN
  for label, found in LABELS.items()
  if found in (TURN, INTERRUPTION)
}


class Segment(NamedTuple):
  """What an annotator marked, or what they agree on: seconds and a label."""

  start: float
  end: float
  label: str


# Of one speaker: annotator → segments, as they wrote them.
Tracks = Mapping[str, Sequence[Segment]]


@dataclasses.dataclass(frozen=True)
class View:
  """What is agreed on of one speaker.

  Attributes:
    events: In the order in which they were found.
    disputed_N2: Where nobody agrees, merged.
  """

  events: tuple[Segment, ...]
  disputed_N2: np.ndarray

  def of(self, *labels: str) -> np.ndarray:
    """Spans of the events with one of these labels, (N, 2)."""
    return spans.array(
      (event.start, event.end) for event in self.events if event.label in labels
    )


class Gold(NamedTuple):
  """Events of one speaker that a detector is scored by.

  Attributes:
    times_N: Where it has to fire.
    traps_N2: Where it must not.
    ignored_N2: Where whatever it does does not count.
  """

  times_N: np.ndarray
  traps_N2: np.ndarray
  ignored_N2: np.ndarray


def agree(tracks: Tracks, labels: Mapping[str, str]) -> View:
  """What a speaker's annotators agree on.

  Args:
    tracks: By annotator; those that are missing agree with nobody.
    labels: What they wrote → the label that it counts as.
  """
  segments = {
    annotator: [
      Segment(start, end, labels[label])
      for start, end, label in tracks.get(annotator, ())
      if label in labels
    ]
    for annotator in ANNOTATORS
  }
  starts = {a: np.array([s.start for s in segments[a]]) for a in ANNOTATORS}
  names = {a: np.array([s.label for s in segments[a]]) for a in ANNOTATORS}
  free = {a: np.ones(len(segments[a]), bool) for a in ANNOTATORS}
  events = []
  for place, annotator in enumerate(ANNOTATORS):
    for index, segment in enumerate(segments[annotator]):
      if not free[annotator][index]:
        continue
      others = {}
      for other in ANNOTATORS[place + 1 :]:
        fits_N = free[other] & (names[other] == segment.label)
        near_N = np.abs(starts[other] - segment.start)
        near_N = np.where(fits_N, near_N, np.inf)
        if near_N.min(initial=np.inf) <= _NEAR:
          others[other] = int(np.argmin(near_N))
      group = _largest(segment, others, segments)
      if group is None:
        continue
      found = [segment, *(segments[o][others[o]] for o in group)]
      events.append(_median(found))
      free[annotator][index] = False
      for other in group:
        free[other][others[other]] = False
  agreed_N2 = spans.array((event.start, event.end) for event in events)
  alone = [
    (segment.start, segment.end)
    for annotator in ANNOTATORS
    for index, segment in enumerate(segments[annotator])
    if free[annotator][index]
    and not len(spans.meeting(agreed_N2, segment.start, segment.end))
  ]
  return View(tuple(events), np.round(spans.merged(spans.array(alone)), 4))


def _largest(segment, others, segments) -> tuple[str, ...] | None:
  """Annotators of the largest group that agrees; None below a majority."""
  for size in range(len(others), _MAJORITY - 2, -1):
    for group in itertools.combinations(others, size):
      found = [segment, *(segments[o][others[o]] for o in group)]
      if all(
        max(times) - min(times) <= _TOLERANCE
        for times in zip(*((one.start, one.end) for one in found), strict=True)
      ):
        return group
  return None


def _median(found: Sequence[Segment]) -> Segment:
  starts, ends, labels = zip(*found, strict=True)
  return Segment(
    round(statistics.median(starts), 4),
    round(statistics.median(ends), 4),
    labels[0],
  )


def gold(
  tracks: Mapping[int, Tracks],
) -> tuple[dict[int, Gold], dict[int, Gold]]:
  """Events of a conversation: ends of turns, and interruptions, by speaker."""
  by_label = {s: agree(tracks[s], LABELS) for s in SPEAKERS}
  floor = {s: agree(tracks[s], FLOOR) for s in SPEAKERS}
  # An end of a pause, whoever is disputed, in whichever view.
  disputed_N2 = spans.array(
    np.concatenate(
      [v.disputed_N2 for v in (*by_label.values(), *floor.values())]
    )
  )
  ends, interruptions = {}, {}
  for speaker, other in (SPEAKERS, SPEAKERS[::-1]):
    own, theirs = by_label[speaker], by_label[other]
    times_N, pauses_N2 = _floor(floor[speaker].of(TURN), floor[other].of(TURN))
    sounds = [e.start for e in own.events if e.label != TURN]
    sounds += theirs.of(INTERRUPTION, ATTEMPT)[:, 0].tolist()
    pauses_N2 = _quiet(pauses_N2, disputed_N2, sorted(sounds))
    ends[speaker] = Gold(times_N, pauses_N2, floor[speaker].disputed_N2)
    ignored_N2 = np.concatenate([own.disputed_N2, own.of(ATTEMPT)])
    interruptions[speaker] = Gold(
      own.of(INTERRUPTION)[:, 0],
      own.of(BACKCHANNEL, NO_CONTENT),
      spans.array(ignored_N2),
    )
  return ends, interruptions


def _floor(
  own_N2: np.ndarray, theirs_M2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Ends of turns (K,), and pauses until the speaker goes on (P, 2)."""
  ends_N = own_N2[:, 1]

  def inside(spans_M2):
    starts, ends = spans_M2[:, :1].T, spans_M2[:, 1:].T
    return ((starts < ends_N[:, None]) & (ends_N[:, None] < ends)).any(axis=1)

  def follows(spans_M2):
    starts = np.r_[spans_M2[:, 0], np.inf]
    return starts[np.searchsorted(spans_M2[:, 0], ends_N, side='right')]

  next_own_N, next_theirs_N = follows(own_N2), follows(theirs_M2)
  # An end within a longer segment of the speaker's own is none.
  is_end_N = ~inside(own_N2)
  passes_N = (
    np.isinf(next_own_N) | (next_theirs_N < next_own_N) | inside(theirs_M2)
  )
  pauses = np.stack([ends_N, next_own_N], axis=1)[is_end_N & ~passes_N]
  return np.unique(ends_N[is_end_N & passes_N]), np.unique(pauses, axis=0)


def _quiet(pauses_P2, disputed_N2, sounds) -> np.ndarray:
  """Pauses until something speaks against them, those that begin there out."""
  quiet = []
  for start, end in pauses_P2:
    cuts = [end, *spans.meeting(disputed_N2, start, end)[:1, 0]]
    cuts += sounds[bisect.bisect_right(sounds, start) :][:1]
    if min(cuts) > start:
      quiet.append((start, min(cuts)))
  return spans.array(quiet)
