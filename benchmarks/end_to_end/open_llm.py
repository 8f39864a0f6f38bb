"""An open language model of a GGUF file, held against `transformers`.

    python benchmarks/end_to_end/open_llm.py --gguf=model.gguf [--no_peer]

The file is converted, and exported again for the peer: both read the same
dequantised numbers. Over 20 paragraphs of this project's own pages it prints
how far logits lie apart and where the best ids differ; then what perplexity
becomes when 5,120 speech rows are put behind the text rows, and again when
that model has gone out and in. Text rows alone are counted there, so that a
perplexity can stay as it is; `table_perplexity` counts all rows. The peer
needs the environment of `make parity`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
# The packages of this checkout, wherever the script is started.
sys.path.insert(0, str(ROOT))

from benchmarks import small_llama  # noqa: E402

LONGEST = 256  # ids of a paragraph


def paragraphs(count: int) -> list[str]:
  """The first paragraphs of prose."""
  found = []
  for page in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))):
    for block in page.read_text(encoding='utf-8').split('\n\n'):
      words = ' '.join(block.split())
      if len(words) > 200 and words[0].isalpha():
        found.append(words)
  if len(found) < count:
    sys.exit(f'{len(found)} paragraphs, expected {count}.')
  return found[:count]


def convert(source: pathlib.Path, target: pathlib.Path, *flags: str) -> None:
  """The door, in a process of its own."""
  command = [sys.executable, '-m', 'step_audio_jax', 'convert']
  subprocess.run(
    [*command, f'--from={source}', f'--to={target}', *flags],
    check=True,
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=sys.stderr,
  )


def logits_of(run: pathlib.Path, texts: list[str]):
  """(ids of each text, logits of all rows, the model's own ids, first row)."""
  import jax

  from step_audio_jax.generation import restore

  model, variables, vocabulary = restore.load_model(run)
  apply = jax.jit(model.apply)
  moved = vocabulary.text.moved
  out = []
  for text in texts:
    ids = np.asarray(vocabulary.encode_text(text)[:LONGEST])
    padded = np.pad(ids, (0, LONGEST - len(ids)))[None]
    logits = np.asarray(apply(variables, padded))[0, : len(ids)]
    out.append((ids, logits))
  return out, moved, vocabulary.text_size


def nats(found, low: int, high: int) -> tuple[float, int]:
  """Nats of all ids but the first of each text, over a range of rows."""
  total, count = 0.0, 0
  for ids, logits in found:
    rows = logits[:-1, low:high].astype(np.float64)
    top = rows.max(axis=-1)
    normal = top + np.log(np.exp(rows - top[:, None]).sum(axis=-1))
    total += (normal - rows[np.arange(len(rows)), ids[1:] - low]).sum()
    count += len(rows)
  return float(total), count


def perplexities(found, moved: int, size: int) -> dict[str, float]:
  """Over text rows, and over the whole table."""
  text, count = nats(found, moved, size)
  table, _ = nats(found, 0, found[0][1].shape[-1])
  return {
    'perplexity': float(np.exp(text / count)),
    'table_perplexity': float(np.exp(table / count)),
    'ids': count,
  }


def against_peer(folder, found, moved: int, size: int, threads: int):
  """How far the peer's logits lie from ours."""
  import torch

  peer = small_llama.peer(folder, threads)
  apart, different, count, theirs = 0.0, 0, 0, []
  for ids, logits in found:
    with torch.no_grad():
      want = peer(torch.tensor(ids[None] - moved)).logits[0].numpy()
    theirs.append((ids - moved, want))
    ours = logits[:, moved:size]
    want = want[:, : size - moved]
    apart = max(apart, float(np.abs(ours - want).max()))
    different += int((ours.argmax(-1) != want.argmax(-1)).sum())
    count += len(ids)
  total, scored = nats(theirs, 0, size - moved)
  return {
    'max_abs_difference': apart,
    'argmax_differs': different,
    'positions': count,
    'peer_perplexity': float(np.exp(total / scored)),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--gguf', type=pathlib.Path, required=True)
  parser.add_argument('--paragraphs', type=int, default=20)
  parser.add_argument('--threads', type=int, default=2)
  parser.add_argument('--no_peer', action='store_true')
  given = parser.parse_args()
  texts = paragraphs(given.paragraphs)
  result = {'benchmark': 'open_llm', 'file': given.gguf.name}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    convert(given.gguf.resolve(), folder / 'run')
    found, *sizes = logits_of(folder / 'run', texts)
    result['plain'] = perplexities(found, *sizes)
    convert(folder / 'run', folder / 'out')
    if not given.no_peer:
      result |= against_peer(folder / 'out', found, *sizes, given.threads)
    convert(folder / 'out', folder / 'grown', '--speech')
    grown, *sizes = logits_of(folder / 'grown', texts)
    result['with_speech_rows'] = perplexities(grown, *sizes)
    convert(folder / 'grown', folder / 'out_again')
    convert(folder / 'out_again', folder / 'again')
    again, *sizes = logits_of(folder / 'again', texts)
    result['out_and_in'] = perplexities(again, *sizes)
  before = result['plain']['perplexity']
  result['perplexity_moves'] = max(
    abs(result[name]['perplexity'] - before)
    for name in ('with_speech_rows', 'out_and_in')
  )
  print(json.dumps(result))


if __name__ == '__main__':
  main()
