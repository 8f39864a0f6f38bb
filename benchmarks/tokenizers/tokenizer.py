r"""The dual tokenizer on CPU, against s3tokenizer and FunASR's chunk loop.

    python benchmarks/tokenizers/tokenizer.py --what=semantic --batch=1
    python benchmarks/tokenizers/tokenizer.py --what=semantic --batch=4
    python benchmarks/tokenizers/tokenizer.py --what=linguistic
    python benchmarks/tokenizers/tokenizer.py --what=streaming --no_peer
    JAX_PLATFORMS=cuda python benchmarks/tokenizers/tokenizer.py --what=dual \
      --no_peer

Networks of the released size with random weights, the same on both sides; 30 s
of noise with a changing spectrum, from the waveform to the codes. The peers
are `s3tokenizer` (log-mel, then `quantize`) and the loop of Step-Audio around
FunASR's `WavFrontendOnline` and `SANMEncoderChunkOpt.forward_chunk`, 240 ms at
a time (`tests/parity/speech_peers.py`). Calls alternate; `ratio` is the median
over pairs of peer seconds / our seconds, `cpu_ratio` that of CPU seconds. Codes
must be equal. `streaming` pushes 10 minutes of 240 ms chunks into a live
session of our own: milliseconds a chunk of the first and of the last minute,
and how often something was compiled after warm-up, which must be never. `dual`
encodes a batch of 30 s recordings with both tokenizers and is meant for a GPU.
Needs requirements/parity.txt; prints one JSON line.
"""

import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from tests.parity import speech_peers  # noqa: E402

RATE = 16000
SECONDS = 30.0
STREAM_MINUTES = 10
MUST = {'semantic': 1.2, 'linguistic': 8.0, 'dual': 500.0}
SIZES = {  # what differs from the released size
  'full': ({}, {}),
  'tiny': (
    {'width': 16, 'heads': 4, 'mlp_width': 16, 'layers': 2},
    {'width': 16, 'heads': 2, 'layers': 1, 'codes': 9},
  ),
}


def parts(size: str) -> dict[str, Any]:
  """Configurations, and state dicts drawn by name: the same on both sides."""
  from step_audio_jax.interop.tokenizer import paraformer as paraformer_interop
  from step_audio_jax.interop.tokenizer import s3 as s3_interop
  from step_audio_jax.models.tokenizer import paraformer
  from step_audio_jax.models.tokenizer import s3

  one, two = SIZES[size]
  one = paraformer.ParaformerConfig(**one)
  two = s3.S3Config(**two)
  rng = np.random.default_rng(2)
  return {
    'configs': (one, two),
    'encoder': lambda: speech_peers.weights(paraformer_interop.shapes(one)),
    'semantic': lambda: speech_peers.weights(s3_interop.shapes(two), 1),
    'cmvn': np.stack(
      [np.full(one.input_size, -12.0), np.full(one.input_size, 0.25)]
    ).astype(np.float32),
    'centroids': rng.standard_normal((1024, one.width), np.float32),
  }


