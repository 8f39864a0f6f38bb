"""Digests of what feeds read: what they find, and what they leave alone."""

import json
import shutil
import wave

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.speaker import feed as speaker_feed
from step_audio_jax.decoder.vocoder import feed as wave_feed
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.training import audio_feed
from step_audio_jax.tokenizers.training import labels
from step_audio_jax.training.feeds import contents
from step_audio_jax.training.feeds import feed
from tests.training import toy_rows


@pytest.fixture
def folder(tmp_path):
  """Rows in two shards, as a build leaves them."""
  folder = toy_rows.write_source(tmp_path / 'rows', 'a', 5)
  (shard,) = folder.glob('*.array_record')
  first, second = (
    folder / f'rows-0000{i}-of-00002.array_record' for i in (0, 1)
  )
  shutil.copyfile(shard, second)
  shard.rename(first)
  stats = files.read_json(folder / 'stats.json')
  stats['rows'] = 10
  stats['sha256'] = digests.of_files(folder, (first.name, second.name))
  stats['bytes'] = {p.name: p.stat().st_size for p in (first, second)}
  files.write_json(folder / 'stats.json', stats)
  return folder


def told(folder, whole=2**20):
  stats = files.read_json(folder / 'stats.json')
  return contents.rows(folder, stats, contents.ByteBudget(whole))


def spoilt(path, place):
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(content)


def test_rows_are_those_of_stats_json(folder, tmp_path):
  before = told(folder)
  assert before['rows'] == 10 and 'ends' not in before
  shutil.copytree(folder, tmp_path / 'moved')
  assert told(tmp_path / 'moved') == before
  first, second = sorted(folder.glob('*.array_record'))
  spoilt(second, 500)
  with pytest.raises(errors.UserError, match=f'{second.name}: its sha256 is'):
    told(folder)


def test_of_large_shards_size_and_ends_are_read(folder, monkeypatch):
  monkeypatch.setattr(contents, '_END_BYTES', 64)
  before = told(folder, whole=0)
  assert before['sha256'] == told(folder)['sha256'] and 'ends' in before
  first, second = sorted(folder.glob('*.array_record'))
  for place in (3, -3):
    spoilt(second, place)
    assert told(folder, whole=0)['ends'] != before['ends']
    spoilt(second, place)
  assert told(folder, whole=0) == before
  spoilt(second, 500)  # in the middle: not found here, as the guide says
  assert told(folder, whole=0) == before
  second.write_bytes(second.read_bytes() + b'\0')
  with pytest.raises(errors.UserError, match='bytes, expected .* stats.json'):
    told(folder, whole=0)


def test_shards_that_nobody_named_are_told(folder):
  first, second = sorted(folder.glob('*.array_record'))
  third = folder / 'rows-00002-of-00003.array_record'
  shutil.copyfile(first, third)
  with pytest.raises(errors.UserError, match=f'{third.name}: is there, exp'):
    told(folder)
  third.unlink()
  second.unlink()
  with pytest.raises(errors.UserError, match=f'{second.name}: is not there'):
    told(folder)


def test_rows_of_before_the_digests_have_some(folder):
  before = told(folder)
  stats = files.read_json(folder / 'stats.json')
  del stats['sha256'], stats['bytes']
  files.write_json(folder / 'stats.json', stats)
  assert told(folder) == before


def test_what_no_source_shows_is_no_part_of_a_feed(folder):
  root = folder.parents[1]
  toy_rows.write_source(root, 'b', 3)
  one = feed.RowFeed(rows=str(root), ratios={'a': 1}, batch_size=2)
  before = one.contents(), one.settings()
  toy_rows.write_source(root, 'b', 4)
  again = feed.RowFeed(rows=str(root), ratios={'a': 3}, batch_size=2)
  assert (again.contents(), again.settings()) == before
  both = feed.RowFeed(rows=str(root), ratios={'b': 1, 'a': '1/2'}, batch_size=2)
  assert list(both.contents()) == ['b', 'a']
  assert both.settings()['phases'] == [{'row': 0, 'shares': ['2/3', '1/3']}]


@pytest.fixture
def corpus(tmp_path):
  folder = tmp_path / 'corpus'
  (folder / 'wav').mkdir(parents=True)
  rng = np.random.default_rng(0)
  lines = []
  for i in range(6):
    samples = rng.integers(-9000, 9000, 16000 + 1600 * i).astype('<i2')
    with wave.open(str(folder / 'wav' / f'{i}.wav'), 'wb') as out:
      out.setnchannels(1)
      out.setsampwidth(2)
      out.setframerate(16000)
      out.writeframes(samples.tobytes())
    lines.append(
      manifest.Utterance(
        id=f'u{i}',
        text='ab',
        split='train' if i < 4 else 'dev',
        audio=f'wav/{i}.wav',
        duration=len(samples) / 16000,
        sample_rate=16000,
        speaker=f's{i % 2}',
      )
    )
  manifest.write(folder, lines)
  return folder


FEEDS = {
  'audio': lambda corpus: audio_feed.AudioFeed(
    corpus=corpus,
    labels=labels.Labels(('a', 'b', 'c')),
    stream='linguistic',
    batch_size=2,
  ),
  'speaker': lambda corpus: speaker_feed.SpeakerFeed(
    corpus=corpus, speakers=('s0', 's1'), batch_size=2, seconds=0.5
  ),
  'wave': lambda corpus: wave_feed.WaveFeed(
    corpus=corpus, batch_size=2, frames=16
  ),
}


def rewrite(corpus, number, **changes):
  lines = (corpus / 'manifest.jsonl').read_text().splitlines()
  lines[number] = json.dumps(json.loads(lines[number]) | changes)
  (corpus / 'manifest.jsonl').write_text('\n'.join(lines) + '\n')


@pytest.mark.parametrize('name', FEEDS)
def test_recordings_are_compared_by_what_is_used_of_them(
  corpus, tmp_path, name
):
  def now(where=corpus):
    made = FEEDS[name](where)
    json.dumps([made.settings(), made.contents()])
    return made.contents()

  before = now()
  shutil.copytree(corpus, tmp_path / 'moved')
  assert now(tmp_path / 'moved') == before
  # Another split is none of this run's business.
  rewrite(corpus, 5, text='b')
  assert now() == before
  rewrite(corpus, 1, duration=1.0)
  assert now()['manifest'] != before['manifest']
  rewrite(corpus, 1, duration=1.1)
  assert now() == before
  used = {'audio': {'text': 'ba'}, 'speaker': {'speaker': 's0'}}
  for other, change in used.items():
    rewrite(corpus, 1, **change)
    assert (now() != before) == (other == name)
    rewrite(corpus, 1, text='ab', speaker='s1')
  spoilt(corpus / 'wav' / '2.wav', 9000)
  changed = now()
  assert changed['audio'] != before['audio']
  assert changed['manifest'] == before['manifest']


def test_a_sample_is_spread_over_the_files(tmp_path, monkeypatch):
  monkeypatch.setattr(contents, 'SAMPLE', 4)
  paths = [tmp_path / str(i) for i in range(16)]
  for path in paths:
    path.write_bytes(path.name.encode() * 10)
  before = contents.sample(paths)
  for path in paths[::4]:
    content = path.read_bytes()
    path.write_bytes(content + b'!')
    assert contents.sample(paths) != before
    path.unlink()
    assert contents.sample(paths) != before
    path.write_bytes(content)
  assert contents.sample(paths) == before == contents.sample([*paths])
  assert contents.sample([None]) != contents.sample([])
