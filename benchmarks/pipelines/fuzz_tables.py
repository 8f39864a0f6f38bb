"""Damaged tables of transcripts: is anything lost or mixed without a word?

    python benchmarks/pipelines/fuzz_tables.py
    python benchmarks/pipelines/fuzz_tables.py --cases=1000 --seed=3

Each case is a table of a few lines over a few short recordings: random
quotation marks, delimiters, line ends (mixed within a file, also CR alone),
encodings line by line, byte order marks, NULs, ragged and blank lines, cells
that span lines and lines that look like others' records. It goes through the
reader of its kind and through admission. What must hold is known from the
bytes: `read = kept + quarantined` counts physical lines, a line that is well
formed is kept, and a text that is kept is that of one physical line of its
recording. A case where it does not hold is *silent*. Prints one JSON line.
"""

import argparse
import collections
import dataclasses
import io
import json
import pathlib
import random
import re
import tempfile
import time
import wave

from data_pipelines import readers
from data_pipelines.ingestion import admission
from data_pipelines.ingestion import intake
from data_pipelines.readers.common import base
from step_audio_jax import errors

MUST = {'silent': 0}
NAMES = tuple(f'r{number}' for number in range(8))
WORDS = (
  'to',
  'be',
  'or',
  'not',
  'café',
  '你好',
  "it's",
  '5\'6"',
  'end"',
  '"so',
)
SIGNS = (
  '"', '""', '"""', "'", ',', ';', '\t', '|', '\\', ' ', '\u2028', '\x85',
  '\x0b', '\x0c', '\x1c', '\ufeff', '\xa0', '🙂', '#', '{"', '=',
)  # fmt: skip
ENDS = ('\n', '\r\n', '\r')
# Kind → (what is between cells, how a line names its recording).
KINDS = {
  'csv': (',', '{}.wav'),
  'semicolon': (';', '{}.wav'),
  'tsv': ('\t', '{}.wav'),
  'psv': ('|', '{}.wav'),
  'kaldi': (' ', '{}'),
  'librispeech': (' ', '{}'),
  'seed_tts': ('|', '{}'),
  'jsonl': (None, '{}.wav'),
}
_FILES = {
  'semicolon': 'metadata.csv',
  'kaldi': 'text',
  'librispeech': 'train-x/1/1/1.trans.txt',
  'seed_tts': 'meta.lst',
}
_KEYED = ('kaldi', 'librispeech')  # what is text cannot be told
_WIDE = (b'\xff\xfe', b'\xfe\xff')
_PROMPT = 'the prompt|prompt.wav'


@dataclasses.dataclass(frozen=True)
class Case:
  """A table and what is known of it.

  Attributes:
    kind: A key of `KINDS`.
    raw: Its bytes.
    good: Names of recordings whose only line is well formed.
  """

  kind: str
  raw: bytes
  good: frozenset[str]


