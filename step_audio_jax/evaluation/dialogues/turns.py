"""TurnBench: whether ends of turns and interruptions are noticed, and when.

arXiv:2608.25218; `consensus` says what the events are, `detections` how they
are scored, both by the rules of the public scorer (SesameAILabs/turnbench).
For `turn_end` and `interruption`:

    …/recall               better higher
    …/false_positive_rate  pauses, or backchannels and noises, that are taken
                           for one; better lower
    …/latency_p10, _p50, _p90   of what is noticed, seconds; better lower

over all events of all conversations, not over means of conversations. A system
is ranked by recall where its false_positive_rate is 0.1 or less on dev.

What a system noticed is either said or heard:

    predictions.json   the public form of a submission (schema_version 1): for
                       each conversation and speaker, times of `eot` and
                       `interruption`
    ID/speaker_K/output.wav   recordings of a system that talked with speaker
                       K. An end of K's turn is noticed where the system begins
                       to speak while K does not; after the readout of the
                       public baselines of dialogue models, but by our detector
                       of activity. As there, interruptions are not computed:
                       that a system falls silent is not a moment at which it
                       committed itself.

Ours: whether times lie within a recording is not looked at. Nothing outside the
windows of events counts.
"""

import dataclasses
from typing import Any, ClassVar, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import annotations
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues import consensus
from step_audio_jax.evaluation.dialogues import detections
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import spans
from step_audio_jax.evaluation.dialogues.timelines import words as words_lib
from step_audio_jax.storage import files

_OF = 38  # conversations of the split whose annotations are published
# Kind of event → the list of a submission.
_KINDS = {'turn_end': 'eot', 'interruption': 'interruption'}
_UNHEARD = 'interruptions that are noticed cannot be heard in recordings'
_ONE_SIDE = 'recorded with one of the speakers only'
_PERCENTILES = (10, 50, 90)


