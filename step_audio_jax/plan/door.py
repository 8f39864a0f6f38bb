"""The `plan` door: does a run fit on absent chips, and how fast could it be?

Compiles the train step that `train` would run, with the TPU compiler, on a CPU
machine. With `--search` it tries many ways to lay the run over the chips.
"""

import sys
from typing import Any, Mapping

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from step_audio_jax.parallel import topology
from step_audio_jax.plan import absent
from step_audio_jax.plan import memory
from step_audio_jax.plan import policy as policy_lib
from step_audio_jax.plan import roofline
from step_audio_jax.plan import search as search_lib
from step_audio_jax.plan import step
from step_audio_jax.storage import files


def table(facts: Mapping[str, Any]) -> str:
  """The facts for a reader."""
  gib = facts['hbm_gib_per_chip']
  lines = [
    step.heading(facts),
    f'{facts["batch_size"]} rows of {facts["length"]} tokens a step in '
    f'{facts["microbatches"]} microbatches, remat {facts["remat"]}',
    f'HBM a chip: {gib["arguments"]:.2f} GiB arguments + '
    f'{gib["temporaries"]:.2f} temporaries = {gib["total"]:.2f} of '
    f'{gib["capacity"]:.2f} GiB: {"fits" if facts["fits"] else "too much"}',
    f'compiled in {facts["compile_seconds"]:.0f} s, host memory '
    f'{facts["host_memory_gib"]:.1f} GiB',
  ]
  if 'predicted_mfu' not in facts:
    return '\n'.join(lines)
  lines += [
    '',
    f'FLOPs a chip: model {facts["model_flops_per_chip"]:.3e} (row-causal), '
    f'executed {facts["executed_flops_per_chip"]:.3e}',
  ]
  executed = facts['executed_flops_per_chip']
  by_part = facts['executed_flops_by_part']
  lines.append(
    f'  {"":24}' + ''.join(f'{phase:>12}' for phase in roofline.PHASES)
  )
  for part in roofline.PARTS:
    row = [by_part.get(f'{part}, {p}', 0.0) for p in roofline.PHASES]
    if any(row):
      cells = ''.join(f'{100 * n / executed:>11.1f}%' for n in row)
      lines.append(f'  {part:<24}{cells}')
  lines += ['', 'messages a chip sends:']
  for kind, sent in facts['collective_bytes_per_chip'].items():
    if sent:
      lines.append(f'  {kind:<24}{sent / 1e9:>11.2f} GB')
  seconds = facts['roofline_seconds']
  lines += [
    '',
    'predicted seconds of a step: '
    + ', '.join(f'{name} {value:.3f}' for name, value in seconds.items())
    + f' (ICI exposed {facts["ici_exposed_seconds"]:.3f})',
    f'predicted step {facts["predicted_step_seconds"]:.3f} s, predicted MFU '
    f'{100 * facts["predicted_mfu"]:.1f} %, predicted '
    f'{facts["tokens_per_step"] / facts["predicted_step_seconds"]:,.0f} '
    'tokens/s',
  ]
  return '\n'.join(lines)


def refusal(facts: Mapping[str, Any]) -> str:
  """One sentence about a configuration that is too large, without its end."""
  gib = facts['hbm_gib_per_chip']
  return (
    f'plan: {facts["parameters"]:,} parameters with {facts["batch_size"]} rows '
    f'of {facts["length"]} tokens on {facts["slices"]} x {facts["topology"]} '
    f'need {gib["total"]:.2f} GiB a chip ({gib["arguments"]:.2f} arguments + '
    f'{gib["temporaries"]:.2f} temporaries), expected at most '
    f'{gib["capacity"]:.2f}'
  )


def _estimates(parts, target, batch_size):
  """Candidate → (bytes, seconds) of the rough model."""
  config = step.transformer_of(parts['objective'])
  length = parts['feed'].length
  return {
    candidate: memory.estimate(
      config, candidate, length, target.slice, target.slices
    )
    for candidate in memory.candidates(
      config, length, batch_size, target.slice, target.slices
    )
  }


def _compilations(fv, target) -> search_lib.Compilations:
  return search_lib.Compilations(
    fv.cache,
    cli.gin_arguments(fv),
    gin_files.bound_text(),
    target.slice,
    target.slices,
  )


def _can_vary(parts) -> bool:
  return step.transformer_of(parts['objective']) is not None and set(
    search_lib.MACROS
  ) <= set(gin_files.macros())


def _nearest(fv, parts, target) -> str:
  """Words about the nearest configuration that fits."""
  capacity = target.slice.chip.usable_hbm_bytes
  if not _can_vary(parts):
    return ''
  files.check_writable(fv.cache, '--cache', folder=True)
  batch = parts['feed'].batch_size
  while batch >= 1:
    estimates = _estimates(parts, target, batch)
    found = search_lib.nearest(estimates, _compilations(fv, target), capacity)
    if found:
      total = found[1]['hbm_gib_per_chip']['total']
      return f'; the nearest that fits needs {total:.2f}: {found[0].flags}'
    batch //= 2
  for shape in target.slice.chip.shapes:
    larger = step.Target(
      topology.Slice(target.slice.chip, shape), target.slices
    )
    if larger.chips <= target.chips:
      continue
    estimates = _estimates(parts, larger, parts['feed'].batch_size)
    found = search_lib.nearest(estimates, _compilations(fv, larger), capacity)
    if found:
      total = found[1]['hbm_gib_per_chip']['total']
      return (
        f'; the nearest that fits needs {total:.2f}: '
        f'--topology={larger.slice.topology} {found[0].flags}'
      )
  return f'; no slice of {target.slice.chip.name} is large enough'


