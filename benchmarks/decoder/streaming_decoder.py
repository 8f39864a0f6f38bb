r"""Live speech, ids → samples: cost of a chunk, first audio, real-time factor.

    python benchmarks/decoder/streaming_decoder.py                # 6 M, a CPU
    python benchmarks/decoder/streaming_decoder.py --size=full    # 151 M, HiFT
    python benchmarks/decoder/streaming_decoder.py --size=full --device=gpu \
        --rows=8
    python benchmarks/decoder/streaming_decoder.py --size=full --device=gpu \
        --language_model=3B

Random weights: the cost does not depend on them. A session is `--seconds` of
random ids behind a prompt, handed over as the chunks of the causal flow ask for
them, through `decoder.stream.SpeechStream` with a causal HiFT of 24 kHz:

* first audio: from the ids of the first chunk to its first samples, p50 and p95
  over sessions; with `--language_model` (TTS-3B's shapes) also the writing of
  these ids behind a prompt is in it;
* cost: median of a chunk's milliseconds by size; of the chunks that go on, the
  slope over the session, fitted by Theil and Sen, in percent of a chunk a
  minute;
* real-time factor of a chunk, p50 and p95: seconds of computing over seconds of
  audio of all rows together; and of one row while it waits for all;
* functions compiled after warm-up, which must be none.

Prints one JSON line last.
"""

import argparse
import json
import logging
import os
import platform
import time
from typing import Any

import numpy as np

# Flow (width, heads, MLP, blocks at 25 Hz, at 50 Hz, of the estimator), then
# channels of HiFT.
SIZES = {
  'tiny': ((64, 2, 128, 1, 1, 1), 16),
  'small': ((192, 4, 576, 2, 1, 4), 64),
  'full': ((512, 8, 2048, 6, 4, 16), 512),
}
LANGUAGE_MODELS = {
  'tiny': dict(width=48, layers=2, heads=6, kv_heads=2, mlp_width=64),
  '3B': dict(
    width=3072,
    layers=32,
    heads=48,
    kv_heads=4,
    mlp_width=8192,
    dtype='bfloat16',
  ),
}
VOCABULARY = 74752
PROMPT_IDS = 256  # of the language model
GROUP = 5
SPEAKER = 192


class Compilations(logging.Handler):
  """Counts what JAX says it compiles."""

  count = 0

  def emit(self, record):
    self.count += 'Compiling' in record.getMessage()


def ids(rng: np.random.Generator, groups: int) -> np.ndarray:
  """Random mixed ids of whole groups."""
  parts = [
    rng.integers(0, 1024, (groups, 2)),
    rng.integers(1024, 5120, (groups, 3)),
  ]
  return np.concatenate(parts, axis=1).reshape(-1)


def drawn(shapes: Any) -> Any:
  """Random weights that keep activations near one."""
  import jax

  rng = np.random.default_rng(0)

  def draw(leaf):
    scale = np.prod(leaf.shape[:-1], dtype=float) ** -0.5 if leaf.ndim else 1.0
    return rng.standard_normal(leaf.shape, np.float32) * np.float32(scale)

  return jax.tree.map(draw, shapes)


def parts(size: str):
  """The causal flow and a causal vocoder of its mel."""
  import dataclasses

  from step_audio_jax.decoder.causal import flow as causal_flow
  from step_audio_jax.decoder.vocoder import vocoder
  from step_audio_jax.models.causal_flow import causal_config
  from step_audio_jax.models.vocoder import hift

  names = ('width', 'heads', 'mlp_width', 'step_layers', 'frame_layers')
  shape, channels = SIZES[size]
  config = causal_config.CausalFlowConfig(
    **dict(zip((*names, 'estimator_layers'), shape))
  )
  flow = causal_flow.CausalFlowDecoder(
    config, drawn(causal_flow.shapes(config))
  )
  shape = dataclasses.replace(
    hift.HIFT_24K, channels=channels, f0_channels=channels, causal=True
  )
  return flow, vocoder.HiftVocoder(shape, drawn(vocoder.shapes(shape)))


