"""ASR, TTS, and the sound of what TTS wrote, of splits of a corpus."""

import dataclasses
import time
from typing import Any, Mapping

from step_audio_jax import documents as documents_lib
from step_audio_jax import languages
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.evaluation.families import family
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.generation import restore
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

Part = family.Part
ASR, TTS, SOUND = TASKS = ('asr', 'tts', 'sound')
_SAMPLING = ('temperature', 'top_k', 'top_p', 'seed')


class Speech(family.Family):
  """What the model hears and says."""

  tasks = TASKS
  made_of = {SOUND: TTS}

  def __init__(
    self,
    settings: Mapping[str, Any],
    config: speech_lib.SpeechConfig,
    sound: sound_lib.SoundConfig | None,
    corpus: identity.Corpus | None,
    memory: identity.DigestCache,
  ):
    """Of data nothing is read yet.

    Args:
      settings: Arguments of `evaluate.evaluate`.
      config: How speech is decoded.
      sound: What makes codes sound, or None.
      corpus: What is heard and said, or None.
      memory: Of digests.
    """
    self._asked, self._config, self._sound = settings, config, sound
    self._corpus, self._memory = corpus, memory
    self._doubts = languages.Census()

  def parts(self) -> list[Part]:
    if self._corpus is None:
      return []
    names = {task: self._asked[f'{task}_splits'] for task in (ASR, TTS)}
    names[SOUND] = names[TTS] if self._sound else ()
    return [
      self.of(task, split) for task, splits in names.items() for split in splits
    ]

  def again(self, task: str, name: str) -> Part | None:
    if self._corpus is None or (task == SOUND and self._sound is None):
      return None
    if task == ASR and self._asked['codes'] is None:
      return None
    return self.of(task, name) if self._corpus.has(name) else None

  def notes(self) -> list[str]:
    return self._doubts.notes()

  def is_whole(self, run, step, kept) -> bool:
    if kept['task'] != SOUND or kept['left_out']:
      return True
    folder = sound_lib.wave_folder(run, step)
    wavs = (h.get('wav') for h in kept['result']['hypotheses'])
    return all(files.is_file(folder / wav) for wav in wavs if wav)

  def of(self, task: str, split: str) -> Part:
    """What a figure of a split depends on."""
    most = self._asked['max_utterances']
    config = dataclasses.asdict(self._config)
    names = ['linguistic_codes', 'semantic_codes', 'max_text_tokens']
    if task != ASR:
      names.append('max_speech_groups')
      names += _SAMPLING if config['temperature'] else ()
    settings: dict[str, Any] = {name: config[name] for name in names}
    if self._config.streams != documents_lib.BOTH:
      settings['streams'] = self._config.streams
    data = self._corpus.digest(split, most, heard=task == ASR)
    if task != SOUND:
      return Part(task, split, data, settings)
    sound, memory = self._sound, self._memory
    spoken = self.of(TTS, split)
    made = [memory.tree(sound.decoder), memory.tree(sound.tokenizer)]
    if sound.embeddings:
      path = manifest_lib.path_of(self._asked['manifest'])
      made += [memory.file(sound.embeddings), memory.file(path)]
    settings |= {
      TTS: spoken.condition,
      **{n: getattr(sound, n) for n in ('utterances', 'steps', 'seed')},
    }
    return Part(task, split, digests.of_value([data, made]), settings)

  def score(self, checkpoint, parts, held, keep) -> None:
    model, variables, vocabulary = checkpoint.loaded
    if not vocabulary.linguistic_size:
      for part in parts:
        keep(part, time.monotonic(), None, family.DEAF)
      return
    speaker = speech_lib.Speaker(
      restore.unroll_layers(model), variables, vocabulary, self._config
    )
    by_task = family.by_task(parts)
    for task in (ASR, TTS):
      self._score_texts(task, by_task.get(task, ()), speaker, vocabulary, keep)
    for part in by_task.get(SOUND, ()):
      spoken = family.other(TTS, part, held)['result']
      self._score_sound(part, spoken, speaker, checkpoint, keep)

  def _score_texts(self, task, parts, speaker, vocabulary, keep) -> None:
    if not parts:
      return
    most, began = self._asked['max_utterances'], time.monotonic()
    everything = {part.name: self._corpus.split(part.name) for part in parts}
    sets = {name: some[: most or None] for name, some in everything.items()}
    for some in sets.values():
      for utterance in some:
        self._doubts.add(utterance.language, utterance.text)
    if task == ASR:
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
      if task == ASR:
        cut = {self._text_limit(): result['unfinished']}
      else:
        groups = self._config.max_speech_groups
        cut[f'cut at max_speech_groups={groups}'] = result['unfinished']
      result['counted'] = counts.count(
        result['utterances'], of, 'utterances', left_out, cut
      )
      keep(part, began, result)
      began = time.monotonic()

  def _text_limit(self) -> str:
    return f'cut at max_text_tokens={self._config.max_text_tokens}'

  def _score_sound(self, part, spoken, speaker, checkpoint, keep) -> None:
    began = time.monotonic()
    place = part.condition[:12]
    result = sound_lib.score(
      speaker,
      checkpoint.loaded.vocabulary,
      {part.name: spoken},
      self._sound,
      sound_lib.wave_folder(checkpoint.run, checkpoint.step) / place,
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

  def show(self, kept) -> family.Shown:
    return spoken_figures(kept)

  def main_figure(self, kept) -> str:
    return figure_name(kept)

  def rows(self, kept) -> list[dict[str, Any]]:
    found = spoken_rows(kept)
    if kept['task'] == ASR and found:
      recordings = self._recordings(kept['name'])
      for row in found:
        if row['id'] in recordings:
          row |= recordings[row['id']]
    return found

  def _recordings(self, split: str) -> dict[str, dict[str, Any]]:
    """Id → file of this machine that has the recording, and its seconds."""
    if self._corpus is None or not self._corpus.has(split):
      return {}
    root = manifest_lib.path_of(self._asked['manifest']).parent
    found = {}
    for u in self._corpus.split(split):
      path = u.audio_path(root) if u.audio else None
      if path and not files.is_address(path) and files.is_file(path):
        found[u.id] = {
          'recording': str(path),
          'recorded': [u.offset, u.offset + u.duration],
        }
    return found


def spoken_figures(kept, judge_of=None) -> family.Shown:
  """Character error rates of parts whose results have hypotheses.

  Args:
    kept: The parts.
    judge_of: Result → who heard it, in words; None where the model did.
  """
  sections: dict[str, Any] = {}
  found, counted, judges = {}, {}, []
  for one in kept:
    if one['left_out']:
      continue
    result = one['result']
    sections.setdefault(one['task'], {})[one['name']] = result
    by = scoring.CONVENTION
    if judge_of is not None:
      judges.append(judge_of(result))
      by = f'{by}, {judges[-1]}'
    counted[figure_name(one)] = result['counted']
    found[figure_name(one)] = family.Figure(
      result['cer'], better='lower', of=result['utterances'], by=by
    )
  return family.Shown(sections, found, counted, list(dict.fromkeys(judges)))


def figure_name(kept: family.Kept) -> str:
  """Of the error rate of a part."""
  return f'{kept["task"]}_cer/{kept["name"]}'


def spoken_rows(kept: family.Kept) -> list[dict[str, Any]]:
  """Hypotheses of a part as rows, with texts as compared and edits."""
  found = []
  for one in (kept['result'] or {}).get('hypotheses', ()):
    language = one['language']
    # A stranger's text is compared as it was declared.
    reference = one.get('compared', one['reference'])
    edits = scoring.count(reference, one['hypothesis'], language)
    about = {name: v for name, v in one.items() if name != 'tokens'}
    found.append(
      {
        **about,
        'normalised': {
          'reference': scoring.normalise(reference, language),
          'hypothesis': scoring.normalise(
            one['hypothesis'], language, like=reference
          ),
        },
        'substitutions': edits.substitutions,
        'deletions': edits.deletions,
        'insertions': edits.insertions,
        'errors': edits.total,
        'units': edits.reference,
      }
    )
  return found
