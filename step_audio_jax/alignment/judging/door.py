"""The `judge` door: a reward model over preferences, and what moves it."""

from typing import Any

from absl import flags
import numpy as np

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import files

_NAMES = ('judge.json', 'judge.md', 'index.html')


def judge(
  run: str,
  *,
  corpus: str | None = None,
  rows: str | None = None,
  codes: str | None = None,
  splits: tuple[str, ...] = ('test',),
  view: str = '',
  tokenizer: str | None = None,
  audited: int = 200,
  phrase: str = 'I hope this helps.',
  step: int | None = None,
  ema: bool = False,
) -> dict[str, Any]:
  """Figures of a reward model.

  Args:
    run: Of the reward model.
    corpus: With preferences; or
    rows: A folder of rows of them, `ROWS/TASK/SPLIT`, which cannot be audited.
    codes: What `tokenize` made of the corpus.
    splits: Of the corpus.
    view: Of `examples.VIEWS`.
    tokenizer: Folder of the tokenizer of the codes; with it recordings are
      changed.
    audited: How many examples are, at most.
    phrase: That is put behind answers.
    step: Which checkpoint; None means the newest.
    ema: Whether the mean of the parameters takes their place.

  Raises:
    UserError: Bad input, or scores that are not finite.
  """
  from step_audio_jax.alignment.judging import audit
  from step_audio_jax.alignment.judging import changes
  from step_audio_jax.alignment.judging import examples as examples_lib
  from step_audio_jax.alignment.judging import figures
  from step_audio_jax.alignment.judging import scorer as scorer_lib
  from step_audio_jax.corpus import speech_codes

  scorer = scorer_lib.Scorer(run, step, ema)
  table: list[dict[str, Any]] = []
  listening: dict[str, dict[str, Any]] = {}
  if rows is not None:
    scored, categories = examples_lib.of_rows(rows)
    scores_N2 = scorer.pairs(scored)
  else:
    assert corpus is not None
    found = examples_lib.read(corpus, splits)
    heard = speech_codes.read_codes(codes) if codes else {}
    layout = examples_lib.Layout(
      scorer.vocabulary, scorer.habits, found.speech, view
    )
    scored = [layout.scored(one, heard) for one in found.examples]
    categories = [one.category for one in found.examples]
    scores_N2 = scorer.pairs(scored)
    some = found.examples[:audited]
    if some:
      changed = [
        *changes.of_texts(some, phrase),
        *(changes.of_voices(found, some, heard) if view != 'tqta' else ()),
        *(changes.of_sound(found, some, tokenizer) if tokenizer else ()),
      ]
      before_N2 = scores_N2[:audited]
      table = audit.audit(scorer, layout, before_N2, changed, heard)
      if tokenizer:
        silence = changes.of_silence(found, some, tokenizer)
        listening = audit.heard(scorer, layout, before_N2, silence, heard)
  return {
    'run': run,
    'source': rows or f'{corpus}, {", ".join(splits)}',
    'pairs': figures.accuracy(scores_N2),
    'categories': figures.by_category(scores_N2, categories),
    'calibration': figures.calibration(scores_N2),
    'lengths': figures.lengths(
      scores_N2, np.asarray([one.ids for one in scored])
    ),
    'score': {
      'mean': float(scores_N2.mean()),
      'deviation': float(scores_N2.std()),
    },
    'audit': table,
    'heard': listening,
  }


