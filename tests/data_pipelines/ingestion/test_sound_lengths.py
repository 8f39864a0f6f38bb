"""`ingest` states true lengths: each row of the guide's table, followed."""

import csv
import io
import pathlib
import struct

import numpy as np
import pytest
import soundfile

from data_pipelines.ingestion import admission
from data_pipelines.ingestion import ingest
from data_pipelines.ingestion import intake
from data_pipelines.readers.common import base
from step_audio_jax.audio import io as audio_io
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

GUIDE = pathlib.Path(__file__).parents[3] / 'docs' / 'new_corpus.md'
RATE = 16000


def encoded(seconds, form, rate=RATE):
  rng = np.random.default_rng(int(10 * seconds))
  x = rng.normal(0, 0.2, int(seconds * rate)).clip(-0.9, 0.9)
  x[rate:] *= 0.01
  out = io.BytesIO()
  soundfile.write(out, x, rate, format=form)
  return out.getvalue()


def without_info(raw):
  """As of a pipe: the Info frame is the first, and says where it ends."""
  (begin, second) = (raw.index(b'\xff\xf3', n) for n in (0, 30))
  assert b'Info' in raw[begin:second] or b'Xing' in raw[begin:second]
  return raw[:begin] + raw[second:]


WAV, MP3, FLAC, OGG = (encoded(2, f) for f in ('WAV', 'MP3', 'FLAC', 'OGG'))
SIZE = WAV.index(b'data') + 4
LIST = b'LIST\x08\0\0\0INFOISFT'
TAG = b'ID3\x03\0\0\0\0\0\x0a' + bytes(10)
UNKNOWN = FLAC[:21] + bytes([FLAC[21] & 0xF0]) + bytes(4) + FLAC[26:]


def sized(size):
  return WAV[:SIZE] + struct.pack('<I', size) + WAV[SIZE + 4 :]


