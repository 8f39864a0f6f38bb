"""The offline flow at full size on CPU: how much faster than real time.

    python benchmarks/decoder/flow.py
    python benchmarks/decoder/flow.py --tiny

Random weights of the released size (105.4 M parameters), 10 s of target behind
3 s of prompt, 10 Euler steps with guidance, from ids to mel. CosyVoice's own
network in torch, which is not on PyPI, was measured once outside this
repository on two cores: 0.37 times real time. Prints one JSON line.
"""

import argparse
import json
import time

import numpy as np

from step_audio_jax import memory

TARGET_SECONDS, PROMPT_SECONDS = 10.0, 3.0
PEER, MUST = 0.37, 1.2 * 0.37


def decoder(tiny: bool):
  """The flow with random weights."""
  from step_audio_jax.decoder.flow import offline as flow_decoder
  from step_audio_jax.interop.decoder import flow as flow_interop
  from step_audio_jax.models.flow import flow

  config = flow.FlowConfig()
  if tiny:
    config = flow.FlowConfig(
      encoder=flow.EncoderConfig(width=16, heads=2, mlp_width=16, layers=1),
      estimator=flow.EstimatorConfig(
        channels=16, heads=2, head_width=8, blocks=1, middle=1
      ),
    )
  rng = np.random.default_rng(0)
  state = {}
  for name, shape in flow_interop.shapes(config).items():
    fan = np.prod(shape[1:]) if len(shape) > 1 else 400.0
    state[name] = rng.standard_normal(shape, np.float32) / fan**0.5
  return flow_decoder.FlowDecoder(config, flow_interop.params(state, config))


def main() -> None:
  """Prints the figures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--steps', type=int, default=10)
  parser.add_argument('--tiny', action='store_true', help='a toy size')
  arguments = parser.parse_args()
  memory.keep_freed()
  import jax

  flow = decoder(arguments.tiny)
  rng = np.random.default_rng(1)
  tokens, prompt = (
    rng.integers(0, flow.config.vocabulary, round(s * flow.config.token_rate))
    for s in (TARGET_SECONDS, PROMPT_SECONDS)
  )
  frames = flow.frames(len(prompt))
  inputs = {
    'prompt_tokens': prompt,
    'prompt_mel_TM': rng.standard_normal((frames, 80), np.float32),
    'speaker_D': rng.standard_normal(flow.config.speaker_size, np.float32),
    'steps': arguments.steps,
  }
  start = time.monotonic()
  flow.mel(tokens, **inputs)
  first = time.monotonic() - start
  seconds = []
  for seed in range(arguments.rounds):
    start = time.monotonic()
    mel = flow.mel(tokens, seed=seed, **inputs)
    seconds.append(time.monotonic() - start)
  audio = len(mel) * flow.mel_config.hop / flow.mel_config.sample_rate
  device = jax.devices()[0].device_kind
  print(
    json.dumps(
      {
        'benchmark': 'flow',
        'audio_seconds': round(audio, 3),
        'first_call_seconds': round(first, 2),
        'seconds': [round(one, 3) for one in seconds],
        'times_real_time': round(audio / float(np.median(seconds)), 3),
        'peer_times_real_time': PEER,
        'must': MUST,
        'device': device,
      }
    )
  )


if __name__ == '__main__':
  main()
