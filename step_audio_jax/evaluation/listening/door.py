"""The `listen` door: a blind listening page, and what its raters say."""

from typing import Any

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import files

_RESULTS = ('results.json', 'results.md', 'results.html')


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  if bool(fv.systems) == bool(fv.ratings):
    raise errors.UserError(
      f'listen: found {"both" if fv.systems else "neither"} of --systems, '
      'which makes a page, and --ratings, which scores one; expected one of '
      'them.'
    )
  files.check_writable(fv.output, '--output', folder=True)
  return _score(fv) if fv.ratings else _make(fv)


def _make(fv) -> dict[str, Any]:
  from step_audio_jax.evaluation.listening import design as design_lib
  from step_audio_jax.evaluation.listening import page
  from step_audio_jax.evaluation.quality import sources

  folder = files.path(fv.output)
  texts = dict(design_lib.TEXTS)
  for name, text in (
    (design_lib.MOS, fv.mos_text),
    (design_lib.AB, fv.ab_text),
  ):
    texts[name] = text or texts[name]
  config = design_lib.DesignConfig(
    questions=tuple(fv.questions),
    texts=texts,
    items=fv.items,
    catches=fv.catches,
    anchor=fv.anchor,
    level_db=fv.level_db if fv.equal else None,
    title=fv.title,
    seed=fv.seed,
  )
  systems = {}
  for named in fv.systems:
    name, sign, place = named.partition('=')
    if not (sign and name.strip() and place) or name in systems:
      raise errors.UserError(
        f'--systems: found {named!r}, expected NAME=FOLDER or NAME=ROWS.jsonl, '
        'each name once.'
      )
    systems[name] = sources.read(place, f'--systems={name}')
  items, lacking = design_lib.chosen(systems, config)
  facts = {
    'output': str(folder),
    'systems': list(systems),
    'items': len(items),
    'lacking': {name: len(some) for name, some in lacking.items() if some},
  }
  if fv.dry_run:
    print(
      f'would lay out {len(items)} items of {len(systems)} systems in {folder}'
    )
    return {'dry_run': True, **facts}
  design = design_lib.make(systems, config)
  written = page.write(
    design, folder, embedded=fv.embed, most_megabytes=fv.most_megabytes
  )
  for name, count in facts['lacking'].items():
    print(f'{name} lacks {count} items that another system has: left out')
  print(
    f'{folder / page.NAME}: {len(design.page["trials"])} trials, '
    f'{written["bytes"] / 1e6:.1f} MB; for raters\n'
    f'{folder / page.KEY}: whose sounds they are; not for raters'
  )
  return (
    facts
    | written
    | {
      'page': design.page['page'],
      'trials': len(design.page['trials']),
      'sounds': len(design.sounds),
    }
  )


def _score(fv) -> dict[str, Any]:
  from step_audio_jax.evaluation.listening import ratings as ratings_lib
  from step_audio_jax.evaluation.listening import report
  from step_audio_jax.evaluation.listening import results

  if not fv.key:
    raise errors.UserError(
      'listen: --key: missing, expected key.json, which was written beside '
      'the page.'
    )
  key = ratings_lib.read_key(fv.key)
  paths = _files_of(fv.ratings)
  if fv.dry_run:
    print(f'would score {len(paths)} files of ratings')
    return {'dry_run': True, 'files': len(paths), 'output': fv.output}
  found = results.compute(
    ratings_lib.read(paths, key, complete=fv.complete), key
  )
  folder = files.path(fv.output)
  files.make_folder(folder)
  files.write_json(folder / _RESULTS[0], found)
  text = report.markdown(found)
  for name, content in (
    (_RESULTS[1], text),
    (_RESULTS[2], report.document(found, fv.title)),
  ):
    with files.atomic(folder / name, 'w') as handle:
      handle.write(content)
  print(text, end='')
  return found


def _files_of(named) -> list[Any]:
  """Files that are named, or that a pattern or a folder has."""
  found = []
  for text in named:
    path = files.path(text)
    if files.is_dir(path):
      found += sorted(files.glob(path, '*.csv'))
    elif '*' in path.name:
      found += sorted(files.glob(path.parent, path.name))
    else:
      found.append(path)
  if not found:
    raise errors.UserError(
      f'--ratings={",".join(named)}: found no file, expected what raters saved.'
    )
  return list(dict.fromkeys(found))


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'output',
    None,
    'Folder that gets listen.html and key.json, or results.json, results.md '
    'and results.html.',
    flag_values=fv,
    required=True,
  )
  flags.DEFINE_list(
    'systems',
    None,
    'NAME=FOLDER of recordings, or NAME=ROWS.jsonl with `wav`, of each system; '
    'the same names in each.',
    flag_values=fv,
  )
  flags.DEFINE_list(
    'ratings',
    None,
    'Files that raters saved, a folder of them, or a pattern: scores them.',
    flag_values=fv,
  )
  for name, default, help_text in (
    ('key', None, 'key.json of the page, for --ratings.'),
    ('anchor', None, 'System whose sounds catch trials are made of; by '
     'default `reference`, else the first.'),
    ('title', 'Listening test', 'Of the page.'),
    ('mos_text', None, 'What is asked of one sound.'),
    ('ab_text', None, 'What is asked of two sounds.'),
  ):  # fmt: skip
    flags.DEFINE_string(name, default, help_text, flag_values=fv)
  flags.DEFINE_list(
    'questions',
    ['mos'],
    'mos (one sound, 1 to 5), ab (which of two, or no difference), or both.',
    flag_values=fv,
  )
  for name, default, least, help_text in (
    ('items', 0, 0, 'How many items at most, drawn; 0 means all.'),
    ('catches', 2, 0, 'Catch trials of each kind, for each question.'),
    ('seed', None, 0, 'Of what is drawn; by default one that nobody knows.'),
  ):
    flags.DEFINE_integer(
      name, default, help_text, lower_bound=least, flag_values=fv
    )
  flags.DEFINE_float(
    'level_db', -26.0, 'dBFS that all sounds are brought to.', flag_values=fv
  )
  flags.DEFINE_float(
    'most_megabytes',
    100.0,
    'How large a page may be that holds its sounds.',
    lower_bound=0.0,
    flag_values=fv,
  )
  for name, default, help_text in (
    ('equal', True, 'Bring all sounds to one level.'),
    ('embed', True, 'Hold the sounds in the page; else in a folder beside it.'),
    ('complete', False, 'Leave out raters who have not answered everything.'),
  ):
    flags.DEFINE_bool(name, default, help_text, flag_values=fv)


DOOR = cli.Door(
  summary="""Asks people: a blind listening page that works offline, driven by
keys, and the results of what its raters saved.

    python -m step_audio_jax listen --questions=mos,ab --items=20 \\
      --systems=reference=data/wavs,ours=out/wavs --output=out/listening
    python -m step_audio_jax listen --ratings='back/*.csv' \\
      --key=out/listening/key.json --output=out/listening/results

Give raters listen.html and keep key.json, which says whose sounds they are.
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('title', 'mos_text', 'ab_text'),
)