# A row of the guide → (file, seconds, what the corpus states) of examples.
ROWS = {
  'mp3 without a count': [(without_info(MP3), 2.0, None)],
  'FLAC that states no length': [(UNKNOWN, 2.0, None)],
  'ID3 and APE tags': [
    (TAG + MP3 + b'TAG' + bytes(125), 2.0, None), (WAV + LIST, 2.0, None),
    (TAG + FLAC, 2.0, 2.005), (MP3, 2.0, 2.09), (OGG, 2.0, 2.09),
  ],
  'several mp3, Ogg or FLAC': [
    (MP3 + MP3, 4.0, None), (OGG + encoded(1, 'OGG', 44100), 3.0, 3.0),
    (FLAC + UNKNOWN + FLAC, 6.0, None),
  ],
  'a header that states no size': [
    (sized(0), 2.0, None), (sized(RATE), 2.0, 2.0), (sized(2**32 - 1), 2.0, 2),
    (sized(RATE + 1) + LIST, 2.0, None),
  ],
  'bytes behind the sound': [
    (MP3 + bytes(999), 2.0, None), (OGG + b'text', 2.0, None),
    (FLAC + b'{"error": 404}', 2.0, None), (WAV + b'no audio', 2.0, None),
  ],
  'another WAV behind': [(WAV + encoded(1, 'WAV', 8000), 3.0, None)],
  'VOC, IRCAM': [(encoded(2, f), 2.0, None) for f in ('VOC', 'IRCAM')],
  'the corpus states less': [(WAV, 1.5, 1.5), (MP3, 1.0, 1.0)],
  'a file that was cut': [
    (raw[: len(raw) - n], 2.0, None)
    for raw in (MP3, OGG, FLAC, WAV, encoded(2, 'NIST'), UNKNOWN)
    for n in (3, len(raw) // 2)
    if (raw is UNKNOWN) <= (n == 3)
  ],
  'frames or pages that are missing': [
    (raw[:half] + raw[half + 900 :], 2.0, None)
    for raw, half in ((x, len(x) // 2) for x in (MP3, OGG, FLAC))
  ],
  'the corpus states more': [(WAV, 2.0, 2.02), (MP3, 2.0, 2.2)],
  'm4a, AAC': [
    (head + bytes(999), 2.0, None)
    for head in (b'\0\0\0\x1cftypM4A ', b'\xff\xf1\x50\x80', b'#!AMR\n')
  ],
}  # fmt: skip


def id_of(key, number):
  return f'{list(ROWS).index(key)}-{number}'


def table():
  """(what is odd, what `ingest` does) of the guide."""
  text = GUIDE.read_text().split('### How long a sound is')[1]
  rows = text.split('| what is odd |')[1].split('\n\n')[0].splitlines()[2:]
  return [tuple(c.strip() for c in row.strip('|').split('|')) for row in rows]


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """All examples, ingested: name → (line or None, notes, reasons)."""
  root = tmp_path_factory.mktemp('odd')
  with open(root / 'metadata.csv', 'w', newline='') as handle:
    writer = csv.writer(handle)
    writer.writerow(['file', 'id', 'text', 'duration'])
    for row, examples in ROWS.items():
      for number, (raw, _, stated) in enumerate(examples):
        name = id_of(row, number)
        (root / f'{name}.bin').write_bytes(raw)
        writer.writerow([f'{name}.bin', name, 'a word', stated or ''])
  stats = ingest.ingest(root, root / 'out')
  kept = {u.id: u for u in manifest.read(root / 'out')}
  notes, reasons = {}, {}
  for found, name, field in (
    (notes, 'notes', 'note'), (reasons, 'quarantine', 'reason'),
  ):  # fmt: skip
    for line in files.read_jsonl(root / 'out' / f'{name}.jsonl'):
      found.setdefault(line['id'], []).append(line[field])
  return root / 'out', stats, kept, notes, reasons


@pytest.mark.parametrize('row, does', table())
def test_a_row_of_the_guide(row, does, corpus):
  root, _, kept, notes, reasons = corpus
  (key,) = (key for key in ROWS if row.startswith(key))
  for number, (_, seconds, _) in enumerate(ROWS[key]):
    name = id_of(key, number)
    if does == 'quarantine':
      assert name not in kept and len(reasons[name]) == 1
      continue
    assert name not in reasons, reasons.get(name)
    slack = 0.15 if key.startswith('mp3 without') else 1e-3
    assert abs(kept[name].duration - seconds) < slack
    assert bool(notes.get(name)) == does.endswith('notes'), notes.get(name)
    wave, _ = audio_io.read_audio(
      kept[name].audio_path(root), **kept[name].part()
    )
    assert abs(len(wave) / RATE - kept[name].duration) < 1e-3


def test_all_rows_are_followed_and_counted(corpus):
  _, stats, kept, notes, reasons = corpus
  assert len(table()) == len(ROWS)
  assert stats['read'] == len(kept) + len(reasons)
  seconds = sum(u.duration for u in kept.values())
  assert stats['hours'] == pytest.approx(seconds / 3600, abs=1e-4)
  assert sum(stats['audio_notes'].values()) == sum(map(len, notes.values()))
  assert any('notes.jsonl' in note for note in stats['notes'])
  assert stats['audio_notes']['N zero bytes follow the sound'] == 1


def test_notes_of_an_earlier_corpus_go(tmp_path):
  """And there is no file where there is no note."""
  for raw, there in ((sized(0), True), (WAV, False)):
    source = tmp_path / str(there)
    source.mkdir()
    (source / 'a.wav').write_bytes(raw)
    (source / 'metadata.csv').write_text('file,text\na.wav,a word\n')
    stats = ingest.ingest(source, tmp_path / 'out')
    assert (tmp_path / 'out' / 'notes.jsonl').exists() == there
    assert ('audio_notes' in stats) == there


def test_kinds_of_notes_are_bounded():
  run = intake.Intake(lambda content, target: None, admission.Rules())
  item = base.Item('x:1', {'id': 'a'})
  for number in range(200):
    run._tell(
      item, [f'chunk {"ab"[number % 2] * number} has {number} bytes'], None
    )
  counted = run.result()['audio_notes']
  assert len(counted) <= intake._KINDS and counted['other'] > 100
