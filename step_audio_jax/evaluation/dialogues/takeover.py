"""Full-Duplex-Bench v1: pauses, backchannels, turns and interruptions.

Lin et al., "Full-Duplex-Bench: A Benchmark to Evaluate Full-duplex Spoken
Dialogue Models on Turn-taking Capabilities", arXiv:2503.04721, as its public
scripts count (DanielLin94144/Full-Duplex-Bench, v1_v1.5/evaluation).

    takeover_rate (TOR)  share of dialogues whose words last a second or are
                         more than three. Lower is better in pauses and among
                         backchannels, higher at ends of turns and after
                         interruptions.
    response_latency     first word − end of the user's turn; below 0 is 0. Of
                         dialogues where the turn is taken.
    rating               0 to 5, of the answer to an interruption, by the
                         judge that wrote `rating.json`
    frequency            backchannels a second of output
    jsd                  how far their times are from people's (`backchannels`)

The user's turn ends at the first time of `turn_taking.json` and at the second
of `interrupt.json`, as in the scripts. After an interruption only words count
that end later: there the original's recogniser hears only what is later.

Words are those of `output.json`. Figures that begin with `activity_` are ours,
for outputs without words: the turn is taken where speech lasts a second from
its first to its last sound, after the interruption or at all, and the latency
is that of the first sound.

Layout: `SUBSET/ID/input.wav` with `pause.json`, `turn_taking.json` or
`interrupt.json`; beside it, or below `outputs`, `output.wav`, `output.json` and
`rating.json`.
"""

import dataclasses
from typing import Any, ClassVar, Mapping, NamedTuple

from step_audio_jax.evaluation.dialogues import backchannels
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import words as words_lib
from step_audio_jax.storage import files

_TURN_SECONDS = 1.0
_NO_WORDS = 'no dialogue has time-aligned words (output.json)'
_NOT_TAKEN = 'no turn is taken'
_UNRATED = 'turn taken and not rated'


class Subset(NamedTuple):
  """A part of the benchmark.

  Attributes:
    of: Dialogues of the published version.
    task: What it tests.
    file: With the times that matter; '' where there are none.
    place: Which of its two times ends the user's turn.
  """

  of: int
  task: str
  file: str
  place: int = 1


PAUSE, BACKCHANNEL = 'pause', 'backchannel'
TURN, INTERRUPTION = 'turn', 'interruption'
SUBSETS = {
  'candor_pause_handling': Subset(216, PAUSE, 'pause.json'),
  'candor_turn_taking': Subset(119, TURN, 'turn_taking.json', 0),
  'icc_backchannel': Subset(55, BACKCHANNEL, ''),
  'synthetic_user_interruption': Subset(200, INTERRUPTION, 'interrupt.json'),
  'synthetic_pause_handling': Subset(137, PAUSE, 'pause.json'),
}


@dataclasses.dataclass(frozen=True)
class FullDuplexBench1(base.Benchmark):
  """Full-Duplex-Bench v1.

  Attributes:
    only: Subsets that are scored.
    distribution: File of when people give backchannels, by dialogue
      (`icc_gt_distribution.json` of the public scripts); '' looks for it in
      `folder`.
  """

  only: tuple[str, ...] = tuple(SUBSETS)
  distribution: str = ''

  name: ClassVar[str] = 'full_duplex_bench_1'

  def __post_init__(self):
    super().__post_init__()
    base.check_names(self.name, self.only, SUBSETS)

  def read(self) -> base.Reading:
    reading = self.subsets({name: SUBSETS[name].of for name in self.only})
    people = backchannels.read_people(
      files.path(self.distribution)
      if self.distribution
      else self.input_folder / backchannels.FILE
    )
    return base.sorted_out(reading, lambda item: _about(item, people))

  def measure(self, item: base.Dialogue) -> dict[str, Any]:
    user = recordings.read(item.input, 'input')
    output = recordings.read(item.output, 'output')
    words = words_lib.read(item.output / 'output.json')
    task, end = SUBSETS[item.subset].task, item.about['end']
    recordings.check_covers(
      output, user.seconds if end is None else end, self.tolerance
    )
    row: dict[str, Any] = {
      'notes': recordings.notes(output, user, self.tolerance),
      'seconds': output.seconds,
    }
    if words is None:
      row['notes'].append('without time-aligned words (output.json)')
    if task == BACKCHANNEL:
      return row | backchannels.measure(output, words, item.about['people'])
    segments_N2 = output.segments_N2
    if task == INTERRUPTION:
      words = words and words.after(end)
      segments_N2 = backchannels.after(segments_N2, end)
    spoken = segments_N2[-1, 1] - segments_N2[0, 0] if len(segments_N2) else 0
    # What is a second by construction is not a sample less.
    row['activity_takes_turn'] = bool(spoken > _TURN_SECONDS - 5e-3)
    row['takes_turn'] = None if words is None else words.takes_turn
    if task != PAUSE:
      if row['takes_turn']:
        row['latency'] = max(0.0, float(words.times_W2[0, 0]) - end)
      if row['activity_takes_turn']:
        row['activity_latency'] = max(0.0, float(segments_N2[0, 0]) - end)
    if task == INTERRUPTION and row['takes_turn']:
      row['rating'] = _rating(item.output)
      if row['rating'] is None:
        row['notes'].append(_UNRATED)
    return row

  def summarise(self, rows, sheet):
    for subset in self.only:
      part = [row for row in rows if row['subset'] == subset]
      _summarise(subset, SUBSETS[subset].task, part, sheet)


