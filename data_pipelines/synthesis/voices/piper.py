"""Voices of Piper: a VITS in one ONNX file, and a table of phonemes beside.

Phonemes are espeak-ng's, as Piper takes them: each character of the IPA has an
id, punctuation stays, `_` stands between all ids, `^` and `$` around them; a
sentence is said at a time. Nothing of Piper's own code is needed.
"""

import dataclasses
import functools
import itertools
import reprlib
from typing import Any, Mapping

import numpy as np

from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import graphs
from data_pipelines.synthesis.voices import reading
from data_pipelines.synthesis.voices import runtime
from data_pipelines.synthesis.voices import sources
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.storage import files

_BETWEEN, _FIRST, _LAST = '_', '^', '$'
_INPUTS = ('input', 'input_lengths', 'scales')
_SPEAKER_INPUT = 'sid'
_SCALES = {'noise_scale': 0.667, 'length_scale': 1.0, 'noise_w': 0.8}
_SLOWEST, _FASTEST = 0.25, 4.0
_NOISE_PER_ID = 1024  # more than speech of a usual rate takes


@dataclasses.dataclass(frozen=True)
class Piper(sources.OfSource):
  """A `Voice`.

  Attributes:
    source: Its files.
    config: The `.json`.
    lengths: Whether the graph tells how long phonemes are.
    noises: Inputs that take noise.
    session: Runs the graph; by default onnxruntime's, one a process.
  """

  source: sources.Source
  config: Mapping[str, Any]
  noises: tuple[str, ...]
  lengths: str | None
  session: runtime.Session | None = None
  made_with = (espeak.PACKAGE, runtime.PACKAGE)

  @property
  def name(self) -> str:
    return self.config.get('dataset') or self.source.model.stem

  @property
  def languages(self) -> tuple[str, ...]:
    return (languages.normalise(self.config['espeak']['voice']),)

  @property
  def sample_rate(self) -> int:
    return self.config['audio']['sample_rate']

  @functools.cached_property
  def speakers(self) -> tuple[str, ...]:
    names = self.config.get('speaker_id_map') or {}
    count = self.config.get('num_speakers', 1)
    known = {number: name for name, number in names.items()}
    return tuple(known.get(k, str(k)) for k in range(count))

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
    speaker = speaker or self.speakers[0]
    reading.check(self, self.source.name, language, speaker, pitch)
    reading.check_rate(rate, _SLOWEST, _FASTEST)
    reading.check_letters(text, language, self.source.name)
    rng = np.random.Generator(np.random.PCG64(seed))
    which = self.speakers.index(speaker)

    def say(sentence):
      ids, firsts = self._ids(sentence, text)
      return *self._run(ids, which, rate, rng), firsts

    return reading.read(
      text,
      self.config['espeak']['voice'],
      self.config['phoneme_id_map'],
      self.sample_rate,
      say,
    )

  def _ids(self, sentence: str, text: str) -> tuple[list[int], list[int]]:
    """Ids of a sentence, and the places of the words' first ones."""
    table = self.config['phoneme_id_map']
    ids, groups, begins = list(table[_FIRST]), [], True
    between = table[_BETWEEN]
    ids += between
    for phoneme in sentence:
      if phoneme not in table:
        raise errors.UserError(
          f'{self.source.name}: has no phoneme {phoneme!r}, which {text!r} '
          'needs; found none in its phoneme_id_map.'
        )
      if begins and phoneme != ' ':
        groups.append(len(ids))
      begins = phoneme == ' '
      ids += table[phoneme] + between
    return ids + table[_LAST], groups

  def _run(self, ids, speaker, rate, rng):
    """Samples, and the frames of each id if the graph tells them."""
    noise_scale, length_scale, noise_w = _scales(self.config)
    feed = {
      'input': np.array([ids], np.int64),
      'input_lengths': np.array([len(ids)], np.int64),
      'scales': np.array(
        [noise_scale, length_scale / rate, noise_w], np.float32
      ),
    }
    if len(self.speakers) > 1:
      feed[_SPEAKER_INPUT] = np.array([speaker], np.int64)
    session = self.session or runtime.open_session(
      str(self.source.model), self.sha256
    )
    streams = [np.random.PCG64(int(rng.integers(2**63))) for _ in self.noises]
    for more in itertools.count():
      count = len(ids) * _NOISE_PER_ID * 4**more
      for name, stream in zip(self.noises, streams):
        # The front of a longer vector is the shorter one.
        again = np.random.PCG64()
        again.state = stream.state
        feed[name] = np.random.Generator(again).standard_normal(
          count, np.float32
        )
      try:
        outputs = runtime.run(self.source.model, session, feed)
        break
      except errors.UserError:
        if more == 2 or not self.noises:
          raise
    sound = np.asarray(outputs[0], np.float32).reshape(-1)
    frames = np.asarray(outputs[1]).reshape(-1) if self.lengths else None
    return sound, frames


