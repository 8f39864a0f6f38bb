"""Voices of Kokoro: one ONNX file, its letters, and a style for each speaker.

It speaks English here, whatever language a style was made of: espeak-ng's
phonemes are written in Kokoro's letters, which are one for each diphthong and
affricate. The style of a sentence depends on how many letters it has.
"""

import dataclasses
import functools
from typing import Any, Mapping

import numpy as np

from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import graphs
from data_pipelines.synthesis.voices import reading
from data_pipelines.synthesis.voices import runtime
from data_pipelines.synthesis.voices import sources
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.storage import files

_INPUTS = (('tokens', 'input_ids'), ('style',), ('speed',))
_LENGTHS = 'Clip'  # frames of a letter, at least one
_SLOWEST, _FASTEST = 0.5, 2.0
_ENGLISH = 'en-us'
# espeak-ng's American English in Kokoro's letters; the first that fits.
_LETTERS = (
  ('əl', 'ᵊl'), ('aɪ', 'I'), ('aʊ', 'W'), ('eɪ', 'A'), ('oʊ', 'O'),
  ('ɔɪ', 'Y'), ('tʃ', 'ʧ'), ('dʒ', 'ʤ'), ('ɜː', 'ɜɹ'), ('ɚ', 'əɹ'),
  ('ɐ', 'ə'), ('ɾ', 'T'), ('ʔ', 't'), ('x', 'k'), ('r', 'ɹ'), ('e', 'A'),
  ('o', 'ɔ'), ('ː', ''), ('\u0329', ''), ('\u0303', ''),
)  # fmt: skip


def letters(phonemes: str) -> str:
  """espeak-ng's phonemes as Kokoro writes them."""
  for old, new in _LETTERS:
    phonemes = phonemes.replace(old, new)
  return phonemes


@dataclasses.dataclass(frozen=True)
class Kokoro(sources.OfSource):
  """A `Voice`.

  Attributes:
    source: Its files.
    vocabulary: Letter → id.
    speakers: Names of its styles.
    inputs: Names of the graph's inputs: ids, style, speed.
    lengths: Name of the output with the frames of letters, if it has one.
    session: Runs the graph; by default onnxruntime's, one a process.
  """

  source: sources.Source
  vocabulary: Mapping[str, int]
  speakers: tuple[str, ...]
  inputs: tuple[str, ...]
  lengths: str | None
  session: runtime.Session | None = None
  name = 'kokoro'
  languages = ('en',)
  sample_rate = 24000
  made_with = (espeak.PACKAGE, runtime.PACKAGE)

  def speak(
    self,
    text: str,
    *,
    language: str,
    speaker: str | None = None,
    rate: float = 1.0,
    pitch: int = 50,
    seed: int = 0,
  ) -> voice_lib.Speech:
    del seed  # it draws nothing
    speaker = speaker or self.speakers[0]
    reading.check(self, self.source.name, language, speaker, pitch)
    reading.check_rate(rate, _SLOWEST, _FASTEST)
    reading.check_letters(text, language, self.source.name)
    styles = _styles(str(self.source.styles), self.sha256)[speaker]

    def say(sentence):
      return self._run(letters(sentence), styles, rate, text)

    return reading.read(text, _ENGLISH, self.vocabulary, self.sample_rate, say)

  def _run(self, sentence, styles, rate, text):
    ids, firsts, begins = [0], [], True
    for letter in sentence:
      if letter not in self.vocabulary:
        raise errors.UserError(
          f'{self.source.name}: has no letter {letter!r}, which {text!r} needs.'
        )
      if begins and letter != ' ':
        firsts.append(len(ids))
      begins = letter == ' '
      ids.append(self.vocabulary[letter])
    count = len(ids) - 1
    if count > len(styles):
      raise errors.UserError(
        f'{self.source.name}: a sentence of {text!r} has {count} letters, '
        f'expected at most {len(styles)}.'
      )
    feed = dict(
      zip(
        self.inputs,
        (
          np.array([[*ids, 0]], np.int64),
          styles[count - 1].reshape(1, -1).astype(np.float32),
          np.array([rate], np.float32),
        ),
      )
    )
    session = self.session or runtime.open_session(
      str(self.source.model), self.sha256, _LENGTHS
    )
    outputs = runtime.run(self.source.model, session, feed)
    sound = np.asarray(outputs[0], np.float32).reshape(-1)
    frames = np.asarray(outputs[-1]).reshape(-1) if self.lengths else None
    if frames is not None and len(frames) != len(ids) + 1:
      frames = None
    return sound, frames, firsts


