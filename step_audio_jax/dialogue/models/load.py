"""What a server or a door talks with, of the folders of runs."""

import asyncio
import collections
import dataclasses
import os
from typing import Any, Mapping

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.decoder import speech as speech_lib
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.models import ear as ear_lib
from step_audio_jax.dialogue.models import mind as mind_lib
from step_audio_jax.dialogue.models import mouth as mouth_lib
from step_audio_jax.dialogue.models import run as run_lib
from step_audio_jax.dialogue.models import streaming
from step_audio_jax.generation.batching import engine as engine_lib
from step_audio_jax.tokenizers.speech import dual

# x 0.96 s: what utterances are padded to.
_LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24)

# Told once for every program that is lowered, before any cache is asked.
_LOWERED = '/jax/core/compile/jaxpr_to_mlir_module_duration'
# Of this process since the last warm-up, by the names of the functions.
_COMPILATIONS: collections.Counter[str] = collections.Counter()


def _count(event: str, seconds: float, **about: Any) -> None:
  del seconds
  if event == _LOWERED:
    _COMPILATIONS[str(about.get('fun_name'))] += 1


jax.monitoring.register_event_duration_secs_listener(_count)


@dataclasses.dataclass(frozen=True)
class Config:
  """Folders, and how they are run.

  Attributes:
    model: Run that answers.
    step: Which checkpoint; None is the newest.
    tokenizer: Folder of the speech tokenizer; None: nothing is heard.
    decoder: Folder of the speech decoder; None: nothing is spoken.
    ear: Run that writes down what is heard; None is `model`.
    mouth: Run that turns text into codes; None is `model`.
    voices: Name → recording of a voice.
    speaks: Whether the model answers in text and speech by turns.
    name: What clients call the model; None is the folder's name.
    engine: Of each run.
    solver_steps: Of the flow.
  """

  model: str
  step: int | None = None
  tokenizer: str | None = None
  decoder: str | None = None
  ear: str | None = None
  mouth: str | None = None
  voices: Mapping[str, str] = dataclasses.field(default_factory=dict)
  speaks: bool = False
  name: str | None = None
  engine: engine_lib.Settings = engine_lib.Settings()
  solver_steps: int = 10


@dataclasses.dataclass(frozen=True)
class Loaded(services.Models):
  """Models of runs.

  Attributes:
    runs: By folder.
    hands: Computes codes and sound.
  """

  runs: Mapping[str, run_lib.Run] = dataclasses.field(default_factory=dict)
  hands: streaming.Hands | None = None

  def warm_up(self) -> None:
    """Compiles all that conversations need; nothing is compiled after it."""
    for run in self.runs.values():
      run.engine.warm_up()
    asyncio.run(self._try_out())
    _COMPILATIONS.clear()

  async def _try_out(self) -> None:
    if self.ear is not None:
      rng = np.random.default_rng(0)
      for length in _LENGTHS:
        wave_S = rng.normal(size=int(length * 0.96 * ear_lib.RATE) - 1)
        await self.ear.encode((0.1 * wave_S).astype(np.float32))
    if self.mouth is not None:
      self.mouth.warm_up()

  def gauges(self) -> dict[str, tuple[str, Any]]:
    """What is to be watched of the engines: name → (help, how it is read)."""
    engines = [run.engine for run in self.runs.values()]

    def total(read):
      return lambda: sum(map(read, engines))

    return {
      'engine_slots': ('Of all engines.', total(lambda e: e.settings.slots)),
      'engine_slots_taken': ('Of these, taken.', total(lambda e: e.live)),
      'engine_compilations': (
        'Since all was compiled that is needed.',
        _COMPILATIONS.total,
      ),
      'engine_waiting': ('Requests without one.', total(lambda e: e.queued)),
      **{
        f'engine_{name}': (told, total(lambda e, n=name: getattr(e.counts, n)))
        for name, told in (
          ('requests', 'That were taken.'),
          ('refused', 'For want of room.'),
          ('cancelled', 'That were given up.'),
          ('prompt', 'Ids of prompts that were read.'),
          ('cached', 'Ids of prompts that had been kept.'),
          ('drawn', 'Ids that were drawn.'),
          ('turns', 'Steps of all slots together.'),
          ('busy_seconds', 'In which something was computed.'),
        )
      },
    }

  def close(self) -> None:
    """Ends all threads; what is under way is cancelled."""
    for run in self.runs.values():
      run.engine.close()
    if self.hands is not None:
      self.hands.close()


def load(config: Config) -> Loaded:
  """Loads folders; `Loaded.warm_up` compiles.

  Raises:
    UserError: One is missing, or they do not belong together.
  """
  runs: dict[str, run_lib.Run] = {}

  def run(folder: str | None) -> run_lib.Run:
    name = folder or config.model
    if name not in runs:
      step = config.step if name == config.model else None
      runs[name] = run_lib.Run(name, step, config.engine)
    return runs[name]

  hands = streaming.Hands()
  try:
    run(None)
    ear = mouth = tokenizer = None
    if config.tokenizer is not None:
      tokenizer = dual.DualTokenizer.load(config.tokenizer)
      ear = ear_lib.Ear(tokenizer, run(config.ear), hands)
    if config.decoder is not None:
      mouth = _mouth(config, run(config.mouth), hands, tokenizer)
    mind = mind_lib.Mind(run(None), ear, speaks=config.speaks)
  except BaseException:
    for one in runs.values():
      one.engine.close()
    hands.close()
    raise
  name = config.name or os.path.basename(os.path.normpath(config.model))
  return Loaded(name, ear, mind, mouth, runs, hands)


def _mouth(config: Config, run, hands, tokenizer) -> mouth_lib.Mouth:
  decoder = speech_lib.SpeechDecoder.load(config.decoder)
  voices: dict[str, voice_lib.Voice] = {}
  for name, path in config.voices.items():
    if tokenizer is None:
      raise errors.UserError(
        f'voice {name}: found {path}, expected --tokenizer beside it, which '
        'turns it into codes.'
      )
    wave_S, rate = io.read_audio(path, audible=True)
    voices[name] = decoder.voice_from(wave_S, rate, tokenizer, name=path)
  folder = run.folder
  options = text_to_codes.SpeakOptions(
    layout=text_to_codes.layout_of(folder),
    starts=text_to_codes.starts_of(folder),
  )
  return mouth_lib.Mouth(
    run, decoder, hands, voices, options=options, steps=config.solver_steps
  )
