r"""How much of full-size codebooks is used: 1,024 linguistic, 4,096 semantic.

    python benchmarks/tokenizers/codebook_usage.py \
      --corpus=runs/quickstart/data/speech \
      [--linguistic=runs/quickstart/linguistic]

Trains both codebooks at Step-Audio's sizes behind the quick start's small
encoders, through the train door; then exports the tokenizer, tokenises the
corpus and counts. `usage` is the share of entries that the corpus' codes
contain, `perplexity` that of the codes' distribution. 46 minutes of speech
are enough to fill them (45 and 17 frames an entry); five are not. Without
`--linguistic` the linguistic encoder is trained as well.

Prints one JSON line last; exit status 1 where a usage is below 0.95.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

from step_audio_jax.corpus import speech_codes

ROOT = pathlib.Path(__file__).parents[2]
CODES = {'linguistic': 1024, 'semantic': 4096}
WANTED = 0.95

CENTROIDS = """
include 'gin/quickstart/centroids.gin'
CENTROIDS = 1024
START = 32
STEPS = 100
RESERVOIR = 24576
"""
# So short a corpus is few frames for 4,096 entries: one step sees 0.3 of each,
# so the mean must forget sooner than behind a full-size batch.
SEMANTIC = """
from __gin__ import dynamic_registration
from step_audio_jax.tokenizers.speech import codebook
include 'gin/quickstart/semantic.gin'
CODES = 4096
STEPS = 360
RESERVOIR = 32768
codebook.CodebookConfig:
  fill_steps = 32
  decay = 0.97
  dead = 0.1
"""


def run(*command: object) -> None:
  """Runs a door of the project."""
  subprocess.run(
    [sys.executable, '-m', *map(str, command)], cwd=ROOT, check=True
  )


def train(folder, name, text, corpus, **macros) -> pathlib.Path:
  """Trains with a gin text; returns the run."""
  path = folder / f'{name}.gin'
  path.write_text(text, encoding='utf-8')
  values = {'RUN_DIR': str(folder / name), 'MANIFEST': str(corpus), **macros}
  flags = [f'--gin.{key}={value!r}' for key, value in values.items()]
  run('step_audio_jax', 'train', f'--gin_file={path}', *flags)
  return folder / name


def figures(codes: np.ndarray, entries: int) -> dict[str, float]:
  """Usage and perplexity of codes."""
  counts = np.bincount(codes, minlength=entries)
  share = counts[counts > 0] / counts.sum()
  return {
    'entries': entries,
    'frames': int(counts.sum()),
    'usage': round(float((counts > 0).mean()), 4),
    'perplexity': round(float(np.exp(-(share * np.log(share)).sum())), 1),
  }


def main() -> int:
  """Runs it all."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--corpus', required=True, type=pathlib.Path)
  parser.add_argument('--linguistic', type=pathlib.Path)
  parser.add_argument('--output', default='runs/codebook_usage')
  options = parser.parse_args()
  begin = time.monotonic()
  folder = pathlib.Path(options.output).resolve()
  folder.mkdir(parents=True, exist_ok=True)
  corpus = options.corpus.resolve()
  encoder = options.linguistic or train(
    folder, 'linguistic', "include 'gin/quickstart/linguistic.gin'\n", corpus
  )
  centroids = train(
    folder,
    'centroids',
    CENTROIDS,
    corpus,
    INIT_FROM=(str(pathlib.Path(encoder).resolve()),),
  )
  semantic = train(folder, 'semantic', SEMANTIC, corpus)
  run(
    *('step_audio_jax', 'tokenize', f'--export={folder / "tokenizer"}'),
    *(f'--linguistic={centroids}', f'--semantic={semantic}'),
  )
  run(
    *('data_pipelines', 'tokenize', f'--corpus={corpus}'),
    *(f'--tokenizer={folder / "tokenizer"}', f'--output={folder / "codes"}'),
  )
  pairs = list(speech_codes.read_codes(folder / 'codes').values())
  result = {
    name: figures(np.concatenate([pair[k] for pair in pairs]), entries)
    for k, (name, entries) in enumerate(CODES.items())
  }
  for name, found in result.items():
    print(
      f'{name}: {found["usage"]:.1%} of {found["entries"]} entries used, '
      f'perplexity {found["perplexity"]:.0f}, {found["frames"]} frames'
    )
  result['wall_seconds'] = round(time.monotonic() - begin, 1)
  print(json.dumps(result))
  return int(min(result[name]['usage'] for name in CODES) < WANTED)


if __name__ == '__main__':
  sys.exit(main())
