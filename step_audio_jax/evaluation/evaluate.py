"""Scores the checkpoints of a run: perplexities, ASR, TTS, sound, captions.

What is scored is said by families of figures (`score.Plan`), and kept under
all that it depends on (`session`). A step's figures that were asked for last,
with every hypothesis, are `<run>/evaluation/<step>.json`; figures of other
splits stay in it as long as they hold for the same settings.
"""

import dataclasses
from typing import Any, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation import score as score_lib
from step_audio_jax.evaluation import session as session_lib
from step_audio_jax.evaluation.benchmarks import asking as asking_lib
from step_audio_jax.evaluation.benchmarks import benchmark as benchmark_lib
from step_audio_jax.evaluation.benchmarks import means as means_lib
from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import judge as judge_lib
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.evaluation.sweeps import choosing
from step_audio_jax.evaluation.sweeps import results
from step_audio_jax.storage import files

choose_steps = choosing.choose_steps
result_path = results.result_path
all_results = results.all_results
steps_behind = results.steps_behind
sound_folder = sound_lib.wave_folder

_LONGEST = 86400.0  # pause


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
  families: Sequence[family_lib.FamilyConfig] = (),
  watch: bool = False,
  pause: float = 30.0,
  overwrite: bool = False,
  dry_run: bool = False,
) -> dict[str, Any]:
  """Scores checkpoints of one run.

  Args:
    checkpoints: Run directory.
    steps: 'last', 'all', 'every:N' (its multiples), one step, or several
      ('10,20' or a list).
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
    families: More of them, which somebody else knows; each is built for the
      run.
    watch: Go on with checkpoints that the run writes, until it is over or an
      interrupt; what is there by then is told.
    pause: Seconds between looks for new ones.
    overwrite: Score again what was scored before.
    dry_run: Only say what would be done.

  Returns:
    {run, results: {step: flat metrics}, units: {metric: unit}, counts: {step:
    {metric: how many of how many}}, left_out: {step: {part: reason}},
    not_computed: {figure: reason}, judges: who the outside ear is, kept,
    scored: {step: [part]}, unreadable: {step: why its checkpoint is not
    scored}, notes: sentences to tell, page}. Of a dry run {run, steps: {step:
    whether all is kept}, kept, scored, unreadable, notes, not_computed} and
    the settings.

  Raises:
    UserError: Something that is asked for is missing, or belongs to another
      vocabulary or speech tokenizer than the run; or no checkpoint can be
      read.
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
    'families': [
      {'family': type(one).__name__, **dataclasses.asdict(one)}
      for one in families
    ],
  }
  run = files.path(checkpoints)
  if not 0 < pause <= _LONGEST:
    raise errors.UserError(
      f'evaluate: pause is {pause!r}, expected more than 0 seconds and at most '
      'a day of them.'
    )
  if manifest is not None and codes is None and (asr_splits or tts_splits):
    raise errors.UserError(
      'evaluate: manifest is given and codes is not; give the folder that '
      '`python -m data_pipelines tokenize` made.'
    )
  # A dry run tells of what is there; so does a watch that nobody waits for.
  watched = watch and not dry_run
  rounds = (
    choosing.watch(run, steps, pause)
    if watched
    else [choosing.choose_steps(run, steps)]
  )
  memory = identity.DigestCache(run / 'evaluation')
  plan = score_lib.Plan(
    settings,
    speech,
    sound,
    judge,
    memory,
    benchmarks,
    asking,
    means,
    run,
    [one.build(run, memory) for one in families],
  )
  session = session_lib.Session(
    run,
    settings,
    plan,
    memory,
    overwrite,
    tells=asking.its_share.index == 0,
  )
  try:
    for wanted in rounds:
      origins.check(
        run,
        codes=codes if manifest is not None else None,
        rows=rows,
        sources=sources,
        split=row_split,
        sound=sound if manifest is not None and (tts_splits or judge) else None,
      )
      if benchmarks:
        origins.check(run, tokenizer=asking.tokenizer, sound=asking.sound)
      held = session.look(wanted)
      if dry_run:
        session.check()
        done = {step: all(found.values()) for step, found in held.items()}
        return {
          'run': str(run),
          'steps': done,
          **session.planned(),
          **settings,
        }
      files.check_writable(run / 'evaluation', folder=True)
      session.score(held)
  except KeyboardInterrupt:
    if not watched:
      raise
  session.check()
  if watched and not session.scored:
    choosing.choose_steps(run, steps)  # says that there is nothing
  return session.told()