class Ours:
  """Our tokenizers."""

  def __init__(self, what: str, size: str, batch: int):
    from step_audio_jax import memory
    from step_audio_jax.interop.tokenizer import (
      paraformer as paraformer_interop,
    )
    from step_audio_jax.interop.tokenizer import s3 as s3_interop
    from step_audio_jax.tokenizers.speech import linguistic
    from step_audio_jax.tokenizers.speech import semantic

    memory.keep_freed()
    given, self._batch = parts(size), batch
    one, two = given['configs']
    self._parts = {}
    if what != 'semantic':
      self._parts['linguistic'] = linguistic.LinguisticTokenizer(
        one,
        paraformer_interop.encoder_params(given['encoder']()),
        dict(zip(('shift', 'scale'), given['cmvn'])),
        given['centroids'],
      )
    if what in ('semantic', 'dual'):
      self._parts['semantic'] = semantic.SemanticTokenizer(
        two, *s3_interop.encoder_params(given['semantic']())
      )

  def encode(self, number: int, seconds: float) -> list[list[int]]:
    """Codes of all rows, one part after the other."""
    import jax

    wave = speech_peers.sound(seconds, self._batch, number)
    samples = np.full(len(wave), wave.shape[1], np.int32)
    wall, cpu = time.perf_counter(), time.process_time()
    found = [p.encode_padded(wave, samples) for p in self._parts.values()]
    found = jax.block_until_ready(found)
    return timing(wall, cpu, [flat(*pair) for pair in found])

  def stream(self, minutes: float) -> dict[str, Any]:
    """Milliseconds a chunk, minute by minute, and compilations."""
    import jax

    from step_audio_jax.tokenizers.speech import linguistic_stream

    session = linguistic_stream.LinguisticStream(self._parts['linguistic'])
    session.warm_up()
    wave = speech_peers.sound(60 * minutes)[0]
    size = speech_peers.CHUNK_SAMPLES
    chunks = wave[: len(wave) // size * size].reshape(-1, size)
    session.push(chunks[0])
    compiled, spent = [], []
    jax.monitoring.register_event_duration_secs_listener(
      lambda name, *_, **__: (
        compiled.append(name)
        if name.endswith('backend_compile_duration')
        else None
      )
    )
    for chunk in chunks[1:]:
      begin = time.perf_counter()
      session.push(chunk)
      spent.append(1e3 * (time.perf_counter() - begin))
    width = -(-len(spent) // max(round(minutes), 1))
    each = [spent[i : i + width] for i in range(0, len(spent), width)]
    return {
      'chunks': len(chunks),
      'compiled_after_warm_up': len(compiled),
      'ms_per_chunk': [round(statistics.median(part), 2) for part in each],
    }


class Peer:
  """Theirs."""

  def __init__(self, what: str, size: str, batch: int, threads: int):
    import torch

    torch.set_num_threads(threads)
    given, self._what, self._batch = parts(size), what, batch
    if what == 'semantic':
      self._model = speech_peers.Semantic(given['semantic']())
    else:
      self._model = speech_peers.Linguistic(
        given['encoder'](), given['cmvn'], given['centroids']
      )

  def encode(self, number: int, seconds: float) -> list[list[int]]:
    """Codes of all rows."""
    wave = speech_peers.sound(seconds, self._batch, number)
    wave = wave if self._what == 'semantic' else wave[0]
    wall, cpu = time.perf_counter(), time.process_time()
    _, codes = self._model(wave)
    return timing(wall, cpu, [codes.reshape(-1).tolist()])


def flat(codes, counts) -> list[int]:
  """Valid codes of all rows and pieces, one after the other."""
  codes, counts = np.asarray(codes), np.asarray(counts)
  rows = codes.reshape(-1, codes.shape[-1])
  return [int(c) for row, n in zip(rows, counts.flat) for c in row[:n]]


def timing(wall: float, cpu: float, value: Any) -> dict[str, Any]:
  """An answer that leaves out how the sound was made."""
  return {
    'seconds': time.perf_counter() - wall,
    'cpu_seconds': time.process_time() - cpu,
    'value': value,
  }


def agreement(answers: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
  """Share of equal codes.

  Raises:
    SystemExit: One of them differs.
  """
  ours = [a['value'] for a in answers['ours']]
  found = {'distinct_codes': len({c for v in ours for p in v for c in p})}
  if 'peer' in answers:
    theirs = [a['value'] for a in answers['peer']]
    same = np.asarray(ours) == np.asarray(theirs)
    found['equal_codes'] = float(np.mean(same))
    if not np.all(same):
      raise SystemExit(
        f'{np.mean(same):.2%} of the codes are equal, expected all: the sides '
        'do not compute the same.'
      )
  return found


def compared(arguments, answers, seconds: float) -> dict[str, Any]:
  """The figures of one row of the table."""
  result = {**agreement(answers), **side_by_side.compared(answers)}
  for side in answers:
    spent = result[f'{side}_seconds']['median']
    rate = arguments.batch * seconds / spent
    result[f'{side}_times_real_time'] = round(rate, 2)
  if 'peer' in answers:
    pairs = zip(answers['ours'][2:], answers['peer'][2:])
    result['cpu_ratio'] = side_by_side.spread(
      [theirs['cpu_seconds'] / ours['cpu_seconds'] for ours, theirs in pairs]
    )
  return result


def main() -> None:
  parser = side_by_side.parser(__doc__)
  parser.add_argument(
    '--what',
    choices=('semantic', 'linguistic', 'streaming', 'dual'),
    default='semantic',
  )
  parser.add_argument('--batch', type=int, default=1, help='recordings at once')
  arguments = parser.parse_args()
  size = 'tiny' if arguments.tiny else 'full'
  seconds = 1.2 if arguments.tiny else SECONDS
  what, batch = arguments.what, arguments.batch
  if arguments.side == 'ours':
    ours = Ours(what, size, batch)
    side_by_side.serve({'encode': ours.encode, 'stream': ours.stream})
    return
  if arguments.side:
    peer = Peer(what, size, batch, arguments.threads)
    side_by_side.serve({'encode': peer.encode})
    return
  if what in ('streaming', 'dual') or not speech_peers.installed():
    arguments.no_peer = True
  result = {'benchmark': 'tokenizer', 'what': what, 'batch': batch}
  with tempfile.TemporaryDirectory() as folder:
    workers = side_by_side.workers(arguments, pathlib.Path(folder))
    if what == 'streaming':
      minutes = 0.05 if arguments.tiny else STREAM_MINUTES
      result |= workers['ours'].ask('stream', minutes=minutes)
    else:
      answers = {side: [] for side in workers}
      for number in range(2 + arguments.rounds):
        for side, worker in workers.items():
          answers[side].append(
            worker.ask('encode', number=number, seconds=seconds)
          )
      result |= {'seconds_of_sound': seconds}
      result |= compared(arguments, answers, seconds)
    for worker in workers.values():
      worker.close()
  result |= {
    'must': MUST.get(what),
    'machine': side_by_side.machine(arguments.threads),
    'versions': side_by_side.versions(),
  }
  print(json.dumps(result))


if __name__ == '__main__':
  main()
