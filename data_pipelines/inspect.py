"""`inspect`: shows what is in rows, codes and corpora, and verifies them."""

import collections
import itertools
import pathlib
from typing import Any, Mapping

from absl import flags
import numpy as np

from data_pipelines import definitions
from data_pipelines import rows as rows_lib
from data_pipelines import synthesize
from step_audio_jax import cli
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest
from step_audio_jax import vocabulary

_NAMES = {place: piece for piece, place in vocabulary.CONTROL.items()}


def kind_of(path: pathlib.Path) -> str:
  """`rows`, `codes` or `corpus`, by what a folder holds.

  Raises:
    UserError: It is none of them.
  """
  if list(path.glob(f'{rows_lib.STEM}-*.array_record')):
    return 'rows'
  if list(path.glob(f'{manifest.CODES_STEM}-*.array_record')):
    return 'codes'
  if manifest.path_of(path).is_file():
    return 'corpus'
  raise errors.UserError(
    f'{path}: holds no rows, codes or manifest; expected one of them.'
  )


def show_tokens(tokens: np.ndarray, table: vocabulary.Vocabulary) -> str:
  """Ids as people read them: pieces, text, and speech as a count of groups."""
  out, run, kind = [], [], None

  def close():
    if kind == 'text':
      out.append(repr(table.decode(run)) if table.text else f'{len(run)} text')
    elif kind == 'speech':
      groups = len(run) / vocabulary.GROUP
      seconds = groups * vocabulary.GROUP_SECONDS
      first = ' '.join(map(str, run[: vocabulary.GROUP]))
      out.append(f'[{seconds:.2f} s of speech: {first} …]')
    elif kind is not None:
      out.append(kind if len(run) == 1 else f'{kind}x{len(run)}')

  for token in map(int, tokens):
    new = _NAMES.get(token) or ('text' if token < table.text_size else 'speech')
    if new != kind:
      close()
      run, kind = [], new
    run.append(token)
  close()
  return ' '.join(out)


def show_rows(path: pathlib.Path, number: int, text_model: str | None):
  """Prints one row; returns it as JSON-able documents."""
  folder = rows_lib.open_folder(path)
  stats = folder.stats
  if not 0 <= number < stats['rows']:
    raise errors.UserError(
      f'--row: found {number}, expected 0..{stats["rows"] - 1} in {path}.'
    )
  text_model = text_model or stats.get('text_model')
  if text_model and pathlib.Path(text_model).is_file():
    table = definitions.load_vocabulary(text_model)
  else:
    table = vocabulary.Vocabulary(**stats['vocabulary'])
  print(
    f'{path}: task {stats["task"]}, split {stats["split"]}, {stats["rows"]} '
    f'rows of {stats["length"]}, padding {100 * stats["padding"]:.2f} %, '
    f'{stats["dropped"]} left out'
  )
  row, names = next(itertools.islice(folder, number, None))
  shown = []
  for segment, name in enumerate(names, start=1):
    here = row['segment_ids'] == segment
    tokens, weights = row['tokens'][here], row['loss_weights'][here]
    text = show_tokens(tokens, table)
    shown.append(
      {
        'id': name,
        'tokens': int(here.sum()),
        'loss_tokens': int((weights > 0).sum()),
        'text': text,
      }
    )
    print(f'  {name} ({here.sum()} tokens, {(weights > 0).sum()} learnt)')
    print(f'    {text}')
  return {'row': number, 'documents': shown}


def show_codes(path: pathlib.Path) -> dict[str, Any]:
  """Prints figures of a tokenised corpus."""
  codes = manifest.read_codes(path)
  result = {'utterances': len(codes)}
  for place, name in enumerate(('linguistic', 'semantic')):
    counts = collections.Counter()
    for pair in codes.values():
      counts.update(pair[place].tolist())
    total = sum(counts.values())
    shares = np.array(list(counts.values())) / max(total, 1)
    result[name] = {
      'codes': total,
      'used': len(counts),
      'largest': max(counts, default=0),
      'perplexity': round(float(np.exp(-(shares * np.log(shares)).sum())), 1),
    }
    print(f'{path}: {name}: {result[name]}')
  return result


def show_corpus(path: pathlib.Path) -> dict[str, Any]:
  """Prints figures of a corpus and its first lines."""
  utterances = manifest.read(path)
  result = synthesize.statistics(utterances)
  for key, value in result.items():
    print(f'{key}: {value}')
  for utterance in utterances[:3]:
    print(f'  {utterance.id}: {utterance.text}')
  return result


def faults_of(path: pathlib.Path, kind: str) -> list[str]:
  """What is wrong with a folder; nothing if all is well."""
  if kind == 'rows':
    return list(rows_lib.faults(rows_lib.open_folder(path)))
  if kind == 'codes':
    codes, faults = manifest.read_codes(path), []
    for name, pair in codes.items():
      try:
        vocabulary.Vocabulary().interleave(*pair)
      except errors.UserError as error:
        faults.append(f'{path}: {name}: {error}')
    kept = files.read_json(path / 'stats.json')['kept']
    if len(codes) != kept:
      faults.append(
        f'{path}/stats.json: kept is {kept}, found {len(codes)} utterances.'
      )
    return faults
  return [
    f'{path}: {utterance.id}: {field} {name!r} is not there.'
    for utterance in manifest.read(path)
    for field, name in (
      ('audio', utterance.audio),
      ('image', utterance.image),
    )
    if name is not None and not (path / name).is_file()
  ]


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'path', None, 'Folder of rows or codes, or a corpus.', flag_values=fv
  )
  flags.mark_flag_as_required('path', flag_values=fv)
  flags.DEFINE_integer('row', 0, 'Which row is shown.', flag_values=fv)
  flags.DEFINE_string(
    'text_model',
    None,
    'Decodes text; by default the one that the rows were built with.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'verify', False, 'Check everything; exit 2 at a fault.', flag_values=fv
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  path = pathlib.Path(fv.path)
  if path.name == manifest.NAME:  # the file stands for its folder
    path = path.parent
  kind = kind_of(path)
  if fv.dry_run:
    print(f'would read {path} ({kind})')
    return {'dry_run': True, 'kind': kind}
  if fv.verify:
    faults = faults_of(path, kind)
    if faults:
      more = f' (and {len(faults) - 1} more)' if len(faults) > 1 else ''
      raise errors.UserError(faults[0] + more)
    print(f'{path}: all is well')
    return {'kind': kind, 'faults': 0}
  if kind == 'rows':
    return {'kind': kind, **show_rows(path, fv.row, fv.text_model)}
  shown = show_codes(path) if kind == 'codes' else show_corpus(path)
  return {'kind': kind, **shown}


DOOR = cli.Door(
  summary="""Shows a row decoded, or figures of codes or of a corpus.

    python -m data_pipelines inspect \\
      --path=data/quickstart/rows/quickstart_asr/train --row=3
    python -m data_pipelines inspect --verify --path=...
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
