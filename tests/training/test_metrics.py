"""Metric files: JSON lines that survive kills, events of TensorBoard."""

import json
import pathlib
import struct
import subprocess
import sys
import types

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from step_audio_jax.training import metrics

ROOT = pathlib.Path(__file__).parents[2]


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, steps, first_step=0):
  writer = metrics.JsonLinesWriter(path, first_step)
  for step in steps:
    writer.write_scalars(step, {'loss': step / 10})
  writer.close()


def test_a_line_a_step_readable_while_the_run_goes_on(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  writer = metrics.JsonLinesWriter(path, 0)
  writer.write_scalars(
    10, {'a': jnp.float32(0.5), 'b': np.int64(3), 'c': float('nan')}
  )
  (line,) = lines(path)  # no flush was asked for
  assert list(line) == ['step', 'a', 'b', 'c']
  assert (line['step'], line['a'], line['b']) == (10, 0.5, 3.0)
  assert np.isnan(line['c'])
  writer.write_scalars(20, {})
  writer.close()
  assert lines(path)[1] == {'step': 20}
  assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']


@hypothesis.given(
  first=st.integers(0, 12), reached=st.integers(0, 12), end=st.integers(0, 12)
)
@hypothesis.settings(max_examples=30)
def test_a_resumed_run_reads_like_one_that_never_stopped(
  tmp_path_factory, first, reached, end
):
  """Killed at `reached`, resumed from the checkpoint of step `first`."""
  path = tmp_path_factory.mktemp('run') / 'metrics.jsonl'
  write(path, range(1, max(first, reached) + 1))
  write(path, range(first + 1, first + end + 1), first)
  assert lines(path) == [
    {'step': step, 'loss': step / 10} for step in range(1, first + end + 1)
  ]


@pytest.mark.parametrize('cut', [1, 2, 9, 15])
def test_a_line_that_a_kill_cut_is_dropped(tmp_path, cut):
  path = tmp_path / 'metrics.jsonl'
  write(path, range(1, 4))
  path.write_bytes(path.read_bytes()[:-cut])
  write(path, [4], 3)
  # Without just its newline the line is whole, and is kept.
  again = [1, 2, 3, 4] if cut == 1 else [1, 2, 4]
  assert [line['step'] for line in lines(path)] == again


@pytest.mark.parametrize(
  'strange', ['', '[]', '3', '"x"', '{"loss": 1}', '{"step": "a"}', '\0\0\0']
)
def test_strange_lines_are_dropped_and_the_rest_stays(tmp_path, strange):
  path = tmp_path / 'metrics.jsonl'
  write(path, [1, 2])
  path.write_text(f'{strange}\n{path.read_text()}{strange}\n')
  write(path, [3], 2)
  assert [line['step'] for line in lines(path)] == [1, 2, 3]


def test_a_run_that_starts_again_at_nothing_has_an_empty_file(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write(path, range(1, 4))
  write(path, [], 0)
  assert path.read_text() == ''


def events(folder):
  """All events of a folder, framed as TFRecords, in the order of writing."""
  found = []
  for path in sorted(folder.iterdir()):
    assert path.name.startswith('events.out.tfevents.')
    data, place = path.read_bytes(), 0
    while place < len(data):
      (size,) = struct.unpack_from('<Q', data, place)
      body = data[place + 12 : place + 12 + size]
      assert len(body) == size
      found.append(event_pb2.Event.FromString(body))
      place += 12 + size + 4  # two checksums
    assert place == len(data)
  return found


def scalars(found):
  return [
    (event.step, value.tag, round(value.simple_value, 6))
    for event in found
    for value in event.summary.value
  ]


def test_tensorboard_reads_what_was_written(tmp_path):
  writer = metrics.TensorBoardWriter(tmp_path / 'tensorboard', 0)
  writer.write_scalars(10, {'loss/text': jnp.float32(0.5), 'rate': 1e-3})
  writer.write_scalars(20, {'loss/text': np.float64(0.25)})
  writer.close()
  found = events(tmp_path / 'tensorboard')
  assert found[0].file_version == 'brain.Event:2'
  assert scalars(found) == [
    (10, 'loss/text', 0.5),
    (10, 'rate', 0.001),
    (20, 'loss/text', 0.25),
  ]
  assert not [e for e in found if e.session_log.status]


def test_tensorboard_forgets_the_steps_that_are_done_again(tmp_path):
  writer = metrics.TensorBoardWriter(tmp_path, 12)
  writer.write_scalars(13, {'loss': 1.0})
  writer.close()
  (start,) = [e for e in events(tmp_path) if e.session_log.status]
  assert start.session_log.status == event_pb2.SessionLog.START
  assert start.step == 13


def test_tensorboard_forgets_a_life_without_a_checkpoint(tmp_path):
  """A run that starts again at step 0 must not show what it did before."""
  dead = metrics.TensorBoardWriter(tmp_path, 0)
  dead.write_scalars(5, {'loss': 9.0})
  dead.flush()  # and then it was killed
  again = metrics.TensorBoardWriter(tmp_path, 0)
  again.write_scalars(5, {'loss': 1.0})
  again.close()
  found = events(tmp_path)
  (start,) = [e for e in found if e.session_log.status]
  assert start.step == 1
  assert scalars(found[found.index(start) :]) == [(5, 'loss', 1.0)]


def test_a_flush_puts_all_events_on_disk(tmp_path):
  """A thread between the writer and the file would keep some back."""
  writer = metrics.TensorBoardWriter(tmp_path, 0)
  for step in range(1, 200):
    writer.write_scalars(step, {'a': step, 'b': 2 * step})
  writer.flush()
  assert len(scalars(events(tmp_path))) == 2 * 199
  writer.close()


def test_both_files_get_the_same_numbers(tmp_path):
  writer = metrics.writer(tmp_path, 0)
  wanted = [(s, n, v) for s in (5, 6) for n, v in (('a', s / 4), ('b', -s))]
  for step in (5, 6):
    writer.write_scalars(step, {n: v for s, n, v in wanted if s == step})
  # What clu's users also call must not disturb.
  writer.write_hparams({'x': 1})
  writer.write_texts(6, {'note': 'text'})
  writer.write_histograms(6, {'h': np.ones(3)})
  writer.flush()
  writer.close()
  assert scalars(events(tmp_path / 'tensorboard')) == wanted
  assert [
    (line['step'], name, line[name])
    for line in lines(tmp_path / 'metrics.jsonl')
    for name in ('a', 'b')
  ] == wanted


def test_tensorflow_stays_out(tmp_path):
  code = (
    'import sys\n'
    'from step_audio_jax.training import metrics\n'
    'writer = metrics.writer(sys.argv[1], 0)\n'
    'writer.write_scalars(1, {"loss": 1.0})\n'
    'writer.close()\n'
    "print([m for m in sys.modules if m.partition('.')[0] == 'tensorflow'])"
  )
  done = subprocess.run(
    [sys.executable, '-c', code, str(tmp_path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == '[]\n'
  assert lines(tmp_path / 'metrics.jsonl') == [{'step': 1, 'loss': 1.0}]


@hypothesis.given(
  steps=st.lists(
    st.dictionaries(
      st.sampled_from(['loss', 'loss/text', 'codes']),
      st.tuples(st.integers(-50, 50), st.integers(0, 9)),
    ),
    max_size=6,
  )
)
def test_a_window_averages_by_weight(steps):
  window = metrics.Window()
  sums = {}
  for step in steps:
    window.add({k: (jnp.float32(a), np.int32(b)) for k, (a, b) in step.items()})
    for name, (total, weight) in step.items():
      sums.setdefault(name, []).append((total, weight))
  expected = {}
  for name, pairs in sums.items():
    total, weight = map(sum, zip(*pairs))
    if weight:
      expected[name] = total / weight
  assert window.pop() == pytest.approx(expected)
  assert window.pop() == {}


class Timed:
  """A trainer that hands its steps over together and knows what they took."""

  def abstract_batch(self):
    return {'tokens': np.zeros((2, 8))}

  objective = feed = None
  mesh = types.SimpleNamespace(devices=np.array([jax.devices('cpu')[0]]))

  def times(self, step):
    return {metrics.STEP: 4.0}


def test_throughput_is_that_of_a_trainer_that_has_a_clock():
  meter = metrics.Meter(Timed())
  assert not any('throughput' in name for name in meter.read(1))
  found = meter.read(2)  # at once
  assert found['throughput/steps_per_second'] == 0.25
  assert found['throughput/tokens_per_second'] == 4.0
