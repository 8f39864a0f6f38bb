"""Replies that are held to schemas: speed of masks, and whether all is valid.

    python benchmarks/dialogue/schemas.py
    python benchmarks/dialogue/schemas.py --text_model=RUN/tokenizer.json

Without a text model, byte-level BPE of 50,000 pieces is trained on made words.
Schemas are those that function calling meets: flat arguments, enumerations,
formats, nested and recursive objects, unions, a map. For each: seconds to
compile it, and milliseconds of a mask along texts that fit (as a good model
writes them) and along random walks under the masks (as a bad one does), with
nothing kept and with what a server has kept by then. Every walk is parsed and
checked by `jsonschema`. numpy alone, one thread; prints one JSON line.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from step_audio_jax import vocabulary as vocabulary_lib  # noqa: E402
from step_audio_jax.chats import conversation as chats  # noqa: E402
from step_audio_jax.generation.schemas import calls  # noqa: E402
from step_audio_jax.generation.schemas import limits as limits_lib  # noqa: E402

PIECES = 50_000
EOT = vocabulary_lib.EOT
_FLAG = {'type': 'boolean'}
_POINT = {
  'type': 'object',
  'properties': {
    'lat': {'type': 'number', 'minimum': -90, 'maximum': 90},
    'lon': {'type': 'number', 'minimum': -180, 'maximum': 180},
  },
  'required': ['lat', 'lon'],
  'additionalProperties': False,
}
# A schema, and a value that fits it.
CASES: dict[str, tuple[Any, Any]] = {
  'weather': (
    {
      'type': 'object',
      'properties': {
        'city': {'type': 'string'},
        'unit': {'enum': ['celsius', 'fahrenheit']},
        'days': {'type': 'integer', 'minimum': 1, 'maximum': 14},
      },
      'required': ['city', 'unit'],
      'additionalProperties': False,
    },
    {'city': 'Reykjavík, the old town', 'unit': 'celsius', 'days': 12},
  ),
  'booking': (
    {
      'type': 'object',
      'properties': {
        'guest': {'type': 'string', 'pattern': r'^[A-Z][a-z]+( [A-Z][a-z]+)*$'},
        'email': {'type': 'string', 'format': 'email'},
        'from': {'type': 'string', 'format': 'date'},
        'nights': {'type': 'integer', 'minimum': 1},
        'wishes': {
          'type': 'array',
          'items': {'type': 'string', 'maxLength': 80},
          'maxItems': 5,
        },
        'breakfast': {'type': ['boolean', 'null']},
      },
      'required': ['guest', 'email', 'from', 'nights', 'wishes', 'breakfast'],
      'additionalProperties': False,
    },
    {
      'guest': 'Ada Lovelace',
      'email': 'ada@example.org',
      'from': '2027-02-28',
      'nights': 3,
      'wishes': ['a quiet room', 'late check-in'],
      'breakfast': True,
    },
  ),
  'route': (
    {
      'type': 'object',
      'properties': {
        'points': {'type': 'array', 'items': {'$ref': '#/$defs/point'}},
        'by': {
          'anyOf': [
            {
              'type': 'object',
              'properties': {'car': {'const': True}, 'toll': _FLAG},
              'required': ['car'],
            },
            {
              'type': 'object',
              'properties': {'line': {'type': 'string', 'minLength': 1}},
              'required': ['line'],
            },
          ]
        },
      },
      'required': ['points', 'by'],
      '$defs': {'point': _POINT},
    },
    {
      'points': [{'lat': 52.5, 'lon': 13.405}, {'lat': -33.9, 'lon': 151.2}],
      'by': {'line': 'S 7'},
    },
  ),
  'interface': (
    {
      'type': 'object',
      'properties': {
        'kind': {'enum': ['div', 'button', 'field', 'form']},
        'label': {'type': 'string'},
        'children': {'type': 'array', 'items': {'$ref': '#'}},
        'attributes': {
          'type': 'object',
          'additionalProperties': {'type': 'string'},
        },
      },
      'required': ['kind', 'label', 'children'],
    },
    {
      'kind': 'form',
      'label': 'Sign in',
      'children': [{'kind': 'field', 'label': 'Name', 'children': []}],
      'attributes': {'class': 'wide'},
    },
  ),
}  # fmt: skip


def made_text_model(folder: pathlib.Path) -> str:
  """Byte-level BPE of made words, with the pieces that JSON is cut into."""
  import tokenizers

  rng = np.random.default_rng(0)
  syllables = [a + b for a in 'bcdfghklmnprstvwz' for b in 'aeiouyéü']
  words = [
    ''.join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(60_000)
  ]
  lines = []
  for n in range(0, len(words), 6):
    a, b, c, d, e, f = words[n : n + 6]
    lines.append(f'{a.title()} {b} "{c}", {d}. {e}_{f}({n}) -> {n / 7:.3f}')
    lines.append(f'{{"{a}": "{b} {c}", "{d}": [{n}, {{"{e}": "{f}"}}]}}')
  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  model.decoder = tokenizers.decoders.ByteLevel()
  model.train_from_iterator(
    lines,
    tokenizers.trainers.BpeTrainer(
      vocab_size=PIECES,
      min_frequency=1,
      initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
    ),
  )
  path = folder / 'tokenizer.json'
  model.save(str(path))
  return str(path)


def along(reply: calls.Reply, ids) -> list[float]:
  """Milliseconds of each mask along ids."""
  spent = []
  for token in ids:
    began = time.perf_counter()
    mask = reply.mask()
    spent.append(1e3 * (time.perf_counter() - began))
    assert mask[token], 'a value that fits is refused'
    reply.advance(token)
  assert reply.done
  return spent


def astray(reply: calls.Reply, rng, most: int) -> tuple[list[int], list[float]]:
  """(ids of a random walk, milliseconds of each mask)."""
  ids, spent = [], []
  while len(ids) < most:
    began = time.perf_counter()
    mask = reply.mask()
    spent.append(1e3 * (time.perf_counter() - began))
    token = EOT if reply.done else int(rng.choice(np.flatnonzero(mask)))
    reply.advance(token)
    if token == EOT:
      return ids, spent
    ids.append(token)
  raise AssertionError('a walk does not end')


def main(argv=None) -> None:
  import jsonschema

  from step_audio_jax.tokenizers.text import text_models

  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--text_model', help='default: one is trained')
  parser.add_argument('--walks', type=int, default=100, help='of each schema')
  args = parser.parse_args(argv)
  with tempfile.TemporaryDirectory() as folder:
    path = args.text_model or made_text_model(pathlib.Path(folder))
    table = vocabulary_lib.Vocabulary.over(text_models.load(path))
  began = time.perf_counter()
  # Walks at random do not end texts by themselves.
  limits = limits_lib.Limits(characters=60, items=4, depth=6)
  schemas = calls.Schemas(table, limits)
  reading = time.perf_counter() - began
  rng = np.random.default_rng(0)
  compiled, first, again, wild, valid, total = {}, [], [], [], 0, 0
  head = table.encode_text('\n')
  for name, (schema, value) in CASES.items():
    began = time.perf_counter()
    schemas.of(response_schema=schema)
    compiled[name] = round(1e3 * (time.perf_counter() - began), 2)
    ids = table.encode_text('\n' + chats.as_json(value))[len(head) :]
    first += along(schemas.of(response_schema=schema), ids)
    again += along(schemas.of(response_schema=schema), ids)
    check = jsonschema.Draft202012Validator(
      schema, format_checker=jsonschema.FormatChecker()
    )
    for _ in range(args.walks):
      ids, spent = astray(schemas.of(response_schema=schema), rng, 5000)
      wild += spent
      total += 1
      valid += check.is_valid(json.loads(table.decode(ids)))
  told = {
    'pieces': table.text_size,
    'vocabulary_seconds': round(reading, 3),
    'compile_ms': compiled,
    'valid': valid,
    'walks': total,
    'masks': len(first) + len(again) + len(wild),
  }
  for name, spent in (('first', first), ('again', again), ('astray', wild)):
    told[f'{name}_mask_ms'] = {
      'mean': round(float(np.mean(spent)), 4),
      'p50': round(float(np.percentile(spent, 50)), 4),
      'p95': round(float(np.percentile(spent, 95)), 4),
      'p99': round(float(np.percentile(spent, 99)), 3),
    }
    told[f'{name}_masks_per_second'] = round(1e3 / float(np.mean(spent)))
  print(json.dumps(told))


if __name__ == '__main__':
  main()
