r"""Step-1 3B on one GPU: a train step of 4,096 tokens, and decoding.

    python benchmarks/training/gpu_train_step.py
    python benchmarks/training/gpu_train_step.py --tiny    # the logic, on a CPU

Train step: bfloat16 matmuls over float32 parameters and AdamW state, rows of
4,096 tokens, the sqrt-ALiBi bias. Ours is the Trainer's step; the peer is
`LlamaForCausalLM` under autocast with fused AdamW and gradient checkpointing,
its rotary embedding switched off (all positions 0) and the bias given to SDPA
as an additive mask, the way to run Step-1 without its closed kernel. Decoding:
one row, 128 ids of prompt, 256 new ones, greedy, both in a plain loop over a
cache. Same weights, same rows; first losses must agree (1e-4 in float32, 2e-2
in bfloat16). Two copies of the state do not fit one GPU, so the sides run one
after the other, not in turn.

MFU is model FLOPs (6 per parameter and token without the embedding, attention
row-causal, nothing for recomputation) over the dense bf16 peak of
`parallel.topology`. Needs requirements/parity.txt and jax[cuda12]; prints one
JSON line.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks import small_llama  # noqa: E402

SIZES = {
  '3B': dict(
    vocab_size=74752,
    width=3072,
    layers=32,
    heads=48,
    kv_heads=4,
    mlp_width=8192,
    dtype='bfloat16',
    remat='full',
  ),
  'tiny': dict(
    vocab_size=5248, width=48, layers=2, heads=6, kv_heads=2, mlp_width=64
  ),
}
# Row length, prompt and new ids.
SHAPES = {'3B': (4096, 128, 256), 'tiny': (96, 8, 8)}
AGREE = {'float32': 1e-4, 'bfloat16': 2e-2}


def tokens(size: str, rows: int, number: int) -> np.ndarray:
  """Ids of a step, int32 (rows, T)."""
  rng = np.random.default_rng(number % 4)
  vocab = SIZES[size]['vocab_size']
  return rng.integers(70, vocab, (rows, SHAPES[size][0]), dtype=np.int32)


class Feed:
  """Full rows for the Trainer."""

  def __init__(self, size: str, rows: int):
    self.batch_size, self.length = rows, SHAPES[size][0]
    self._size = size

  def batch(self, step: int, start: int = 0, stop: int | None = None):
    found = tokens(self._size, self.batch_size, step)[start:stop]
    return {
      'tokens': found,
      'segment_ids': np.ones_like(found),
      'positions': np.broadcast_to(
        np.arange(self.length, dtype=np.int32), found.shape
      ),
      'loss_weights': np.ones(found.shape, np.float32),
    }


class Ours:
  """The Trainer's step and our decoder."""

  def __init__(self, size: str, rows: int, folder: pathlib.Path):
    import jax

    from benchmarks.training import train_step

    self._size = size
    self._model, self._vocabulary = small_llama.ours(
      SIZES[size] | {'position': 'sqrt_alibi'}
    )
    config = self._model.config.transformer
    self._trainer = train_step.trainer(
      self._model, self._vocabulary, Feed(size, rows)
    )
    with jax.set_mesh(self._trainer.mesh):
      variables = self._trainer.fresh_variables()
      # The names of the tensors are Llama's; the positions are not stored.
      llama = dataclasses.replace(config, position='rope')
      small_llama.write(llama, variables, folder)
      self._state = variables, self._trainer.optimizer_state(variables)
    length = SHAPES[size][0]
    self.about = {
      'kind': jax.devices()[0].device_kind,
      'flops': rows * length * config.flops_per_token(length),
    }

  def step(self, number: int) -> float:
    """One step; its loss."""
    from benchmarks.training import train_step

    self._state, loss = train_step.one_step(self._trainer, self._state, number)
    return loss

  def decode(self, number: int) -> list[int]:
    """New ids."""
    from step_audio_jax.generation import decode
    from step_audio_jax.generation import grammar

    _, prompt, new = SHAPES[self._size]
    (found,) = decode.generate(
      self._model,
      self._state[0],
      tokens(self._size, 1, number)[:, :prompt].tolist(),
      max_new_tokens=new,
      grammar=grammar.build(self._vocabulary),
      stop_ids=(),
      shapes=decode.Shapes(batch_size=1),
    )
    return found.tolist()


