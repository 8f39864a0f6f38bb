"""A run of ours as a voice: it writes codes, a speech decoder makes them sound.

    --voice=run:runs/quickstart/sft     its decoder and tokenizer lie beside it
    --voice=run:voice.json              or are named, relative to this file:

    {"run": "sft", "decoder": "decoder", "languages": ["en"],
     "recordings": {"anna": {"audio": "anna.wav", "text": "what she says"}}}

Each recording is a speaker; without any, the decoder's own voice is. Tags that
the run has learnt are asked of it (`styled`). It can be pickled; what it needs
is loaded once by each process that calls it. It tells no times of words.
"""

import dataclasses
import functools
import json
import threading
from typing import Any, Mapping, Sequence

import numpy as np

from data_pipelines.synthesis.voices import reading
from data_pipelines.synthesis.voices import sources
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.audio import stretch
from step_audio_jax.commands import gin_types
from step_audio_jax.decoder import rendering
from step_audio_jax.decoder import speech as speech_lib
from step_audio_jax.decoder import styled_text
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.evaluation.memory import identity as identity_lib
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import seal
from step_audio_jax.training.checkpoints import checkpoints

PREFIX = 'run:'
_OWN = 'own'  # the decoder's voice, as a speaker
_BESIDE = ('decoder', 'tokenizer')  # of a run
_PAUSE_SECONDS = 0.2  # between sentences, as `speak` has it
_SEEDS = 2**31
_LOADING = threading.Lock()  # a worker may have several threads


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a run speaks.

  Attributes:
    run: Directory of a model of speech and text.
    decoder: Folder of its speech decoder.
    tokenizer: Of its codes; None is the decoder's, where that still is.
    step: Which checkpoint; None is the newest.
    recordings: Speaker → {'audio': path, 'text': what is said in it}.
    languages: Subtags of what it has learnt to say.
    name: In manifests; None is that of the run's directory.
    licence: Of what it says.
    layout: As of `speak`.
    system: Likewise.
    temperature: Likewise.
    top_k: Likewise.
    top_p: Likewise.
    longest: Seconds of one sentence.
    steps: Of the flow's solver.
  """

  run: str
  decoder: str
  tokenizer: str | None = None
  step: int | None = None
  recordings: Mapping[str, Mapping[str, str]] = dataclasses.field(
    default_factory=dict
  )
  languages: tuple[str, ...] = ('en', 'zh')
  name: str | None = None
  licence: str = sources.NOT_STATED
  layout: str = 'auto'
  system: str = ''
  temperature: float = 0.7
  top_k: int = 0
  top_p: float = 1.0
  longest: float = 20.0
  steps: int = 10


@dataclasses.dataclass(frozen=True)
class Own:
  """A voice (`voice.Voice`) that a run is.

  Attributes:
    settings: As JSON, by which it is loaded; paths are whole.
    step: The checkpoint.
    speakers: Names of the recordings, or `own`.
    tags: What the run has learnt of styles.
    tells_words: Whether it tells when words begin.
  """

  name: str
  languages: tuple[str, ...]
  speakers: tuple[str, ...]
  sample_rate: int
  licence: str
  origin: str
  files: Mapping[str, str]
  settings: str
  step: int
  tags: frozenset[tags_lib.Tag] = frozenset()
  made_with = ('jax', 'jaxlib', 'numpy', 'soxr')
  tells_words = False

  @property
  def sha256(self) -> str:
    return digests.of_value(dict(self.files))

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
    return self.speak_spans(
      (markup.Span(text),),
      language=language,
      speaker=speaker,
      rate=rate,
      pitch=pitch,
      seed=seed,
    )

  def speak_spans(
    self,
    spans: Sequence[markup.Span],
    *,
    language: str,
    speaker: str | None = None,
    rate: float = 1.0,
    pitch: int = 50,
    seed: int = 0,
  ) -> voice_lib.Speech:
    """As `speak`, with tags; all of them are of `tags`."""
    speaker = speaker or self.speakers[0]
    reading.check(self, self.name, language, speaker, pitch)
    reading.check_rate(rate, stretch.SLOWEST, stretch.FASTEST)
    pieces = text_to_codes.sentences(markup.plain(spans))
    prompts = list(styled_text.written(spans, pieces))
    with _LOADING:
      loaded = _loaded(self.settings, self.step)
      voice = _voice(self.settings, self.step, speaker)
    parts: list[np.ndarray] = []
    for number, (prompt, piece) in enumerate(zip(prompts, pieces)):
      # One by one, so that few shapes are compiled.
      (written,) = loaded.writer((seed + number) % _SEEDS).write(
        [prompt], voice
      )
      if not written.stopped:
        raise errors.UserError(
          f'{self.name}: {piece[:40]!r} is not finished after '
          f'{loaded.settings.longest:g} s; see "longest".'
        )
      samples_S, sample_rate = loaded.decoder.decode(
        written.ids, voice, seed, loaded.settings.steps
      )
      gap = np.zeros(int(_PAUSE_SECONDS * sample_rate), np.float32)
      parts += [gap, samples_S] if parts else [samples_S]
    wave_S = stretch.stretch(
      np.concatenate(parts), rate, loaded.decoder.sample_rate
    )
    return voice_lib.Speech(wave_S, loaded.decoder.sample_rate)


@dataclasses.dataclass(frozen=True)
class _Loaded:
  """What speaks, in this process."""

  settings: Settings
  model: Any
  variables: Any
  vocabulary: Any
  decoder: speech_lib.SpeechDecoder
  options: text_to_codes.SpeakOptions

  def writer(self, seed: int) -> text_to_codes.Writer:
    options = dataclasses.replace(self.options, seed=seed)
    return text_to_codes.Writer(
      self.model, self.variables, self.vocabulary, options
    )


def load(named: str, flag: str = '--voice') -> Own:
  """The voice that `run:PATH` names.

  Args:
    named: By a user.
    flag: What named it, for messages.

  Raises:
    UserError: There is no such run, it cannot speak, its parts do not belong
      together, or a setting is wrong.
  """
  settings = _settings(named, flag)
  _, step = checkpoints.step_folder(settings.run, settings.step)
  settings = dataclasses.replace(settings, step=step)
  told = _digests(settings)
  key = json.dumps(dataclasses.asdict(settings), sort_keys=True)
  with _LOADING:
    loaded = _loaded(key, step)
    speakers = tuple(settings.recordings) or (_OWN,)
    for speaker in speakers:
      _voice(key, step, speaker)
  for sentence in loaded.decoder.unchecked:
    bindings.warn_once(sentence)
  run = files.path(settings.run)
  known = styled_text.of_run(run, text_to_codes.is_released(run))
  name = settings.name or run.name
  return Own(
    name=name,
    languages=settings.languages,
    speakers=speakers,
    sample_rate=loaded.decoder.sample_rate,
    licence=settings.licence,
    origin=f'{run.name}, step {step}',
    files=told,
    settings=key,
    step=step,
    tags=known.tags,
  )


def _settings(named: str, flag: str) -> Settings:
  """What a user's name for a voice says.

  Raises:
    UserError: It names no run and no file of settings.
  """
  where = named.removeprefix(PREFIX)
  if not where:
    raise errors.UserError(
      f'{flag}: found {named!r}, expected run: and the directory of a run, or '
      'a file of settings.'
    )
  path = files.path(where, flag)
  if not files.is_file(path):
    beside = {name: path.parent / name for name in _BESIDE}
    if not files.is_dir(beside['decoder']):
      raise errors.UserError(
        f'{flag}: {named}: found no {beside["decoder"]}, expected the decoder '
        'of the run beside it, or a file of settings that names it.'
      )
    there = files.is_dir(beside['tokenizer'])
    tokenizer = str(beside['tokenizer']) if there else None
    return Settings(str(path), str(beside['decoder']), tokenizer)
  return _read(path)


def _read(path: files.AnyPath) -> Settings:
  """A file of settings; its paths begin where it lies."""
  found = files.read_json(path)
  hints = gin_types.annotations(Settings)
  fields = {field.name: field for field in dataclasses.fields(Settings)}
  if not isinstance(found, dict):
    raise errors.UserError(f'{path}: found no JSON object.')
  for name, value in found.items():
    if name not in fields:
      raise errors.UserError(
        f'{path}: {name}: unknown, expected one of {", ".join(fields)}.'
      )
    if not gin_types.matches(value, hints[name]):
      raise errors.UserError(
        f'{path}: {name}: found {value!r}, expected '
        f'{gin_types.describe(hints[name])}.'
      )
  for name in ('run', 'decoder'):
    if not found.get(name):
      raise errors.UserError(f'{path}: {name}: missing.')
  for speaker, told in found.get('recordings', {}).items():
    if not speaker or set(told) != {'audio', 'text'}:
      raise errors.UserError(
        f'{path}: recordings: {speaker!r}: found {", ".join(told) or "nothing"}'
        ', expected a name with audio and text.'
      )
  if not found.get('languages', ['en']):
    raise errors.UserError(f'{path}: languages: found none, expected some.')

  def whole(value):
    return None if value is None else str(path.parent / value)

  for name in ('run', 'decoder', 'tokenizer'):
    found[name] = whole(found.get(name))
  found['recordings'] = {
    speaker: {**told, 'audio': whole(told['audio'])}
    for speaker, told in found.get('recordings', {}).items()
  }
  if 'languages' in found:
    found['languages'] = tuple(found['languages'])
  return Settings(**found)


def _digests(settings: Settings) -> dict[str, str]:
  """All that decides what is said, by digest; places do not."""
  folder = files.path(settings.decoder)
  parts = sorted(p.name for p in files.list_folder(folder) if files.is_file(p))
  told = {
    'model': identity_lib.DigestCache(settings.run).model(
      settings.run, settings.step
    ),
    'decoder': digests.of_value(digests.of_files(folder, parts)),
  }
  for speaker, one in settings.recordings.items():
    told[f'recording {speaker}'] = digests.of_file(one['audio'])
  rest = dataclasses.asdict(settings)
  for name in ('run', 'decoder', 'tokenizer', 'step', 'name', 'licence'):
    del rest[name]
  rest['recordings'] = {
    name: one['text'] for name, one in settings.recordings.items()
  }
  return {**told, 'settings': digests.of_value(rest)}


@functools.lru_cache(maxsize=2)
def _loaded(key: str, step: int) -> _Loaded:
  settings = Settings(**json.loads(key))
  decoder = speech_lib.SpeechDecoder.load(settings.decoder)
  tokenizer = _tokenizer(settings, decoder)
  decoder.check_codes(settings.run, text_to_codes.tokenizer_of(settings.run))
  decoder.check_codes(f'the tokenizer {tokenizer}', seal.identity(tokenizer))
  layout = settings.layout
  if layout == 'auto':
    layout = text_to_codes.layout_of(settings.run)
  linguistic, semantic = seal.code_counts(tokenizer)
  options = text_to_codes.SpeakOptions(
    layout=layout,
    system=settings.system,
    longest=settings.longest,
    linguistic_codes=linguistic,
    semantic_codes=semantic,
    sampler=sampling.Sampler(
      settings.temperature, settings.top_k, settings.top_p
    ),
  )
  model, variables, vocabulary = restore.load_model(settings.run, step)
  loaded = _Loaded(
    settings,
    restore.unroll_layers(model),
    variables,
    vocabulary,
    decoder,
    options,
  )
  try:
    loaded.writer(0)
  except errors.UserError as error:
    raise errors.UserError(f'{settings.run}: {error}') from error
  return loaded


@functools.lru_cache(maxsize=16)
def _voice(key: str, step: int, speaker: str) -> speech_lib.Voice:
  """Who speaks: a recording's voice, or the decoder's own."""
  loaded = _loaded(key, step)
  one = loaded.settings.recordings.get(speaker)
  if one is None:
    return loaded.decoder.chosen(None)
  wave_S, rate = rendering.read_recording(one['audio'], None)
  tokenizer = _opened(_tokenizer(loaded.settings, loaded.decoder))
  return loaded.decoder.voice_from(
    wave_S, rate, tokenizer, one['text'], one['audio']
  )


_opened = functools.lru_cache(maxsize=1)(
  lambda folder: dual.DualTokenizer.load(folder)
)


def _tokenizer(settings: Settings, decoder: speech_lib.SpeechDecoder) -> str:
  """The folder of the tokenizer that is named, or that the decoder knows."""
  if settings.tokenizer:
    return settings.tokenizer
  folder = (decoder.tokenizer or {}).get('folder')
  if not folder or not files.is_file(files.path(folder) / seal.NAME):
    raise errors.UserError(
      f'{settings.decoder}: its tokenizer {folder or "is not known"} is not '
      'there, expected "tokenizer" in a file of settings.'
    )
  return folder
