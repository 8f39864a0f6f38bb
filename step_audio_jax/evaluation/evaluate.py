"""Scores the checkpoints of a run: perplexities, ASR, TTS, sound, captions.

Each step gives one file, `<run>/evaluation/<step>.json`, with figures and every
hypothesis, so that texts can be scored again under another convention. A file
that exists is kept, so a sweep that was stopped goes on where it was.
"""

import dataclasses
import pathlib
import time
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest as manifest_lib
from step_audio_jax.evaluation import captions as captions_lib
from step_audio_jax.evaluation import curves
from step_audio_jax.evaluation import perplexity
from step_audio_jax.evaluation import scoring
from step_audio_jax.evaluation import sound as sound_lib
from step_audio_jax.evaluation import speech as speech_lib
from step_audio_jax.generation import restore
from step_audio_jax.training import checkpoints as checkpoints_lib
from step_audio_jax.training import feed


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
  rows: str | None = None,
  sources: Sequence[str] = (),
  row_split: str = 'dev',
  max_rows: int = 0,
  captions: int = 0,
  caption_source: str = 'image_text',
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
    rows: Folder of built rows; None skips perplexity and captions.
    sources: Row folders whose perplexity is measured; empty means every
      folder that has the split.
    row_split: Split of the rows.
    max_rows: Rows of each source at most; 0 all.
    captions: How many images are captioned; 0 skips it.
    caption_source: Row folder with the images.
    overwrite: Score again what was scored before.
    dry_run: Only say what would be done.

  Returns:
    {run, results: {step: flat metrics}, page}.

  Raises:
    UserError: Something that is asked for is missing.
  """
  settings = {
    'manifest': manifest,
    'codes': codes,
    'asr_splits': list(asr_splits),
    'tts_splits': list(tts_splits),
    'max_utterances': max_utterances,
    'speech': dataclasses.asdict(speech),
    'sound': dataclasses.asdict(sound) if sound else None,
    'rows': rows,
    'sources': list(sources),
    'row_split': row_split,
    'max_rows': max_rows,
    'captions': captions,
  }
  run = pathlib.Path(checkpoints)
  wanted = choose_steps(run, steps)
  if manifest is not None and codes is None and (asr_splits or tts_splits):
    raise errors.UserError(
      'evaluate: manifest is given and codes is not; give the folder that '
      '`python -m data_pipelines tokenize` made.'
    )
  done = {
    step: result_path(run, step).is_file() and not overwrite for step in wanted
  }
  if dry_run:
    return {'run': str(run), 'steps': done, **settings}
  sets, code_table = {}, {}
  if manifest is not None and not all(done.values()):
    splits = sorted({*asr_splits, *tts_splits})
    sets = utterance_sets(manifest, splits, max_utterances)
    code_table = manifest_lib.read_codes(codes)
  results = {}
  for step in wanted:
    path = result_path(run, step)
    if done[step]:
      results[step] = files.read_json(path)
      continue
    started = time.monotonic()
    loaded = restore.load_model(run, step)
    result = {
      'run': str(run),
      'step': step,
      'convention': scoring.CONVENTION,
      'settings': settings,
      **_speech(
        loaded,
        sets,
        code_table,
        (asr_splits, tts_splits),
        (speech, sound),
        (sound_folder(run, step), manifest),
      ),
      **_rows(loaded, rows, sources, row_split, max_rows),
      **_captions(loaded, rows, caption_source, row_split, captions),
    }
    result['metrics'] = flat(result)
    result['seconds'] = round(time.monotonic() - started, 2)
    files.write_json(path, result)
    results[step] = result
  page = curves.write(run, all_results(run))
  return {
    'run': str(run),
    'results': {step: r['metrics'] for step, r in results.items()},
    'page': str(page),
  }


def result_path(run: str | pathlib.Path, step: int) -> pathlib.Path:
  """Where the scores of a step lie."""
  return pathlib.Path(run) / 'evaluation' / f'{step}.json'


def sound_folder(run: str | pathlib.Path, step: int) -> pathlib.Path:
  """Where the waveforms of a step lie."""
  return pathlib.Path(run) / 'evaluation' / f'{step}_sound'


def all_results(run: str | pathlib.Path) -> dict[int, dict[str, Any]]:
  """Every score file of a run by step, ascending; empty if there is none."""
  folder = pathlib.Path(run) / 'evaluation'
  paths = [p for p in folder.glob('*.json') if p.stem.isdigit()]
  return {
    int(path.stem): files.read_json(path)
    for path in sorted(paths, key=lambda p: int(p.stem))
  }


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


def utterance_sets(
  corpus: str, splits: Sequence[str], most: int
) -> dict[str, list[manifest_lib.Utterance]]:
  """Split → its speech utterances, the first `most` of them (0: all)."""
  utterances = manifest_lib.read(corpus, splits=splits, kind='speech')
  sets = {}
  for split in splits:
    some = [u for u in utterances if u.split == split]
    sets[split] = some[: most or None]
  return sets


def flat(result: Mapping[str, Any]) -> dict[str, float]:
  """The figures of a result under short names, for curves and tables."""
  metrics = {}
  for task in ('asr', 'tts', 'sound'):
    for name, scores in result.get(task, {}).items():
      metrics[f'{task}_cer/{name}'] = scores['cer']
  for source, streams in result.get('perplexity', {}).items():
    for stream, figures in streams.items():
      metrics[f'perplexity/{source}/{stream}'] = figures['perplexity']
  if 'captions' in result:
    metrics['caption_cer'] = result['captions']['cer']
    metrics['caption_exact'] = result['captions']['exact']
  return metrics


def _speech(loaded, sets, codes, splits, configs, places):
  model, variables, vocabulary = loaded
  (asr_splits, tts_splits), (config, sound) = splits, configs
  if not sets or not vocabulary.linguistic_size:
    return {}
  found = {}
  speaker = speech_lib.Speaker(
    restore.unrolled(model), variables, vocabulary, config
  )
  if asr_splits:
    asr_sets = {name: sets[name] for name in asr_splits}
    found['asr'] = speech_lib.asr(speaker, vocabulary, asr_sets, codes)
  if tts_splits:
    tts_sets = {name: sets[name] for name in tts_splits}
    found['tts'] = speech_lib.tts(speaker, vocabulary, tts_sets)
    if sound:
      found['sound'] = sound_lib.score(
        speaker, vocabulary, found['tts'], sound, *places
      )
  return found


def _rows(loaded, rows, sources, split, max_rows):
  if rows is None:
    return {}
  root = pathlib.Path(rows)
  names = list(sources) or sorted(
    path.parent.parent.name for path in root.glob(f'*/{split}/stats.json')
  )
  model, variables, vocabulary = loaded
  blind = model.config.vision is None
  readable = []
  for name in names:
    source = feed.Source(name, root / name / split)
    deaf = not vocabulary.linguistic_size and (
      source.row(0)['tokens'].max() >= vocabulary.table_size
    )
    # A backbone that cannot see or hear yet is scored on what it can read.
    if not deaf and not (blind and source.stats.get('images_per_row')):
      readable.append(name)
  return {
    'perplexity': perplexity.of_rows(
      model,
      variables,
      vocabulary,
      rows=rows,
      sources=readable,
      split=split,
      max_rows=max_rows,
    )
  }


def _captions(loaded, rows, source, split, count):
  model, variables, vocabulary = loaded
  if not count or rows is None or model.config.vision is None:
    return {}
  folder = pathlib.Path(rows) / source / split
  if not (folder / 'stats.json').is_file():
    return {}
  return {
    'captions': captions_lib.evaluate(
      restore.unrolled(model), variables, vocabulary, folder=folder, count=count
    )
  }