class Peer:
  """LlamaForCausalLM without rotation, with the bias as a mask."""

  def __init__(self, size: str, rows: int, folder: pathlib.Path, threads: int):
    import torch

    self._size, self._rows = size, rows
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    self._dtype = getattr(torch, SIZES[size].get('dtype', 'float32'))
    self._model = small_llama.peer(folder, threads).to(self._device).train()
    self._model.gradient_checkpointing_enable()
    self._optimizer = small_llama.peer_optimizer(self._model)

  def _bias(self, queries: range, keys: int):
    """-m sqrt(i - j), and -max where j > i: (1, H, T, S)."""
    import torch

    from step_audio_jax.kernels.attention import attention

    slopes = torch.from_numpy(
      attention.alibi_slopes(SIZES[self._size]['heads'])
    )
    distance = (
      torch.arange(queries.start, queries.stop)[:, None]
      - torch.arange(keys)[None]
    ).to(self._device)
    root = distance.clamp(min=0).float().sqrt()
    bias = -slopes.to(self._device)[None, :, None, None] * root[None, None]
    bias = bias.masked_fill(distance[None, None] < 0, torch.finfo().min)
    return bias.to(self._dtype)

  def _logits(self, ids, queries: range, cache=None):
    import torch

    with torch.autocast(
      self._device, self._dtype, enabled=self._dtype != torch.float32
    ):
      return self._model(
        input_ids=ids,
        position_ids=torch.zeros_like(ids),
        attention_mask=self._bias(queries, queries.stop),
        past_key_values=cache,
        use_cache=cache is not None,
      ).logits

  def step(self, number: int) -> float:
    """One step; its loss."""
    import torch

    ids = torch.from_numpy(tokens(self._size, self._rows, number)).long()
    ids = ids.to(self._device)
    logits = self._logits(ids, range(ids.shape[1]))
    loss = torch.nn.functional.cross_entropy(
      logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self._model.parameters(), small_llama.CLIP)
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)
    return loss.item()

  def decode(self, number: int) -> list[int]:
    """New ids."""
    import torch
    import transformers

    _, prompt, new = SHAPES[self._size]
    ids = torch.from_numpy(tokens(self._size, 1, number)[:, :prompt]).long()
    ids = ids.to(self._device)
    cache, found = transformers.DynamicCache(), []
    self._model.eval()
    with torch.inference_mode():
      while len(found) < new:
        done = cache.get_seq_length()
        logits = self._logits(ids, range(done, done + ids.shape[1]), cache)
        ids = logits[:, -1:].argmax(-1)
        found.append(ids.item())
    self._model.train()
    return found


def _measured(worker: side_by_side.Worker, rounds: int) -> dict[str, Any]:
  """Loss of the first step, ids, seconds of steps and of decoding."""
  steps = [worker.ask('step', number=n) for n in range(2 + rounds)]
  decodes = [worker.ask('decode', number=n) for n in range(1 + min(rounds, 3))]
  return {
    'first_loss': steps[0]['value'],
    'step_seconds': side_by_side.spread([s['seconds'] for s in steps[2:]]),
    'decode_seconds': side_by_side.spread([d['seconds'] for d in decodes[1:]]),
  }


def main() -> None:
  parser = side_by_side.parser(__doc__)
  parser.add_argument('--batch', type=int, default=1, help='rows of a step')
  arguments = parser.parse_args()
  size = 'tiny' if arguments.tiny else '3B'
  if arguments.side:
    side = (
      Ours(size, arguments.batch, arguments.folder)
      if arguments.side == 'ours'
      else Peer(size, arguments.batch, arguments.folder, arguments.threads)
    )
    side_by_side.serve(
      {
        'step': side_by_side.timed(side.step),
        'decode': side_by_side.timed(side.decode),
        'about': lambda: side.about,
      }
    )
  elif not arguments.tiny and not pathlib.Path('/dev/nvidia0').exists():
    raise SystemExit(
      'gpu_train_step: found no NVIDIA GPU (/dev/nvidia0), expected one; '
      '--tiny tries the logic on a CPU.'
    )
  else:
    _compare(arguments, size)


def _compare(arguments: argparse.Namespace, size: str) -> None:
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    platform = {'JAX_PLATFORMS': 'cpu' if arguments.tiny else 'cuda'}
    start = side_by_side.starter(arguments, pathlib.Path(folder), platform)
    for side in side_by_side.sides(arguments):
      worker = start(side)
      if side == 'ours':
        about = worker.ask('about')
      found[side] = _measured(worker, arguments.rounds)
      worker.close()
  print(json.dumps(_result(arguments, size, found, about)))


def _result(arguments, size, found, about) -> dict[str, Any]:
  from step_audio_jax.parallel import topology

  peak = topology.peak_flops(about['kind'])
  length, prompt, new = SHAPES[size]
  result = {
    'benchmark': 'gpu_train_step',
    'size': size,
    'device': about['kind'],
    'rows': arguments.batch,
    'row_length': length,
    'prompt': prompt,
    'new_ids': new,
    'model_tflops_per_step': about['flops'] / 1e12,
  }
  for side, values in found.items():
    seconds = values['step_seconds']['median']
    result |= {f'{side}_{name}': value for name, value in values.items()}
    result[f'{side}_mfu'] = about['flops'] / seconds / peak if peak else None
    result[f'{side}_ids_per_second'] = new / values['decode_seconds']['median']
  if 'peer' in found:
    ours, peer = (found[side] for side in side_by_side.SIDES)
    apart = abs(ours['first_loss'] - peer['first_loss'])
    limit = AGREE[SIZES[size].get('dtype', 'float32')]
    if not apart <= limit:
      raise SystemExit(
        f'the first losses are {ours["first_loss"]} and {peer["first_loss"]}, '
        f'expected to agree to {limit}: the sides do not compute the same.'
      )
    for name in ('step', 'decode'):
      key = f'{name}_seconds'
      result[f'{name}_ratio'] = peer[key]['median'] / ours[key]['median']
  return result | {
    'must': {'mfu': 0.5},
    'machine': side_by_side.machine(arguments.threads),
    'versions': side_by_side.versions(),
  }


if __name__ == '__main__':
  main()