def voice(rng: np.random.Generator, seconds: float):
  """A random voice with a prompt of so many seconds."""
  from step_audio_jax.decoder import voice as voice_lib

  groups = round(seconds / 0.12)
  return voice_lib.Voice(
    ids(rng, groups),
    rng.standard_normal((6 * groups, 80), np.float32),
    rng.standard_normal(SPEAKER, np.float32),
  )


class Writer:
  """A language model that writes the ids of a first chunk."""

  def __init__(self, size: str, rows: int):
    import jax
    import jax.numpy as jnp

    from benchmarks import small_llama

    self._rows, self._number = rows, 0
    self._model, self._vocabulary = small_llama.ours(
      {'vocab_size': VOCABULARY, 'position': 'sqrt_alibi'}
      | LANGUAGE_MODELS[size]
    )
    dtype = jnp.dtype(self._model.config.transformer.dtype)

    @jax.jit
    def fresh():
      from flax import linen as nn

      tree = self._model.init(jax.random.key(0), jnp.ones((1, 4), jnp.int32))
      return jax.tree.map(lambda p: p.astype(dtype), nn.unbox(tree))

    self._variables = fresh()

  def write(self, count: int) -> None:
    """Writes so many ids in every row."""
    from step_audio_jax.generation import decode
    from step_audio_jax.generation import grammar

    self._number += 1
    rng = np.random.default_rng(self._number)
    found = decode.generate(
      self._model,
      self._variables,
      rng.integers(70, 65000, (self._rows, PROMPT_IDS)).tolist(),
      max_new_tokens=count,
      grammar=grammar.build(self._vocabulary),
      start=grammar.State.SPEECH,
      stop_ids=(),
      shapes=decode.Shapes(batch_size=self._rows),
    )
    assert {len(row) for row in found} == {count}


