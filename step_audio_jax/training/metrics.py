"""Metrics of a run: JSON lines and TensorBoard events, behind clu's interface.

Importing `clu.metric_writers` pulls in TensorFlow for its own summary writer.
A place-holder for that one module keeps TensorFlow out; events are written by
tensorboardX instead, which needs only protobuf.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
import types
from typing import Any, Mapping

import jax
import numpy as np

from step_audio_jax import progress
from step_audio_jax.parallel import topology
from step_audio_jax.storage import files
from step_audio_jax.training import guard

STEP = 'time/step'  # of a trainer's own times: seconds of a whole step
_TF_WRITER = 'clu.metric_writers.summary_writer'


def _clu():
  if 'clu.metric_writers' not in sys.modules:
    place_holder = types.ModuleType(_TF_WRITER)
    place_holder.SummaryWriter = None
    sys.modules.setdefault(_TF_WRITER, place_holder)
  from clu import metric_writers

  return metric_writers


metric_writers = _clu()


class _ScalarWriter(metric_writers.MetricWriter):
  """The part of clu's interface that scalars need; the rest is ignored."""

  def _ignore(self, *args, **kwargs):
    del args, kwargs

  write_summaries = write_images = write_videos = write_audios = _ignore
  write_texts = write_histograms = write_pointcloud = write_hparams = _ignore

  def flush(self):
    pass

  def close(self):
    pass


class JsonLinesWriter(_ScalarWriter):
  """One line a step in `metrics.jsonl`.

  Lines of steps that a resumed run will do again are cut off at the start, so
  the file reads as if the run had never stopped.
  """

  def __init__(self, path: files.Path, first_step: int):
    self._path = files.path(path)
    kept = []
    if files.exists(self._path):
      for line in files.read_text(self._path).splitlines():
        try:
          if files.parsed(line)['step'] <= first_step:
            kept.append(line + '\n')
        except (json.JSONDecodeError, KeyError, TypeError):
          continue  # the line that a kill cut in half
    with files.atomic(self._path, 'w') as handle:
      handle.write(''.join(kept))
    self._handle = files.open_log(self._path, 'a')

  def write_scalars(self, step: int, scalars: Mapping[str, Any]):
    line = {'step': step, **{k: float(v) for k, v in scalars.items()}}
    with files.writing(self._path):
      self._handle.write(json.dumps(line) + '\n')
      self._handle.flush()

  def flush(self):
    with files.writing(self._path):
      files.persist(self._handle)

  def close(self):
    with files.writing(self._path):
      self._handle.close()


class TensorBoardWriter(_ScalarWriter):
  """Event files for TensorBoard.

  Events go into the file as they come. tensorboardX's own writer hands them
  to a queue that its `flush` does not wait for: a kill would take the last.
  """

  def __init__(self, folder: files.Path, first_step: int):
    from tensorboardX import event_file_writer
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    self._folder = folder = files.path(folder)
    files.make_folder(folder)
    again = first_step > 0 or any(files.glob(folder, '*'))
    self._event, self._scalar = event_pb2.Event, summary.scalar
    # Names hold whole seconds: a run that dies at once must not come back
    # into the file of its last life.
    self._here = None
    if files.is_address(folder):
      self._here = tempfile.TemporaryDirectory(prefix='step_audio_jax.events.')
      folder = pathlib.Path(self._here.name)
    self._file = event_file_writer.EventsWriter(
      str(folder / 'events'), f'.{first_step}.{os.getpid()}'
    )
    self._mirrors = [
      files.Mirror(file, self._folder / file.name)
      for file in (files.list_folder(folder) if self._here else ())
    ]
    if again:
      # TensorBoard forgets what earlier files say from this step on; from the
      # first one where a run died before it had a checkpoint.
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._write(first_step + 1, session_log=start)
    self._file.flush()

  def _write(self, step: int, **content: Any):
    event = self._event(step=step, wall_time=time.time(), **content)
    with files.writing(self._folder):
      self._file.write_event(event)

  def write_scalars(self, step: int, scalars: Mapping[str, Any]):
    for name, value in scalars.items():
      self._write(step, summary=self._scalar(name, float(value)))

  def flush(self):
    with files.writing(self._folder):
      self._file.flush()
      for mirror in self._mirrors:
        mirror.send()

  def close(self):
    with files.writing(self._folder):
      self._file.close()
      for mirror in self._mirrors:
        mirror.close()
    if self._here:
      self._here.cleanup()


def writer(run_dir: files.Path, first_step: int):
  """Both writers behind one clu `MultiWriter`."""
  return metric_writers.MultiWriter(
    [
      JsonLinesWriter(files.path(run_dir) / 'metrics.jsonl', first_step),
      TensorBoardWriter(files.path(run_dir) / 'tensorboard', first_step),
    ]
  )


