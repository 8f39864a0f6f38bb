"""Figures over steps as TensorBoard scalars, `evaluation/tensorboard`."""

import pathlib
from typing import Mapping

from step_audio_jax.evaluation.memory import identity
from step_audio_jax.storage import files

FOLDER = 'tensorboard'


def write(
  folder: pathlib.Path,
  metrics: Mapping[int, Mapping[str, float]],
  memory: identity.DigestCache,
) -> None:
  """Writes the scalars anew where they have changed.

  Args:
    folder: Of the evaluation.
    metrics: Step → figure → value.
    memory: Knows what is there.
  """
  # It brings TensorBoard's formats, which scoring does not need.
  from step_audio_jax.training import metrics as metrics_lib

  place = folder / FOLDER

  def make() -> bool:
    files.remove_tree(place)
    writer = metrics_lib.TensorBoardWriter(place, 0)
    for step in sorted(metrics):
      named = {f'evaluation/{k}': v for k, v in metrics[step].items()}
      writer.write_scalars(step, named)
    writer.flush()
    writer.close()
    return True

  told = [[step, metrics[step]] for step in sorted(metrics)]
  memory.derived('tensorboard', told, make)
  if not files.is_dir(place):
    make()
