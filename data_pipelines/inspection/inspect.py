"""`inspect`: shows what is in rows, codes and corpora, and verifies them."""

import collections
import pathlib
from typing import Any, Iterator, Mapping

from absl import flags
import numpy as np

from data_pipelines import tally
from data_pipelines.factory import provenance
from data_pipelines.inspection import chats
from data_pipelines.inspection import page
from data_pipelines.inspection import rows as inspect_rows
from data_pipelines.inspection import schedule
from data_pipelines.inspection import style
from data_pipelines.inspection import sweep as sweep_lib
from data_pipelines.rows import folders as rows_lib
from data_pipelines.rows import verify
from data_pipelines.tasks import text_models
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import epochs
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files


def kind_of(path: pathlib.Path) -> str:
  """`rows`, `codes`, `corpus` or `tree`, by what a folder holds.

  A tree is a folder of row folders, as `build` writes it.

  Raises:
    UserError: It is none of them.
  """
  if list(files.glob(path, f'{rows_lib.STEM}-*.array_record')):
    return 'rows'
  if list(files.glob(path, f'{speech_codes.STEM}-*.array_record')):
    return 'codes'
  if files.is_file(manifest.path_of(path)):
    return 'corpus'
  if inspect_rows.folders_below(path):
    return 'tree'
  raise errors.UserError(
    f'{path}: holds no rows, codes or manifest; expected one of them.'
  )


def show_codes(path: pathlib.Path) -> dict[str, Any]:
  """Prints figures of a tokenised corpus."""
  names = ('linguistic', 'semantic')
  found = {name: collections.Counter() for name in names}
  result = {'utterances': 0}
  for _, pair in speech_codes.stream_codes(path):
    result['utterances'] += 1
    for name, codes in zip(names, pair):
      found[name].update(codes.tolist())
  for name, counts in found.items():
    total = sum(counts.values())
    shares = np.array(list(counts.values())) / max(total, 1)
    result[name] = {
      'codes': total,
      'used': len(counts),
      'largest': max(counts, default=0),
      'perplexity': round(float(np.exp(-(shares * np.log(shares)).sum())), 1),
    }
    print(f'{path}: {name}: {result[name]}')
  result[bindings.TOKENIZER] = bindings.of_codes(path)
  print(f'{path}: {bindings.tokenizer_name(result[bindings.TOKENIZER])}')
  return result


def show_corpus(path: pathlib.Path) -> dict[str, Any]:
  """Prints figures of a corpus and its first lines."""
  figures, first = tally.Tally(), []
  for utterance in manifest.stream(path):
    figures.add(utterance)
    if len(first) < 3:
      first.append(utterance)
  result = figures.result()
  if files.is_file(provenance.path_of(path)):
    result['provenance'] = provenance.figures(path)
  for key, value in result.items():
    print(f'{key}: {value}')
  for utterance in first:
    print(f'  {utterance.id}: {utterance.text}')
  return result


def faults_of(
  path: pathlib.Path, kind: str, checked: collections.Counter
) -> Iterator[str]:
  """Yields what is wrong with a folder; nothing if all is well.

  Args:
    path: The folder.
    kind: As `kind_of` says.
    checked: Counts what each check looked at.
  """
  if kind == 'codes':
    yield from verify.code_faults(path, checked)
  elif kind == 'corpus':
    yield from verify.corpus_faults(path, checked)
    yield from provenance.faults(path, checked)
  else:
    folders = [path] if kind == 'rows' else inspect_rows.folders_below(path)
    for folder in folders:
      yield from verify.faults(rows_lib.open_folder(folder), checked=checked)


_UNITS = {
  'checksums': 'shards',
  'codes': 'utterances',
  'files': 'files',
  'provenance': 'items',
}


