"""A recogniser that knows nothing of this project, as an outside ear.

Any Whisper model in CTranslate2's layout, through the library faster-whisper
(extra `judge`). It is told the language and nothing else: no prompt, no
grammar, no words to expect. One beam search at temperature 0, whatever it
writes; so the same sound is read the same way every time. Nothing is fetched:
the model is a folder on this machine.

How its text is compared is declared (`JudgeConfig.fold`), since it writes full
stops that transcripts may not have, digits for words, and either kind of
Chinese characters. What was declared stands beside every figure.
"""

import dataclasses
import importlib.util
import os
import pathlib
import re
from typing import Any, Mapping, Sequence
import unicodedata

import numpy as np

from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.evaluation.metrics import judge_folder
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

NotInstalledError = judge_folder.NotInstalledError
FOLDS = {
  'punctuation': 'without punctuation',
  'numbers': 'Mandarin numbers as words',
  'simplified': 'Mandarin in simplified characters',
}
_START = '<|startoftranscript|>'
_LIBRARY = 'faster_whisper'
_DIGITS = '零一二三四五六七八九'
_UNITS = ('', '十', '百', '千')


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
  """An outside ear, and what it is asked to hear.

  Attributes:
    model: Folder of a Whisper model of CTranslate2, or `package:NAME+NAME` for
      installed packages that hold one.
    beam: Width of its search.
    utterances: Of each language of a split, in the manifest's order; 0 all.
    splits: That it hears; empty means those that TTS speaks.
    languages: Subtags (`en`) of what it hears; empty means all.
    fold: Of `FOLDS`: what is done to both texts before they are compared.
    sha256: Of its `model.bin`; None takes any.
    device: 'cpu' or 'cuda'.
    compute: Type that it computes in, a name of CTranslate2's.
    cache: Folder for what packages hold; None means the user's.
    recordings: Whether it hears the recordings, too. They are the same for all
      runs of a corpus: once is enough.
  """

  model: str
  beam: int = 5
  utterances: int = 40
  splits: Sequence[str] = ()
  languages: Sequence[str] = ()
  fold: Sequence[str] = ('punctuation',)
  sha256: str | None = None
  device: str = 'cpu'
  compute: str = 'float32'
  cache: str | None = None
  recordings: bool = True

  def __post_init__(self):
    if not self.model:
      raise errors.UserError('judge: model is empty, expected a folder.')
    if self.utterances < 0 or self.beam < 1:
      raise errors.UserError(
        f'judge: utterances is {self.utterances} and beam {self.beam}, '
        'expected at least 0 and 1.'
      )
    for name in ('splits', 'languages', 'fold'):  # as JSON has them
      object.__setattr__(self, name, list(getattr(self, name)))
    if unknown := [name for name in self.fold if name not in FOLDS]:
      raise errors.UserError(
        f'judge: fold has {unknown[0]!r}, expected some of {", ".join(FOLDS)}.'
      )

  def hears(self, language: str) -> bool:
    """Whether it is asked to hear a language."""
    subtag = languages.language_subtag(language) or language
    return not self.languages or subtag in self.languages


def check_library() -> None:
  """Raises `NotInstalledError` where the library is absent."""
  if importlib.util.find_spec(_LIBRARY) is None:
    raise NotInstalledError(
      "judge: faster-whisper is not installed; it is in the extra 'judge': "
      'pip install --no-deps -r requirements/judge.txt.'
    )


