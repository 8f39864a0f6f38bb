"""Checkpoints are asked: same answers in any company, kept chunk by chunk."""

import threading

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import asking
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import journal
from step_audio_jax.generation import decode
from tests.evaluation.benchmarks import made

ITEMS = made.Spelling('spelling', '').read().items


@pytest.fixture
def root(tmp_path, monkeypatch):
  made.run(tmp_path, monkeypatch)
  return tmp_path


def asked(model, root, items=ITEMS, control=benchmark.PLAIN, key='k', **share):
  return model.ask(
    benchmark.TRANSCRIBE,
    items,
    control,
    benchmark.Decoding(most=32),
    journal.Journal(root / 'answers', key, journal.Share(**share)),
  )


def texts(answers):
  return [answer.text for answer in answers]


def test_what_is_heard_is_written_in_the_order_of_the_items(root):
  found = asked(made.model(root), root)
  assert texts(found) == list(made.WORDS.values())
  assert all(one.stopped and not one.fault for one in found)
  chunks = sorted((root / 'answers' / 'k').iterdir())
  assert [path.stem for path in chunks] == ['00000', '00001', 'chunks']


def test_silence_is_not_what_was_said(root):
  found = asked(made.model(root), root, control=benchmark.SILENCED)
  assert texts(found) == [' ' * len(one) for one in made.WORDS.values()]


def test_what_cannot_be_heard_is_told_in_its_place(root):
  model = made.model(root, made.Recordings('red'))
  found = asked(model, root)
  assert texts(found) == ['a cat', None, 'big dogs run', 'no']
  assert found[1].fault == 'red: not audio'


def counted(monkeypatch):
  rows = []
  generate = decode.generate_outputs

  def generating(model, variables, prompts, **more):
    rows.append(len(prompts))
    return generate(model, variables, prompts, **more)

  monkeypatch.setattr(decode, 'generate_outputs', generating)
  return rows


def test_a_kill_costs_one_chunk_and_damage_is_made_again(root, monkeypatch):
  rows = counted(monkeypatch)
  whole = asked(made.model(root), root)
  assert rows == [2, 2]
  (root / 'answers' / 'k' / '00001.json').unlink()
  again = asked(made.model(root), root)
  assert rows == [2, 2, 2] and texts(again) == texts(whole)
  path = root / 'answers' / 'k' / '00000.json'
  path.write_text(path.read_text().replace('red', 'rod'))
  assert texts(asked(made.model(root), root)) == texts(whole)
  assert rows == [2, 2, 2, 2]
  path.write_text('{')
  assert texts(asked(made.model(root), root)) == texts(whole)


def test_what_is_whole_needs_no_checkpoint(root):
  kept = journal.Journal(root / 'answers', 'k', journal.Share())
  ids = list(made.WORDS)
  assert kept.whole(ids) is None
  asked(made.model(root), root)
  assert texts(kept.whole(ids)) == list(made.WORDS.values())
  assert texts(kept.whole(ids[::-1])) == list(made.WORDS.values())[::-1]
  assert kept.whole(ids[:3]) is None
  (root / 'answers' / 'k' / '00001.json').unlink()
  assert kept.whole(ids) is None


def test_others_are_asked_anew_under_the_same_key(root, monkeypatch):
  rows = counted(monkeypatch)
  asked(made.model(root), root)
  asked(made.model(root), root, ITEMS[:3])
  assert rows == [2, 2, 2, 1]  # of other chunks nothing is believed


def test_processes_share_the_work(root, monkeypatch):
  monkeypatch.setattr(journal, '_PAUSE', 0.01)
  rows, found = counted(monkeypatch), {}

  def process(index):
    found[index] = texts(asked(made.model(root), root, index=index, count=2))

  threads = [threading.Thread(target=process, args=(n,)) for n in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  assert found[0] == found[1] == list(made.WORDS.values())
  assert sorted(rows) == [2, 2]


def test_a_process_that_never_comes_is_named(root, monkeypatch):
  monkeypatch.setattr(journal, '_PAUSE', 0.01)
  with pytest.raises(errors.UserError, match='process 1 of 2 answers'):
    asked(made.model(root), root, index=0, count=2, patience=0.05)
  with pytest.raises(errors.UserError, match='found process 2 of 2'):
    journal.Share(2, 2)


def test_rows_lie_on_all_devices(root):
  """Each device has a share of the rows, and the answers are the same."""
  model = made.model(root, batch_size=8)
  assert model.devices == 8
  assert texts(asked(model, root)) == list(made.WORDS.values())


def test_few_lengths_are_compiled_for():
  rungs = {decode.rung(n) for n in range(1, 4096)}
  assert len(rungs) < 16
  assert all(decode.rung(n) >= n for n in range(1, 4096))
  assert all(one % decode.BUCKET == 0 for one in rungs)


def test_an_item_draws_the_same_in_any_company():
  seeds = {asking.seed_of(3, item.id) for item in ITEMS}
  assert len(seeds) == len(ITEMS) and max(seeds) < 2**31
  assert asking.seed_of(3, 'w0') != asking.seed_of(4, 'w0')
  assert np.uint32(asking.seed_of(3, 'w0')) == asking.seed_of(3, 'w0')
