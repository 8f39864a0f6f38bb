"""StepFun's own benchmarks: StepEval-Audio-360 and -Paralinguistic.

360 (stepfun-ai/StepEval-Audio-360): 137 chats of several turns in nine
categories, a table `data/*.parquet` and `audios.tar.gz`, unpacked as `audios/`
or as it is. That there are these files, the size, the categories and languages
is published. The names of columns are not on the card that we could read; taken
are `conversation_id`, `category` and `conversation`, a list of turns or an
object of lists with `role` (or `from`), `text` and `audio_filename`. A table
with others is refused by name. The last turn of the user is answered, those
before it are kept; what the table has the assistant say behind it is a
reference. The prompts of its judge are not published.

Paralinguistic (stepfun-ai/Step-Audio2, Step-Audio_Paralinguistic): 11 tasks of
50, `TASK/TASK.json`, a list of {"audio": "audio/….wav", "task": {"name",
"label", "answer"}}. The question is part of the recording; the label is a
category, the answer how it may be said.
"""

import dataclasses
from typing import Any, Iterator, Mapping

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks.heard import reading
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import questions
from step_audio_jax.evaluation.benchmarks.answers import ratings
from step_audio_jax.storage import files

TASKS = (
  'age', 'emotions', 'event', 'gender', 'pitch', 'rhythm', 'scene', 'speed',
  'vocalsound', 'voice_styles', 'voice_tone',
)  # fmt: skip
_ROLES = {
  'user': chats_lib.USER,
  'human': chats_lib.USER,
  'assistant': chats_lib.ASSISTANT,
  'gpt': chats_lib.ASSISTANT,
  'system': chats_lib.SYSTEM,
}
_TURNS = ('conversation', 'conversations', 'dialogue', 'messages')
_CATEGORY = ('category', 'categories', 'task')
_ID = ('conversation_id', 'id')


@dataclasses.dataclass(frozen=True)
class Chats360(ratings.Chats):
  """StepEval-Audio-360.

  Attributes:
    expected: Chats of the public set.
  """

  expected: int = 0

  def read(self) -> benchmark.Reading:
    archive = reading.Archive(self.path(), 'audios', 'audios.tar.gz')
    paths, found = reading.parts(self.folder, ('data/*.parquet', '*.parquet'))
    rows = reading.rows(paths, (*_TURNS, *_CATEGORY, *_ID))
    found += reading.made(rows, lambda row: self._item(archive, row))
    return gathering.reading(self, found, expected=self.expected)

  def _item(self, archive, row):
    turns = [_turn(archive, one) for one in _said(row.get(*_TURNS))]
    last = max(
      (k for k, one in enumerate(turns) if one.role == chats_lib.USER),
      default=None,
    )
    if last is None:
      raise errors.UserError('conversation: no turn of a user, expected one.')
    told = [one.text for one in turns[last + 1 :] if one.text]
    return benchmark.Item(
      row.id(*_ID),
      chats_lib.Conversation(tuple(turns[: last + 1])),
      tuple(told),
      'zh',
      {'category': row.needed(*_CATEGORY)},
    )


def _said(value: Any) -> Iterator[Mapping[str, Any]]:
  """Turns: a list of them, or an object of lists."""
  if isinstance(value, Mapping):
    lists = {k: v for k, v in value.items() if isinstance(v, (list, tuple))}
    sizes = {len(one) for one in lists.values()}
    if len(sizes) != 1:
      raise errors.UserError('conversation: found lists of several lengths.')
    yield from (
      dict(zip(lists, some)) for some in zip(*lists.values(), strict=True)
    )
  elif isinstance(value, (list, tuple)):
    yield from value
  else:
    raise errors.UserError('conversation: missing, expected its turns.')


def _turn(archive: reading.Archive, said: Any) -> chats_lib.Turn:
  if not isinstance(said, Mapping):
    raise errors.UserError('conversation: found a turn that is no object.')
  name = str(said.get('role') or said.get('from') or '').lower()
  if name not in _ROLES:
    raise errors.UserError(
      f'role: found {name!r}, expected one of {", ".join(_ROLES)}.'
    )
  text = str(said.get('text') or said.get('content') or '').strip()
  file = said.get('audio_filename') or said.get('audio')
  role = _ROLES[name]
  if file and role == chats_lib.USER:
    return reading.user(archive.recording(str(file), text))
  if not text:
    raise errors.UserError('text: a turn with neither words nor a recording.')
  return reading.turn(role, text)


@dataclasses.dataclass(frozen=True)
class Paralinguistic(questions.Questions):
  """StepEval-Audio-Paralinguistic.

  Attributes:
    expected: Recordings of the public set.
  """

  expected: int = 0

  def read(self) -> benchmark.Reading:
    root = self.path()
    if files.is_dir(root / 'Step-Audio_Paralinguistic'):
      root /= 'Step-Audio_Paralinguistic'
    found: list[benchmark.Item | reading.Left] = []
    for task in TASKS:
      path = root / task / f'{task}.json'
      if not files.is_file(path):
        found.append((str(path), reading.PART))
        continue
      found += reading.made(
        reading.rows([path]), lambda row, at=(path, task): self._item(*at, row)
      )
    return gathering.reading(self, found, expected=self.expected)

  def _item(self, path, task, row):
    told = row.get('task')
    if not isinstance(told, Mapping):
      raise errors.UserError('task: missing, expected an object.')
    said = dataclasses.replace(row, fields=told)
    label = said.needed('label')
    return benchmark.heard(
      f'{task}/{row.needed("audio").removeprefix("audio/")}',
      reading.recording(path.parent, row.get('audio')),
      *dict.fromkeys((label, *said.references('answer'))),
      language='zh',
      category=task,
      question=said.needed('name'),
    )
