"""What a made sample of a layout is, and what all of them are made of."""

import dataclasses
import functools
import json
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from tests.data_pipelines.readers.material import tone

FIRST = 'test-00000-of-00001'


@dataclasses.dataclass
class Sample:
  """What a layout holds.

  Attributes:
    items: Id → (text of the last turn, references, category).
    said: Id → an answer: a text, or a list of calls.
    figures: Name → value, some of all.
    replies: Id of a judge's row → what it says; else `other`.
    other: What the judge says of all other rows.
    turns: Id → roles of the chat, where it has several turns.
  """

  items: dict[str, tuple[str, tuple[str, ...], str]]
  said: dict[str, Any]
  figures: dict[str, float]
  replies: dict[str, str] = dataclasses.field(default_factory=dict)
  other: str = 'no'
  turns: dict[str, list[str]] = dataclasses.field(default_factory=dict)


@functools.cache
def wav():
  return tone(0.15, 16000)


@functools.cache
def mp3():
  return tone(0.15, 16000, form='MP3')


def cell(name='a.wav'):
  return {'bytes': wav(), 'path': name}


def table(path, *rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  parquet.write_table(pa.Table.from_pylist(list(rows)), path)


def judgment(right):
  return json.dumps({'judgment': 'correct' if right else 'incorrect'})
