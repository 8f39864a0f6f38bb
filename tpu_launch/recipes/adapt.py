"""`adapt`: a folder of recordings with transcripts → a model that knows them.

What `quickstart` does for a corpus of its own, for one that people bring:
ingest, speech tokenizers, codes, rows, a language model tuned from the quick
start's, error rates on what was held out; then a speaker encoder, the flow and
speech in the new voices; a report with players.
"""

import dataclasses
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, Mapping

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from tpu_launch.recipes import adapt_recipe
from tpu_launch.recipes import following
from tpu_launch.recipes import quickstart
from tpu_launch.recipes import recipe
from tpu_launch.recipes import sizing

# What the recipe takes from the quick start's folder.
BASE = ('data/text.model', 'linguistic', 'semantic', 'speaker', 'flow', 'sft')
_SOURCE = 'source.json'
_FIRST = ('linguistic', 'semantic')  # what is trained first
_TABLES = ('.csv', '.tsv', '.txt', '.json', '.jsonl', '.lst', '.list', '.scp')


def _check(options: adapt_recipe.Options) -> None:
  """What can be wrong before anything is made."""
  if not files.exists(options.source):
    raise errors.UserError(
      f'--source={options.source}: no such file or folder.'
    )
  source, output = (
    files.resolve(path) for path in (options.source, options.output)
  )
  if output.is_relative_to(source):
    raise errors.UserError(
      f'--output={options.output}: lies in --source={options.source}, where '
      'it would be taken for recordings; expected a folder elsewhere.'
    )
  missing = [
    name for name in BASE if not files.exists(files.path(options.base) / name)
  ]
  if missing:
    raise errors.UserError(
      f'--base={options.base}: found no {", ".join(missing)}, expected the '
      'folder of a finished quick start; `make quickstart` makes one.'
    )


def _check_source(options: adapt_recipe.Options) -> None:
  """Binds the output to the recordings; others under the same path are told.

  Names and sizes of all files count, and what tables of text say. As long as
  nothing was trained, the recordings may be mended: all begins again.

  Raises:
    UserError: The output was made of other recordings.
  """
  listing = _listing(files.path(options.source))
  path = files.path(options.output) / _SOURCE
  told = {'files': len(listing), 'sha256': digests.of_value(listing)}
  output = files.path(options.output)
  trained = any(files.exists(output / name) for name in _FIRST)
  changed = files.is_file(path) and files.read_json(path) != told
  if changed and not trained:
    files.remove(output / recipe.TIMING)
  elif changed:
    raise errors.UserError(
      f'--output={options.output}: made of other recordings '
      f'({files.read_json(path)["files"]} files then, {told["files"]} in '
      f'{options.source} now); expected another --output.'
    )
  files.write_json(path, told)


def _listing(source: pathlib.Path) -> list[tuple[str, int, str]]:
  """(name, bytes, digest of a table) of every file of a corpus, sorted."""
  if files.is_file(source):
    source, paths = source.parent, [source]
  else:
    paths = sorted(files.list_files(source))
  return [
    (
      str(path.relative_to(source)),
      files.size(path),
      digests.of_file(path) if path.suffix.lower() in _TABLES else '',
    )
    for path in paths
  ]


def _dry_run(options: adapt_recipe.Options) -> dict[str, Any]:
  """Shows the commands; the corpus is looked at in a folder that goes again."""
  with tempfile.TemporaryDirectory() as folder:
    looking = dataclasses.replace(options, output=folder)
    (first,) = next(adapt_recipe.commands(looking))
    done = subprocess.run(
      [sys.executable, *first.words],
      env=recipe.environment(folder),
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      errors='replace',
    )
    if done.returncode:
      said = done.stderr.strip().splitlines()[-1:] or ['ingest failed']
      raise errors.UserError(said[0].removeprefix('error: '))
    found = sizing.survey(f'{folder}/data')
  parts = [
    next(adapt_recipe.commands(options)),
    adapt_recipe.after_ingest(options, found),
  ]
  return {**recipe.show(parts), **_summary(found)}


def _summary(found: sizing.Survey) -> dict[str, Any]:
  return {
    'corpus': dataclasses.asdict(found),
    'plan': dataclasses.asdict(sizing.plan(found)),
  }


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'source',
    None,
    'The recordings with their transcripts: a folder or a file in any format '
    'of `python -m data_pipelines ingest`.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'output', None, 'Folder of everything made.', flag_values=fv
  )
  flags.mark_flags_as_required(['source', 'output'], flag_values=fv)
  flags.DEFINE_string(
    'base',
    quickstart.DEFAULT_FOLDER,
    'Folder of the quick start whose model is tuned.',
    flag_values=fv,
  )
  flags.DEFINE_string('format', 'auto', 'As `ingest` has it.', flag_values=fv)
  flags.DEFINE_string(
    'language', 'en', 'Of recordings that name none.', flag_values=fv
  )
  flags.DEFINE_multi_string(
    'held_out_speaker',
    [],
    'A speaker that training never hears; how well the model hears a stranger '
    'is reported from these recordings.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'speech',
    True,
    'Learn to speak with these voices, too: speaker encoder and flow.',
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  options = adapt_recipe.Options(
    source=fv.source,
    output=recipe.folder_of(fv.output),
    base=recipe.folder_of(fv.base),
    ingest=(
      f'--format={fv.format}',
      f'--language={fv.language}',
      *(f'--held_out_speaker={name}' for name in fv.held_out_speaker),
    ),
    speech=fv.speech,
  )
  recipe.check_in_checkout()
  files.check_writable(fv.output, '--output', folder=True)
  _check(options)
  if fv.dry_run:
    return _dry_run(options)
  _check_source(options)
  timing = following.follow(adapt_recipe.commands(options), options.output)
  return {
    **recipe.result(options.output, timing),
    **_summary(sizing.survey(f'{options.output}/data')),
  }


DOOR = cli.Door(
  summary="""Tunes the quick start's model to a folder of recordings.

    python -m tpu_launch adapt --source=recordings --output=runs/mine

Trains speech tokenizers on the recordings, tunes the language model, says how
many characters it gets wrong on what was held out, learns to speak with the
voices, and writes OUTPUT/report.html. Every command is shown before it runs;
after a kill the same command continues.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