def _search(fv, parts, target) -> dict[str, Any]:
  if not _can_vary(parts):
    raise errors.UserError(
      f'--search: varies the macros {", ".join(search_lib.MACROS)} of a '
      'transformer, expected gin files that define them, as '
      'gin/pretrain/step1.gin does.'
    )
  capacity = target.slice.chip.usable_hbm_bytes
  estimates = _estimates(parts, target, parts['feed'].batch_size)
  if fv.dry_run:
    chosen = search_lib.pick(estimates, capacity, fv.compilations)
    for candidate in chosen:
      size, seconds = estimates[candidate]
      print(
        f'would compile {candidate.flags} (roughly '
        f'{size / topology.GIB:.0f} GiB, {seconds:.1f} s a step)'
      )
    return {
      'candidates': len(estimates),
      'chosen': [candidate.flags for candidate in chosen],
    }
  found = search_lib.search(
    estimates, _compilations(fv, target), capacity, fv.compilations
  )
  print(search_lib.table(found))
  return found


def _describe(parts, target) -> dict[str, Any]:
  trainer = step.trainer_of(parts, target)
  facts = step.describe(trainer, target)
  state = trainer.abstract_state(), trainer.abstract_batch()
  arguments = absent.shard_bytes(state) / topology.GIB
  print(
    f'would compile {facts["parameters"]:,} parameters for {target.name}; '
    f'{arguments:.2f} GiB of arguments a chip'
  )
  return facts | {'arguments_gib_per_chip': round(arguments, 3)}


def _policy(fv, parts, target) -> dict[str, Any]:
  if fv.dry_run:
    trainer = step.trainer_of(parts, target)
    found = policy_lib.step_of(trainer)
    facts = policy_lib.describe(trainer, found, target)
    state = sum(facts['state_gib_per_chip'].values())
    names = ', '.join(program.name for program in found.programs)
    print(
      f'would compile {names} of {facts["parameters"]:,} parameters for '
      f'{target.name}; {state:.2f} GiB of state a chip'
    )
    return facts
  facts = policy_lib.plan(parts, target)
  if facts['fits']:
    print(policy_lib.table(facts))
    return facts
  print(policy_lib.table(facts), file=sys.stderr)
  raise errors.UserError(policy_lib.refusal(facts))


def _main(fv) -> dict[str, Any]:
  target = step.Target(topology.parse(fv.topology), fv.slices)
  policy = fv.door == 'rl'
  if fv.search:
    if policy:
      raise errors.UserError(
        '--search: varies training runs, expected --door=train with it.'
      )
    files.check_writable(fv.cache, '--cache', folder=True)
  parts = step.configure(fv.gin_file, fv.gin_bindings)
  if fv.search:
    return _search(fv, parts, target)
  if policy:
    return _policy(fv, parts, target)
  if hasattr(parts.get('trainer'), 'programs'):
    raise errors.UserError(
      '--door=train: these gin files train a policy, expected --door=rl.'
    )
  if fv.dry_run:
    return _describe(parts, target)
  facts = step.plan(parts, target)
  if not facts['fits']:
    near = _nearest(fv, parts, target) if fv.nearest else ''
    raise errors.UserError(f'{refusal(facts)}{near}.')
  print(table(facts))
  return facts


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_enum(
    'door',
    'train',
    ['train', 'rl'],
    'What is planned: the step of a training run, or rollout, evaluation and '
    'update of a policy.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'topology',
    None,
    'Slice to compile for, as "v5p:8x8x8", "v5e:4x8" or "v6e-16".',
    flag_values=fv,
    required=True,
  )
  flags.DEFINE_integer(
    'slices', 1, 'How many of them, joined by DCN.', flag_values=fv
  )
  flags.DEFINE_bool(
    'search',
    False,
    'Try meshes, remats and microbatches; print a table of predicted MFU '
    'against HBM.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'compilations', 8, 'How many the search may make.', flag_values=fv
  )
  flags.DEFINE_string(
    'cache',
    'runs/plan',
    'Folder where the search keeps what it compiled.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'nearest',
    True,
    'Where the run does not fit, look for the nearest one that does.',
    flag_values=fv,
  )


DOOR = cli.Door(
  summary=(
    'Compiles the train step of a gin file for TPUs that are not there and '
    'prints whether it\nfits, and a prediction of how fast it could be.\n\n'
    'example: python -m step_audio_jax plan '
    '--gin_file=gin/pretrain/step1_130b.gin --topology=v5p:8x8x8\n'
    'or: python -m step_audio_jax plan --door=rl '
    '--gin_file=gin/alignment/step1_3b_ppo.gin --topology=v5p:2x2x1'
  ),
  main=_main,
  define=_define,
)
