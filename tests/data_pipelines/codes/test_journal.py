"""Journals, and a tokenisation that is killed again and again."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import soundfile

from data_pipelines.codes import journal
from data_pipelines.codes import shards
from data_pipelines.codes import tokenize
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines import stand_in

ROOT = pathlib.Path(__file__).parents[3]


def entries(path, digest='job'):
  with journal.open_journal(path, digest) as book:
    return list(book.entries)


def test_a_journal_keeps_what_was_appended(tmp_path):
  path = tmp_path / 'folder' / 'a.journal'
  with journal.open_journal(path, 'job') as book:
    assert book.entries == []
    for payload in (b'one', b'', b'\0' * 70_000):
      book.append(payload)
  assert entries(path) == [b'one', b'', b'\0' * 70_000]
  with journal.open_journal(path, 'job') as book:
    book.append(b'four')
  assert entries(path)[-1] == b'four'
  assert entries(path, 'another job') == []
  assert entries(path) == []


def test_a_finished_journal_goes(tmp_path):
  path = tmp_path / 'a.journal'
  with journal.open_journal(path, 'job') as book:
    book.append(b'one')
    book.done()
  assert not path.exists()
  with pytest.raises(KeyError), journal.open_journal(path, 'job') as book:
    book.append(b'one')
    raise KeyError
  assert entries(path) == [b'one']


def test_every_cut_leaves_the_entries_before_it(tmp_path):
  path = tmp_path / 'a.journal'
  with journal.open_journal(path, 'job') as book:
    ends = [path.stat().st_size]
    for payload in (b'first', b'second!', b'third'):
      book.append(payload)
      ends.append(path.stat().st_size)
  data = path.read_bytes()
  for cut in range(len(data) + 1):
    path.write_bytes(data[:cut])
    whole = sum(end <= cut for end in ends) - 1
    assert entries(path) == [b'first', b'second!', b'third'][: max(whole, 0)]
    with journal.open_journal(
      path, 'job'
    ) as book:  # and it goes on behind them
      book.append(b'more')
    assert entries(path)[-1] == b'more'
    assert len(entries(path)) == max(whole, 0) + 1


def test_a_flipped_bit_ends_the_journal(tmp_path):
  path = tmp_path / 'a.journal'
  with journal.open_journal(path, 'job') as book:
    for payload in (b'first', b'second'):
      book.append(payload)
  data = bytearray(path.read_bytes())
  data[-1] ^= 4
  path.write_bytes(data)
  assert entries(path) == [b'first']


@pytest.fixture
def corpus(tmp_path):
  """Thirty utterances, each of another length."""
  rng = np.random.default_rng(0)
  root = tmp_path / 'corpus'
  (root / 'wav').mkdir(parents=True)
  utterances = []
  for k in rng.permutation(30):
    samples = rng.normal(0, 0.1, 4000 + 160 * k).astype(np.float32)
    soundfile.write(root / 'wav' / f'{k}.wav', samples, 16000)
    utterances.append(
      manifest.Utterance(
        id=f'u{k}',
        audio=f'wav/{k}.wav',
        duration=len(samples) / 16000,
        sample_rate=16000,
      )
    )
  manifest.write(root, utterances)
  (root / 'wav' / '7.wav').write_bytes(b'not audio')
  return root


def shards_of(corpus, output, tokenizer):
  return tokenize.plan(corpus, output, tokenizer, shard_size=13, batch_size=4)


KILLER = textwrap.dedent("""
  import json, os, random, signal, sys, time
  from tests.data_pipelines import stand_in
  from data_pipelines.codes import tokenize
  from tests.data_pipelines.codes import test_journal as cases
  from data_pipelines.codes import shards as code_shards
  corpus, output, folder = sys.argv[1:4]
  random.seed(3)

  class Slow(stand_in.StandIn):
    def encode_batch(self, waves):
      pairs = super().encode_batch(waves)
      time.sleep(random.random() * 0.01)
      text = ''.join(f'{len(wave)} {os.getpid()}\\n' for wave in waves)
      with open('encoded.txt', 'ab', 0) as handle:
        handle.write(text.encode())
      return pairs

  def known():  # ids that nobody may encode again
    found = []
    for shard in cases.shards_of(corpus, output, folder):
      if shard.is_done():
        found += [one.id for one in shard.utterances]
      else:
        batches = code_shards.journaled_batches(shard)
        found += [name for batch in batches for name in batch.ids]
    return found

  told = []
  open('encoded.txt', 'wb').close()
  while True:
    before = known()
    child = os.fork()
    if not child:
      tokenize.tokenize(
        corpus, output, folder, load=Slow, shard_size=13, batch_size=4
      )
      os._exit(0)
    size, ended = os.path.getsize('encoded.txt'), 0
    if len(told) < 8:
      # Most kills come after the first batch: only then is there a journal.
      while len(told) % 4 and size == os.path.getsize('encoded.txt'):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
          break
        time.sleep(0.001)
      time.sleep(random.random() * 0.02)
      if not ended:
        os.kill(child, signal.SIGKILL)
    if not ended:
      _, status = os.waitpid(child, 0)
    told.append({'process': child, 'known': before, 'status': status})
    if status == 0:
      break
  print(json.dumps(told))
