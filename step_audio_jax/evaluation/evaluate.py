"""Scores the checkpoints of a run: perplexities, ASR, TTS, sound, captions.

Each figure is a part (`parts`) that is kept under all that it depends on, so
that what has changed is scored and what has not is kept. A step's figures that
were asked for last, with every hypothesis, are `<run>/evaluation/<step>.json`;
figures of other splits stay in it as long as they hold for the same settings.
"""

import dataclasses
import pathlib
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation import score as score_lib
from step_audio_jax.evaluation.benchmarks import asking as asking_lib
from step_audio_jax.evaluation.benchmarks import benchmark as benchmark_lib
from step_audio_jax.evaluation.benchmarks import means as means_lib
from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.families import scores
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.memory import parts as parts_lib
from step_audio_jax.evaluation.metrics import judge as judge_lib
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.evaluation.pages import curves
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints as checkpoints_lib

sound_folder = sound_lib.wave_folder


def evaluate(
  *,
  checkpoints: str,
  steps: str | int | Sequence[int] = 'last',
  manifest: str | None = None,
  codes: str | None = None,
  asr_splits: Sequence[str] = ('dev',),
  tts_splits: Sequence[str] = ('dev',),
  max_utterances: int = 0,
  speech: speech_lib.SpeechConfig = speech_lib.SpeechConfig(),
  sound: sound_lib.SoundConfig | None = None,
  judge: judge_lib.JudgeConfig | str | None = None,
  rows: str | None = None,
  sources: Sequence[str] = (),
  row_split: str = 'dev',
  max_rows: int = 0,
  captions: int = 0,
  caption_source: str = 'image_text',
  benchmarks: Sequence[benchmark_lib.Benchmark] = (),
  asking: asking_lib.Asking = asking_lib.Asking(),
  means: means_lib.MeansConfig = means_lib.MeansConfig(),
  overwrite: bool = False,
  dry_run: bool = False,
) -> dict[str, Any]:
  """Scores checkpoints of one run.

  Args:
    checkpoints: Run directory.
    steps: 'last', 'all', one step, or several ('10,20' or a list).
    manifest: Corpus folder with transcripts; None skips ASR and TTS.
    codes: Folder of the tokenised corpus.
    asr_splits: Splits that are transcribed.
    tts_splits: Splits that are spoken.
    max_utterances: Of each split at most, in the manifest's order; 0 all.
    speech: How speech is decoded.
    sound: What makes the spoken codes sound; None leaves them codes.
    judge: An outside ear that hears recordings, decoded codes and generated
      speech: a folder, `package:NAME+NAME` or more of it; None leaves its
      figures out, and says so.
    rows: Folder of built rows; None skips perplexity and captions.
    sources: Row folders whose perplexity is measured; empty means every
      folder that has the split.
    row_split: Split of the rows.
    max_rows: Rows of each source at most; 0 all.
    captions: How many images are captioned; 0 skips it.
    caption_source: Row folder with the images.
    benchmarks: That are asked.
    asking: How they are: tokenizer, decoder, batches.
    means: What scoring their answers may use: conventions, a judge, an ear.
    overwrite: Score again what was scored before.
    dry_run: Only say what would be done.

  Returns:
    {run, results: {step: flat metrics}, counts: {step: {metric: how many of
    how many}}, left_out: {step: {part: reason}}, not_computed: {figure:
    reason}, judges: who the outside ear is, kept, scored: {step: [part]},
    notes: sentences to tell, page}. Of a dry run {run, steps: {step: whether
    all is kept}, kept, scored, notes, not_computed} and the settings.

  Raises:
    UserError: Something that is asked for is missing, or belongs to another
      vocabulary or speech tokenizer than the run.
  """
  if isinstance(judge, str):
    judge = judge_lib.JudgeConfig(judge)
  settings = {
    'manifest': manifest,
    'codes': codes,
    'asr_splits': list(asr_splits),
    'tts_splits': list(tts_splits),
    'max_utterances': max_utterances,
    'speech': dataclasses.asdict(speech),
    'sound': dataclasses.asdict(sound) if sound else None,
    'judge': dataclasses.asdict(judge) if judge else None,
    'rows': rows,
    'sources': list(sources),
    'row_split': row_split,
    'max_rows': max_rows,
    'captions': captions,
    'caption_source': caption_source,
    'benchmarks': [one.name for one in benchmarks],
    'conventions': list(means.conventions),
  }
  run = files.path(checkpoints)
  wanted = choose_steps(run, steps)
  origins.check(
    run,
    codes=codes if manifest is not None else None,
    rows=rows,
    sources=sources,
    split=row_split,
    sound=sound if manifest is not None and (tts_splits or judge) else None,
  )
  if manifest is not None and codes is None and (asr_splits or tts_splits):
    raise errors.UserError(
      'evaluate: manifest is given and codes is not; give the folder that '
      '`python -m data_pipelines tokenize` made.'
    )
  memory = identity.DigestCache(run / 'evaluation')
  plan = score_lib.Plan(
    settings, speech, sound, judge, memory, benchmarks, asking, means, run
  )
  asked = plan.parts()
  store = parts_lib.Store(run)
  models = {step: memory.model(run, step) for step in wanted}
  held = {
    step: {
      part: None
      if overwrite
      else _held(run, store, plan, step, part, models[step])
      for part in asked
    }
    for step in wanted
  }
  told = {
    'kept': {s: [p.label for p in h if h[p]] for s, h in held.items()},
    'scored': {s: [p.label for p in h if not h[p]] for s, h in held.items()},
    'notes': _notes(run, wanted) + plan.notes(),
    'not_computed': plan.not_computed(),
  }
  if dry_run:
    done = {step: all(found.values()) for step, found in held.items()}
    return {'run': str(run), 'steps': done, **told, **settings}
  files.check_writable(run / 'evaluation', folder=True)
  plan.prepare(
    part for found in held.values() for part in found if not found[part]
  )
  views, answers = {}, {}
  for step in wanted:
    checkpoint = family_lib.Checkpoint(run, step, models[step])
    held[step] = plan.score(checkpoint, held[step], store)
    mine = list(held[step].values())
    about = {
      'run': str(run),
      'step': step,
      'settings': settings,
      'not_computed': plan.not_computed(),
    }
    answers[step] = scores.to_json(about, plan.families, mine)
    others, notes = _others(run, step, models[step], store, plan, mine)
    told['notes'] += notes
    views[step] = scores.to_json(about, plan.families, [*mine, *others])
    if _changed(result_path(run, step), views[step]):
      files.write_json(result_path(run, step), views[step])
    memory.save()
  told['notes'] += plan.notes()
  page, notes = _page(run, plan.families, views, memory, store)
  memory.save()
  return {
    'run': str(run),
    'results': {step: one['metrics'] for step, one in answers.items()},
    'counts': {step: one['counts'] for step, one in answers.items()},
    'left_out': {step: one['left_out'] for step, one in answers.items()},
    'judges': answers[wanted[-1]]['judges'],
    **told,
    'notes': list(dict.fromkeys(told['notes'] + notes)),
    'page': str(page),
  }


