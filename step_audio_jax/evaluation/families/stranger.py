"""Parts that an outside ear scores, or the reason why there are none.

Figures of `metrics/stranger`: each is a part with all that it depends on. A
figure that cannot be made is told of with its reason and is never a number.
"""

import pathlib
import time
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.decoder import speech as decoder_lib
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.evaluation.families import family
from step_audio_jax.evaluation.families import speech as speech_family
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import judge as judge_lib
from step_audio_jax.evaluation.metrics import judge_folder
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.evaluation.metrics import stranger as stranger_lib
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

Part = family.Part
TASKS = stranger_lib.TASKS
_TTS, _CODES, _RECORDINGS = TASKS


class Ear(family.Family):
  """What is asked of an outside ear."""

  tasks = TASKS
  made_of = {_TTS: speech_family.SOUND}

  def __init__(
    self,
    settings: Mapping[str, Any],
    config: judge_lib.JudgeConfig | None,
    sound: sound_lib.SoundConfig | None,
    corpus: identity.Corpus | None,
    memory: identity.DigestCache,
    speech: speech_family.Speech,
  ):
    """Finds the judge; `prepare` loads it.

    Args:
      settings: Arguments of `evaluate.evaluate`.
      config: The judge, or None.
      sound: What makes codes sound, or None.
      corpus: What is heard, or None.
      memory: Of digests.
      speech: Whose sound is heard.

    Raises:
      UserError: The judge is broken, or not the one that was asked for.
    """
    self._asked, self._config, self._sound = settings, config, sound
    self._corpus, self._memory, self._speech = corpus, memory, speech
    self._place: judge_folder.Place | None = None
    self._told: dict[str, Any] = {}
    self._judge: judge_lib.Judge | None = None
    self._done: dict[str, dict[str, Any]] = {}
    self.reasons = dict.fromkeys(TASKS, self._find() or '')
    if self._place is None:
      return
    if not self._config.recordings:
      self.reasons[_RECORDINGS] = self.reasons[_RECORDINGS] or (
        'recordings are not asked for (judge.recordings)'
      )
    if sound is None:
      for task in (_TTS, _CODES):
        self.reasons[task] = self.reasons[task] or (
          'no decoder and tokenizer are named (evaluate.sound)'
        )
    if settings['codes'] is None and not self.reasons[_CODES]:
      self.reasons[_CODES] = 'no codes are named (evaluate.codes)'
    if not set(self._splits()) & set(settings['tts_splits']):
      self.reasons[_TTS] = self.reasons[_TTS] or (
        'none of its splits is among evaluate.tts_splits'
      )

  def _find(self) -> str | None:
    """Looks for the judge; returns why nothing can be heard."""
    if self._config is None:
      return 'no judge is named (evaluate.judge)'
    if self._corpus is None:
      return 'no corpus is named (evaluate.manifest)'
    try:
      place = judge_folder.locate(self._config.model, self._config.cache)
    except judge_lib.NotInstalledError as error:
      return _bare(error)
    sums = judge_folder.sums(place, self._memory.file)
    judge_folder.check_model(
      place, sums[judge_folder.MODEL], self._config.sha256
    )
    self._place = place
    self._told = judge_lib.convention(self._config, place.name, sums)
    if not self._splits():
      return 'no split is named (evaluate.tts_splits)'
    try:
      judge_lib.check_library()
    except judge_lib.NotInstalledError as error:
      return _bare(error)
    return None

  def _splits(self) -> list[str]:
    return list(self._config.splits or self._asked['tts_splits'])

  def not_computed(self) -> dict[str, str]:
    """Figure → why there is none; nothing where nobody expects one."""
    if self._corpus is None and self._config is None:
      return {}
    return {task: reason for task, reason in self.reasons.items() if reason}

  def parts(self) -> list[Part]:
    found = []
    for task in TASKS:
      if self.reasons[task]:
        continue
      for split in self._splits():
        if task != _TTS or split in self._asked['tts_splits']:
          found.append(self.of(task, split))
    return found

  def again(self, task: str, name: str) -> Part | None:
    if self._corpus is None or not self._corpus.has(name):
      return None
    return self.of(task, name)

  def of(self, task: str, split: str) -> Part | None:
    """One part; None where nothing says what it depends on."""
    needs_sound = task != _RECORDINGS
    if self._place is None or (needs_sound and self._sound is None):
      return None
    if task == _CODES and self._asked['codes'] is None:
      return None
    config = self._config
    settings: dict[str, Any] = {
      'judge': {n: v for n, v in self._told.items() if n != 'name'},
      'utterances': config.utterances,
    }
    if config.languages:
      settings['languages'] = config.languages
    if task == _TTS:
      spoken = self._speech.of(speech_family.SOUND, split)
      settings['sound'] = spoken.condition
      return Part(task, split, spoken.data, settings)
    memory, most = self._memory, self._asked['max_utterances']
    data = [self._corpus.digest(split, most, heard=task == _CODES)]
    if task == _RECORDINGS:
      for utterance in self._chosen(split):
        path = self._recording(utterance)
        data.append(path and [memory.file(path), *utterance.part().items()])
      return Part(task, split, digests.of_value(data), settings)
    sound = self._sound
    data.append(memory.tree(sound.decoder))
    if sound.embeddings:
      manifest = manifest_lib.path_of(self._asked['manifest'])
      data += [memory.file(sound.embeddings), memory.file(manifest)]
    settings |= {'steps': sound.steps, 'seed': sound.seed}
    return Part(task, split, digests.of_value(data), settings)

  def _chosen(self, split: str) -> list[manifest_lib.Utterance]:
    most = self._asked['max_utterances']
    return stranger_lib.choose(
      self._corpus.split(split)[: most or None], self._config
    )

  def _recording(self, utterance) -> pathlib.Path | None:
    if not utterance.audio:
      return None
    root = manifest_lib.path_of(self._asked['manifest']).parent
    path = utterance.audio_path(root)
    return path if files.is_file(path) else None

  # Hearing.

  def prepare(self, missing: Sequence[Part] = ()) -> None:
    if self._judge is None:
      self._judge = judge_lib.Judge(self._place, self._config)

  def score(self, checkpoint, parts, held, keep) -> None:
    folder = sound_lib.wave_folder(checkpoint.run, checkpoint.step)
    by_task = family.by_task(parts)
    for part in (p for task in TASKS for p in by_task.get(task, ())):
      spoken = None
      if part.task == _TTS:
        sound = family.other(speech_family.SOUND, part, held)
        if sound['left_out']:
          keep(part, time.monotonic(), None, sound['left_out'])
          continue
        spoken = sound['result']
      self._score(part, spoken, folder, keep)

  def _score(
    self,
    part: Part,
    spoken: Mapping[str, Any] | None,
    folder: pathlib.Path,
    keep: family.Keep,
  ) -> None:
    began = time.monotonic()
    # Recordings and codes sound the same, whatever the checkpoint.
    result = self._done.get(part.condition)
    if result is None:
      result = self._heard(part, spoken, folder)
      if part.task != _TTS:
        self._done[part.condition] = result
    if not result['utterances']:
      left_out = ', '.join(
        f'{n} {reason}' for reason, n in result['counted']['left_out'].items()
      )
      keep(part, began, None, f'nothing can be heard: {left_out or "no text"}')
      return
    keep(part, began, result)

  def show(self, kept) -> family.Shown:
    return speech_family.spoken_figures(
      kept, lambda result: judge_lib.describe(result['judge'])
    )

  def main_figure(self, kept) -> str:
    return speech_family.figure_name(kept)

  def rows(self, kept) -> list[dict[str, Any]]:
    return speech_family.spoken_rows(kept)

  def _heard(self, part, spoken, folder) -> dict[str, Any]:
    everything = self._corpus.split(part.name)
    most = self._asked['max_utterances']
    inside = everything[: most or None]
    chosen = self._chosen(part.name)
    readable = [u for u in inside if stranger_lib.readable(u)]
    asked = [u for u in readable if self._config.hears(u.language)]
    said, lacking = {
      _TTS: self._spoken, _CODES: self._coded, _RECORDINGS: self._recorded
    }[part.task](chosen, spoken, folder)  # fmt: skip
    self.prepare()
    result = stranger_lib.score(
      self._judge, said, self._config, f'a stranger hears {part.name}'
    )
    left_out = {
      f'beyond max_utterances={most}': len(everything) - len(inside),
      'without a transcript': len(inside) - len(readable),
      f'not {" or ".join(self._config.languages)} (judge.languages)': (
        len(readable) - len(asked)
      ),
      f'beyond judge.utterances={self._config.utterances} of a language': (
        len(asked) - len(chosen)
      ),
      lacking: len(chosen) - len(said),
      stranger_lib.UNKNOWN: result['unknown'],
    }
    cut = {'of no speech at all': result['silent']}
    result['counted'] = counts.count(
      result['utterances'], len(everything), 'utterances', left_out, cut
    )
    result['judge'] = self._told
    return result

  def _spoken(self, chosen, spoken, folder):
    items = {item['id']: item for item in spoken['hypotheses']}
    shown = ('id', 'language', 'speaker', 'reference', 'seconds', 'wav')
    said = []
    for utterance in chosen:
      if (item := items.get(utterance.id)) is not None:
        about = {name: item[name] for name in shown if name in item}
        path = folder / item['wav'] if 'wav' in item else None
        said.append(stranger_lib.Said(about, _reading(path)))
    return said, f'beyond sound.utterances={self._sound.utterances}'

  def _coded(self, chosen, spoken, folder):
    table, sound = self._corpus.table(), self._sound
    decoder = decoder_lib.SpeechDecoder.load(sound.decoder)
    voice_of = sound_lib.voices(
      decoder, sound.embeddings, self._asked['manifest']
    )

    def sounding(name):
      def wave() -> np.ndarray:
        ids = voice_lib.IDS.interleave(*table[name])
        wave_S, rate = decoder.decode(
          ids, voice_of(name), sound.seed, sound.steps
        )
        return voice_lib.resample(wave_S, rate, io.SAMPLE_RATE)

      return wave

    said = [
      stranger_lib.Said(stranger_lib.about(u), sounding(u.id))
      for u in chosen
      if u.id in table
    ]
    return said, 'without codes'

  def _recorded(self, chosen, spoken, folder):
    said = [
      stranger_lib.Said(stranger_lib.about(u), _reading(path, **u.part()))
      for u in chosen
      if (path := self._recording(u)) is not None
    ]
    return said, 'without a recording'


def _reading(path, **part) -> Callable[[], np.ndarray | None]:
  return lambda: None if path is None else io.read_audio(path, **part)[0]


def _bare(error: errors.UserError) -> str:
  """A sentence as part of another."""
  return str(error).removeprefix('judge: ').rstrip('.')