def verify_folder(path: pathlib.Path, kind: str) -> dict[str, Any]:
  """Checks a folder and prints a line for each kind of check.

  Raises:
    UserError: Something is wrong: the first of it, and how much more.
  """
  checked, first, count = collections.Counter(), '', 0
  for fault in faults_of(path, kind, checked):
    first, count = first or fault, count + 1
  rows = kind in ('rows', 'tree')
  unit = 'rows' if rows else 'lines'
  for name in verify.CHECKS if rows else checked:
    print(f'{name:<14}{checked[name]:>10,} {_UNITS.get(name, unit)}')
  if first:
    more = f' ({count - 1} more faults)' if count > 1 else ''
    raise errors.UserError(first + more)
  print(f'{path}: all is well')
  return {'kind': kind, 'faults': 0, 'checked': dict(checked)}


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'path',
    None,
    'A corpus, or a folder of codes, of rows, or of all rows; with --schedule '
    'a run, or the folder of all rows; with --style also a recording, with '
    '--chat also a file of conversations.',
    flag_values=fv,
  )
  flags.mark_flag_as_required('path', flag_values=fv)
  flags.DEFINE_integer(
    'row', 0, 'Which row, or conversation, is shown.', flag_values=fv
  )
  flags.DEFINE_string(
    'text_model',
    None,
    'Decodes text; by default the one that the rows were built with.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'verify', False, 'Check everything; exit 2 at a fault.', flag_values=fv
  )
  flags.DEFINE_bool(
    'style',
    False,
    'Measure how a corpus, or one recording, is spoken: pace, pitch, level, '
    'pauses; and whether the levels of its tags can be told apart.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'most',
    None,
    'With --style: measure so many lines at most.',
    lower_bound=1,
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'chat',
    False,
    'Show the conversations of a corpus, or of a file of them in any format.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'length',
    None,
    'With --chat and --text_model: what a row of so many ids would cut.',
    lower_bound=16,
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'sweep',
    False,
    'Name what killed jobs left below the folder, of whatever kind it is.',
    flag_values=fv,
  )
  flags.DEFINE_bool('delete', False, 'With --sweep: remove it.', flag_values=fv)
  flags.DEFINE_float(
    'hours',
    sweep_lib.HOURS,
    'With --sweep: what was written within so many hours stays.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'html', None, 'Write a page of rows, or of --style, here.', flag_values=fv
  )
  flags.DEFINE_integer(
    'rows',
    4,
    'How many rows the page shows, or conversations are shown, from --row on.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'corpus',
    None,
    'Where recordings are for the page; by default the corpus that the rows '
    'were built from.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'schedule',
    False,
    'Show requested and realised shares and epochs of each source.',
    flag_values=fv,
  )
  for name, value, help_text in (
    ('stage', None, 'Of which stage; a run says it itself.'),
    (
      'ratios',
      None,
      'JSON: {"task": share} in place of the stage\'s, or [[step, {"task": '
      'share}], ...].',
    ),
    ('prefix', '', "Before each task's name, as TASK_PREFIX of a run."),
    ('split', 'train', 'Which split of the rows.'),
  ):
    flags.DEFINE_string(name, value, help_text, flag_values=fv)
  for name, value, help_text in (
    ('start', 0, 'First row of the window that --schedule counts.'),
    ('stop', None, 'One past its last row; by default the end.'),
  ):
    flags.DEFINE_integer(name, value, help_text, flag_values=fv)
  flags.DEFINE_integer(
    'batch_size', 1, 'Rows of a step, where --ratios has steps.', flag_values=fv
  )
  flags.DEFINE_float(
    'budget',
    None,
    "Tokens that epochs are counted for; by default the run's or the stage's.",
    flag_values=fv,
  )
  flags.DEFINE_float(
    'most_epochs',
    epochs.MOST_EPOCHS,
    'Warn of a source that is seen more often.',
    flag_values=fv,
  )


def _schedule(fv: flags.FlagValues, path: pathlib.Path) -> dict[str, Any]:
  if files.is_file(path / 'config.json'):
    plan = schedule.of_run(path)
  else:
    plan = schedule.of_rows(
      path,
      stage=fv.stage,
      ratios=fv.ratios,
      prefix=fv.prefix,
      split=fv.split,
      batch_size=fv.batch_size,
    )
  shown = schedule.print_table(
    plan,
    start=fv.start,
    stop=fv.stop,
    budget=fv.budget,
    most_epochs=fv.most_epochs,
  )
  return {'kind': 'schedule', **shown}


def _sweep(fv: flags.FlagValues, path: pathlib.Path) -> dict[str, Any]:
  delete = fv.delete and not fv.dry_run
  told = sweep_lib.sweep(path, hours=fv.hours, delete=delete)
  for line in sweep_lib.lines(told, path):
    print(line)
  return {'kind': 'sweep', **told}