def _held(run, store, plan, step, part, model) -> dict[str, Any] | None:
  """What was scored before, where all of it is there."""
  found = store.find(step, part, model)
  if found and not plan.family(part.task).is_whole(run, step, found):
    return None
  return found


def _changed(path: pathlib.Path, view: Mapping[str, Any]) -> bool:
  if not files.is_file(path):
    return True
  try:
    return files.read_json(path) != view
  except errors.UserError:
    return True


def _notes(run: pathlib.Path, wanted: Sequence[int]) -> list[str]:
  """Score files that do not say what they were scored on."""
  old = [
    step for step in wanted if 'parts' not in _result(run, step, {'parts': ()})
  ]
  if not old:
    return []
  return [
    f'{run}/evaluation: the scores of step {", ".join(map(str, old))} do not '
    'say what they were measured on, and are measured again.'
  ]


def _result(run, step, otherwise):
  path = result_path(run, step)
  try:
    return files.read_json(path) if files.is_file(path) else otherwise
  except errors.UserError:
    return otherwise


def _others(run, step, model, store, plan, mine):
  """Figures of the step that were not asked for now and still hold."""
  asked = {(found['task'], found['name']) for found in mine}
  tasks = {found['task'] for found in mine}
  conditions = {(f['task'], f['name']): f['condition'] for f in mine}
  kept, gone = [], []
  for old in _result(run, step, {}).get('parts', ()):
    task, name = old['task'], old['name']
    family = plan.family(task)
    if (task, name) in asked or (family and family.together and task in tasks):
      continue
    part = plan.again(task, name)
    condition = part.condition if part else old['condition']
    found = store.of_condition(step, task, condition, model)
    if task in tasks and part is None:
      found = None  # of a set that is there no more, or of other rows
    if found and family and (of := family.made_of.get(task)):
      if conditions.get((of, name)) not in (None, found['settings'].get(of)):
        found = None
    if found:
      kept.append(found)
      conditions[task, name] = found['condition']
    else:
      gone.append(f'{task}/{name}')
  notes = []
  if gone:
    notes.append(
      f'{run}: {", ".join(gone)} of step {step} belong to other settings, data '
      'or parameters than these; evaluate them again to see them beside these.'
    )
  return kept, notes