@dataclasses.dataclass(frozen=True)
class TurnBench(base.Benchmark):
  """TurnBench.

  Attributes:
    predictions: File of a submission in `outputs`; where it is not there,
      recordings are looked for.
  """

  predictions: str = 'predictions.json'

  name: ClassVar[str] = 'turnbench'

  def read(self) -> base.Reading:
    items, left_out = {}, {}
    for found in annotations.read(self.input_folder):
      if isinstance(found, tuple):
        left_out[found[0]] = found[1]
        continue
      if found.id in items:
        left_out[f'{found.id} of {found.path.name}'] = recordings.Fault(
          'an id that was there before'
        )
      elif found.is_blank:
        left_out[found.id] = recordings.Fault('annotations are withheld')
      else:
        place = self.output_folder / found.id
        items[found.id] = base.Dialogue(
          found.id, '', found.path, place, {'conversation': found}
        )
    if not items and not left_out:
      self.refuse('*.parquet, or folders with speaker_1_annotation_a.srt')
    said = self._said()
    if said is not None:
      for id in said.keys() - items.keys() - left_out.keys():
        left_out[id] = recordings.Fault('predicted and not in the benchmark')
      items = {
        id: dataclasses.replace(
          item, about={**item.about, 'said': said.get(id)}
        )
        for id, item in items.items()
      }
    absent = {}
    # Of broken shards nobody knows how much they hold.
    if self.complete and len(items) + len(left_out) < _OF:
      absent['all'] = _OF - len(items) - len(left_out)
    return base.Reading(
      tuple(items[id] for id in sorted(items, key=base.in_order)),
      left_out,
      absent,
    )

  def _said(self) -> dict[str, Any] | None:
    """Predictions by conversation; None where there is no such file.

    Raises:
      UserError: They are of another form.
    """
    path = self.output_folder / self.predictions
    if not files.is_file(path):
      return None
    found = files.read_json(path)
    version = (
      found.get('schema_version') if isinstance(found, Mapping) else None
    )
    if version != 1 or not isinstance(found.get('predictions'), list):
      raise errors.UserError(
        f'{path}: schema_version: found {version!r}, expected 1 and a list '
        '`predictions`.'
      )
    said: dict[str, Any] = {}
    for entry in found['predictions']:
      if not isinstance(entry, Mapping) or 'conversation_id' not in entry:
        raise errors.UserError(
          f'{path}: predictions: found {str(entry)[:60]!r}, expected objects '
          'with `conversation_id`.'
        )
      id = str(entry['conversation_id'])
      # Which of two is meant nobody knows.
      said[id] = 'predicted twice' if id in said else entry
    return said

  def measure(self, item: base.Dialogue) -> dict[str, Any]:
    conversation = item.about['conversation']
    row: dict[str, Any] = {'notes': []}
    if 'said' in item.about:
      times = _predicted(item.about['said'])
    else:
      times = self._heard(item, conversation, row['notes'])
    gold = dict(zip(_KINDS, consensus.gold(conversation.tracks), strict=True))
    for kind, by_speaker in times.items():
      total = detections.NOTHING
      for speaker, found_K in by_speaker.items():
        total += detections.detect(gold[kind][speaker], found_K)
      row[kind] = {
        'events': total.events,
        'latencies': total.latencies_K.tolist(),
        'traps': total.traps,
        'false_alarms': total.alarms,
      }
    return row

  def _heard(self, item, conversation, notes) -> dict[str, dict]:
    """Ends of turns that a system answers to, by speaker."""
    times = {}
    for speaker in consensus.SPEAKERS:
      place = item.output / f'speaker_{speaker}'
      try:
        output = recordings.read(place, 'output')
      except recordings.Fault as fault:
        if fault.reason != 'output.wav is not there':
          raise
        continue
      user = conversation.channel(speaker)
      for note in recordings.notes(output, user, self.tolerance):
        if note not in notes:
          notes.append(note)
      recordings.check_covers(output, user.seconds, self.tolerance)
      begins_N = output.segments_N2[:, 0]
      times[speaker] = begins_N[~spans.hold(user.segments_N2, begins_N)]
    if not times:
      raise recordings.Fault('output.wav is not there', str(item.output))
    if len(times) == 1:
      notes.append(_ONE_SIDE)
    return {'turn_end': times}

  def summarise(self, rows, sheet):
    for kind in _KINDS:
      part = [row[kind] for row in rows if kind in row]
      why = _UNHEARD if rows else base.NONE_SCORED
      if part:
        why = 'the annotators agree on no such event'
      latencies = np.array([t for one in part for t in one['latencies']])
      events = sum(one['events'] for one in part)
      traps = sum(one['traps'] for one in part)
      alarms = sum(one['false_alarms'] for one in part)
      for figure, count, of, better in (
        ('recall', len(latencies), events, 'higher'),
        ('false_positive_rate', alarms, traps, 'lower'),
      ):
        value = count / of if of else None
        sheet.add(f'{kind}/{figure}', value, of, '%', better, why)
      late = 'no event is noticed' if events else why
      for percent in _PERCENTILES:
        value = None
        if len(latencies):
          value = float(np.percentile(latencies, percent))
        figure = f'{kind}/latency_p{percent}'
        sheet.add(figure, value, len(latencies), 's', 'lower', late)


def _predicted(entry: Any) -> dict[str, dict[int, np.ndarray]]:
  """Times of an entry of a submission, by kind and speaker.

  Raises:
    Fault: There is none, or it breaks the form.
  """
  if entry is None:
    raise recordings.Fault('not predicted')
  if isinstance(entry, str):
    raise recordings.Fault(entry)
  times: dict[str, dict[int, np.ndarray]] = {kind: {} for kind in _KINDS}
  for speaker in consensus.SPEAKERS:
    said = entry.get(f'speaker_{speaker}')
    for kind, name in _KINDS.items():
      found = said.get(name) if isinstance(said, Mapping) else None
      if not isinstance(found, list) or not all(map(words_lib.is_time, found)):
        raise recordings.Fault(
          'predictions are no times',
          f'speaker_{speaker}: {name}: {found!r:.80}',
        )
      found_K = np.asarray(found, np.float64)
      if (np.diff(found_K) <= 0).any():
        raise recordings.Fault(
          'predictions do not increase', f'speaker_{speaker}: {name}'
        )
      times[kind][speaker] = found_K
  return times
