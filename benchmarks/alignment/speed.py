r"""A step of reinforcement learning on CPU: ours against `trl`.

    python benchmarks/alignment/speed.py --sizes=1M,15M
    python benchmarks/alignment/speed.py --sizes=135M --rounds=2 --json

Group relative policy optimization of small Llamas, float32: answers are drawn
at temperature 1, judged by a rule, compared with a reference and learnt from
in one update (one epoch, clip 0.2, divergence 0.05, AdamW, clipped gradients).
Ours is `PolicyTrainer` in the loop of every run, the peer `trl.GRPOTrainer`
with the generation of `transformers` and what is fastest on a CPU: one batch,
no gradient checkpointing, no log-probabilities before its only update. Both
sides read one exported folder, see the same ragged prompts, in groups of eight,
and go on until each answer has 64 ids or ends by itself.

Each side has its own process on the same cores; they take turns of some steps
each. A rate is ids drawn in a turn / its seconds, whole steps, the ratio the
median over pairs of our rate / the peer's. Steps before are left out: their
time, which compilation takes, is told apart. The divergence of the first step
must be 0 and the entropies of both sides equal to 5 %. Needs
requirements/parity.txt; without it our side is measured alone. Prints a table
and, with --json, one line behind it.
"""

import argparse
import dataclasses
import json
import pathlib
import queue
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Mapping, Sequence

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks import small_llama  # noqa: E402

PEER = ('torch', 'transformers', 'trl')
LEARNING_RATE, DIVERGENCE, CLIP_RATIO = 1e-6, 0.05, 0.2
AGREE = 0.05
MUST = 2.0
WARM = 2


@dataclasses.dataclass(frozen=True)
class Size:
  """A model and what is asked of it.

  Attributes:
    shape: Fields of TransformerConfig.
    answers: Of a step.
    group: Answers to one prompt.
    prompt: Ids of a prompt, from and to.
    longest: Ids of an answer.
    turn: Steps of a turn.
  """

  shape: dict[str, Any]
  answers: int
  group: int = 8
  prompt: tuple[int, int] = (32, 128)
  longest: int = 64
  turn: int = 1


def _shape(vocab_size, width, layers, heads, kv_heads, mlp_width):
  return {
    'vocab_size': vocab_size,
    'width': width,
    'layers': layers,
    'heads': heads,
    'kv_heads': kv_heads,
    'mlp_width': mlp_width,
    'tied_head': True,
  }


SIZES = {
  '1M': Size(_shape(5376, 96, 4, 4, 2, 256), answers=64, turn=4),
  '15M': Size(_shape(8192, 384, 7, 6, 3, 1024), answers=32),
  # SmolLM2-135M
  '135M': Size(_shape(49152, 576, 30, 9, 3, 1536), answers=16),
}
TINY = Size(
  _shape(5248, 32, 2, 4, 2, 48), answers=4, group=2, prompt=(2, 12), longest=8
)


