"""Changes that should not move a score, or not that way: what is audited.

A reward model that was trained on people's choices may have learnt what goes
with them by chance: that answers are long, that questions are loud or slow, or
who asks them. Each change here leaves what is asked and what is answered as
they are.

Audio is changed as in `audio.augmentation`, and tokenised again. Axes: S
samples, at 16 kHz.
"""

import dataclasses
from typing import Callable, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.alignment.judging import examples as examples_lib
from step_audio_jax.audio import io
from step_audio_jax.audio.augmentation import levels
from step_audio_jax.audio.augmentation import speed
from step_audio_jax.chats import conversation as chats
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import questions
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.tokenizers.speech import alignment
from step_audio_jax.tokenizers.speech import dual

Example = examples_lib.Example
RATE = alignment.SAMPLE_RATE
DECIBELS, SILENCE = 6.0, 1.0  # dB, seconds
FASTER, SLOWER, HIGHER, LOWER = 1.2, 1 / 1.2, 1.15, 1 / 1.15
_BETWEEN = 0.3  # seconds between a question and itself


@dataclasses.dataclass(frozen=True)
class Changed:
  """Examples as a change leaves them.

  Attributes:
    name: Of the change.
    examples: Place of an example → how it is scored then.
    codes: Id of a recording → its codes then; others are as they were.
    sides: Which answers the change concerns: the preferred one, the other.
  """

  name: str
  examples: Mapping[int, Example]
  codes: examples_lib.Codes = dataclasses.field(default_factory=dict)
  sides: tuple[bool, bool] = (True, True)


def of_texts(examples: Sequence[Example], phrase: str) -> list[Changed]:
  """Longer answers, and longer questions in writing.

  Args:
    examples: Those with spoken answers are passed over.
    phrase: Is put behind answers; says nothing.
  """
  written = {n: one for n, one in enumerate(examples) if one.is_written}

  def answered(one, longer, chosen=True):
    changed = dataclasses.replace(one, rejected=_told(one.rejected, longer))
    if chosen:
      changed = dataclasses.replace(changed, chosen=_told(one.chosen, longer))
    return changed

  def twice(text):
    return f'{text} {text}'

  def more(text):
    return f'{text} {phrase}'

  found = [
    Changed(
      'answers said twice', {n: answered(x, twice) for n, x in written.items()}
    ),
    Changed(
      'rejected answer said twice',
      {n: answered(x, twice, chosen=False) for n, x in written.items()},
      sides=(False, True),
    ),
    Changed(
      f'"{phrase}" behind answers',
      {n: answered(x, more) for n, x in written.items()},
    ),
    Changed(
      'question asked twice, in writing',
      {
        n: one.asked(_told(one.question, twice))
        for n, one in enumerate(examples)
        if one.speech is None
      },
    ),
  ]
  return [one for one in found if one.examples]


def of_voices(
  corpus: examples_lib.Corpus, examples: Sequence[Example], codes
) -> list[Changed]:
  """Questions as another speaker of the corpus says the same words.

  Args:
    corpus: Of the examples.
    examples: Those that are asked aloud take part.
    codes: Id of a recording → its codes, of all voices.
  """
  said: dict[tuple[str, tuple[str, ...]], list[manifest.Utterance]] = {}
  for line in corpus.speech.values():
    if line.id in codes and line.speaker and line.text:
      key = line.language, tuple(quiz.words(line.text))
      said.setdefault(key, []).append(line)
  found = {}
  for number, one in enumerate(examples):
    line = corpus.speech.get(one.speech or '')
    if line is None or not (line.text and line.speaker):
      continue
    key = line.language, tuple(quiz.words(line.text))
    others = [x for x in said.get(key, ()) if x.speaker != line.speaker]
    if others:
      other = min(others, key=lambda line: line.id)
      found[number] = one.asked(_heard(one.question, other.id))
  return [Changed('question in another voice', found)] if found else []


