"""Benchmarks lie in a bucket as they do on a disk."""

import pytest

from data_pipelines.benchmarks import catalogue
from step_audio_jax.storage import files
from tests.data_pipelines.benchmarks import layouts

# One of each way of finding files.
NAMES = (
  'common_voice_en', 'fleurs_zh', 'librispeech_clean', 'manifest', 'mmlu',
  'piqa', 'seed_resynthesis_en', 'seed_tts_en', 'texts',
)  # fmt: skip


def told(name, folder):
  """What a benchmark of a folder holds, without the folder's name."""
  (one,) = catalogue.benchmarks((name,), str(folder))
  found = one.read()
  items = [
    (
      (item.id, item.text, item.references, item.language, item.about),
      [
        (files.path(one.path).relative_to(folder).as_posix(), one.part)
        for one in item.recordings
      ],
    )
    for item in found.items
  ]
  return items, found.left_out, found.version


@pytest.mark.parametrize('root', ['gs'], indirect=True)
def test_a_benchmark_is_read_from_a_bucket(root, tmp_path):
  for name in NAMES:
    layouts.LAYOUTS[name](tmp_path / name)
  here = {name: told(name, tmp_path.resolve()) for name in NAMES}
  for name in NAMES:
    files.move(tmp_path / name, root / name)
  assert {name: told(name, root) for name in NAMES} == here
