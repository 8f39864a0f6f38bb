"""One plan of a policy: rollout, evaluation and update on absent chips.

The programs are those that a run would run, each compiled with the arguments
that it would have. What is always there, the state, is counted once:

    HBM = state + max over programs (what lies beside it + temporaries)

The time of a step is the sum of its programs, and the loop that decodes turns
as often as the longest answer of a batch has ids:

    step = layout + prefill + turns x turn + evaluation + updates x update

So the split of a step is told for several answer lengths.
"""

import hashlib
import time
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.parallel import topology
from step_audio_jax.plan import absent
from step_audio_jax.plan import counts as counts_lib
from step_audio_jax.plan import hlo
from step_audio_jax.plan import step as step_lib
from step_audio_jax.training import programs as programs_lib

# Answers of a batch that are as long as these parts of the longest.
LENGTHS = (0.25, 0.5, 1.0)


def step_of(trainer: Any) -> programs_lib.Step:
  """What a step of a policy does.

  Raises:
    UserError: The trainer is none of a policy.
  """
  if not hasattr(trainer, 'programs'):
    raise errors.UserError(
      f'--door=rl: run.train.trainer is {type(trainer).__name__}, expected '
      'that of a policy, as gin/alignment/policy.gin has it.'
    )
  return trainer.programs()


def describe(
  trainer: Any, step: programs_lib.Step, target: step_lib.Target
) -> dict[str, Any]:
  """What is planned: sizes that need no compiler."""
  facts = step_lib.describe(trainer, target)
  for name in ('length', 'tokens_per_step', 'model_flops_per_chip'):
    del facts[name]
  objective = trainer.objective
  return {
    **facts,
    'prompt': trainer.feed.length,
    'answer': objective.sampling.longest,
    'updates': objective.epochs * objective.minibatches,
    'minibatches': objective.minibatches,
    'state_gib_per_chip': {
      name: _gib(absent.shard_bytes(tree)) for name, tree in step.state.items()
    },
  }


def plan(parts: Mapping[str, Any], target: step_lib.Target) -> dict[str, Any]:
  """Compiles the programs of a policy's step; the facts, JSON-able."""
  began = time.monotonic()
  trainer = step_lib.trainer_of(parts, target)
  step = step_of(trainer)
  facts = describe(trainer, step, target)
  state = sum(absent.shard_bytes(tree) for tree in step.state.values())
  found = []
  with progress.bar(
    label='plan', total=len(step.programs), unit='program'
  ) as bar:
    for program in step.programs:
      bar.set_postfix_str(program.name)
      found.append(_compiled(program, step, state, trainer, target))
      bar.update(1)
  largest = max(found, key=lambda one: one['hbm_gib_per_chip'])
  capacity = target.slice.chip.usable_hbm_bytes / topology.GIB
  facts |= {
    'programs': found,
    'fits': all(one['fits'] for one in found),
    'largest': largest['name'],
    'hbm_gib_per_chip': {
      'state': _gib(state),
      'total': largest['hbm_gib_per_chip'],
      'capacity': round(capacity, 3),
    },
    'compile_seconds': round(sum(one['compile_seconds'] for one in found), 1),
  }
  if facts['fits']:
    facts['predicted_split'] = [
      split(found, max(1, round(part * facts['answer']))) for part in LENGTHS
    ]
  facts['total_seconds'] = round(time.monotonic() - began, 1)
  facts['host_memory_gib'] = step_lib.host_memory_gib()
  return facts


def _compiled(program, step, state, trainer, target) -> dict[str, Any]:
  """What one program takes."""
  chip = target.slice.chip
  beside = absent.shard_bytes(program.beside)
  # What is given to the program of the state is no part of what lies beside.
  arguments = absent.shard_bytes(
    [x for x in program.given if not hasattr(x, 'apply')]
  )
  memory, text, seconds = absent.compile_step(
    step.lower(program), arguments, chip
  )
  total = state + beside + memory.temporaries
  facts = {
    'name': program.name,
    'phase': program.phase,
    'times': program.times,
    'fits': text is not None and total <= chip.usable_hbm_bytes,
    'hbm_gib_per_chip': _gib(total),
    'beside_gib_per_chip': _gib(beside),
    'temporaries_gib_per_chip': _gib(memory.temporaries),
    'compile_seconds': round(seconds, 1),
  }
  if text is None:
    return facts
  module = hlo.parse(text)
  once = _predicted(module, trainer, target, 0 if program.turns else 1)
  facts |= once
  if program.turns:
    facts['turn'] = {
      name: whole - once[name]
      for name, whole in _predicted(module, trainer, target, 1).items()
    }
  facts['program'] = hashlib.sha256(text.encode()).hexdigest()[:16]
  return facts