def _check(fv: flags.FlagValues) -> None:
  """What can be wrong, before anything is loaded."""
  from step_audio_jax.alignment.judging import examples as examples_lib
  from step_audio_jax.corpus import manifest
  from step_audio_jax.evaluation import origins
  from step_audio_jax.generation import restore
  from step_audio_jax.training.checkpoints import checkpoints

  examples_lib.check_named(
    'judge',
    '--',
    **{
      name: fv[name].value
      for name in ('corpus', 'rows', 'codes', 'splits', 'view', 'tokenizer')
    },
  )
  if fv.corpus:
    path = manifest.path_of(fv.corpus)
    if not files.is_file(path):
      raise errors.UserError(f'{path}: no such file.')
  restore.scorer_config(fv.run)
  checkpoints.step_folder(files.path(fv.run), fv.step, fv.ema)
  if fv.rows:
    path = files.path(fv.rows)
    if not files.is_file(path / 'stats.json'):
      raise errors.UserError(
        f'--rows={fv.rows}: found no stats.json, expected ROWS/TASK/SPLIT as '
        '`build` made it.'
      )
    origins.check(
      fv.run,
      rows=str(path.parent.parent),
      sources=[path.parent.name],
      split=path.name,
    )
  origins.check(fv.run, codes=fv.codes, tokenizer=fv.tokenizer)


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  from step_audio_jax.alignment.judging import page

  folder = files.check_writable(fv.output, '--output', folder=True)
  _check(fv)
  if fv.dry_run:
    print(f'would judge {fv.corpus or fv.rows} by {fv.run} into {folder}')
    return {'dry_run': True, 'output': str(folder)}
  found = judge(
    fv.run,
    corpus=fv.corpus,
    rows=fv.rows,
    codes=fv.codes,
    splits=tuple(fv.splits),
    view=fv.view,
    tokenizer=fv.tokenizer,
    audited=fv.audit,
    phrase=fv.phrase,
    step=fv.step,
    ema=fv.ema,
  )
  files.make_folder(folder)
  text = page.markdown(found)
  files.write_json(folder / _NAMES[0], found)
  for name, content in ((_NAMES[1], text), (_NAMES[2], page.document(found))):
    with files.atomic(folder / name, 'w') as handle:
      handle.write(content)
  print(text, end='')
  heard = found['heard'].values()
  gaps = {}
  if heard:
    count = sum(one['pairs'] for one in heard)
    total = sum(one['pairs'] * one['chosen']['gap'] for one in heard)
    gaps['rm_heard_gap'] = round(total / count, 6)
  return {
    'output': str(folder),
    'pairs': found['pairs']['pairs'],
    'rm_pair_accuracy': round(found['pairs']['accuracy'], 6),
    'rm_ece': round(found['calibration']['ece'], 6),
    **gaps,
  }


def _define(fv: flags.FlagValues) -> None:
  for name, help_text in (
    ('run', 'Run of a reward model.'),
    ('output', 'Folder that gets judge.json, judge.md and index.html.'),
  ):
    flags.DEFINE_string(name, None, help_text, flag_values=fv, required=True)
  for name, help_text in (
    ('corpus', 'Corpus with preferences.'),
    ('rows', 'A folder of rows of them instead, ROWS/TASK/SPLIT.'),
    ('codes', 'What `tokenize` made of the corpus.'),
    (
      'tokenizer',
      'Folder of the tokenizer that made the codes; with it recordings are '
      'changed, tokenised again and scored.',
    ),
  ):
    flags.DEFINE_string(name, None, help_text, flag_values=fv)
  flags.DEFINE_list('splits', ['test'], 'Of the preferences.', flag_values=fv)
  flags.DEFINE_enum(
    'view',
    '',
    ['', 'tqta', 'aqta', 'taqta'],
    'How the last question is shown: read, heard, both; by default as it was '
    'asked.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'audit',
    200,
    'Preferences that are changed to see what moves scores; 0 for none.',
    lower_bound=0,
    flag_values=fv,
  )
  flags.DEFINE_string(
    'phrase',
    'I hope this helps.',
    'What is put behind answers to make them longer.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'step', None, 'Which checkpoint, not the newest.', flag_values=fv
  )
  flags.DEFINE_bool(
    'ema', False, 'The mean of the parameters in their place.', flag_values=fv
  )


DOOR = cli.Door(
  summary="""Scores preferences with a reward model: pair accuracy by category,
calibration, and what else than the answer moves a score.

    python -m step_audio_jax judge --run=runs/reward --corpus=data/liked \\
      --codes=data/liked/codes --tokenizer=runs/tokenizer --output=runs/judged
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('phrase',),
)
