"""What a worker must have in common with the process that started a job.

The same bytes come from any worker only if it runs the same code with the same
libraries. `here` tells what decides them, `difference` what is not the same.
"""

import functools
from importlib import metadata
import pathlib
import platform
from typing import Mapping

import data_pipelines
import step_audio_jax
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

# Distributions that speak, hear, read, encode, pack or carry what is made.
LIBRARIES = (
  *('apache-beam', 'array_record', 'cloudpickle', 'jax', 'jaxlib', 'numpy'),
  *('sentencepiece', 'seqio', 'soundfile', 'soxr', 'tensorflow', 'tokenizers'),
  *('ctranslate2', 'espeakng-loader', 'onnxruntime'),
)
_PACKAGES = (data_pipelines, step_audio_jax)


@functools.cache
def here() -> dict[str, str]:
  """What this process has: name → version, or digest of the code."""
  major, minor, _ = platform.python_version_tuple()
  found = {
    'step_audio_jax': step_audio_jax.__version__,
    'Python': f'{major}.{minor}',
  }
  for name in LIBRARIES:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      pass
  sums = []
  for package in _PACKAGES:
    root = pathlib.Path(package.__file__).parent
    for path in sorted(files.glob(root, '**/*.py')):
      sums.append([path.relative_to(root).as_posix(), digests.of_file(path)])
  found['source code'] = digests.short(digests.of_value(sums))
  return found


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
  """What of an environment is not as wanted; empty if nothing is."""
  for name in wanted:
    if found.get(name) != wanted[name]:
      return (
        f'{name}: found {found.get(name, "none")} there, expected '
        f'{wanted[name]} as here'
      )
  return ''