@functools.lru_cache(4)
def _styles(path: files.Path, sha256: str) -> dict[str, np.ndarray]:
  """Name → styles (letters, …, 256); kept until the voice changes.

  Raises:
    UserError: The file holds no styles.
  """
  del sha256
  try:
    with files.opened(path) as handle:
      found = np.load(handle, allow_pickle=False)
      styles = {name: found[name] for name in found.files}
  except errors.UserError:
    raise
  except Exception as error:  # a zip, a pickle and an array fail each its way
    raise errors.UserError(
      f'{path}: found no arrays, expected styles of Kokoro.'
    ) from error
  for name, style in styles.items():
    if (
      style.ndim < 2
      or not style.size
      or style.size != len(style) * style.shape[-1]
    ):
      raise errors.UserError(
        f'{path}: {name} has the shape {style.shape}, expected a style for '
        'each number of letters.'
      )
    if style.dtype.kind != 'f':
      raise errors.UserError(
        f'{path}: {name} is of {style.dtype}, expected floating-point numbers.'
      )
    # As the network takes them: what is beyond float32 is none, either.
    with np.errstate(over='ignore'):
      finite = np.isfinite(style.astype(np.float32)).all()
    if not finite:
      raise errors.UserError(
        f'{path}: {name} has NaN or an infinity, expected finite numbers.'
      )
  if not styles:
    raise errors.UserError(f'{path}: found no styles of Kokoro.')
  return styles


def _check_widths(source: sources.Source, width: int | None) -> None:
  """Refuses styles that the model, or other styles, do not fit.

  Args:
    source: Of the voice.
    width: What the model states, if it does.
  """
  for name, style in _styles(str(source.styles), source.sha256).items():
    width = width or style.shape[-1]
    if style.shape[-1] != width:
      raise errors.UserError(
        f'{source.styles}: {name} has {style.shape[-1]} numbers a style, '
        f'expected {width}.'
      )


def load(source: sources.Source) -> Kokoro:
  """A voice from its files.

  Raises:
    UserError: They are no voice of Kokoro.
  """
  config: Any = files.read_json(source.config)
  table = config.get('vocab') if isinstance(config, dict) else None
  if not isinstance(table, dict) or not all(
    isinstance(number, int) and number >= 0 for number in table.values()
  ):
    raise errors.UserError(
      f'{source.config}: found no vocab, expected the letters of Kokoro.'
    )
  graph = graphs.read(source.model, _LENGTHS)
  inputs = tuple(
    next((name for name in names if name in graph.inputs), None)
    for names in _INPUTS
  )
  if None in inputs or len(graph.inputs) != len(inputs) or graph.noises:
    raise errors.UserError(
      f'{source.model}: has the inputs {", ".join(graph.inputs) or "none"}, '
      'expected tokens, style, speed of Kokoro, and no noise.'
    )
  if graph.rows and max(table.values(), default=0) >= graph.rows:
    raise errors.UserError(
      f'{source.config}: vocab has the id {max(table.values())}, but '
      f'{source.model.name} has {graph.rows} letters.'
    )
  _check_widths(source, graph.widths.get(inputs[1]))
  speakers = tuple(_styles(str(source.styles), source.sha256))
  return Kokoro(source, table, speakers, inputs, graph.lengths)