def asked(config, groups: int) -> list[int]:
  """Groups to hand over one after the other: each makes the next chunk."""
  out, steps, number = [], 0, 0
  while sum(out) < groups:
    steps += config.chunks[min(number, len(config.chunks) - 1)]
    out.append(-(-(steps + config.look_ahead) // 3) - sum(out))
    number += 1
  out[-1] -= sum(out) - groups
  return out


def session(stream, sizes, rng, writer) -> list[dict[str, float]]:
  """Milliseconds and seconds of audio of every push."""
  rows, told, begun = range(stream.rows), [], False
  for number, groups in enumerate(sizes):
    given = {row: ids(rng, groups) for row in rows}
    final = rows if number == len(sizes) - 1 else ()
    begin = time.perf_counter()
    if writer is not None and not begun:
      writer.write(GROUP * groups)
    out = stream.push_rows(given, final)
    seconds = time.perf_counter() - begin
    samples = sum(map(len, out.values()))
    told.append({'seconds': seconds, 'audio': samples / stream.sample_rate})
    begun = begun or samples > 0
  return told


def percentiles(values, digits=2) -> dict[str, float]:
  return {
    name: round(float(np.percentile(values, share)), digits)
    for name, share in (('p50', 50), ('p95', 95))
  }


def slope(values: np.ndarray) -> float:
  """Theil and Sen's: the median of the slopes of all pairs, per item."""
  later, earlier = np.triu_indices(len(values), 1)[::-1]
  if not len(later):
    return 0.0
  return float(np.median((values[later] - values[earlier]) / (later - earlier)))


def measured(arguments) -> dict[str, Any]:
  """All figures."""
  import jax

  from step_audio_jax import memory
  from step_audio_jax.decoder import stream as stream_lib

  memory.keep_freed()  # as the doors do
  rng = np.random.default_rng(1)
  flow, vocoder = parts(arguments.size)
  c = flow.config
  begin = time.perf_counter()
  stream = stream_lib.SpeechStream(
    flow,
    vocoder,
    [voice(rng, arguments.prompt_seconds) for _ in range(arguments.rows)],
    steps=arguments.steps,
  )
  stream.warm_up()
  writer = None
  sizes = asked(c, round(arguments.seconds / 0.12))
  if arguments.language_model:
    writer = Writer(arguments.language_model, arguments.rows)
    writer.write(GROUP * sizes[0])
  warm = time.perf_counter() - begin
  counter = Compilations()
  logging.getLogger('jax').addHandler(counter)
  logging.getLogger('jax').propagate = False
  with jax.log_compiles(True):
    long = session(stream, sizes, rng, writer)
    first = [long[0]['seconds']]
    for _ in range(arguments.sessions - 1):
      first.append(session(stream, sizes[:2], rng, writer)[0]['seconds'])
  # Chunks of the last size, the last one left out: it may be short.
  usual = np.array([push['seconds'] for push in long[len(c.chunks) - 1 : -1]])
  audio = c.chunks[-1] * 0.04
  minute = 60 / audio
  return {
    'parameters_m': round(
      sum(x.size for x in jax.tree.leaves((flow.params, vocoder.params))) / 1e6,
      1,
    ),
    'device': jax.devices()[0].device_kind,
    'warm_up_s': round(warm, 1),
    'compiled_after_warm_up': counter.count,
    'first_audio_ms': percentiles(1000 * np.array(first), 1),
    'first_audio_of_ms': round(1000 * long[0]['audio'] / arguments.rows),
    'chunk_ms': {
      str(size): round(1000 * float(np.median(seconds)), 1)
      for size, seconds in (
        *((n, [p['seconds']]) for n, p in zip(c.chunks[:-1], long)),
        (c.chunks[-1], usual),
      )
    },
    'chunks': len(long),
    'slope_percent_a_minute': round(
      100 * slope(usual) * minute / float(np.median(usual)), 2
    ),
    'rtf': percentiles(usual / (audio * arguments.rows), 3),
    'rtf_of_a_row': percentiles(usual / audio, 3),
    'rtf_of_the_session': round(
      sum(p['seconds'] for p in long) / sum(p['audio'] for p in long), 3
    ),
  }


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--size', choices=SIZES, default='small')
  parser.add_argument('--seconds', type=float, default=60.0)
  parser.add_argument('--prompt_seconds', type=float, default=3.0)
  parser.add_argument('--rows', type=int, default=1, help='streams at once')
  parser.add_argument('--steps', type=int, default=10, help='of the solver')
  parser.add_argument(
    '--sessions', type=int, default=20, help='of which the first one is whole'
  )
  parser.add_argument('--device', choices=('cpu', 'gpu', 'tpu'), default='cpu')
  parser.add_argument('--language_model', choices=LANGUAGE_MODELS)
  arguments = parser.parse_args()
  platforms = {'gpu': 'cuda,cpu', 'tpu': 'tpu,cpu'}
  os.environ['JAX_PLATFORMS'] = platforms.get(arguments.device, 'cpu')
  import jax

  try:
    found = jax.default_backend()
  except RuntimeError as error:
    raise SystemExit(f'--device={arguments.device}: {error}') from error
  if found != arguments.device:
    raise SystemExit(f'--device={arguments.device}: found only a {found}.')
  print(
    json.dumps(
      {
        'benchmark': 'streaming_decoder',
        'size': arguments.size,
        'rows': arguments.rows,
        'steps': arguments.steps,
        'seconds': arguments.seconds,
        'prompt_seconds': arguments.prompt_seconds,
        'language_model': arguments.language_model,
        **measured(arguments),
        'cores': len(os.sched_getaffinity(0)),
        'machine': platform.machine(),
        'jax': jax.__version__,
      }
    )
  )


if __name__ == '__main__':
  main()
