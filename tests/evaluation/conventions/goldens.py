"""What the public tools made of our pairs of texts."""

import functools
import json
import pathlib

FOLDER = pathlib.Path(__file__).parents[2] / 'golden' / 'conventions'


def lines(name: str) -> list[dict]:
  """The lines of a golden file."""
  text = (FOLDER / f'{name}.jsonl').read_text(encoding='utf-8')
  return [json.loads(line) for line in text.splitlines()]


@functools.cache
def utterances() -> list[tuple[str, str, str, str]]:
  """(id, reference, hypothesis, language) of all pairs."""
  return [
    (one['id'], one['reference'], one['hypothesis'], one['language'])
    for one in lines('pairs')
  ]