def _scales(config: Mapping[str, Any]) -> list[float]:
  """Of noise, of lengths and of their noise, as a voice has them."""
  given = config.get('inference', {})
  return [given.get(name, usual) for name, usual in _SCALES.items()]


def load(source: sources.Source) -> Piper:
  """A voice from its files, each checked against the other.

  Raises:
    UserError: They are no voice of Piper, or do not belong together.
  """
  config = files.read_json(source.config)
  _check_config(source, config)
  graph = graphs.read(source.model)
  several = config.get('num_speakers', 1) > 1
  wanted = (*_INPUTS, *((_SPEAKER_INPUT,) if several else ()))
  if sorted(graph.inputs) != sorted(wanted):
    raise errors.UserError(
      f'{source.model}: has the inputs {", ".join(graph.inputs) or "none"}, '
      f'expected {", ".join(wanted)} of a voice of Piper.'
    )
  highest = max(i for ids in config['phoneme_id_map'].values() for i in ids)
  if graph.rows and highest >= graph.rows:
    raise errors.UserError(
      f'{source.config}: phoneme_id_map has the id {highest}, but '
      f'{source.model.name} has {graph.rows} phonemes.'
    )
  rate = config['audio']['sample_rate']
  stated = graph.metadata.get('sample_rate', str(rate))
  if stated != str(rate):
    raise errors.UserError(
      f'{source.config}: audio.sample_rate is {rate}, but {source.model.name} '
      f'says {stated}.'
    )
  return Piper(source, config, graph.noises, graph.lengths)


def _check_config(source: sources.Source, config: Any) -> None:
  def wrong(what: str) -> errors.UserError:
    return errors.UserError(f'{source.config}: {what}')

  if not isinstance(config, dict):
    raise wrong('found no object, expected the description of a voice.')
  for key in ('audio', 'espeak', 'phoneme_id_map'):
    if config.get(key) is None:
      raise wrong(f'has no {key}, expected one of a voice of Piper.')
  for key in ('audio', 'espeak', 'phoneme_id_map', 'inference'):
    if not isinstance(config.get(key, {}), dict):
      raise wrong(f'{key} is {_shown(config[key])}, expected an object.')
  name = config.get('dataset')
  if name is not None and not isinstance(name, str):
    raise wrong(f'dataset is {_shown(name)}, expected a name.')
  rate = config['audio'].get('sample_rate')
  if not isinstance(rate, int) or not 8000 <= rate <= 48000:
    raise wrong(f'audio.sample_rate is {rate}, expected 8000..48000 Hz.')
  if not isinstance(config['espeak'].get('voice'), str):
    raise wrong('has no espeak.voice, expected one such as en-us.')
  try:
    espeak.check_voice(config['espeak']['voice'])
  except espeak.UnknownVoice as error:
    raise wrong(f'espeak.{error}') from error
  if config.get('phoneme_type', 'espeak') != 'espeak':
    raise wrong(
      f'phoneme_type is {config["phoneme_type"]}, expected espeak; text is '
      'made phonemes by espeak-ng alone here.'
    )
  count = config.get('num_speakers', 1)
  if type(count) is not int or count < 1:
    raise wrong(f'num_speakers is {_shown(count)}, expected 1 or more.')
  names = config.get('speaker_id_map')
  if names is not None and not (
    isinstance(names, dict) and all(type(i) is int for i in names.values())
  ):
    raise wrong(
      f'speaker_id_map is {_shown(names)}, expected an object with the number '
      'of each name.'
    )
  for key, value in zip(_SCALES, _scales(config)):
    above = key == 'length_scale'  # nothing is said in no time
    if not _is_number(value) or (above and np.float32(value) <= 0):
      raise wrong(
        f'inference.{key} is {_shown(value)}, expected a finite number'
        f'{" above 0" if above else ""}.'
      )
  table = config['phoneme_id_map']
  if missing := [key for key in (_BETWEEN, _FIRST, _LAST) if key not in table]:
    raise wrong(f'phoneme_id_map has no {missing[0]!r}.')
  for phoneme, ids in table.items():
    # A phoneme may be said by nothing; what stands around all of them not.
    needed = phoneme in (_BETWEEN, _FIRST, _LAST)
    if (
      not isinstance(ids, list)
      or not all(type(i) is int and 0 <= i < 2**31 for i in ids)
      or (needed and not ids)
    ):
      raise wrong(
        f'phoneme_id_map: {phoneme!r} has {_shown(ids)}, expected ids.'
      )


def _is_number(value: Any) -> bool:
  """Whether it is a number that float32 can hold."""
  if type(value) not in (int, float):
    return False
  return abs(value) <= float(np.finfo(np.float32).max)  # NaN is not


def _shown(value: Any) -> str:
  """What was found, in a sentence."""
  return reprlib.repr(value)
