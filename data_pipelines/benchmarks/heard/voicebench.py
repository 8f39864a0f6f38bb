"""VoiceBench (hlt-lab/voicebench): eleven sets of what assistants are asked.

    SET/test-00000-of-00001.parquet    prompt (the words), audio, and

    alpacaeval 199, alpacaeval_full 636, commoneval 200, wildvoice 1,000:
                         rated 1 to 5
    mtbench 46           `turns`, the words of each, and `audio1`, `audio2`, …
                         (or `audio`, a list); the last is answered, rated
    sd-qa 553            `reference`; a part a region: usa-…, gbr-…, …
    openbookqa 455, mmsu 3,074       `reference`, a letter; options are spoken
    bbh 1,000            `reference`, and `id`, that begins with the task
    ifeval 345           `instruction_id_list`, `kwargs`
    advbench 520         refused, or not

Names of sets and columns but `turns` and `audio1` are as public tools read
them. Answers before the last turn of mtbench are not published: those turns of
the user stand without one. Where an answer cannot be parsed the original scores
a random letter; here it counts as wrong, and the rate stands beside.
"""

import dataclasses
import json
import re
from typing import Any, Mapping

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks.heard import reading
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import following
from step_audio_jax.evaluation.benchmarks.answers import options
from step_audio_jax.evaluation.benchmarks.answers import questions
from step_audio_jax.evaluation.benchmarks.answers import ratings

_OPTION = re.compile(r'(?:^|[\s(])([A-J])[.):]\s*(.+?)(?=\s+\(?[B-J][.):]|$)')
_HEARD = re.compile(r'audio_?(\d+)')


def _read(asked: Any, columns, make, region: str = '') -> benchmark.Reading:
  """A set: its parts are `SPLIT-00000-of-00002.parquet`.

  Args:
    asked: The benchmark.
    columns: That are read.
    make: (split, row) → item.
    region: Only this split; '' is all.
  """
  which = f'{region or "*"}-*.parquet'
  paths, found = reading.parts(asked.folder, (f'{asked.subset}/{which}', which))
  for path in paths:
    split = path.name.partition('-')[0]
    found += reading.made(
      reading.rows([path], columns), lambda row, at=split: make(at, row)
    )
  return gathering.reading(asked, found, expected=asked.expected)


def _heard(asked, row, *references, **about):
  text = row.needed('prompt')
  speech = reading.recording(asked.path(), row.get('audio'), text)
  return benchmark.heard(row.name, speech, *references, **about)


@dataclasses.dataclass(frozen=True)
class Open(reading.Subset, ratings.Ratings):
  """Questions without one right answer."""

  subset: str = 'alpacaeval_full'

  def read(self) -> benchmark.Reading:
    return _read(self, ('prompt', 'audio'), lambda _, row: _heard(self, row))


@dataclasses.dataclass(frozen=True)
class Turns(reading.Subset, ratings.Ratings):
  """Chats whose last turn is answered."""

  subset: str = 'mtbench'

  def read(self) -> benchmark.Reading:
    columns = ('turns', 'prompt', 'audio', 'category', 'question_id', 'id')
    numbered = tuple(f'audio{k}' for k in range(1, 10))
    return _read(self, (*columns, *numbered), self._item)

  def _item(self, region, row):
    del region
    texts = row.get('turns', 'prompt')
    if not isinstance(texts, (list, tuple)) or not texts:
      raise errors.UserError('turns: missing, expected the words of each.')
    sounds = row.get('audio')
    if not isinstance(sounds, (list, tuple)):
      named = {
        int(found[1]): value
        for name, value in row.fields.items()
        if value is not None and (found := _HEARD.fullmatch(name))
      }
      sounds = [named[k] for k in sorted(named)]
    if len(sounds) != len(texts):
      raise errors.UserError('audio: not as many recordings as turns.')
    turns = tuple(
      reading.user(reading.recording(self.path(), sound, str(text)))
      for sound, text in zip(sounds, texts)
    )
    return benchmark.Item(
      row.name,
      chats_lib.Conversation(turns),
      about={'category': row.text('category')},
    )


