"""Metrics of a run: JSON lines and TensorBoard events, behind clu's interface.

Importing `clu.metric_writers` pulls in TensorFlow for its own summary writer.
A place-holder for that one module keeps TensorFlow out; events are written by
tensorboardX instead, which needs only protobuf.
"""

import json
import os
import pathlib
import sys
import time
import types
from typing import Any, Mapping

import numpy as np

from step_audio_jax.parallel import topology

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

  def __init__(self, path: str | pathlib.Path, first_step: int):
    self._path = pathlib.Path(path)
    kept = []
    if self._path.exists():
      for line in self._path.read_text(encoding='utf-8').splitlines():
        try:
          if json.loads(line)['step'] <= first_step:
            kept.append(line + '\n')
        except (json.JSONDecodeError, KeyError, TypeError):
          continue  # the line that a kill cut in half
    temporary = self._path.with_suffix('.tmp')
    temporary.write_text(''.join(kept), encoding='utf-8')
    os.replace(temporary, self._path)
    self._handle = open(self._path, 'a', encoding='utf-8')

  def write_scalars(self, step: int, scalars: Mapping[str, Any]):
    line = {'step': step, **{k: float(v) for k, v in scalars.items()}}
    self._handle.write(json.dumps(line) + '\n')
    self._handle.flush()

  def close(self):
    self._handle.close()


class TensorBoardWriter(_ScalarWriter):
  """Event files for TensorBoard."""

  def __init__(self, folder: str | pathlib.Path, first_step: int):
    import tensorboardX

    self._writer = tensorboardX.SummaryWriter(
      str(folder), purge_step=first_step + 1 if first_step else None
    )

  def write_scalars(self, step: int, scalars: Mapping[str, Any]):
    for name, value in scalars.items():
      self._writer.add_scalar(name, float(value), step)

  def flush(self):
    self._writer.flush()

  def close(self):
    self._writer.close()


def writer(run_dir: str | pathlib.Path, first_step: int):
  """Both writers behind one clu `MultiWriter`."""
  return metric_writers.MultiWriter(
    [
      JsonLinesWriter(pathlib.Path(run_dir) / 'metrics.jsonl', first_step),
      TensorBoardWriter(pathlib.Path(run_dir) / 'tensorboard', first_step),
    ]
  )


class Window:
  """Sums (sum, weight) metrics over the steps between two log lines."""

  def __init__(self):
    self._sums: dict[str, list[float]] = {}

  def add(self, metrics: Mapping[str, tuple[Any, Any]]) -> None:
    """Adds one step's metrics; waits for the device."""
    for name, (total, weight) in metrics.items():
      entry = self._sums.setdefault(name, [0.0, 0.0])
      entry[0] += float(np.asarray(total))
      entry[1] += float(np.asarray(weight))

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
    if self._step is not None:
      rate = (step - self._step) / max(now - self._time, 1e-9)
      values['throughput/steps_per_second'] = rate
      if self._tokens:
        values['throughput/tokens_per_second'] = rate * self._tokens
      if self._flops:
        values['throughput/model_flops_per_second'] = rate * self._flops
        if self._peak:
          values['throughput/mfu'] = rate * self._flops / self._peak
    self._time, self._step = now, step
    return values | (self._counts(step) if self._counts else {})
