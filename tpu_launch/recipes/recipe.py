"""Recipes: public commands, each with what it needs.

Nothing is done here that a user could not do: every step is one public command.
A recipe lists them in parts; within a part a command names the earlier ones
that make what it reads, and `following` runs it as soon as they have ended.
"""

import dataclasses
import json
import os
import re
import shlex
from typing import Any, Iterable, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

TIMING = 'timing.json'
_INCLUDE = re.compile(r"""^include\s+['"](.+?)['"]""", re.M)


@dataclasses.dataclass(frozen=True)
class Command:
  """One public command.

  Attributes:
    name: What `timing.json` and the log file call it.
    words: Behind `python`.
    needs: Names of the commands that make what it reads.
    trains: Whether numbers of other cores would be other sums, and so another
      model: it always has the cores of one lane.
  """

  name: str
  words: tuple[str, ...]
  needs: tuple[str, ...] = ()
  trains: bool = False

  def __str__(self) -> str:
    return shlex.join(('python', *self.words))

  def settings(self) -> str:
    """Digest of the gin files that it reads, with what they include."""
    contents: dict[str, str] = {}
    for word in self.words:
      name, _, path = word.partition('=')
      if name == '--gin_file':
        _add_gin(path, contents)
    return digests.of_value(contents)


def _add_gin(path: str, contents: dict[str, str]) -> None:
  if path in contents or not files.is_file(path):
    return  # who reads it says what is wrong
  text = files.read_text(path, errors='replace')
  contents[path] = text
  for included in _INCLUDE.findall(text):
    _add_gin(included, contents)


Parts = Iterable[Sequence[Command]]


def door(
  name: str, program: str, *words: str, needs: Sequence[str] = ()
) -> Command:
  """A command of one of the packages: `door('x', 'tpu_launch', 'check')`."""
  return Command(name, ('-m', program, *words), tuple(needs))


def macros(**values: Any) -> list[str]:
  """Gin macros as the doors take them."""
  return [
    f'--gin.{name}={value if value is None else json.dumps(value)}'
    for name, value in values.items()
  ]


def train(
  name: str, gin_file: str, needs: Sequence[str] = (), **values: Any
) -> Command:
  """A training run of a gin file with some of its macros."""
  command = door(
    name,
    'step_audio_jax',
    'train',
    f'--gin_file={gin_file}',
    *macros(**values),
    needs=needs,
  )
  return dataclasses.replace(command, trains=True)


def tokenizing(
  corpus: str, tokenizer: str, codes: str, *, linguistic: str, semantic: str
) -> tuple[Command, Command]:
  """Exports a tokenizer of trained encoders, and tokenizes a corpus with it.

  Args:
    corpus: Folder of the corpus.
    tokenizer: Folder of the tokenizer, which is made.
    codes: Folder of the codes, which is made.
    linguistic: Run of the command 'train centroids'.
    semantic: Run of the command 'train semantic'.
  """
  return (
    door(
      'export tokenizer',
      'step_audio_jax',
      'tokenize',
      f'--export={tokenizer}',
      f'--linguistic={linguistic}',
      f'--semantic={semantic}',
      needs=('train centroids', 'train semantic'),
    ),
    door(
      'tokenize',
      'data_pipelines',
      'tokenize',
      f'--corpus={corpus}',
      f'--tokenizer={tokenizer}',
      f'--output={codes}',
      needs=('export tokenizer',),
    ),
  )


def environment(root: str) -> dict[str, str]:
  """Variables of every command: CPU, and one compile cache for all.

  Huge pages for malloc: XLA asks for its temporaries anew in every step, and
  touching them 4 kB at a time costs a third of a small step. Less polish by
  LLVM: a fifth of the compilation less, and steps at most 3 % slower.
  """
  # Its library maps and locks files: it stays on this machine.
  cache = files.copies_folder() if files.is_address(root) else root
  variables = {
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
    'JAX_PLATFORMS': 'cpu',
    'TF_CPP_MIN_LOG_LEVEL': '3',  # jaxlib's too
    'JAX_COMPILATION_CACHE_DIR': f'{os.path.abspath(cache)}/compiled',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
    **os.environ,
  }
  if variables['JAX_PLATFORMS'] == 'cpu':
    variables.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=1')
  return variables


def folder_of(output: str) -> str:
  """A recipe's folder as it stands in front of the names of what is in it.

  Two slashes are one on a disk, and another name in a bucket.
  """
  return output.rstrip('/') if files.is_address(output) else output


def show(parts: Parts) -> dict[str, Any]:
  """Prints the commands; what a recipe's door tells of a dry run."""
  lines = [str(command) for commands in parts for command in commands]
  print('\n'.join(lines))
  return {'dry_run': True, 'commands': lines}


def result(root: str, timing: Mapping[str, Any]) -> dict[str, Any]:
  """What a recipe's door tells: its report, its figures, its times."""
  facts = {'report': f'{root}/report.html', **timing}
  report = files.path(root) / 'report.json'
  if files.is_file(report):
    facts |= files.read_json(report)
  print(f'\nopen {root}/report.html')
  return facts


def check_in_checkout() -> None:
  """Refuses to start where the gin files are not.

  Raises:
    UserError: The working directory is no checkout.
  """
  if not files.is_dir('gin/quickstart'):
    raise errors.UserError(
      f'{os.getcwd()}: found no gin/quickstart folder; run this from the root '
      'of the checkout.'
    )