def _style(fv: flags.FlagValues, path: pathlib.Path) -> dict[str, Any]:
  if files.is_file(path):
    if fv.html is not None:
      raise errors.UserError(f'--html: {path} is a file, expected a corpus.')
    kind = 'recording'
  elif (kind := kind_of(path)) != 'corpus':
    raise errors.UserError(
      f'--style: {path} holds {kind}, expected a corpus or a recording.'
    )
  if fv.html is not None:
    files.check_writable(fv.html, '--html')
  if fv.dry_run:
    print(f'would measure {path} ({kind})')
    return {'dry_run': True, 'kind': kind}
  if kind == 'recording':
    return {'kind': kind, **style.measure_file(path)}
  result = style.compare(style.measure_corpus(path, fv.most))
  style.show(result)
  if fv.html is not None:
    style.write(fv.html, f'How {path} is spoken', result)
    print(f'{fv.html}: {len(result["axes"])} axes')
  return {'kind': 'style', **result}


def _chats(fv: flags.FlagValues, path: pathlib.Path) -> dict[str, Any]:
  if fv.length is not None and fv.text_model is None:
    raise errors.UserError('--length: expected --text_model with it.')
  if fv.html is not None:
    files.check_writable(fv.html, '--html')
  if not files.exists(path):
    raise errors.UserError(f'{path}: no such file or folder.')
  if fv.dry_run:
    print(f'would read {path} (chat)')
    return {'dry_run': True, 'kind': 'chat'}
  table = None
  if fv.text_model is not None:
    table = text_models.load(fv.text_model)
  told = chats.read(
    path, first=fv.row, count=fv.rows, table=table, length=fv.length
  )
  chats.show(path, told)
  if fv.html is not None:
    with files.atomic(fv.html, 'w') as handle:
      handle.write(chats.page(path, told))
  wrong = told['wrong']
  if fv.verify and wrong:
    more = f' ({len(wrong) - 1} more lines)' if len(wrong) > 1 else ''
    raise errors.UserError(
      f'{path}:{wrong[0]["line"]}: {wrong[0]["reason"]}{more}'
    )
  return {'kind': 'chat', **told}


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  path = files.path(fv.path)
  if path.name == manifest.NAME:  # the file stands for its folder
    path = path.parent
  if fv.sweep:
    return _sweep(fv, path)
  if fv.delete:
    raise errors.UserError('--delete: expected it with --sweep alone.')
  if fv.style:
    return _style(fv, path)
  if fv.most is not None:
    raise errors.UserError('--most: expected it with --style alone.')
  if fv.chat:
    return _chats(fv, path)
  kind = 'schedule' if fv.schedule else kind_of(path)
  if fv.html is not None and kind != 'rows':
    raise errors.UserError(f'--html: {path} holds {kind}, expected rows.')
  if fv.html is not None:
    files.check_writable(fv.html, '--html')
  if fv.dry_run:
    print(f'would read {path} ({kind})')
    return {'dry_run': True, 'kind': kind}
  if kind == 'schedule':
    return _schedule(fv, path)
  if fv.verify:
    return verify_folder(path, kind)
  if fv.html:
    counts = page.write(
      path,
      fv.html,
      first=fv.row,
      count=fv.rows,
      text_model=fv.text_model,
      corpus=fv.corpus,
    )
    told = ', '.join(f'{count} {name}' for name, count in counts.items())
    print(f'{fv.html}: {told}')
    return {'kind': kind, 'html': fv.html, **counts}
  if kind == 'rows':
    return {'kind': kind, **inspect_rows.show(path, fv.row, fv.text_model)}
  if kind == 'tree':
    return {'kind': kind, 'folders': inspect_rows.show_tree(path)}
  shown = show_codes(path) if kind == 'codes' else show_corpus(path)
  return {'kind': kind, **shown}


DOOR = cli.Door(
  summary="""Shows rows, codes or a corpus; verifies, counts, measures, sweeps.

    python -m data_pipelines inspect \\
      --path=data/quickstart/rows/quickstart_asr/train --row=3
    python -m data_pipelines inspect --html=rows.html --path=...
    python -m data_pipelines inspect --verify --path=...
    python -m data_pipelines inspect --schedule --path=runs/quickstart/sft \\
      --start=1000 --stop=2000
    python -m data_pipelines inspect --schedule --stage=stage1 \\
      --prefix=quickstart_ --path=data/quickstart/rows --budget=1e9
    python -m data_pipelines inspect --style --path=data/styled \\
      --html=levels.html
    python -m data_pipelines inspect --chat --path=chats.jsonl \\
      --text_model=text.model --length=2048
    python -m data_pipelines inspect --sweep --path=gs://bucket/data --delete
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
