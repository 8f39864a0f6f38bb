"""TurnBench's files: annotations of conversations, and their recordings.

    *.parquet    the public layout (mundo-ai/turn-benchmark-dev): one row a
                 conversation with `conversation_id`, lists of {start_s, end_s,
                 label} in `speaker_{1,2}_annotation_{a,b,c}`, and recordings in
                 `speaker_{1,2}_audio`
    ID/          the layout before: `speaker_1_annotation_a.srt` with `[label]
                 text`, and `speaker_1_audio.wav`

Recordings, which are nearly all of a shard, are read where they are needed.
"""

import dataclasses
import re
from typing import Any, Iterator, Mapping

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues import consensus
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import words as words_lib
from step_audio_jax.storage import files

_COLUMNS = {
  (speaker, annotator): f'speaker_{speaker}_annotation_{annotator}'
  for speaker in consensus.SPEAKERS
  for annotator in consensus.ANNOTATORS
}
_CUE = re.compile(
  r'(\d+):(\d\d):(\d\d)[,.](\d{3})\s*-->\s*(\d+):(\d\d):(\d\d)[,.](\d{3})'
)
_LABEL = re.compile(r'\s*\[([^\]]+)\]')


@dataclasses.dataclass(frozen=True)
class Conversation:
  """One conversation.

  Attributes:
    id: Its own.
    tracks: Speaker → annotator → segments.
    path: Of its shard or folder.
    place: (row group, row in it) of a shard; None of a folder.
  """

  id: str
  tracks: Mapping[int, consensus.Tracks]
  path: files.AnyPath
  place: tuple[int, int] | None = None

  @property
  def is_blank(self) -> bool:
    """Whether nobody annotated it: the public test split is so."""
    return not any(
      segments for one in self.tracks.values() for segments in one.values()
    )

  def channel(self, speaker: int) -> recordings.Channel:
    """A speaker's channel.

    Raises:
      Fault: It is not there, or no audio.
    """
    stem = f'speaker_{speaker}_audio'
    if self.place is None:
      return recordings.read(self.path, stem)
    group, row = self.place
    with files.opened(self.path) as handle:
      shard = _parquet().ParquetFile(handle)
      table = shard.read_row_group(group, columns=[stem])
    content = table[stem][row].as_py() if stem in table.column_names else None
    if isinstance(content, Mapping):
      content = content.get('bytes')
    if not content:
      raise recordings.Fault(f'{stem} is not there', f'{self.path}')
    return recordings.decode(content, stem)


def read(
  folder: files.AnyPath,
) -> Iterator[Conversation | tuple[str, recordings.Fault]]:
  """Conversations in order, and (id, what is wrong) of those that are broken.

  Raises:
    UserError: pyarrow is not installed, and shards have to be read.
  """
  shards = sorted(files.glob(folder, '**/*.parquet'), key=str)
  for path in shards:
    yield from _shard(path)
  if not shards:
    for name in base.folders(folder):
      if any(files.glob(folder / name, 'speaker_*.srt')):
        yield from _folder(folder / name)


def _parquet():
  try:
    from pyarrow import parquet
  except ImportError as error:
    raise errors.UserError(
      'TurnBench: found no pyarrow, expected it for *.parquet; pip install '
      'pyarrow.'
    ) from error
  return parquet


def _shard(path):
  """Conversations of a shard; all of it is broken where it is cut short."""
  found = []
  try:
    with files.opened(path) as handle:
      shard = _parquet().ParquetFile(handle)
      columns = ['conversation_id', *_COLUMNS.values()]
      lacking = [c for c in columns if c not in shard.schema_arrow.names]
      if lacking:
        fault = recordings.Fault(
          'a shard is not of this version', f'{path}: no column {lacking[0]}'
        )
        yield path.name, fault
        return
      for group in range(shard.num_row_groups):
        rows = shard.read_row_group(group, columns=columns).to_pylist()
        found += [((group, row), one) for row, one in enumerate(rows)]
  except errors.UserError:
    raise
  except (OSError, ValueError) as error:  # pyarrow's are both
    yield path.name, recordings.Fault('a shard cannot be read', str(error))
    return
  for place, one in found:
    id = str(one['conversation_id'])
    try:
      tracks = _tracks(
        {
          key: [_marked(id, event) for event in one[column] or ()]
          for key, column in _COLUMNS.items()
        }
      )
    except recordings.Fault as fault:
      yield id, fault
    else:
      yield Conversation(id, tracks, path, place)


def _folder(path):
  try:
    found = {key: _srt(path / f'{c}.srt') for key, c in _COLUMNS.items()}
  except recordings.Fault as fault:
    yield path.name, fault
  else:
    yield Conversation(path.name, _tracks(found), path)


def _tracks(found) -> dict[int, dict[str, list[consensus.Segment]]]:
  return {
    speaker: {a: found[speaker, a] for a in consensus.ANNOTATORS}
    for speaker in consensus.SPEAKERS
  }


def _marked(id: str, event: Any) -> consensus.Segment:
  try:
    start, end, label = event['start_s'], event['end_s'], event['label']
    fine = all(map(words_lib.is_time, (start, end))) and start <= end
  except (KeyError, TypeError):
    fine = False
  if not fine:
    raise recordings.Fault(
      'annotations are not of this version', f'{id}: {event!r}'
    )
  return consensus.Segment(float(start), float(end), str(label))


def _srt(path: files.AnyPath) -> list[consensus.Segment]:
  if not files.is_file(path):
    raise recordings.Fault('annotations are not whole', f'{path}: no such file')
  try:
    text = files.read_text(path)
  except errors.UserError as error:
    raise recordings.Fault('annotations cannot be read', str(error)) from error
  found = []
  for cue in re.split(r'\n\s*\n', text.strip()):
    if not cue:
      continue
    times = _CUE.search(cue)
    if times is None:
      raise recordings.Fault('annotations cannot be read', f'{path}: {cue!r}')
    h, m, s, ms, *rest = map(int, times.groups())
    start = 3600 * h + 60 * m + s + ms / 1000
    h, m, s, ms = rest
    label = _LABEL.match(cue[times.end() :])
    found.append(
      consensus.Segment(
        start, 3600 * h + 60 * m + s + ms / 1000, label[1] if label else ''
      )
    )
  return found
