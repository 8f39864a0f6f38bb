"""The family of benchmarks: what is asked, what was answered, what it is worth.

Two things are kept apart. Answers belong to parameters, to what is asked and to
how it is decoded (`journal`); figures belong to answers, references,
conventions and judges (`memory.parts`). Another convention or judge scores what
was answered.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import asking as asking_lib
from step_audio_jax.evaluation.benchmarks import benchmark as benchmark_lib
from step_audio_jax.evaluation.benchmarks import journal as journal_lib
from step_audio_jax.evaluation.benchmarks import means as means_lib
from step_audio_jax.evaluation.benchmarks import recordings as recordings_lib
from step_audio_jax.evaluation.benchmarks import transcription
from step_audio_jax.evaluation.families import comparing
from step_audio_jax.evaluation.families import family
from step_audio_jax.evaluation.judges import llm_judge
from step_audio_jax.evaluation.judges import prompts
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.generation import restore
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints

TASK = 'benchmark'
SOUNDS = 'spoken'  # below `evaluation`, by content
_HEARS = (benchmark_lib.PLAIN, benchmark_lib.SILENCED, benchmark_lib.CASCADE)
_MUTE = 'no decoder and tokenizer are named (asking.Asking.sound)'


@dataclasses.dataclass(frozen=True)
class _Asked:
  """A checkpoint that may be asked; loaded only if it is."""

  asking: asking_lib.Asking
  recordings: recordings_lib.Recordings
  checkpoint: family.Checkpoint
  sounds: files.AnyPath

  @functools.cached_property
  def model(self) -> asking_lib.Model:
    return asking_lib.Model(
      self.checkpoint.run,
      self.checkpoint.step,
      tuple(self.checkpoint.loaded),
      self.asking,
      self.recordings,
      self.sounds,
    )


class Benchmarks(family.Family):
  """All benchmarks of an evaluation."""

  tasks = (TASK,)

  def __init__(
    self,
    benchmarks: Sequence[benchmark_lib.Benchmark],
    asking: asking_lib.Asking,
    means: means_lib.MeansConfig,
    run: pathlib.Path,
    memory: identity.DigestCache,
  ):
    """Nothing is read yet.

    Args:
      benchmarks: That are asked; each has a name of its own.
      asking: How checkpoints are asked.
      means: What scoring may use.
      run: Run directory; answers lie in it.
      memory: Of digests.

    Raises:
      UserError: Two have one name, or a means is broken.
    """
    self._benchmarks: dict[str, benchmark_lib.Benchmark] = {}
    for one in benchmarks:
      if one.name in self._benchmarks:
        raise errors.UserError(
          f'evaluate: benchmarks: found two that are called {one.name!r}, '
          'expected a name for each.'
        )
      self._benchmarks[one.name] = one
    self._asking, self._means, self._memory = asking, means, memory
    self._folder = files.path(run) / 'evaluation'
    self._readings: dict[str, benchmark_lib.Reading] = {}
    self._of_part: dict[family.Part, tuple[str, str]] = {}
    self._digests: dict[str, str] = {}
    self._notes: list[str] = []

  @functools.cached_property
  def _recordings(self) -> recordings_lib.Recordings:
    return recordings_lib.Recordings(
      self._asking.tokenizer, self._folder / 'heard', self._memory
    )

  def parts(self) -> list[family.Part]:
    found = []
    for name, one in self._benchmarks.items():
      items = self._reading(name).items
      for control in one.controls:
        sensible = benchmark_lib.SENSIBLE.get(one.asks, (benchmark_lib.PLAIN,))
        if control not in sensible:
          self._notes.append(
            f'{name}: what it asks for is to {one.asks}, so it is not asked '
            f'{control}.'
          )
          continue
        if control != benchmark_lib.PLAIN and not any(
          item.recordings for item in items
        ):
          self._notes.append(
            f'{name}: nothing of it is heard, so it is not asked {control}.'
          )
          continue
        part = self._part(name, control)
        self._of_part[part] = name, control
        found.append(part)
    return found

  def again(self, task: str, name: str) -> family.Part | None:
    name, _, control = name.partition('/')
    if name not in self._benchmarks:
      return None
    part = self._part(name, control or benchmark_lib.PLAIN)
    self._of_part[part] = name, control or benchmark_lib.PLAIN
    return part

  def notes(self) -> list[str]:
    return list(self._notes)

  def not_computed(self) -> dict[str, str]:
    return {}

  def prepare(self, missing) -> None:
    del missing
    self._means.check()

  def _reading(self, name: str) -> benchmark_lib.Reading:
    if name not in self._readings:
      self._readings[name] = _cut(self._benchmarks[name])
    return self._readings[name]

  # What figures and answers depend on.

  def _part(self, name: str, control: str) -> family.Part:
    one, reading = self._benchmarks[name], self._reading(name)
    data = digests.of_value(
      [
        [
          [list(item.references), item.language, dict(item.about)]
          for item in reading.items
        ],
        self._asked(name),
        {why: list(ids) for why, ids in sorted(reading.left_out.items())},
        [self._memory.tree(folder) for folder in one.recorded],
      ]
    )
    prompt = getattr(one, 'prompt', '')
    settings = {
      'benchmark': one.settings,
      # What a judge is asked, and how it is read, may change under its name.
      'prompt': prompts.find(prompt).identity if prompt else None,
      'asked': self._manner(one, control),
      'means': self._means.described_by(self._memory),
    }
    label = name if control == benchmark_lib.PLAIN else f'{name}/{control}'
    return family.Part(TASK, label, data, settings)

  def _asked(self, name: str) -> str:
    """Digest of what a model is given: turns, and recordings by content."""
    if name not in self._digests:
      self._digests[name] = digests.of_value(
        [
          benchmark_lib.asked(item, self._recordings.digest)
          for item in self._reading(name).items
        ]
      )
    return self._digests[name]

  def _manner(self, one, control) -> dict[str, Any]:
    """How answers come about, beside the checkpoint."""
    told: dict[str, Any] = {
      'way': one.asks,
      'control': control,
      'decoding': dataclasses.asdict(one.decoding),
      'tokenizer': self._recordings.tokenizer,
      'batch': self._asking.batch_size,
    }
    if _speaks(one):
      told['sound'] = self._sound()
    if control == benchmark_lib.CASCADE and self._asking.cascade:
      told['cascade'] = self._digest_of(self._asking.cascade)
    return told

  def _sound(self) -> dict[str, Any] | None:
    sound = self._asking.sound
    if sound is None:
      return None
    return {
      'decoder': self._memory.tree(sound.decoder),
      'steps': sound.steps,
      'seed': sound.seed,
    }

  def _digest_of(self, run: str) -> str:
    return self._memory.model(run, max(checkpoints.all_steps(run)))

  # Scoring.

  def score(self, checkpoint, parts, held, keep) -> None:
    sounds = self._folder / SOUNDS
    asked = _Asked(self._asking, self._recordings, checkpoint, sounds)
    means = self._means.build(sounds, self._folder / 'judged')
    for part in parts:
      name, control = self._of_part[part]
      one, items = self._benchmarks[name], self._reading(name).items
      began = time.monotonic()
      answers = self._answers(asked, one, items, control)
      if isinstance(answers, str):
        keep(part, began, None, answers)
        continue
      scored = one.score(items, answers, means)
      keep(part, began, self._result(name, control, answers, scored))

  def is_whole(self, run, step, kept) -> bool:
    """Whether all its sounds are there, and no judge failed to answer."""
    result = kept['result'] or {}
    folder = self._folder / SOUNDS
    del run, step
    return not result.get('again') and all(
      files.is_file(folder / row['wav'])
      for row in result.get('rows', ())
      if row.get('wav')
    )

  def sounds(self, kept, step) -> str:
    del kept, step
    return SOUNDS

  def _cannot(self, one, items, control, model) -> str:
    """Why a checkpoint cannot be asked; '' where it can."""
    speaks = _speaks(one)
    hears = control in _HEARS and any(item.recordings for item in items)
    if (hears or speaks) and not model.hears:
      return family.DEAF
    if speaks and self._asking.sound is None:
      return _MUTE
    return ''

  def _journal(self, asked, one, **manner) -> journal_lib.Journal:
    told = {**self._manner(one, manner['control']), **manner}
    key = digests.of_value(
      [asked.checkpoint.digest, self._asked(one.name), told]
    )
    return journal_lib.Journal(
      self._folder / 'answers', key, self._asking.its_share
    )

  def _answers(self, asked, one, items, control):
    """Answers to all items, or why there are none."""
    if one.asks == benchmark_lib.RECORDED:
      return [benchmark_lib.Answer(None) for _ in items]
    journal = self._journal(asked, one, control=control)
    found = journal.whole([item.id for item in items])
    if found is not None:
      return found
    if why := self._cannot(one, items, control, asked.model):
      return why
    label = f'{one.name}, step {asked.checkpoint.step}'
    model, transcripts = asked.model, None
    if control == benchmark_lib.CASCADE:
      transcripts = self._transcripts(asked, one, items, label)
      if self._asking.cascade is not None:
        model = self._cascade
    return model.ask(
      one.asks,
      items,
      control,
      one.decoding,
      journal,
      aloud=one.aloud,
      label=label if control == benchmark_lib.PLAIN else f'{label} {control}',
      transcripts=transcripts,
    )

  def _transcripts(self, asked, one, items, label) -> dict[str, str]:
    """What a checkpoint itself hears in each item's last recording."""
    heard = [_heard(item) for item in items if item.recordings]
    decoding = benchmark_lib.Decoding()
    journal = self._journal(
      asked,
      one,
      control=benchmark_lib.PLAIN,
      way=benchmark_lib.TRANSCRIBE,
      decoding=dataclasses.asdict(decoding),
    )
    said = journal.whole([item.id for item in heard]) or asked.model.ask(
      benchmark_lib.TRANSCRIBE,
      heard,
      benchmark_lib.PLAIN,
      decoding,
      journal,
      label=f'{label} transcribed',
    )
    return {
      item.id: answer.text
      for item, answer in zip(heard, said, strict=True)
      if answer.text is not None
    }

  @functools.cached_property
  def _cascade(self) -> asking_lib.Model:
    run = self._asking.cascade
    return asking_lib.Model(
      run,
      None,
      restore.load_model(run),
      self._asking,
      self._recordings,
      self._folder / SOUNDS,
    )

  def _result(self, name, control, answers, scored) -> dict[str, Any]:
    one, reading = self._benchmarks[name], self._reading(name)
    cut = dict(scored.cut)
    cut.setdefault(
      transcription.NO_ANSWER, sum(bool(one.fault) for one in answers)
    )
    cut['cut at the limit'] = sum(not one.stopped for one in answers)
    rows = scored.rows
    if one.asks != benchmark_lib.RECORDED:
      rows = [
        {**_row(item, answer, one.decoding), **row}
        for item, answer, row in zip(
          reading.items, answers, scored.rows, strict=True
        )
      ]
    return {
      'figures': {
        figure: dataclasses.asdict(value)
        for figure, value in scored.figures.items()
      },
      # JSON keeps lists as they are; the first is the headline.
      'order': list(scored.figures),
      'not_computed': dict(scored.not_computed),
      # Somebody did not answer: it is asked again, the model is not.
      'again': any(
        why.startswith(llm_judge.FAILED) for why in scored.not_computed.values()
      ),
      'counted': scored.counted or reading.counted(cut),
      'left_out_ids': {why: list(ids) for why, ids in reading.left_out.items()},
      'control': control,
      'version': reading.version,
      'means': self._means.described_by(self._memory),
      'rows': list(rows),
    }

  def show(self, kept) -> family.Shown:
    sections: dict[str, Any] = {}
    figures: dict[str, family.Figure] = {}
    counted, absent = {}, {}
    for one in kept:
      if one['left_out']:
        absent[one['name']] = one['left_out']
        continue
      result = one['result']
      sections[one['name']] = {
        name: value for name, value in result.items() if name != 'rows'
      }
      for name in _ordered(result):
        told, label = result['figures'][name], f'{one["name"]}/{name}'
        if told['value'] is not None:
          figures[label] = family.Figure(**told)
        counted[label] = result['counted']
      for name, why in result['not_computed'].items():
        absent[f'{one["name"]}/{name}'] = why
    return family.Shown(
      {'benchmarks': sections} if sections else {},
      figures,
      counted,
      self._means.described(),
      absent,
    )

  def main_figure(self, kept) -> str:
    figure = next(iter(_ordered(kept['result'] or {})), None)
    return f'{kept["name"]}/{figure}' if figure else ''

  def rows(self, kept) -> list[dict[str, Any]]:
    result = kept['result'] or {}
    name = next(iter(_ordered(result)), '')
    figure = result['figures'][name] if name else {}
    return [
      {
        **({'latency': row['seconds']} if 'seconds' in row else {}),
        **row,
        **comparing.comparable(row, name, figure),
      }
      for row in result.get('rows', ())
    ]