class Judge:
  """A recogniser that is ready to hear.

  Attributes:
    languages: Tags that it knows.
  """

  def __init__(self, place: judge_folder.Place, config: JudgeConfig):
    """Loads it.

    Raises:
      NotInstalledError: The library is absent.
      UserError: It cannot be loaded.
    """
    check_library()
    self._beam = config.beam
    try:
      import faster_whisper

      with files.as_local(place.folder) as folder:
        self._model = faster_whisper.WhisperModel(
          str(folder),
          device=config.device,
          compute_type=config.compute,
          cpu_threads=len(os.sched_getaffinity(0)),
          local_files_only=True,
        )
    except Exception as error:  # what its libraries raise has nothing in common
      reason = ' '.join(str(error).split())
      raise errors.UserError(
        f'judge: {_culprit(place.folder)}: faster-whisper cannot load it '
        f'({reason}), '
        f'expected a whole model that {config.device} runs in {config.compute}.'
      ) from error
    if self._model.hf_tokenizer.token_to_id(_START) is None:
      raise errors.UserError(
        f'judge: {place.folder / judge_folder.TOKENIZER}: found no token '
        f'{_START}, expected the tokenizer of a Whisper model.'
      )
    self._folder = place.folder
    self.languages = frozenset(self._model.supported_languages)

  def hear(self, wave_S: np.ndarray, language: str) -> str:
    """What is said.

    Args:
      wave_S: Float samples at 16 kHz (S,).
      language: One of `languages`.

    Raises:
      UserError: Files of the judge do not fit each other.
    """
    try:
      return self._hear(wave_S, language)
    except Exception as error:  # what its libraries raise has nothing in common
      reason = ' '.join(str(error).split())
      raise errors.UserError(
        f'judge: {self._folder}: faster-whisper cannot hear with it ({reason}).'
      ) from error

  def _hear(self, wave_S: np.ndarray, language: str) -> str:
    segments, _ = self._model.transcribe(
      np.asarray(wave_S, np.float32),
      language=language,
      beam_size=self._beam,
      temperature=0.0,
      condition_on_previous_text=False,
      without_timestamps=True,
      # They would drop or repeat what was read.
      no_speech_threshold=None,
      log_prob_threshold=None,
      compression_ratio_threshold=None,
    )
    return ''.join(segment.text for segment in segments).strip()


def _culprit(folder: pathlib.Path) -> pathlib.Path:
  """What of a judge does not load: its tokenizer's file, or any other."""
  import tokenizers

  path = folder / judge_folder.TOKENIZER
  try:
    with files.as_local(path) as name:
      tokenizers.Tokenizer.from_file(str(name))
  except Exception:  # the library raises bare Exception
    return path
  return folder


def convention(
  config: JudgeConfig, name: str, sums: Mapping[str, str]
) -> dict[str, Any]:
  """What stands beside every figure of a judge, JSON-able.

  Args:
    config: How it hears.
    name: Of the judge.
    sums: Of its files (`judge_folder.sums`).
  """
  return {
    'name': name,
    'sha256': sums[judge_folder.MODEL],
    'files': digests.of_value(sums),
    'beam': config.beam,
    'compute': f'{config.compute} on {config.device}',
    'temperature': 0.0,
    'language': 'told',
    'prompt': None,
    'grammar': None,
    'normaliser': [
      f'{scoring.CONVENTION} {scoring.VERSION}',
      *(FOLDS[name] for name in config.fold),
    ],
  }


def describe(told: Mapping[str, Any]) -> str:
  """A convention as people read it."""
  return (
    f'{told["name"]} (Whisper, SHA-256 {digests.short(told["sha256"])}), beam '
    f'{told["beam"]}, {told["compute"]}, language told, no prompt, no grammar; '
    f'texts compared as {", ".join(told["normaliser"])}'
  )


def fold_text(text: str, language: str, folds: Sequence[str]) -> str:
  """A text as it is compared, before the project's own convention.

  Raises:
    UserError: A library that a fold needs is not installed.
  """
  mandarin = languages.language_subtag(language) == 'zh'
  if 'simplified' in folds and mandarin:
    text = _simplified(text)
  if 'numbers' in folds and mandarin:
    text = re.sub('[0-9]{1,4}', lambda m: _numeral(int(m[0])), text)
    text = text.replace('两', '二').replace('兩', '二')
  if 'punctuation' in folds:
    text = re.sub("(?<=\\w)['’](?=\\w)", '', text)
    text = ''.join(
      ' ' if unicodedata.category(letter)[0] == 'P' else letter
      for letter in text
    )
  return text


def _simplified(text: str) -> str:
  if importlib.util.find_spec('opencc') is None:
    raise errors.UserError(
      "judge: fold has 'simplified', which needs opencc-python-reimplemented "
      "of the extra 'judge'."
    )
  import opencc

  return opencc.OpenCC('t2s').convert(text)


def _numeral(number: int) -> str:
  """A number below 10,000 in Chinese words."""
  if number < 10:
    return _DIGITS[number]
  out, gap = '', False
  for place in reversed(range(len(str(number)))):
    digit = number // 10**place % 10
    if digit:
      out += ('零' if gap else '') + _DIGITS[digit] + _UNITS[place]
    gap = not digit
  return out.removeprefix('一') if number < 20 else out