class Feed:
  """Ragged prompts, in order, as `PromptFeed` gives them."""

  def __init__(self, size: Size):
    self.batch_size, self.group = size.answers, size.group
    self.places = size.prompt[1]
    rng = np.random.default_rng(0)
    low, high = size.prompt
    self.prompts = [
      rng.integers(70, size.shape['vocab_size'], length, np.int32)
      for length in rng.integers(low, high + 1, 64)
    ]

  def rows(self, step: int, start: int = 0, stop: int | None = None):
    """Prompts of rows start..stop of a step."""
    from step_audio_jax.alignment import prompts

    stop = self.batch_size if stop is None else stop
    rows = step * self.batch_size + np.arange(start, stop)
    numbers = (rows // self.group % len(self.prompts)).tolist()
    return [prompts.Prompt(str(n), self.prompts[n]) for n in numbers]

  def batch(self, step: int, start: int = 0, stop: int | None = None):
    """tokens int32 (B, P), padded on the left, and starts int32 (B,)."""
    from step_audio_jax.alignment import prompts

    rows = self.rows(step, start, stop)
    return prompts.padded([one.ids for one in rows], self.places)

  def silenced(self, step: int, start: int = 0, stop: int | None = None):
    """Nothing is heard."""
    return None


class Turns:
  """Lets a training loop go on by as many steps as it is asked for.

  The loop waits in the main thread, requests come in another one.
  """

  def __init__(self):
    self._asked: queue.Queue = queue.Queue()
    self._over: queue.Queue = queue.Queue()
    self._left = 0
    self.drawn, self.told = 0, {}

  def wait(self) -> None:
    """Before a step: until one is asked for."""
    if not self._left:
      self._left = self._asked.get()
      if self._left is None:
        raise SystemExit(0)

  def passed(self, **told: float) -> None:
    """Behind a step; what it tells, and then the next one is waited for."""
    self.told = self.told or told
    self._left -= 1
    if not self._left:
      self._over.put(None)
    self.wait()

  def take(self, number: int, steps: int) -> dict[str, float]:
    """Some steps → ids that were drawn, and what the first one told."""
    del number
    self.drawn, self.told = 0, {}
    self._asked.put(steps)
    self._over.get()
    return {'drawn': self.drawn, **self.told}

  def end(self) -> None:
    """The loop ends where it waits."""
    self._asked.put(None)

  def even(self, answers: Sequence[Sequence[int]]) -> list[float]:
    """The rule: share of even ids. Both sides ask it, so it counts."""
    self.drawn += sum(map(len, answers))
    return [
      float(np.mean(np.asarray(ids) % 2 == 0)) if len(ids) else 0.0
      for ids in answers
    ]

  def serve(self, steps: int, **more: Callable[..., Any]) -> None:
    """Answers requests in another thread, until there are no more."""

    def listen():
      turn = side_by_side.timed(lambda number: self.take(number, steps))
      side_by_side.serve({'turn': turn, **more})
      self.end()

    threading.Thread(target=listen, daemon=True).start()


class Parts:
  """Seconds of the parts of our step."""

  NAMES = {
    'rollout': ('rollout',),
    'evaluation': ('_evaluate', '_compare'),
    'judging': ('judge',),
    'update': ('_experience', '_update', '_update_at_once'),
  }

  def __init__(self, trainer: Any):
    self._on, self._seconds = False, dict.fromkeys(self.NAMES, 0.0)
    for name, attributes in self.NAMES.items():
      for one in attributes:
        setattr(trainer, one, self._timed(name, getattr(trainer, one)))

  def _timed(self, name, function):
    import jax

    def call(*arguments):
      if not self._on:  # what waits for nothing is faster
        return function(*arguments)
      start = time.perf_counter()
      found = jax.block_until_ready(function(*arguments))
      self._seconds[name] += time.perf_counter() - start
      return found

    return call

  def shares(self, turn: Callable[[], Any]) -> dict[str, float]:
    """Share of each in all of them, over a turn."""
    self._on = True
    turn()
    self._on = False
    total = sum(self._seconds.values())
    return {k: round(v / total, 4) for k, v in self._seconds.items()}


def ours(size: Size, folder: pathlib.Path) -> None:
  """Our side: writes the folder, trains from it until nobody asks."""
  from flax import linen as nn
  import jax
  import jax.numpy as jnp

  from step_audio_jax import memory
  from step_audio_jax.alignment.policy import objective as objective_lib
  from step_audio_jax.alignment.policy import trainer as trainer_lib
  from step_audio_jax.alignment.rewards import rewards
  from step_audio_jax.alignment.rollouts import sampling as rollout_sampling
  from step_audio_jax.generation import sampling
  from step_audio_jax.interop.language import folders
  from step_audio_jax.parallel import mesh as mesh_lib
  from step_audio_jax.training import loop
  from step_audio_jax.training import optimizers
  from step_audio_jax.training.objectives import objectives

  memory.keep_freed()  # as the `train` door does
  turns = Turns()
  model, vocabulary = small_llama.ours(size.shape, remat=small_llama.REMAT)
  variables = jax.jit(model.init)(
    jax.random.key(0), jnp.ones((1, 4), jnp.int32)
  )
  variables = small_llama.scaled(nn.meta.unbox(variables))
  small_llama.write(model.config.transformer, variables, folder)
  del variables
  objective = objective_lib.Grpo(
    policy=objectives.NextToken(model, vocabulary),
    kl=objective_lib.Divergence(DIVERGENCE, 'k2', 'loss'),
    clip_low=CLIP_RATIO,
    no_end_reward=0.0,
    group=size.group,
    sampling=rollout_sampling.Sampling(
      longest=size.longest,
      mode='free',
      sampler=sampling.Sampler(temperature=1.0),
    ),
    rewards=rewards.Rewards(
      {'even': (1.0, lambda found: turns.even([one.ids for one in found]))}
    ),
  )
  trainer = trainer_lib.PolicyTrainer(
    objective=objective,
    feed=Feed(size),
    optimizer=optimizers.OptimizerConfig(
      learning_rate=LEARNING_RATE,
      beta1=small_llama.BETAS[0],
      beta2=small_llama.BETAS[1],
      weight_decay=0.0,
      clip=small_llama.CLIP,
    ),
    config=loop.LoopConfig(steps=1_000_000, spikes=None),
    mesh=mesh_lib.MeshConfig().build(jax.devices()[:1]),
  )
  parts, step = Parts(trainer), trainer.step

  def gated(*state):
    turns.wait()
    found = jax.block_until_ready(step(*state))
    told = {
      name: float(total) / max(float(weight), 1.0)
      for name, (total, weight) in found[-1].items()
      if name in ('kl', 'rollout/entropy')
    }
    turns.passed(kl=told['kl'], entropy=told['rollout/entropy'])
    return found

  trainer.step = gated
  turns.serve(
    size.turn,
    shares=lambda: parts.shares(lambda: turns.take(0, size.turn)),
  )
  loop.run(
    trainer,
    folder / 'run',
    sources=lambda: [
      (
        'folder',
        objective.adopt(folders.read(folder, objective.describe()), {}),
      )
    ],
  )


def peer(size: Size, folder: pathlib.Path, threads: int) -> None:
  """`trl`: reads the folder, trains from it until nobody asks."""
  import datasets
  import tokenizers
  import transformers
  import trl

  turns = Turns()
  model = small_llama.peer(folder, threads)
  words = {f'w{n}': n for n in range(size.shape['vocab_size'])}
  table = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(words, unk_token='w0')
  )
  table.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  # Ids 0 and 3 are our padding and the end of an answer.
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=table, pad_token='w0', eos_token='w3', padding_side='left'
  )
  prompts = [
    ' '.join(f'w{n}' for n in ids.tolist()) for ids in Feed(size).prompts
  ]

  class Gate(transformers.TrainerCallback):
    """Waits between steps."""

    def on_train_begin(self, args, state, control, **more):
      turns.wait()

    def on_step_end(self, args, state, control, **more):
      told = trainer._metrics['train']
      turns.passed(kl=told['kl'][0], entropy=told['entropy'][0])

  trainer = trl.GRPOTrainer(
    model=model,
    reward_funcs=lambda completion_ids, **more: turns.even(completion_ids),
    args=trl.GRPOConfig(
      output_dir=str(folder / 'trl'),
      use_cpu=True,
      bf16=False,
      per_device_train_batch_size=size.answers,
      gradient_accumulation_steps=1,
      steps_per_generation=1,
      num_iterations=1,
      num_generations=size.group,
      max_completion_length=size.longest,
      temperature=1.0,
      beta=DIVERGENCE,
      epsilon=CLIP_RATIO,
      loss_type='grpo',
      gradient_checkpointing=False,
      learning_rate=LEARNING_RATE,
      lr_scheduler_type='constant',
      optim='adamw_torch_fused',
      adam_beta1=small_llama.BETAS[0],
      adam_beta2=small_llama.BETAS[1],
      weight_decay=0.0,
      max_grad_norm=small_llama.CLIP,
      max_steps=1_000_000,
      shuffle_dataset=False,
      dataloader_pin_memory=False,
      logging_steps=10,
      save_strategy='no',
      report_to='none',
      disable_tqdm=True,
    ),
    train_dataset=datasets.Dataset.from_dict({'prompt': prompts}),
    processing_class=tokenizer,
    callbacks=[Gate()],
  )
  turns.serve(size.turn)
  trainer.train()


