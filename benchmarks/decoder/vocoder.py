"""HiFT at full size on CPU: how much faster than real time.

    python benchmarks/decoder/vocoder.py
    python benchmarks/decoder/vocoder.py --what=streaming

Random weights of the released size (20.46 M parameters), 10 s of mel, from
mel to samples with its F0 and source. CosyVoice's own network in torch, which
is not on PyPI, was measured once outside this repository on two cores: 2.6
times real time. `streaming` pushes 60 s in chunks of 16 frames: milliseconds a
chunk of the first and of the last quarter, the slope over chunks, and how often
something was compiled after warm-up. Prints one JSON line.
"""

import argparse
import json
import logging
import time

import numpy as np

from step_audio_jax import memory

PEER, MUST = 2.6, 1.2 * 2.6
SECONDS, STREAM_SECONDS, CHUNK = 10.0, 60.0, 16


def vocoder(tiny: bool):
  """HiFT with random weights that keep activations near one."""
  import jax

  from step_audio_jax.decoder.vocoder import vocoder as vocoder_lib
  from step_audio_jax.models.vocoder import hift

  config = hift.HiftConfig()
  if tiny:
    config = hift.HiftConfig(channels=16, f0_channels=8)
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    value = rng.standard_normal(leaf.shape, np.float32)
    if path[-1].key == 'alpha':
      return np.ones(leaf.shape, np.float32)
    if path[-1].key == 'bias':
      return np.float32(120) + value if path[-2].key == 'out' else 0.1 * value
    return value / np.float32(np.sqrt(2 * np.prod(leaf.shape[:-1])))

  params = jax.tree_util.tree_map_with_path(draw, vocoder_lib.shapes(config))
  return vocoder_lib.HiftVocoder(config, params)


def whole(made, rounds: int) -> dict[str, object]:
  """Ten seconds at once."""
  frames = round(SECONDS * made.sample_rate / made.hop)
  mel = np.random.default_rng(1).standard_normal((frames, made.bands))
  mel = mel.astype(np.float32)
  start = time.monotonic()
  made.wave(mel)
  first = time.monotonic() - start
  seconds = []
  for seed in range(rounds):
    start = time.monotonic()
    wave = made.wave(mel, seed=seed)
    seconds.append(time.monotonic() - start)
  audio = len(wave) / made.sample_rate
  return {
    'audio_seconds': round(audio, 3),
    'first_call_seconds': round(first, 2),
    'seconds': [round(one, 3) for one in seconds],
    'times_real_time': round(audio / float(np.median(seconds)), 2),
    'peer_times_real_time': PEER,
    'must': MUST,
  }


def streaming(made) -> dict[str, object]:
  """A minute, chunk by chunk."""
  import jax

  from step_audio_jax.decoder.vocoder import streaming as streaming_vocoder

  compiled, handler = [], logging.Handler()
  handler.emit = lambda record: compiled.append(record.getMessage())
  logger = logging.getLogger('jax._src.interpreters.pxla')
  logger.addHandler(handler)
  logger.propagate = False
  stream = streaming_vocoder.VocoderStream(made, chunk=CHUNK)
  stream.warm_up()
  rng = np.random.default_rng(1)
  chunks = round(STREAM_SECONDS * made.sample_rate / made.hop / CHUNK)
  milliseconds = []
  # The first pushes fill the context and take the small host programs along.
  for _ in range(4):
    stream.push(rng.standard_normal((CHUNK, made.bands), np.float32))
  with jax.log_compiles():
    compiled.clear()
    for _ in range(chunks):
      mel = rng.standard_normal((CHUNK, made.bands), np.float32)
      start = time.monotonic()
      stream.push(mel)
      milliseconds.append(1e3 * (time.monotonic() - start))
  logger.removeHandler(handler)
  quarter = chunks // 4
  slope = np.polyfit(np.arange(chunks), milliseconds, 1)[0]
  return {
    'chunks': chunks,
    'chunk_ms_of_audio': round(1e3 * CHUNK * made.hop / made.sample_rate, 1),
    'latency_frames': stream.latency,
    'first_quarter_ms': round(float(np.median(milliseconds[:quarter])), 2),
    'last_quarter_ms': round(float(np.median(milliseconds[-quarter:])), 2),
    'slope_ms_per_chunk': round(float(slope), 5),
    'compilations': len([m for m in compiled if 'Compiling' in m]),
  }


def main() -> None:
  """Prints the figures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--what', choices=['whole', 'streaming'], default='whole')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--tiny', action='store_true', help='a toy size')
  arguments = parser.parse_args()
  memory.keep_freed()
  import jax

  made = vocoder(arguments.tiny)
  if arguments.what == 'whole':
    figures = whole(made, arguments.rounds)
  else:
    figures = streaming(made)
  device = jax.devices()[0].device_kind
  print(json.dumps({'benchmark': 'vocoder', **figures, 'device': device}))


if __name__ == '__main__':
  main()