def _summarise(subset, task, part, sheet) -> None:
  """Figures of a subset."""

  def put(figure, key, unit, better, why_not):
    values = [row.get(key) for row in part]
    sheet.mean(f'{subset}/{figure}', values, unit, better, why_not)

  why = _NO_WORDS if part else base.NONE_SCORED
  better = 'lower' if task in (PAUSE, BACKCHANNEL) else 'higher'
  put('takeover_rate', 'takes_turn', '%', better, why)
  if task == BACKCHANNEL:
    put('frequency', 'frequency', '1/s', 'higher', base.NONE_SCORED)
    unknown = backchannels.WHY_NOT if part else base.NONE_SCORED
    put('jsd', 'jsd', 'score', 'lower', unknown)
    return
  put(
    'activity_takeover_rate',
    'activity_takes_turn',
    '%',
    better,
    base.NONE_SCORED,
  )
  if task == PAUSE:
    return
  if any(row['takes_turn'] is not None for row in part):
    why = _NOT_TAKEN
  put('response_latency', 'latency', 's', 'lower', why)
  silent = _NOT_TAKEN if part else base.NONE_SCORED
  put('activity_response_latency', 'activity_latency', 's', 'lower', silent)
  if task == INTERRUPTION:
    if any(row['takes_turn'] for row in part):
      why = 'no judge has rated a turn (rating.json)'
    put('rating', 'rating', 'score', 'higher', why)


def _about(item, people) -> dict[str, Any]:
  recordings.find(item.input, 'input')
  subset = SUBSETS[item.subset]
  about: dict[str, Any] = {'end': None}
  if subset.task == BACKCHANNEL:
    about['people'] = (people or {}).get(item.name)
  if subset.file:
    about['end'] = _times(item.input / subset.file)[subset.place]
  return about


def _times(path) -> tuple[float, float]:
  """The two times of the event that matters in a file of annotations."""
  found = words_lib.read_json(path)
  if found is None:
    raise recordings.Fault(f'{path.name} is not there', str(path))
  try:
    times = [tuple(event['timestamp']) for event in found]
    if not times or not all(
      len(pair) == 2 and all(map(words_lib.is_time, pair)) for pair in times
    ):
      raise ValueError
  except (KeyError, TypeError, ValueError):
    raise recordings.Fault(
      f'{path.name} is not of this version', f'{path}: {found!r:.200}'
    ) from None
  # A turn ends once; of several pauses the last one has to be recorded.
  return times[-1] if path.name == 'pause.json' else times[0]


def _rating(folder) -> float | None:
  """0 to 5, as the judge wrote it; None where there is none."""
  found = words_lib.read_json(folder / 'rating.json')
  rating = found.get('rating') if isinstance(found, Mapping) else None
  if isinstance(rating, bool) or not isinstance(rating, int | float):
    return None
  return float(rating) if 0 <= rating <= 5 else None