@dataclasses.dataclass(frozen=True)
class Regions(reading.Subset, questions.Questions):
  """sd-qa: the same questions from eleven regions.

  Attributes:
    region: Only this one, as `usa`; '' is all that there are.
  """

  subset: str = 'sd-qa'
  region: str = ''

  def read(self) -> benchmark.Reading:
    columns = ('prompt', 'audio', 'reference')
    return _read(self, columns, self._item, self.region)

  def _item(self, region, row):
    return _heard(self, row, *row.references('reference'), category=region)


@dataclasses.dataclass(frozen=True)
class Letters(reading.Subset, options.Spoken):
  """Multiple choice whose options are heard."""

  subset: str = 'openbookqa'

  def read(self) -> benchmark.Reading:
    columns = ('prompt', 'audio', 'reference', 'cat', 'category')
    return _read(self, columns, self._item)

  def _item(self, region, row):
    options = dict(_OPTION.findall(row.needed('prompt').replace('\n', ' ')))
    letter = row.needed('reference').strip('()[]. ').upper()
    if not re.fullmatch('[A-J]', letter):
      raise errors.UserError(
        f'reference: found {letter!r:.20}, expected a letter.'
      )
    letters = sorted(options) or list('ABCD')
    return _heard(
      self,
      row,
      letter,
      options=letters,
      texts=[options.get(one, '').strip() for one in letters],
      category=row.text('cat', 'category') or region,
    )


# How the tasks of bbh are answered.
_BBH: Mapping[str, tuple[str, ...]] = {
  'hyperbaton': ('a', 'b'),
  'navigate': ('yes', 'no'),
  'sports_understanding': ('yes', 'no'),
  'web_of_lies': ('yes', 'no'),
}


@dataclasses.dataclass(frozen=True)
class Hard(reading.Subset, options.Spoken):
  """bbh: four tasks with two answers each."""

  subset: str = 'bbh'

  def read(self) -> benchmark.Reading:
    columns = ('prompt', 'audio', 'reference', 'id')
    return _read(self, columns, self._item)

  def _item(self, region, row):
    del region
    name = row.needed('id')
    task = next((one for one in _BBH if name.startswith(one)), None)
    if task is None:
      raise errors.UserError(
        f'id: found no task in it, expected one of {", ".join(_BBH)}.'
      )
    right = row.needed('reference').strip('()[]. ').lower()
    if right not in _BBH[task]:
      raise errors.UserError(f'reference: expected {" or ".join(_BBH[task])}.')
    return _heard(self, row, right, options=list(_BBH[task]), category=task)


@dataclasses.dataclass(frozen=True)
class Instructions(reading.Subset, following.Following):
  """ifeval: instructions that can be checked."""

  subset: str = 'ifeval'

  def read(self) -> benchmark.Reading:
    columns = ('prompt', 'audio', 'instruction_id_list', 'kwargs')
    return _read(self, columns, self._item)

  def _item(self, region, row):
    del region
    names, arguments = row.get('instruction_id_list'), row.get('kwargs')
    if isinstance(arguments, str):
      arguments = json.loads(arguments)
    if not isinstance(names, (list, tuple)) or not names:
      raise errors.UserError('instruction_id_list: empty, expected some.')
    if not isinstance(arguments, (list, tuple)) or len(arguments) != len(names):
      raise errors.UserError('kwargs: not as many as instructions.')
    told = [_instruction(*one) for one in zip(names, arguments)]
    return _heard(self, row, **{following.INSTRUCTIONS: told})


def _instruction(name, given) -> list[Any]:
  """Null arguments belong to other kinds of instructions."""
  if not isinstance(name, str) or not isinstance(given or {}, Mapping):
    raise errors.UserError('kwargs: found no object for each instruction.')
  told = (given or {}).items()
  return [name, {key: one for key, one in told if one is not None}]


@dataclasses.dataclass(frozen=True)
class Refused(reading.Subset, questions.Refusals):
  """advbench: what should not be answered."""

  subset: str = 'advbench'

  def read(self) -> benchmark.Reading:
    return _read(self, ('prompt', 'audio'), lambda _, row: _heard(self, row))
