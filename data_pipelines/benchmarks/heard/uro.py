"""URO-Bench (Honggao/URO-Bench): 36 sets on two tracks, in Chinese and English.

    URO-Bench-data/TRACK/SET/test.jsonl   basic or pro; AlpacaEval, Gsm8kEval, …
        {"id", "source_wav", "source_text", "target_text"}, or of several rounds
        {"id", "num_round", "dialogue": [{"round", "source_wav", "source_text",
                                          "target_text"}, …]}
    paths are relative to the table; `target_text` may be a list

What a set is scored by is as its scripts name it:

    open, semi-open    rated 1 to 5, with references where there are
    qa                 right or wrong
    wer                what is heard has to be what was said (Repeat)
    multi              rated; rounds before the last are kept, with what the set
                       would have the assistant say to them
    ge, gs, srt, ue, sf, ml
                       rated, by the words alone: what of emotion, style and
                       song is in the voice is for people to hear

The names in the first release differ (`alpacaeval_test`); they are not read.
"""

import dataclasses
from typing import Any, Mapping

from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks import uro_sets
from data_pipelines.benchmarks.heard import reading
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import questions
from step_audio_jax.evaluation.benchmarks.answers import ratings


def _read(asked: Any, needs: bool) -> benchmark.Reading:
  """A set, whatever it is scored by."""
  if asked.subset not in uro_sets.SETS:
    raise errors.UserError(
      f'benchmark {asked.name}: subset: found {asked.subset!r}, expected one '
      f'of {", ".join(uro_sets.SETS)}.'
    )
  chosen = uro_sets.SETS[asked.subset]
  needs = needs or chosen.scored == 'semi-open'
  below = f'{chosen.track}/{asked.subset}/test.jsonl'
  (path,) = gathering.one_of(
    asked.folder,
    (below, f'URO-Bench-data/{below}', f'{asked.subset}/test.jsonl'),
  )
  found = reading.made(
    reading.rows([path]),
    lambda row: _item(path.parent, chosen, row, needs),
  )
  return gathering.reading(asked, found, expected=asked.expected)


def _item(root, chosen, row, needs):
  rounds = row.get('dialogue') or [row.fields]
  if not isinstance(rounds, (list, tuple)):
    raise errors.UserError('dialogue: found no list of rounds.')
  turns: list[chats_lib.Turn] = []
  right: tuple[str, ...] = ()
  for one in rounds:
    if not isinstance(one, Mapping):
      raise errors.UserError('dialogue: found a round that is no object.')
    if right:
      turns.append(reading.assistant(right[0]))
    said = dataclasses.replace(row, fields=one)
    turns.append(
      reading.user(
        reading.recording(
          root, said.get('source_wav'), said.text('source_text')
        )
      )
    )
    right = reading.answers(said.get('target_text'))
  if needs and not right:
    raise errors.UserError('target_text: empty, expected a right answer.')
  return benchmark.Item(
    row.id('id'),
    chats_lib.Conversation(tuple(turns)),
    right,
    row.text('language') or 'en'
    if chosen.language == 'mul'
    else chosen.language,
  )


@dataclasses.dataclass(frozen=True)
class Rated(reading.Subset, ratings.Ratings):
  """A set that is rated."""

  subset: str = 'AlpacaEval'

  def read(self) -> benchmark.Reading:
    return _read(self, False)


@dataclasses.dataclass(frozen=True)
class Right(reading.Subset, questions.Questions):
  """A set that has right answers."""

  subset: str = 'Gsm8kEval'

  def read(self) -> benchmark.Reading:
    return _read(self, True)


@dataclasses.dataclass(frozen=True)
class Repeated(reading.Subset, questions.Repeated):
  """A set whose sentences are said again."""

  subset: str = 'Repeat'

  def read(self) -> benchmark.Reading:
    return _read(self, True)