class Window:
  """Sums (sum, weight) metrics over the steps between two log lines."""

  def __init__(self, sums: Mapping[str, Any] | None = None):
    """Goes on from the sums that `state` gave."""
    self._sums = {name: list(entry) for name, entry in (sums or {}).items()}

  def add(self, metrics: Mapping[str, tuple[Any, Any]]) -> None:
    """Adds one step's metrics."""
    for name, (total, weight) in metrics.items():
      entry = self._sums.setdefault(name, [0.0, 0.0])
      entry[0] += float(total)
      entry[1] += float(weight)

  def state(self) -> dict[str, list[float]]:
    """What a run that continues here needs; JSON-able, exact."""
    return {name: list(entry) for name, entry in self._sums.items()}

  def pop(self) -> dict[str, float]:
    """Averages since the last call; a metric without weight is left out."""
    means = {
      name: total / weight
      for name, (total, weight) in self._sums.items()
      if weight
    }
    self._sums = {}
    return means


class Meter:
  """Throughput since the last reading, and token counts of each source."""

  def __init__(self, trainer: Any):
    """Starts the clock of a `loop.Trainer`."""
    batch = trainer.abstract_batch()
    flops = getattr(trainer.objective, 'flops', None)
    self._counts = getattr(trainer.feed, 'counts', None)
    # What waits for the devices within a step hands it over when the next one
    # is done as well: only its own clock knows how long a step took.
    self._times = getattr(trainer, 'times', None)
    self._flops = flops(batch) if flops else 0.0
    self._tokens = batch['tokens'].size if 'tokens' in batch else 0
    devices = trainer.mesh.devices
    self._peak = devices.size * topology.peak_flops(devices.flat[0].device_kind)
    self._time = time.monotonic()
    self._step: int | None = None

  def read(self, step: int) -> dict[str, float]:
    """Scalars for one log line; the first interval holds the compilation."""
    now = time.monotonic()
    values: dict[str, float] = {}
    times = self._times(step) if self._times else {}
    if self._step is not None:
      values |= times
      seconds = times.get(STEP) or (now - self._time) / (step - self._step)
      rate = 1 / max(seconds, 1e-9)
      values['throughput/steps_per_second'] = rate
      if self._tokens:
        values['throughput/tokens_per_second'] = rate * self._tokens
      if self._flops:
        values['throughput/model_flops_per_second'] = rate * self._flops
        if self._peak:
          values['throughput/mfu'] = rate * self._flops / self._peak
    self._time, self._step = now, step
    for name, count in files.store_counts().items():
      values[f'store/{name}'] = float(count)
    return values | (self._counts(step) if self._counts else {})


class Log:
  """What the host learns from steps: log lines, the bar, the guard's verdicts.

  Attributes:
    last: The last line, with its `step`.
  """

  def __init__(
    self,
    trainer: Any,
    run_dir: files.Path,
    first: int,
    state: Mapping[str, Any] | None = None,
    label: str = 'train',
  ):
    """Opens the writers.

    Args:
      trainer: A `loop.Trainer`.
      run_dir: Gets `metrics.jsonl` and `tensorboard/`.
      first: The step that is done.
      state: What `state` gave then.
      label: Of the progress bar.
    """
    self._config, self._feed = trainer.config, trainer.feed
    state = state or {}
    self.last: dict[str, Any] = state.get('last') or {'step': first}
    self._window = Window(state.get('window'))
    self._meter = Meter(trainer)
    self._writer = writer(run_dir, first) if jax.process_index() == 0 else None
    self._bar = progress.bar(
      label=label, total=self._config.steps, initial=first, unit='step'
    )

  def __enter__(self) -> 'Log':
    return self

  def __exit__(self, *error) -> None:
    self._bar.close()
    if self._writer:
      self._writer.flush()
      self._writer.close()

  def flush(self) -> None:
    """Puts on disk what was written; a kill takes nothing of it."""
    if self._writer:
      self._writer.flush()

  def state(self) -> dict[str, Any]:
    """What a run that continues here needs; JSON-able."""
    return {'last': self.last, 'window': self._window.state()}

  def add(self, step: int, metrics: Mapping[str, Any]) -> Any:
    """Takes the metrics of a step, in order; waits for the device.

    Returns:
      The step's `stop`, None where it has none.

    Raises:
      UserError: The guard gave up.
    """
    for leaf in jax.tree.leaves(metrics):
      leaf.copy_to_host_async()
    metrics = jax.tree.map(np.asarray, dict(metrics))
    told, stop = metrics.pop('guard', None), metrics.pop('stop', None)
    self._window.add(metrics)
    verdict = None if told is None else guard.read(told)
    if verdict and verdict.in_a_row:
      notice = guard.notice(self._config.spikes, step, verdict)
      if self._writer and notice:
        self._bar.write(notice, file=sys.stderr)
      if guard.must_stop(self._config.spikes, verdict):
        raise guard.stop_error(step, verdict, self._feed)
    if step % self._config.log_every == 0 or step == self._config.steps:
      line = self._window.pop() | self._meter.read(step)
      if verdict:
        line['skipped_steps'] = verdict.skipped
      if self._writer:
        self._writer.write_scalars(step, line)
      self.last = {**line, 'step': step}
      self._bar.set_postfix_str(f'loss {line.get("loss", float("nan")):.3f}')
    self._bar.update(1)
    return stop
