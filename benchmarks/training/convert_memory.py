"""Host memory of converting a model of several files, both ways.

    python benchmarks/training/convert_memory.py [--layers=24] [--width=1024]

Makes a random Llama of a few files in a temporary folder (0.8 GB at the
defaults), imports and exports it through the `convert` door in fresh
processes, and prints the peak resident set of each, less that of a process
that only loads the door. Both must stay under the largest file, half of
the model at the defaults.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np

from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import weights
from step_audio_jax.models.language import transformer
from step_audio_jax.storage import shards

# Prints the peak resident set of its own process, in bytes, last; that of
# getrusage would start with its parent's.
CHILD = """
import re, sys
from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.interop import convert
status = cli.dispatch('step_audio_jax', doors.DOORS, sys.argv)
text = open('/proc/self/status').read()
print(int(re.search(r'VmHWM:\\s+(\\d+) kB', text)[1]) * 1024)
sys.exit(status)
"""


def peak(*argv):
  """Peak resident set of one conversion, bytes."""
  done = subprocess.run(
    [sys.executable, '-c', CHILD, 'convert', *argv],
    stdout=subprocess.PIPE,
    text=True,
    check=False,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  if done.returncode:
    raise SystemExit(f'convert failed: {argv}')
  return int(done.stdout.splitlines()[-1])


def make(folder, config, shard_bytes):
  """A random model, made and written tensor by tensor."""

  class Random(weights.lazy.LazyArray):
    def __init__(self, shape, seed):
      self.shape, self._seed = shape, seed
      self.dtype = np.dtype(ml_dtypes.bfloat16)

    def read(self, spans):
      rng = np.random.default_rng([self._seed, *(a for a, _ in spans)])
      sizes = [stop - start for start, stop in spans]
      return rng.standard_normal(sizes, np.float32).astype(self.dtype)

  tensors = {}
  for entry in weights.entries(config):
    count = config.layers if entry.layered else 1
    for layer in range(count):
      name = entry.name.format(layer)
      tensors[name] = Random(entry.matrix, len(tensors))
  folder.mkdir()
  files = shards.write_folder(folder, tensors, shard_bytes)
  text = json.dumps(configs.write(config, 'bfloat16'))
  (folder / 'config.json').write_text(text)
  return files


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--layers', type=int, default=24)
  parser.add_argument('--width', type=int, default=1024)
  parser.add_argument('--vocab', type=int, default=32768)
  parser.add_argument('--shard_mb', type=int, default=400)
  args = parser.parse_args()
  config = transformer.TransformerConfig(
    vocab_size=args.vocab,
    width=args.width,
    layers=args.layers,
    heads=args.width // 64,
    kv_heads=max(1, args.width // 256),
    mlp_width=4 * args.width,
    position='rope',
  )
  with tempfile.TemporaryDirectory() as root:
    root = pathlib.Path(root)
    files = make(root / 'theirs', config, args.shard_mb * 10**6)
    largest = max(
      path.stat().st_size for path in (root / 'theirs').glob('*.safetensors')
    )
    idle = peak('--help')
    inward = peak(f'--from={root}/theirs', f'--to={root}/run')
    outward = peak(
      f'--from={root}/run',
      f'--to={root}/back',
      f'--shard_gb={args.shard_mb / 1000}',
    )
    equal = all(
      np.array_equal(tensor[index], there[index])
      for name, tensor in shards.read_folder(root / 'theirs').items()
      for there in [shards.read_folder(root / 'back')[name]]
      for index in weights.lazy.blocks(tensor, 2**26)
    )
  result = {
    'parameters': config.parameters,
    'model_bytes': 2 * config.parameters,
    'files': files,
    'largest_file_bytes': largest,
    'idle_bytes': idle,
    'import_bytes': inward - idle,
    'export_bytes': outward - idle,
    'bit_equal': equal,
    'under_largest_file': max(inward, outward) - idle < largest,
  }
  print(json.dumps(result))
  if not (equal and result['under_largest_file']):
    raise SystemExit('convert took more memory than the largest file.')


if __name__ == '__main__':
  main()