def _ordered(result: Mapping[str, Any]) -> Sequence[str]:
  """Names of figures, the headline first."""
  return result.get('order') or list(result.get('figures', ()))


def _speaks(one: benchmark_lib.Benchmark) -> bool:
  """Whether its answers are sounds."""
  return one.aloud or one.asks in (
    benchmark_lib.SPEAK,
    benchmark_lib.RESYNTHESIZE,
  )


def _cut(one: benchmark_lib.Benchmark) -> benchmark_lib.Reading:
  """What a benchmark holds, the first `most` of it."""
  reading = one.read()
  if not one.most or len(reading.items) <= one.most:
    return reading
  beyond = tuple(item.id for item in reading.items[one.most :])
  return dataclasses.replace(
    reading,
    items=reading.items[: one.most],
    left_out={**reading.left_out, f'beyond most={one.most}': beyond},
  )


def _heard(item: benchmark_lib.Item) -> benchmark_lib.Item:
  """An item's last recording alone, to be transcribed."""
  return benchmark_lib.heard(
    item.id, item.recordings[-1], language=item.language
  )


def _row(item, answer, decoding) -> dict[str, Any]:
  """What every row tells, whatever it is scored by."""
  told = {
    'id': item.id,
    'language': item.language,
    'asked': item.text,
    'references': list(item.references),
    'raw': answer.text,
    'stopped': answer.stopped,
    'seconds': answer.seconds,
    'seed': asking_lib.seed_of(decoding.seed, item.id),
    **dict(item.about),
  }
  if answer.calls:
    told['calls'] = list(answer.calls)
  if answer.wav:
    told['wav'] = answer.wav
  if answer.fault:
    told['fault'] = answer.fault
  return told
