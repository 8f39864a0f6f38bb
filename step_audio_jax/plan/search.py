"""Searches mesh x remat x microbatches by compiling the promising ones.

The rough model (`plan.memory`) throws out what cannot fit or cannot be fast;
each of the rest is compiled in a process of its own, so that a compiler that
runs out of memory ends no search. Results are kept by a hash of everything
they depend on: a search that was killed goes on where it stopped.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from typing import Any, Mapping, Sequence

import jax

import step_audio_jax
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.parallel import topology
from step_audio_jax.plan import memory
from step_audio_jax.storage import files

MACROS = ('TENSOR', 'REMAT', 'MICROBATCHES', 'BATCH_SIZE')


def pick(
  estimates: Mapping[memory.Candidate, tuple[float, float]],
  capacity: float,
  count: int,
) -> list[memory.Candidate]:
  """The candidates that are worth a compilation.

  Those on the frontier of the rough model first, then the fastest others; none
  that the model puts more than 10 % above what a chip has.
  """
  possible = {c: e for c, e in estimates.items() if e[0] <= 1.1 * capacity}
  chosen = memory.frontier(possible)[-count:]
  others = sorted(possible, key=lambda c: possible[c][1])
  for candidate in others:
    if len(chosen) >= count:
      break
    if candidate not in chosen:
      chosen.append(candidate)
  return chosen


def pareto(
  results: Sequence[Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
  """Results than which none has both less HBM and more predicted MFU."""
  best, found = 0.0, []
  for facts in sorted(
    results, key=lambda f: (f['hbm_gib_per_chip']['total'], -f['predicted_mfu'])
  ):
    if facts['predicted_mfu'] > best:
      best = facts['predicted_mfu']
      found.append(facts)
  return found


class Compilations:
  """Plans in other processes, remembered in a folder."""

  def __init__(
    self,
    folder: str | os.PathLike,
    arguments: Sequence[str],
    text: str,
    found: topology.Slice,
    slices: int,
  ):
    """Nothing is compiled yet.

    Args:
      folder: Of the results.
      arguments: Gin flags of this command.
      text: The configuration they stand for.
      found: One slice.
      slices: How many.
    """
    self._folder = files.path(folder)
    self._arguments = list(arguments)
    self._target = [f'--topology={found.topology}', f'--slices={slices}']
    self._key = '\n'.join(
      [text, *self._target, jax.__version__, step_audio_jax.__version__]
    )

  def path(self, candidate: memory.Candidate) -> pathlib.Path:
    """Where the result of a candidate lies."""
    words = json.dumps(candidate.overrides(), sort_keys=True)
    digest = hashlib.sha256(f'{self._key}\n{words}'.encode()).hexdigest()
    return self._folder / f'{digest[:16]}.json'

  def run(self, candidate: memory.Candidate) -> dict[str, Any]:
    """The facts of a candidate, compiled or remembered.

    A candidate that does not fit has `fits` false and little else.

    Raises:
      UserError: The other process failed for another reason.
    """
    path = self.path(candidate)
    if files.exists(path):
      return files.read_json(path)
    command = [sys.executable, '-m', 'step_audio_jax', 'plan']
    command += self._arguments + self._target
    command += [
      f'--gin.{name}={value}' for name, value in candidate.overrides().items()
    ]
    done = subprocess.run(
      [*command, '--nonearest', '--json'],
      capture_output=True,
      text=True,
      check=False,
    )
    if done.returncode == 0:
      facts = json.loads(done.stdout.splitlines()[-1])
    else:
      told = [
        line for line in done.stderr.splitlines() if line.startswith('error: ')
      ]
      if done.returncode != 2 or not told:
        raise errors.UserError(
          f'plan: a compilation ended with status {done.returncode}: '
          f'{" ".join(command[2:])}'
        )
      facts = {'fits': False, 'error': told[-1].removeprefix('error: ')}
    files.write_json(path, facts)
    return facts


def search(
  estimates: Mapping[memory.Candidate, tuple[float, float]],
  compilations: Compilations,
  capacity: float,
  count: int,
) -> dict[str, Any]:
  """Compiles the promising candidates.

  Returns:
    `candidates` (how many there are), `results` (every one that was compiled,
    with its `flags`) and `pareto` (flags of those that nothing beats).
  """
  chosen = pick(estimates, capacity, count)
  results = []
  bar = progress.bar(label='plan', total=len(chosen), unit='plan')
  for candidate in chosen:
    bar.set_postfix_str(
      f'tensor {candidate.tensor}, {candidate.microbatches} microbatches'
    )
    facts = compilations.run(candidate)
    results.append(
      {
        **facts,
        'flags': candidate.flags,
        'estimated_gib': round(estimates[candidate][0] / topology.GIB, 2),
        'estimated_step_seconds': round(estimates[candidate][1], 3),
      }
    )
    bar.update(1)
  bar.close()
  fitting = [facts for facts in results if facts['fits']]
  return {
    'candidates': len(estimates),
    'results': results,
    'pareto': [facts['flags'] for facts in pareto(fitting)],
  }


def table(found: Mapping[str, Any]) -> str:
  """The results for a reader, those of the Pareto front marked."""
  lines = [
    f'{len(found["results"])} of {found["candidates"]} candidates compiled; '
    '* nothing has both less HBM and more predicted MFU',
    f'  {"HBM GiB":>8} {"predicted MFU":>14} {"predicted s":>12}  overrides',
  ]

  def order(facts):
    return (not facts['fits'], -facts.get('predicted_mfu', 0.0))

  for facts in sorted(found['results'], key=order):
    mark = '*' if facts['flags'] in found['pareto'] else ' '
    if facts['fits']:
      numbers = (
        f'{facts["hbm_gib_per_chip"]["total"]:>8.2f} '
        f'{100 * facts["predicted_mfu"]:>12.1f} % '
        f'{facts["predicted_step_seconds"]:>12.3f}'
      )
    else:
      numbers = f'{"too much":>8} {"":>14} {"":>12}'
    lines.append(f'{mark} {numbers}  {facts["flags"]}')
  return '\n'.join(lines)


def nearest(
  estimates: Mapping[memory.Candidate, tuple[float, float]],
  compilations: Compilations,
  capacity: float,
  attempts: int = 3,
) -> tuple[memory.Candidate, dict[str, Any]] | None:
  """The fastest candidate of the rough model that a compilation confirms.

  Each refusal makes it more careful: the next candidate must be smaller than
  the refused one in the rough model too.
  """
  limit = 0.9 * capacity
  for _ in range(attempts):
    possible = {c: e for c, e in estimates.items() if e[0] <= limit}
    if not possible:
      return None
    candidate = min(possible, key=lambda c: (possible[c][1], possible[c][0]))
    facts = compilations.run(candidate)
    if facts['fits']:
      return candidate, facts
    limit = 0.8 * possible[candidate][0]
  return None