def _page(run, families, views, memory, store):
  """The curves, of every step under the conditions of the newest one asked."""
  newest = views[max(views)]
  chosen, absent = {}, []
  about = {
    'run': str(run),
    'settings': newest['settings'],
    'not_computed': newest['not_computed'],
  }
  behind = steps_behind(run)
  for step in sorted({*views, *_scored_steps(run)} - set(behind)):
    there = step in views or files.is_dir(run / 'checkpoints' / str(step))
    model = memory.model(run, step) if there else None
    found = [
      store.of_condition(step, one['task'], one['condition'], model)
      for one in newest['parts']
    ]
    if any(found):
      some = [one for one in found if one]
      chosen[step] = scores.to_json({**about, 'step': step}, families, some)
    if not all(found):
      absent.append(step)
  notes = []
  if behind:
    notes.append(
      f'{run}/evaluation: step {", ".join(map(str, behind))} lies behind the '
      'newest checkpoint, so its scores are those of another training and are '
      'not shown.'
    )
  if absent:
    notes.append(
      f'{run}/evaluation/index.html: not every figure of step '
      f'{", ".join(map(str, absent))} was scored under the settings and on the '
      f'data of step {max(views)}; --steps=all scores what is missing.'
    )
  return curves.write(run, chosen, notes), notes


def result_path(run: str | pathlib.Path, step: int) -> pathlib.Path:
  """Where the scores of a step lie."""
  return files.path(run) / 'evaluation' / f'{step}.json'


def all_results(run: str | pathlib.Path) -> dict[int, dict[str, Any]]:
  """Every score file of a run by step, ascending; empty if there is none."""
  return {
    step: files.read_json(result_path(run, step)) for step in _scored_steps(run)
  }


def steps_behind(run: str | pathlib.Path) -> list[int]:
  """Scored steps that the run has not come to: it was trained anew since."""
  newest = max(checkpoints_lib.steps_of(run), default=None)
  if newest is None:
    return []
  return [step for step in _scored_steps(run) if step > newest]


def _scored_steps(run: str | pathlib.Path) -> list[int]:
  paths = files.glob(files.path(run) / 'evaluation', '*.json')
  return sorted(int(path.stem) for path in paths if path.stem.isdigit())


def choose_steps(run: pathlib.Path, steps: str | int | Sequence[int]):
  """The steps that are meant, ascending.

  Raises:
    UserError: `steps` is not understood, or a step has no checkpoint.
  """
  known = checkpoints_lib.all_steps(run)
  if steps == 'all':
    return known
  if steps == 'last':
    return known[-1:]
  if isinstance(steps, str):
    steps = steps.split(',')
  elif isinstance(steps, int):
    steps = [steps]
  try:
    wanted = sorted({int(step) for step in steps})
  except ValueError as error:
    raise errors.UserError(
      f"evaluate: steps is {steps!r}, expected 'all', 'last' or numbers such "
      "as '10,20'."
    ) from error
  missing = [step for step in wanted if step not in known]
  if missing or not wanted:
    raise errors.UserError(
      f'{run}: no checkpoint of step {", ".join(map(str, missing)) or "-"}; '
      f'it has {", ".join(map(str, known))}.'
    )
  return wanted
