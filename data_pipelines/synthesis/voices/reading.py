"""Text for networks: espeak-ng's phonemes with punctuation, by sentence."""

import re
from typing import Callable, Container
import unicodedata

import numpy as np

from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors

# Phonemes of a sentence → samples, frames of each id or None, and at which id
# each word begins.
Say = Callable[[str], tuple[np.ndarray, np.ndarray | None, list[int]]]
# What may end a clause, and as which of Piper's marks it is kept.
_MARKS = {
  **{mark: mark for mark in '.?!,;:'},
  **dict(zip('。．？！，、；：', '..?!,,;:')),
}
_ENDS, _STOP = '.?!', '.'
_PAUSE_SECONDS = 0.2  # between sentences, as Piper has it
_CLAUSE_END = re.compile(rf'([{re.escape("".join(_MARKS))}])\W*$')
_OTHER_LANGUAGE = re.compile(r'\([a-z-]+\)')  # espeak-ng's `(en)`
# How the Unicode names of a language's letters begin; Latin ones are read in
# every language.
_SCRIPTS = {
  'ar': 'ARABIC',
  'be': 'CYRILLIC',
  'bg': 'CYRILLIC',
  'el': 'GREEK',
  'fa': 'ARABIC',
  'he': 'HEBREW',
  'hi': 'DEVANAGARI',
  'ja': 'CJK HIRAGANA KATAKANA',
  'ka': 'GEORGIAN',
  'kk': 'CYRILLIC',
  'ko': 'HANGUL CJK',
  'ml': 'MALAYALAM',
  'ne': 'DEVANAGARI',
  'ru': 'CYRILLIC',
  'sr': 'CYRILLIC',
  'te': 'TELUGU',
  'uk': 'CYRILLIC',
  'ur': 'ARABIC',
  'zh': 'CJK',
}


def check(
  voice: voice_lib.Voice, named: str, language: str, speaker: str, pitch: int
) -> None:
  """Refuses what a network cannot do.

  Args:
    voice: That is to speak.
    named: What messages call it.
    language: As of `Voice.speak`.
    speaker: Likewise.
    pitch: Likewise.

  Raises:
    UserError: It has no such language, speaker or pitch.
  """
  if language not in voice.languages:
    raise errors.UserError(
      f'{named}: says {voice.languages[0]}, not {language}.'
    )
  if speaker not in voice.speakers:
    raise errors.UserError(
      f'{named}: has no speaker {speaker!r}, it has '
      f'{", ".join(voice.speakers[:8])}.'
    )
  if pitch != 50:
    raise errors.UserError(
      f'pitch: found {pitch}, expected 50: {named} has no other.'
    )


def check_rate(rate: float, slowest: float, fastest: float) -> None:
  """Refuses a rate that a network was not made for.

  Raises:
    UserError: It is outside.
  """
  if not slowest <= rate <= fastest:
    raise errors.UserError(
      f'rate: found {rate}, expected {slowest}..{fastest:g}.'
    )


def check_letters(text: str, language: str, name: str) -> None:
  """Refuses letters that a language is not written with.

  Args:
    text: To be said.
    language: Subtag.
    name: Of the voice, for the message.

  Raises:
    UserError: espeak-ng would spell them out, or say nothing.
  """
  scripts = [*_SCRIPTS.get(language, '').split(), 'LATIN']
  for letter in filter(str.isalpha, text):
    known = unicodedata.name(letter, '')
    if not known.startswith((*scripts, 'MODIFIER', 'FEMININE', 'MASCULINE')):
      raise errors.UserError(
        f'text: found {letter!r} in {text!r}, which {name} cannot say: it '
        f'reads {" and ".join(scripts).title()} letters.'
      )


def sentences(text: str, voice: str, known: Container[str]) -> list[str]:
  """Phonemes with punctuation, a sentence each.

  Args:
    text: What is read.
    voice: Of espeak-ng, such as `en-us`.
    known: What the network knows. A full stop among it ends a text that has
      no mark: networks learnt from sentences that do, and swallow the end of
      the last word without one.

  Raises:
    UserError: There is nothing to say.
  """
  found, sentence = [], ''
  clauses = espeak.phonemes(text, voice=voice)
  for place, (said, part) in enumerate(clauses):
    said = unicodedata.normalize('NFD', _OTHER_LANGUAGE.sub('', said)).strip()
    # What is read ahead is the first letter of the next clause.
    ended = _CLAUSE_END.search(part[:-1] if clauses[place + 1 :] else part)
    mark = _MARKS[ended[1]] if ended else ''
    if said:
      sentence = f'{sentence} {said}{mark}'.strip()
    if mark and mark in _ENDS and sentence:
      found.append(sentence)
      sentence = ''
  found += [sentence] if sentence else []
  if not found:
    raise errors.UserError(f'text: found nothing to say in {text!r}.')
  if found[-1][-1] not in _MARKS and _STOP in known:
    found[-1] += _STOP
  return found


def read(
  text: str, voice: str, known: Container[str], sample_rate: int, say: Say
) -> voice_lib.Speech:
  """Says a text sentence by sentence.

  Args:
    text: What is read.
    voice: Of espeak-ng.
    known: As of `sentences`.
    sample_rate: Of what `say` gives, Hz.
    say: Says one sentence.

  Raises:
    UserError: There is nothing to say.
  """
  sounds, words, total = [], [], 0
  pause = np.zeros(round(_PAUSE_SECONDS * sample_rate), np.float32)
  starts = [match.start() for match in re.finditer(r'\S+', text)]
  found = sentences(text, voice, known)
  # espeak-ng may read two words in one breath; then no start is known.
  groups = sum(len(sentence.split()) for sentence in found)
  places = iter(starts if groups == len(starts) else ())
  for sentence in found:
    sound, frames, firsts = say(sentence)
    if frames is not None:
      ends = np.cumsum(frames) * (len(sound) / max(1.0, frames.sum()))
      words += [
        (place, float(total + ends[first - 1]) / sample_rate)
        for first, place in zip(firsts, places)
      ]
    sounds += [sound, pause]
    total += len(sound) + len(pause)
  return voice_lib.Speech(
    np.concatenate(sounds[:-1]), sample_rate, tuple(words), ' '.join(found)
  )
