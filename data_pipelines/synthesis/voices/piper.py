"""Voices of Piper: a VITS in one ONNX file, and a table of phonemes beside.

Phonemes are espeak-ng's, as Piper takes them: each character of the IPA has an
id, punctuation stays, `_` stands between all ids, `^` and `$` around them; a
sentence is said at a time. Nothing of Piper's own code is needed.
"""

import dataclasses
import functools
import itertools
import re
from typing import Any, Mapping
import unicodedata

import numpy as np

from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import graphs
from data_pipelines.synthesis.voices import runtime
from data_pipelines.synthesis.voices import sources
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.storage import files as files_lib

_BETWEEN, _FIRST, _LAST = '_', '^', '$'
_INPUTS = ('input', 'input_lengths', 'scales')
_SPEAKER_INPUT = 'sid'
_SLOWEST, _FASTEST = 0.25, 4.0
_PAUSE_SECONDS = 0.2  # between sentences, as Piper has it
_NOISE_PER_ID = 1024  # more than speech of a usual rate takes
# What may end a clause, and as which of Piper's marks it is kept.
_MARKS = {
  **{mark: mark for mark in '.?!,;:'},
  **dict(zip('。．？！，、；：', '..?!,,;:')),
}
_ENDS = '.?!'
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


@dataclasses.dataclass(frozen=True)
class Piper:
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

  @property
  def licence(self) -> str:
    return self.source.licence

  @property
  def origin(self) -> str:
    return self.source.origin

  @property
  def files(self) -> Mapping[str, str]:
    return self.source.files

  @property
  def sha256(self) -> str:
    return self.source.sha256

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
    self._check(text, language, speaker, rate, pitch)
    rng = np.random.Generator(np.random.PCG64(seed))
    sounds, words, said, total = [], [], [], 0
    pause = np.zeros(round(_PAUSE_SECONDS * self.sample_rate), np.float32)
    starts = [match.start() for match in re.finditer(r'\S+', text)]
    sentences = self._sentences(text)
    # espeak-ng may read two words in one breath; then no start is known.
    groups = sum(len(sentence.split()) for sentence in sentences)
    places = iter(starts if groups == len(starts) else ())
    for sentence in sentences:
      ids, groups = self._ids(sentence, text)
      sound, frames = self._run(ids, self.speakers.index(speaker), rate, rng)
      if frames is not None:
        ends = np.cumsum(frames) * (len(sound) / max(1.0, frames.sum()))
        words += [
          (place, float(total + ends[first - 1]) / self.sample_rate)
          for first, place in zip(groups, places)
        ]
      sounds += [sound, pause]
      said.append(sentence)
      total += len(sound) + len(pause)
    return voice_lib.Speech(
      np.concatenate(sounds[:-1]),
      self.sample_rate,
      tuple(words),
      ' '.join(said),
    )

  def _check(self, text, language, speaker, rate, pitch) -> None:
    if language not in self.languages:
      raise errors.UserError(
        f'{self.source.name}: says {self.languages[0]}, not {language}.'
      )
    if speaker not in self.speakers:
      raise errors.UserError(
        f'{self.source.name}: has no speaker {speaker!r}, it has '
        f'{", ".join(self.speakers[:8])}.'
      )
    if not _SLOWEST <= rate <= _FASTEST:
      raise errors.UserError(
        f'rate: found {rate}, expected {_SLOWEST}..{_FASTEST:g}.'
      )
    if pitch != 50:
      raise errors.UserError(
        f'pitch: found {pitch}, expected 50: {self.source.name} has no other.'
      )
    scripts = [*_SCRIPTS.get(language, '').split(), 'LATIN']
    for letter in filter(str.isalpha, text):
      name = unicodedata.name(letter, '')
      if not name.startswith((*scripts, 'MODIFIER', 'FEMININE', 'MASCULINE')):
        raise errors.UserError(
          f'text: found {letter!r} in {text!r}, which {self.source.name} '
          f'cannot say: it reads {" and ".join(scripts).title()} letters.'
        )

  def _sentences(self, text: str) -> list[str]:
    """Phonemes with punctuation, a sentence each."""
    found, sentence = [], ''
    voice = self.config['espeak']['voice']
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
    return found

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
    scales = self.config.get('inference', {})
    feed = {
      'input': np.array([ids], np.int64),
      'input_lengths': np.array([len(ids)], np.int64),
      'scales': np.array(
        [
          scales.get('noise_scale', 0.667),
          scales.get('length_scale', 1.0) / rate,
          scales.get('noise_w', 0.8),
        ],
        np.float32,
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
        outputs = session.run(None, feed)
        break
      except Exception as error:  # its exceptions have no class in common
        if more == 2 or not self.noises:
          reason = str(error).strip().splitlines()[-1]
          raise errors.UserError(
            f'{self.source.model}: onnxruntime cannot run it: {reason}'
          ) from error
    sound = np.asarray(outputs[0], np.float32).reshape(-1)
    frames = np.asarray(outputs[1]).reshape(-1) if self.lengths else None
    return sound, frames


def load(source: sources.Source) -> Piper:
  """A voice from its files, each checked against the other.

  Raises:
    UserError: They are no voice of Piper, or do not belong together.
  """
  config = files_lib.read_json(source.config)
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
    if not isinstance(config.get(key), dict):
      raise wrong(f'has no {key}, expected one of a voice of Piper.')
  rate = config['audio'].get('sample_rate')
  if not isinstance(rate, int) or not 8000 <= rate <= 48000:
    raise wrong(f'audio.sample_rate is {rate}, expected 8000..48000 Hz.')
  if not isinstance(config['espeak'].get('voice'), str):
    raise wrong('has no espeak.voice, expected one such as en-us.')
  if config.get('phoneme_type', 'espeak') != 'espeak':
    raise wrong(
      f'phoneme_type is {config["phoneme_type"]}, expected espeak; text is '
      'made phonemes by espeak-ng alone here.'
    )
  count = config.get('num_speakers', 1)
  if not isinstance(count, int) or count < 1:
    raise wrong(f'num_speakers is {count}, expected 1 or more.')
  table = config['phoneme_id_map']
  if missing := [key for key in (_BETWEEN, _FIRST, _LAST) if key not in table]:
    raise wrong(f'phoneme_id_map has no {missing[0]!r}.')
  for phoneme, ids in table.items():
    if not isinstance(ids, list) or not all(
      isinstance(i, int) and i >= 0 for i in ids
    ):
      raise wrong(f'phoneme_id_map: {phoneme!r} has {ids}, expected ids.')