""")


def test_kills_lose_nothing_and_repeat_nothing(corpus, tmp_path):
  folder = stand_in.save(tmp_path / 'tokenizer')
  output = tmp_path / 'codes'
  script = [sys.executable, '-c', KILLER, corpus, output, folder]
  done = subprocess.run(
    [*map(str, script)],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    timeout=120,
  )
  runs = json.loads(done.stdout)
  length = {round(u.duration * 16000): u.id for u in manifest.read(corpus)}
  encoded = {run['process']: [] for run in runs}
  for line in (tmp_path / 'encoded.txt').read_text().splitlines():
    samples, process = map(int, line.split())
    encoded[process].append(length[samples])
  kills = 0
  for run in runs:
    mine = encoded[run['process']]
    assert not set(mine) & set(run['known'])
    assert len(mine) == len(set(mine))
    kills += run['status'] != 0
  assert kills > 3  # else this shows nothing
  assert any(0 < len(run['known']) < 30 for run in runs)
  total = [name for run in runs for name in encoded[run['process']]]
  assert set(total) == set(length.values()) - {'u7'}
  # Only the batch that was in the encoder at a kill is encoded again.
  assert len(total) <= 29 + 4 * kills

  alone = tmp_path / 'alone'
  tokenize.tokenize(
    corpus,
    alone,
    folder,
    load=stand_in.StandIn,
    shard_size=13,
    batch_size=4,
  )
  names = sorted(path.name for path in alone.iterdir())
  assert names == sorted(path.name for path in output.iterdir())
  for name in names:
    if not name.endswith('.json'):
      assert (alone / name).read_bytes() == (output / name).read_bytes(), name
  stats = files.read_json(output / 'stats.json')
  assert (stats['read'], stats['kept'], stats['quarantined']) == (30, 29, 1)


def test_a_shard_made_by_another_is_not_made_again(corpus, tmp_path):
  folder = stand_in.save(tmp_path / 'tokenizer')
  shard, *_ = shards_of(corpus, tmp_path / 'codes', folder)
  tokenizer, told = stand_in.StandIn(folder), []
  receipt = shards.tokenize_shard(
    shard, tokenizer, lambda more, new: told.append((more, new))
  )
  assert sum(more.utterances for more, _ in told) == receipt['read'] == 13
  assert all(new for _, new in told)
  assert shards.progress_of(shard).utterances == 13
  before = stand_in.StandIn.calls
  # As a second worker that waited for the journal of the first.
  assert shards.tokenize_shard(shard, tokenizer) == receipt
  assert stand_in.StandIn.calls == before
  assert not shard.journal.exists()


def test_batches_hold_similar_lengths_and_bounded_audio(corpus, tmp_path):
  folder = stand_in.save(tmp_path / 'tokenizer')
  (shard,) = tokenize.plan(
    corpus, tmp_path, folder, batch_size=4, batch_seconds=1.3
  )
  batches = shard.batches()
  assert sorted(u.id for b in batches for u in b) == sorted(
    u.id for u in shard.utterances
  )
  flat = [one.duration for batch in batches for one in batch]
  assert flat == sorted(flat)
  for batch, following in zip(batches, batches[1:]):
    seconds = sum(one.duration for one in batch)
    assert len(batch) <= 4 and (seconds <= 1.3 or len(batch) == 1)
    assert len(batch) == 4 or seconds + following[0].duration > 1.3