def agreement(answers: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
  """Divergence and entropy of the first step of each side.

  Raises:
    SystemExit: A divergence is not 0, or the entropies differ.
  """
  first = {side: given[0]['value'] for side, given in answers.items()}
  found = {f'{side}_entropy': told['entropy'] for side, told in first.items()}
  entropies = list(found.values())
  apart = max(entropies) / min(entropies) - 1
  if max(abs(told['kl']) for told in first.values()) > 1e-4 or apart > AGREE:
    raise SystemExit(
      f'the first steps are {first}, expected a divergence of 0 and entropies '
      f'within {AGREE:.0%}: the sides do not compute the same.'
    )
  return found


def rates(
  answers: Mapping[str, list[dict[str, Any]]], warm: int
) -> dict[str, Any]:
  """Ids a second of each side and, with a peer, how many times more we draw."""
  each = {
    side: [a['value']['drawn'] / a['seconds'] for a in given][warm:]
    for side, given in answers.items()
  }
  found: dict[str, Any] = {
    f'{side}_ids_per_second': side_by_side.spread(some)
    for side, some in each.items()
  }
  if 'peer' in each:
    found['ratio'] = side_by_side.spread(
      [a / b for a, b in zip(each['ours'], each['peer'], strict=True)]
    )
  for side, given in answers.items():
    first = given[0]['seconds']
    found[f'{side}_first_turn_seconds'] = round(first, 3)
  return found


def measure(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
  """The figures of one size."""
  size = TINY if arguments.tiny else SIZES[name]
  with tempfile.TemporaryDirectory() as folder:
    start = side_by_side.starter(
      arguments, pathlib.Path(folder), flags=[f'--sizes={name}']
    )
    workers = {
      side: start(side) for side in side_by_side.sides(arguments, PEER)
    }
    answers = side_by_side.interleaved(
      workers, 'turn', arguments.rounds, warm=WARM
    )
    shares = workers['ours'].ask('shares')
    for worker in workers.values():
      worker.close()
  return {
    'size': 'tiny' if arguments.tiny else name,
    'answers': size.answers,
    'group': size.group,
    'prompt': size.prompt,
    'longest': size.longest,
    **agreement(answers),
    **rates(answers, WARM),
    'ours_shares': shares,
  }


def table(results: Sequence[Mapping[str, Any]]) -> str:
  """What people read."""
  lines = ['size   ours ids/s   trl ids/s   ratio (range)        our step']
  for one in results:
    peers, ratio = '-', '-'
    if 'ratio' in one:
      peers = f'{one["peer_ids_per_second"]["median"]:.0f}'
      r = one['ratio']
      ratio = f'{r["median"]:.2f} ({r["min"]:.2f}-{r["max"]:.2f})'
    shares = ', '.join(
      f'{name} {share:.0%}' for name, share in one['ours_shares'].items()
    )
    rate = one['ours_ids_per_second']['median']
    lines.append(f'{one["size"]:<7}{rate:<13.0f}{peers:<12}{ratio:<21}{shares}')
  return '\n'.join(lines)


def main() -> None:
  parser = side_by_side.parser(__doc__)
  parser.add_argument(
    '--sizes', default=','.join(SIZES), help='of ' + ', '.join(SIZES)
  )
  parser.add_argument('--json', action='store_true', help='a JSON line, last')
  arguments = parser.parse_args()
  names = arguments.sizes.split(',')
  if unknown := [name for name in names if name not in SIZES]:
    parser.error(f'--sizes: found {unknown[0]!r}, expected {", ".join(SIZES)}')
  if arguments.side:
    size = TINY if arguments.tiny else SIZES[names[0]]
    if arguments.side == 'ours':
      ours(size, arguments.folder)
    else:
      peer(size, arguments.folder, arguments.threads)
    return
  if arguments.tiny:
    names = names[:1]
  results = [measure(arguments, name) for name in names]
  print(table(results), flush=True)
  if arguments.json:
    found = {
      'benchmark': 'rl_step',
      'sizes': results,
      'must': MUST,
      'machine': side_by_side.machine(arguments.threads),
      'versions': side_by_side.versions(PEER),
    }
    print(json.dumps(found))


if __name__ == '__main__':
  main()
