"""Which parts an evaluation asks for, and their scoring."""

import dataclasses
import pathlib
import time
from typing import Any, Iterable, Mapping, Sequence

from step_audio_jax import documents as documents_lib
from step_audio_jax import languages
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.evaluation import identity
from step_audio_jax.evaluation import parts as parts_lib
from step_audio_jax.evaluation import stranger
from step_audio_jax.evaluation.metrics import captions as captions_lib
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import judge as judge_lib
from step_audio_jax.evaluation.metrics import perplexity
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.generation import restore
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import feed

Part = parts_lib.Part
_DEAF = 'the model has no speech in its vocabulary'
_BLIND = 'the model has no image encoder'
_SAMPLING = ('temperature', 'top_k', 'top_p', 'seed')


class Plan:
  """What is asked for, read once for all checkpoints."""

  def __init__(
    self,
    settings: Mapping[str, Any],
    speech: speech_lib.SpeechConfig,
    sound: sound_lib.SoundConfig | None,
    judge: judge_lib.JudgeConfig | None,
    memory: identity.DigestCache,
  ):
    """Of data nothing is read yet.

    Args:
      settings: Arguments of `evaluate.evaluate`.
      speech: How speech is decoded.
      sound: What makes codes sound, or None.
      judge: An outside ear, or None.
      memory: Of digests.

    Raises:
      UserError: The judge is broken.
    """
    self._asked, self._speech, self._sound = settings, speech, sound
    self._memory = memory
    self._corpus = None
    if settings['manifest'] is not None:
      self._corpus = identity.Corpus(
        settings['manifest'], settings['codes'], memory
      )
    self._ear = stranger.Ear(settings, judge, sound, self._corpus, memory)
    self._doubts = languages.Census()
    self._absent: list[str] = []

  def parts(self) -> list[Part]:
    """All that is asked for.

    Raises:
      UserError: Data of it are missing.
    """
    asked, found = self._asked, []
    if self._corpus is not None:
      names = {task: asked[f'{task}_splits'] for task in ('asr', 'tts')}
      names['sound'] = names['tts'] if self._sound else ()
      for task, splits in names.items():
        found += [self._of_speech(task, split) for split in splits]
      found += self._ear.parts(self._of_sound)
    if asked['rows'] is not None:
      found += [self._of_rows(name) for name in self._sources()]
      captions = self._of_images() if asked['captions'] else None
      found += [captions] if captions else []
    return list(dict.fromkeys(found))

  def again(self, task: str, name: str) -> Part | None:
    """A part that is not asked for, under the settings that are.

    Returns:
      None where nothing says what they are, or its set is there no more.
    """
    asked = self._asked
    if task == 'sound' and self._sound is None:
      return None
    spoken = ('asr', 'tts', 'sound', *stranger.TASKS)
    if task not in spoken or self._corpus is None:
      return None
    if task == 'asr' and self._asked['codes'] is None:
      return None
    path = manifest_lib.path_of(asked['manifest'])
    splits = self._memory.derived(
      f'splits {path}',
      self._memory.file(path),
      lambda: sorted({u.split for u in manifest_lib.stream(path)}),
    )
    if name not in splits:
      return None
    if task in stranger.TASKS:
      return self._ear.of(task, name, self._of_sound)
    return self._of_speech(task, name)

  def not_computed(self) -> dict[str, str]:
    """Figure that an outside ear would give → why there is none."""
    return self._ear.not_computed()

  def notes(self) -> list[str]:
    """What was found out about the data."""
    return self._absent + self._doubts.notes()

  def prepare(self, missing: Iterable[Part]) -> None:
    """Loads what may turn out broken, before anything is scored.

    Args:
      missing: What is going to be scored.

    Raises:
      UserError: The judge cannot be loaded.
    """
    if any(part.task in stranger.TASKS for part in missing):
      self._ear.prepare()

  def score(
    self,
    run: pathlib.Path,
    step: int,
    model: str,
    missing: Sequence[Part],
    held: Mapping[Part, Mapping[str, Any] | None],
    store: parts_lib.Store,
  ) -> dict[Part, dict[str, Any]]:
    """Scores parts of a checkpoint; each is kept as soon as it is there.

    Args:
      run: Run directory.
      step: Of the checkpoint.
      model: Its digest.
      missing: What is scored.
      held: Parts that were scored before: sound is made of TTS.
      store: Gets what is scored.

    Raises:
      UserError: The checkpoint or data cannot be read.
    """
    loaded = restore.load_model(run, step)
    found: dict[Part, dict[str, Any]] = {}

    def keep(part, began, result, left_out=''):
      seconds = time.monotonic() - began
      found[part] = store.save(step, part, model, result, seconds, left_out)

    by_task: dict[str, list[Part]] = {}
    for part in missing:
      by_task.setdefault(part.task, []).append(part)
    said = [
      p for task in ('asr', 'tts', 'sound') for p in by_task.get(task, ())
    ]
    if said and not loaded[2].linguistic_size:
      for part in said:
        keep(part, time.monotonic(), None, _DEAF)
    elif said:
      speaker = speech_lib.Speaker(
        restore.unroll_layers(loaded[0]), loaded[1], loaded[2], self._speech
      )
      for task in ('asr', 'tts'):
        self._score_speech(
          task, by_task.get(task, ()), speaker, loaded[2], keep
        )
      for part in by_task.get('sound', ()):
        spoken = _other('tts', part, held, found)['result']
        self._score_sound(part, spoken, speaker, loaded[2], run, step, keep)
    for task in stranger.TASKS:
      for part in by_task.get(task, ()):
        spoken = None
        if task == 'stranger_tts':
          spoken = _other('sound', part, held, found)
          if spoken['left_out']:
            keep(part, time.monotonic(), None, spoken['left_out'])
            continue
          spoken = spoken['result']
        self._ear.score(part, spoken, sound_lib.wave_folder(run, step), keep)
    for part in by_task.get('perplexity', ()):
      self._score_rows(part, loaded, keep)
    for part in by_task.get('captions', ()):
      self._score_captions(part, loaded, keep)
    return found

  # What parts depend on.

  def _of_sound(self, split: str) -> Part:
    return self._of_speech('sound', split)

  def _of_speech(self, task: str, split: str) -> Part:
    most = self._asked['max_utterances']
    config = dataclasses.asdict(self._speech)
    names = ['linguistic_codes', 'semantic_codes', 'max_text_tokens']
    if task != 'asr':
      names.append('max_speech_groups')
      names += _SAMPLING if config['temperature'] else ()
    settings: dict[str, Any] = {name: config[name] for name in names}
    if self._speech.streams != documents_lib.BOTH:
      settings['streams'] = self._speech.streams
    data = self._corpus.digest(split, most, heard=task == 'asr')
    if task != 'sound':
      return Part(task, split, data, settings)
    sound, memory = self._sound, self._memory
    spoken = self._of_speech('tts', split)
    made = [memory.tree(sound.decoder), memory.tree(sound.tokenizer)]
    if sound.embeddings:
      path = manifest_lib.path_of(self._asked['manifest'])
      made += [memory.file(sound.embeddings), memory.file(path)]
    settings |= {
      'tts': spoken.condition,
      **{n: getattr(sound, n) for n in ('utterances', 'steps', 'seed')},
    }
    return Part(task, split, digests.of_value([data, made]), settings)

  def _sources(self) -> list[str]:
    root, split = files.path(self._asked['rows']), self._asked['row_split']
    found = list(self._asked['sources']) or sorted(
      path.parent.parent.name
      for path in files.glob(root, f'*/{split}/stats.json')
    )
    if not found:
      self._absent.append(
        f'perplexity: no folder of {root} has rows of the split {split!r}.'
      )
    return found

  def _folder(self, name: str) -> pathlib.Path:
    return files.path(self._asked['rows']) / name / self._asked['row_split']

  def _of_rows(self, name: str) -> Part:
    folder, most = self._folder(name), self._asked['max_rows']
    data = self._memory.rows(folder)
    count = files.read_json(folder / 'stats.json').get('rows') or 0
    settings = {'split': self._asked['row_split'], 'rows': 'all'}
    if most and most < count:
      settings['rows'] = most
    return Part('perplexity', name, data, settings)

  def _of_images(self) -> Part | None:
    name = self._asked['caption_source']
    folder = self._folder(name)
    if not files.is_file(folder / 'stats.json'):
      self._absent.append(f'captions: {folder} has no rows with images.')
      return None
    settings = {
      'split': self._asked['row_split'],
      'captions': self._asked['captions'],
    }
    return Part('captions', name, self._memory.rows(folder), settings)

  # Scoring.

  def _score_speech(self, task, parts, speaker, vocabulary, keep) -> None:
    if not parts:
      return
    most, began = self._asked['max_utterances'], time.monotonic()
    everything = {part.name: self._corpus.split(part.name) for part in parts}
    sets = {name: some[: most or None] for name, some in everything.items()}
    for some in sets.values():
      for utterance in some:
        self._doubts.add(utterance.language, utterance.text)
    if task == 'asr':
      results = speech_lib.asr(speaker, vocabulary, sets, self._corpus.table())
    else:
      results = speech_lib.tts(speaker, vocabulary, sets)
    for part in parts:
      result, of = results[part.name], len(everything[part.name])
      left_out = {
        f'beyond max_utterances={most}': of - len(sets[part.name]),
        'without a transcript': result['without_transcript'],
        'without codes': result['without_codes'],
      }
      cut = {self._text_limit(): result.get('unread', 0)}
      if task == 'asr':
        cut = {self._text_limit(): result['unfinished']}
      else:
        groups = self._speech.max_speech_groups
        cut[f'cut at max_speech_groups={groups}'] = result['unfinished']
      result['counted'] = counts.count(
        result['utterances'], of, 'utterances', left_out, cut
      )
      keep(part, began, result)
      began = time.monotonic()

  def _text_limit(self) -> str:
    return f'cut at max_text_tokens={self._speech.max_text_tokens}'

  def _score_sound(
    self, part, spoken, speaker, vocabulary, run, step, keep
  ) -> None:
    began = time.monotonic()
    place = part.condition[:12]
    result = sound_lib.score(
      speaker,
      vocabulary,
      {part.name: spoken},
      self._sound,
      sound_lib.wave_folder(run, step) / place,
      self._asked['manifest'],
    )[part.name]
    for item in result['hypotheses']:
      if 'wav' in item:
        item['wav'] = f'{place}/{item["wav"]}'
    left_out = dict(spoken['counted']['left_out'])
    beyond = spoken['utterances'] - result['utterances']
    left_out[f'beyond sound.utterances={self._sound.utterances}'] = beyond
    cut = {
      'of no speech at all': result['silent'],
      self._text_limit(): result['unread'],
    }
    result['counted'] = counts.count(
      result['utterances'], spoken['counted']['of'], 'utterances', left_out, cut
    )
    keep(part, began, result)

  def _score_rows(self, part, loaded, keep) -> None:
    began = time.monotonic()
    model, variables, vocabulary = loaded
    source = feed.Source(part.name, self._folder(part.name))
    # A backbone that cannot see or hear yet is scored on what it can read.
    deaf = not vocabulary.linguistic_size and (
      source.row(0)['tokens'].max() >= vocabulary.table_size
    )
    blind = model.config.vision is None and source.stats.get('images_per_row')
    if deaf or blind:
      keep(part, began, None, _DEAF if deaf else _BLIND)
      return
    most = self._asked['max_rows']
    sums = perplexity.sum_source(
      model, variables, vocabulary, source, max_rows=most
    )
    rows = min(len(source), most or len(source))
    left_out = {f'beyond max_rows={most}': len(source) - rows}
    result = {
      'streams': sums.as_dict(),
      'sums': [sums.nll.tolist(), sums.weight.tolist()],
      'counted': counts.count(rows, len(source), 'rows', left_out),
    }
    keep(part, began, result)

  def _score_captions(self, part, loaded, keep) -> None:
    began = time.monotonic()
    model, variables, vocabulary = loaded
    if model.config.vision is None:
      keep(part, began, None, _BLIND)
      return
    count = self._asked['captions']
    result = captions_lib.evaluate(
      restore.unroll_layers(model),
      variables,
      vocabulary,
      folder=self._folder(part.name),
      count=count,
    )
    beyond = result['of'] - result['images'] - result['passed_over']
    left_out = {
      f'beyond captions={count}': beyond,
      'with a cut document': result['passed_over'],
    }
    cut = {'cut at 64 tokens': result['unfinished']}
    result['counted'] = counts.count(
      result['images'], result['of'], 'images', left_out, cut
    )
    keep(part, began, result)


def _other(task, part, held, found) -> Mapping[str, Any]:
  """What was scored of another task on the set of a part."""
  return next(
    result
    for p, result in {**held, **found}.items()
    if result and (p.task, p.name) == (task, part.name)
  )