def _predicted(module, trainer, target, unknown) -> dict[str, float]:
  """What a program does in one run, its unknown loop run so often."""
  counts = counts_lib.count(module, unknown=unknown)
  found = step_lib.predict(counts, trainer, target, 0.0)
  return {
    'executed_flops_per_chip': found['executed_flops_per_chip'],
    'hbm_bytes_per_chip': found['hbm_bytes_per_chip'],
    'ici_bytes_per_chip': found['ici_bytes_per_chip'],
    'dcn_bytes_per_chip': found['dcn_bytes_per_chip'],
    'messages': sum(one.times for one in counts.collectives),
    'predicted_seconds': found['predicted_step_seconds'],
  }


def split(programs: list[dict[str, Any]], turns: int) -> dict[str, Any]:
  """Seconds of a step by phase, where the longest answer has so many ids."""
  seconds = dict.fromkeys(programs_lib.PHASES, 0.0)
  for one in programs:
    each = one['predicted_seconds']
    if 'turn' in one:
      each += turns * one['turn']['predicted_seconds']
    seconds[one['phase']] += one['times'] * each
  whole = sum(seconds.values())
  return {
    'answer': turns,
    'step_seconds': whole,
    'seconds': seconds,
    'shares': {name: n / whole for name, n in seconds.items()},
  }


def _gib(count: float) -> float:
  return round(count / topology.GIB, 3)


def table(facts: Mapping[str, Any]) -> str:
  """The facts for a reader."""
  gib = facts['hbm_gib_per_chip']
  lines = [
    step_lib.heading(facts),
    f'{facts["batch_size"]} answers of {facts["answer"]} ids to prompts of '
    f'{facts["prompt"]} a step, {facts["updates"]} updates in '
    f'{facts["microbatches"]} microbatches, remat {facts["remat"]}',
    f'HBM a chip: {gib["total"]:.2f} of {gib["capacity"]:.2f} GiB, the most '
    f'in {facts["largest"]}: {"fits" if facts["fits"] else "too much"}',
    'state: '
    + ', '.join(f'{n} {x:.2f}' for n, x in facts['state_gib_per_chip'].items())
    + f', together {gib["state"]:.2f} GiB',
    '',
    f'{"GiB a chip":<12}{"beside":>9}{"temporary":>11}{"total":>8}'
    f'{"FLOPs":>11}{"HBM GB":>9}{"ICI GB":>9}{"seconds":>10}',
  ]
  for one in facts['programs']:
    lines.append(
      f'{one["name"]:<12}{one["beside_gib_per_chip"]:>9.2f}'
      f'{one["temporaries_gib_per_chip"]:>11.2f}'
      f'{one["hbm_gib_per_chip"]:>8.2f}{_work(one)}'
    )
    if 'turn' in one:
      lines.append(f'{"  a turn":<40}{_work(one["turn"])}')
  if not facts['fits']:
    return '\n'.join(lines)
  lines += [
    '',
    f'{"answer":>8}{"step s":>9}'
    + ''.join(f'{name:>20}' for name in programs_lib.PHASES),
  ]
  for one in facts['predicted_split']:
    cells = ''.join(
      f'{one["seconds"][name]:>11.2f} s{100 * one["shares"][name]:>5.1f} %'
      for name in programs_lib.PHASES
    )
    lines.append(f'{one["answer"]:>8}{one["step_seconds"]:>9.2f}{cells}')
  lines.append(
    'predicted: the longest answer of a batch has so many ids; the latency of '
    'messages and judging on the hosts come on top'
  )
  return '\n'.join(lines)


def _work(one: Mapping[str, Any]) -> str:
  if 'predicted_seconds' not in one:
    return ''
  return (
    f'{one["executed_flops_per_chip"]:>11.2e}'
    f'{one["hbm_bytes_per_chip"] / 1e9:>9.2f}'
    f'{one["ici_bytes_per_chip"] / 1e9:>9.2f}'
    f'{one["predicted_seconds"]:>10.4f}'
  )


def refusal(facts: Mapping[str, Any]) -> str:
  """One sentence about a policy that is too large."""
  gib = facts['hbm_gib_per_chip']
  return (
    f'plan: {facts["parameters"]:,} parameters with {facts["batch_size"]} '
    f'answers of {facts["answer"]} ids on {facts["slices"]} x '
    f'{facts["topology"]} need {gib["total"]:.2f} GiB a chip in '
    f'{facts["largest"]} ({gib["state"]:.2f} of it state), expected at most '
    f'{gib["capacity"]:.2f}; more microbatches, fewer answers or more chips '
    'need less.'
  )