def write_recordings(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """A source for each kind, with recordings and without the table."""
  sources = {}
  out = io.BytesIO()
  with wave.open(out, 'wb') as sound:
    sound.setparams((1, 2, 8000, 0, 'NONE', ''))
    sound.writeframes(bytes(range(1, 201)) * 4)
  for kind in KINDS:
    sources[kind] = root / kind
    table = sources[kind] / _FILES.get(kind, f'metadata.{kind}')
    table.parent.mkdir(parents=True)
    below = table.parent if kind == 'librispeech' else sources[kind]
    for name in (*NAMES, 'prompt'):
      (below / f'{name}.wav').write_bytes(out.getvalue())
  lines = ''.join(f'{name} {name}.wav\n' for name in NAMES)
  (sources['kaldi'] / 'wav.scp').write_text(lines, encoding='utf-8')
  (sources['librispeech'] / 'train-x/1/1/prompt.wav').unlink()
  return sources


def make(rng: random.Random) -> Case:
  """A random table."""
  kind = rng.choice(tuple(KINDS))
  sign, form = KINDS[kind]
  names = rng.sample(NAMES, rng.randint(1, len(NAMES)))
  end = rng.choice((*ENDS, None, None))  # None: each line has its own
  wild = rng.random() ** 2  # how much of it is damaged
  good = set()
  pieces = []
  if kind in ('csv', 'semicolon', 'tsv', 'psv'):
    pieces.append(f'file{sign}text'.encode())
    pieces.append((end or rng.choice(ENDS)).encode())
  for name in names:
    text, plain = _text(rng, wild, names, sign, form)
    line = _line(rng, kind, form.format(name), text)
    if rng.random() < 0.3 * wild:
      line, plain = _ragged(rng, line, sign or ','), False
    coded, plain = _encoded(rng, line, wild, plain)
    if plain:
      good.add(name)
    pieces += [coded, (end or rng.choice(ENDS)).encode()]
    if rng.random() < 0.2 * wild:
      blank = rng.choice(('', ' ', '\t '))
      pieces.append(f'{blank}{end or rng.choice(ENDS)}'.encode())
  if rng.random() < 0.3:
    pieces.pop()
  raw = b''.join(pieces)
  if rng.random() < 0.2:
    raw = b'\xef\xbb\xbf' + raw
  elif rng.random() < 0.1 * wild:
    raw = raw.decode('utf-8', 'replace').encode(
      rng.choice(('utf-16', 'utf-16-le', 'utf-16-be', 'utf-32'))
    )
    good = set()
  return Case(kind, raw, frozenset(_still_good(kind, raw, good)))


def _text(rng, wild, names, sign, form) -> tuple[str, bool]:
  """A transcript, and whether no table has trouble with it."""
  parts = [rng.choice(WORDS[:6]) for _ in range(rng.randint(1, 6))]
  plain = True
  while rng.random() < wild:
    plain = False
    odd = rng.choice(SIGNS + WORDS[6:])
    if rng.random() < 0.25:
      other = form.format(rng.choice(names))
      odd = rng.choice(
        ('\n', '\r', '\r\n', f'\n{other}{sign}stolen', f'\r{other}{sign}taken')
        + (
          '\0',
          'x' * (140_000 if rng.random() < 0.1 else 300),
          f'\nno.wav{sign}nobody',
        )
      )
    parts.insert(rng.randint(0, len(parts)), odd)
  return rng.choice(('', ' ')).join(parts) if not plain else ' '.join(
    parts
  ), plain


def _line(rng, kind, name, text) -> str:
  if kind == 'jsonl':
    return json.dumps({'file': name, 'text': text}, ensure_ascii=False)
  if kind == 'seed_tts':
    return f'{name}|{_PROMPT}|{text}'
  sign, _ = KINDS[kind]
  if kind in ('csv', 'semicolon') and rng.random() < 0.5:
    text = text.replace('"', '""') if rng.random() < 0.9 else text
    return f'{name}{sign}"{text}"'
  return f'{name}{sign}{text}'


def _ragged(rng, line, sign):
  return rng.choice(
    (
      line + sign,
      line.replace(sign, '', 1),
      line[: rng.randint(0, len(line))],
      line + f'{sign}more',
      f'"{line}"',
      f'{sign}{line}',
      line[1:],
      f'\ufeff{line}',
    )
  )


def _encoded(rng, line, wild, plain):
  if rng.random() < 0.15 * wild:
    coding = rng.choice(('latin-1', 'utf-16', 'gb18030', 'cp037'))
    return line.encode(coding, 'replace'), False
  return line.encode('utf-8', 'surrogatepass'), plain


def physical(raw: bytes) -> list[tuple[int, bytes, bytes | None]]:
  """Lines that are not blank: (number from 1, line, what a CR parts from it).

  The last is None where the line does not end with a CR alone, or nothing but
  blanks stand behind that up to the next LF, or all lines end so.
  """
  wide = raw.startswith(_WIDE)  # where a byte is half of a character
  by_returns = b'\n' not in raw.rstrip(b'\r\n')
  parts = re.split(
    rb'(\n)' if wide else rb'(\r\n|\n|\r)', raw.removeprefix(b'\xef\xbb\xbf')
  )
  parts += [b''] * (len(parts) % 2)
  lines, after = [], None
  for place in range(len(parts) - 2, -1, -2):
    line, end = parts[place : place + 2]
    after = after if end == b'\r' and not by_returns else None
    if not _blank(line, wide):
      lines.append((place // 2 + 1, line, after))
      after = line
  return lines[::-1]


def _blank(line: bytes, wide: bool) -> bool:
  if wide:  # a half of the character that ends the line before
    return not line.strip(b'\0 \t\r')
  try:
    return not line.decode().lstrip('\ufeff').strip()
  except UnicodeDecodeError:
    return False


def allowed(kind: str, raw: bytes) -> dict[str, list[str]]:
  """Name → texts that single physical lines of it may be read as."""
  found = collections.defaultdict(list)
  for _, line, after in physical(raw):
    one = _record(kind, line)
    if one is None:
      continue
    if after is not None and kind != 'jsonl':
      # Behind a CR that may be part of a text stands a record, or nothing is.
      if _record(kind, after) is None or kind in _KEYED:
        continue
    name, text = one
    found[name].append(text)
    if kind == 'seed_tts' and text.count('|') == 1:
      found[name].append(text.partition('|')[0])  # and a recording
    if text.startswith('"') and text.endswith('"'):
      found[name].append(text[1:-1].replace('""', '"'))
  return found


def _record(kind, line) -> tuple[str, str] | None:
  """(name, text) where a line begins as one does."""
  try:
    text = line.decode().lstrip('\ufeff')
  except UnicodeDecodeError:
    return None
  if kind == 'jsonl':
    try:
      value = json.loads(text)
      return pathlib.PurePath(value['file']).stem, value['text']
    except (ValueError, KeyError, TypeError):
      return None
  sign, form = KINDS[kind]
  if kind in _KEYED:
    name, rest = (*text.split(maxsplit=1), '', '')[:2]
  elif kind == 'seed_tts':
    name, *rest = text.split('|')
    return (name.strip(), '|'.join(rest[2:])) if len(rest) > 2 else None
  else:
    name, _, rest = text.partition(sign)
    name = name.strip('"')
  for one in NAMES:
    if form.format(one) == name:
      return one, rest
  return None


def _still_good(kind, raw, good) -> set[str]:
  """Those whose line and whose end of line leave no doubt."""
  times, behind = collections.Counter(), {}
  for _, line, after in physical(raw):
    for name in NAMES:
      if name.encode() in line:
        times[name] += 1
        behind[name] = None if kind == 'jsonl' else after
  sure = allowed(kind, raw)

  def doubt(name):
    after = behind[name]
    if after is not None and kind in _KEYED:
      return True
    return after is not None and not any(
      other.encode() in after for other in good if times[other] == 1
    )

  return {
    name
    for name in good
    if times[name] == 1
    and sure[name]
    and not doubt(name)
    and not raw.startswith(_WIDE)
  }


def judge(case: Case, source: pathlib.Path) -> dict:
  """Reads a case: counts, and what is wrong (`faults`)."""
  table = source / _FILES.get(case.kind, f'metadata.{case.kind}')
  table.write_bytes(case.raw)
  format = case.kind if case.kind in readers.READERS else 'folder'
  run = intake.Intake(lambda content, target: None, admission.Rules())
  quarantine = io.StringIO()
  kept, faults, refused = {}, [], None
  try:
    found = readers.READERS[format].read(source, base.Options())
    for line in run.lines(found, quarantine):
      name = pathlib.PurePath(line['audio'] or '').stem
      name = line['id'] if format != 'folder' else name
      kept[name] = line.get('text')
  except errors.UserError as error:
    refused = str(error)
    kept = {}
  left = [json.loads(line) for line in quarantine.getvalue().splitlines()]
  lines = physical(case.raw)
  texts = allowed(case.kind, case.raw)
  for name, text in kept.items():
    if name.startswith('prompt'):
      continue
    if text not in (' '.join(one.split()) for one in texts.get(name, ())):
      faults.append(f'{name}: kept {text!r}, no line of it has that')
  if refused is None:
    faults += [f'{name}: lost' for name in case.good - set(kept)]
    faults += _miscounted(case, run, kept, left, lines)
  elif case.good and case.kind in ('kaldi', 'librispeech', 'seed_tts', 'jsonl'):
    faults.append(f'refused as a whole: {refused}')
  elif case.good and _clean_header(case):
    faults.append(f'refused as a whole: {refused}')
  return {
    'kept': len(kept),
    'quarantined': len(left),
    'refused': refused is not None,
    'faults': faults,
  }


def _clean_header(case) -> bool:
  sign, _ = KINDS[case.kind]
  return physical(case.raw)[0][1] == f'file{sign}text'.encode()


def _miscounted(case, run, kept, left, lines):
  if run.read != run.kept + run.quarantined or run.quarantined != len(left):
    yield f'read {run.read}, kept {run.kept}, quarantined {run.quarantined}'
  table = _FILES.get(case.kind, f'metadata.{case.kind}').rpartition('/')[2]
  told = [
    one['line']
    for one in left
    if one['line'] and f'/{table}:{one["line"]}' in one['where']
  ]
  if case.kind in _KEYED:
    # A line is kept, told, or the text of a recording that is told.
    names = {one['id'] for one in left} | set(kept)
    for number, line, _ in lines:
      one = _record(case.kind, line)
      if number not in told and (one is None or one[0] not in names):
        yield f'line {number} is neither kept nor told'
    yield from (
      f'{name} is neither kept nor told' for name in set(NAMES) - names
    )
    return
  header = case.kind in ('csv', 'semicolon', 'tsv', 'psv')
  numbers = {number for number, _, _ in lines[header:]}
  twice = len(told) != len(set(told)) and case.kind != 'seed_tts'
  if twice or not set(told) <= numbers:
    yield f'told {sorted(told)}, there are {sorted(numbers)}'
  count = sum(not name.startswith('prompt') for name in kept)
  more = count + len(set(told)) - len(numbers)
  # A line of `seed_tts` is two utterances, of which one may be told.
  if more < 0 or more and case.kind != 'seed_tts':
    yield f'{len(numbers)} lines, {count} kept, {len(set(told))} told'


def run(cases: int, seed: int) -> dict:
  """Judges `cases` cases; the counts by kind, and the first faults."""
  kinds = {
    kind: collections.Counter(cases=0, kept=0, quarantined=0, refused=0)
    for kind in KINDS
  }
  faults = []
  with tempfile.TemporaryDirectory() as folder:
    sources = write_recordings(pathlib.Path(folder))
    for number in range(cases):
      case = make(random.Random(f'{seed}-{number}'))
      found = judge(case, sources[case.kind])
      if found['faults']:
        faults.append((f'{seed}-{number}', case, found['faults']))
      del found['faults']
      kinds[case.kind].update(cases=1, **found)
  return {
    'cases': cases,
    'silent': len(faults),
    'kept': sum(one['kept'] for one in kinds.values()),
    'quarantined': sum(one['quarantined'] for one in kinds.values()),
    'kinds': {kind: dict(one) for kind, one in kinds.items()},
    'faults': faults,
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--cases', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=0)
  arguments = parser.parse_args()
  begin = time.monotonic()
  result = run(arguments.cases, arguments.seed)
  faults = result.pop('faults')
  for name, case, found in faults[:10]:
    print(name, case.kind, found, case.raw[:2000])
  print(
    json.dumps(
      {
        'benchmark': 'fuzz_tables',
        **result,
        'seconds': round(time.monotonic() - begin, 1),
        'must': MUST,
        'met': result['silent'] == 0,
      }
    )
  )


if __name__ == '__main__':
  main()