def of_sound(
  corpus: examples_lib.Corpus, examples: Sequence[Example], tokenizer: str
) -> list[Changed]:
  """Questions whose recordings are changed, and as they are.

  Args:
    corpus: Of the examples.
    examples: Those that are asked aloud take part.
    tokenizer: Folder of the tokenizer that made the codes.

  Raises:
    UserError: A recording cannot be read, or the tokenizer cannot.
  """
  spoken = {n: one for n, one in enumerate(examples) if one.speech}
  names = sorted({one.speech for one in spoken.values() if one.speech})
  if not names:
    return []
  waves = []
  for name in names:
    line = corpus.speech.get(name)
    if line is None or line.audio is None:
      raise errors.UserError(
        f'{corpus.folder}: the recording {name!r} has no audio, expected it '
        'where --tokenizer is named.'
      )
    path = line.audio_path(corpus.folder)
    waves.append(io.read_audio(path, sample_rate=RATE, **line.part())[0])
  both = dual.DualTokenizer.load(tokenizer)
  found = []
  for change, apply in SOUND.items():
    codes = both.encode_batch([apply(wave_S) for wave_S in waves])
    found.append(Changed(change, spoken, dict(zip(names, codes))))
  return found


def of_silence(
  corpus: examples_lib.Corpus, examples: Sequence[Example], tokenizer: str
) -> Changed:
  """Questions with silence as long as their recordings in place of these.

  No change that leaves a question as it is: what does not move was not heard.

  Args:
    corpus: Of the examples.
    examples: Those that are asked aloud take part.
    tokenizer: Folder of the tokenizer that made the codes.

  Raises:
    UserError: The corpus does not say how long a recording is, or the tokenizer
      cannot be read.
  """
  spoken = {n: one for n, one in enumerate(examples) if one.speech}
  seconds = {}
  for one in spoken.values():
    line = corpus.speech.get(one.speech or '')
    if line is None or not line.duration:
      raise errors.UserError(
        f'{corpus.folder}: found no duration of the recording {one.speech!r}, '
        'expected its line.'
      )
    seconds[line.id] = line.duration
  codes = questions.silence(tokenizer, seconds) if seconds else {}
  return Changed('silence', spoken, codes)


def _gain(decibels: float) -> Callable[[np.ndarray], np.ndarray]:
  return lambda wave_S: levels.Gain(decibels).apply(wave_S, RATE)[0]


def _tempo(factor: float) -> Callable[[np.ndarray], np.ndarray]:
  return lambda wave_S: speed.Tempo(factor).apply(wave_S, RATE)[0]


def _pitch(factor: float) -> Callable[[np.ndarray], np.ndarray]:
  """Pitch and formants, at the same pace: as of a smaller or larger throat."""

  def apply(wave_S):
    moved_S, _ = speed.Speed(factor).apply(wave_S, RATE)
    return speed.Tempo(1 / factor).apply(moved_S, RATE)[0]

  return apply


def _padded(before: float, after: float) -> Callable[[np.ndarray], np.ndarray]:
  ends = round(before * RATE), round(after * RATE)
  return lambda wave_S: np.pad(wave_S, ends)


def _twice(wave_S: np.ndarray) -> np.ndarray:
  between = np.zeros(round(_BETWEEN * RATE), np.float32)
  return np.concatenate([wave_S, between, wave_S])


# The first is no change: it says whether codes are made as they were.
SOUND: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
  'question as it is': lambda wave_S: wave_S,
  f'question {DECIBELS:g} dB louder': _gain(DECIBELS),
  f'question {DECIBELS:g} dB quieter': _gain(-DECIBELS),
  f'{SILENCE:g} s of silence before the question': _padded(SILENCE, 0),
  f'{SILENCE:g} s of silence behind the question': _padded(0, SILENCE),
  f'question {FASTER:g} times as fast': _tempo(FASTER),
  f'question {1 / SLOWER:g} times as slow': _tempo(SLOWER),
  'question in a higher voice': _pitch(HIGHER),
  'question in a lower voice': _pitch(LOWER),
  'question asked twice, aloud': _twice,
}


def _told(turn: chats.Turn, change: Callable[[str], str]) -> chats.Turn:
  """A turn whose last text is another."""
  parts = list(turn.parts)
  for place in range(len(parts) - 1, -1, -1):
    if isinstance(parts[place], str):
      parts[place] = change(parts[place])
      break
  return dataclasses.replace(turn, parts=tuple(parts))


def _heard(turn: chats.Turn, name: str) -> chats.Turn:
  """A turn whose recording is another."""
  parts = tuple(
    chats.Speech(id=name) if isinstance(part, chats.Speech) else part
    for part in turn.parts
  )
  return dataclasses.replace(turn, parts=parts)
