"""Speech ids → waveform: flow, vocoder and speaker encoder as one decoder.

A sealed folder ties them together:

    DECODER/config.json           what follows, with the shapes of all parts
    DECODER/flow.safetensors
    DECODER/vocoder.safetensors   absent: Griffin-Lim speaks
    DECODER/speaker.safetensors   absent: voices come with their embedding
    DECODER/voice.safetensors     a voice of the decoder's own, optional

Axes: N ids, T frames, M mel bands, D speaker embedding, S samples.
"""

import dataclasses
import os
import pathlib
from typing import Any, Mapping, Sequence

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder import parts
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.vocoder import vocoder as vocoder_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import storage

Voice = voice_lib.Voice

FORMAT = 'step_audio_jax.decoder'
CONFIG = 'config.json'
_SUMS = 'sha256'  # in `CONFIG`
_PARTS = ('flow', 'vocoder', 'speaker')
_CONTENTS = {CONFIG, *(f'{name}.safetensors' for name in (*_PARTS, 'voice'))}


class SpeechDecoder:
  """Mixed speech ids and a voice → a waveform.

  Attributes:
    flow: `decoder.flow.offline.FlowDecoder`, or what has its `mel`.
    vocoder: `decoder.vocoder.vocoder.HiftVocoder` or `GriffinLim`.
    speaker: `decoder.speaker.encoder.SpeakerEncoder`; None where voices come
      with their embedding.
    mel: What the frames between flow and vocoder are.
    voice: The decoder's own voice, or None.
    tokenizer: Whose codes it speaks, as `bindings` has it; None if that is not
      known.
    name: What messages call it.
    unchecked: What could not be checked, sentences for the user.
  """

  name = 'this decoder'

  def __init__(
    self,
    flow: Any,
    vocoder: Any,
    speaker: Any | None,
    mel: vocoder_mel.VocoderMel,
    voice: Voice | None = None,
    tokenizer: bindings.Described = None,
  ):
    """Holds the parts.

    Raises:
      UserError: They do not fit each other.
    """
    for name in ('sample_rate', 'hop', 'bands'):
      found, wanted = getattr(vocoder, name), getattr(mel, name)
      if found != wanted:
        raise errors.UserError(
          f'decoder: the vocoder {vocoder.name} has {name} {found}, expected '
          f'{wanted} as the mel of the flow has it.'
        )
    self.flow, self.vocoder, self.speaker = flow, vocoder, speaker
    self.mel, self.voice, self.tokenizer = mel, voice, tokenizer
    self.unchecked: list[str] = []

  @property
  def sample_rate(self) -> int:
    """Of the waveforms, Hz."""
    return self.vocoder.sample_rate

  def decode(
    self,
    ids: Sequence[int],
    voice: Voice | None = None,
    seed: int = 0,
    steps: int = 10,
  ) -> tuple[np.ndarray, int]:
    """Ids → waveform.

    Args:
      ids: Mixed ids 0..5119, whole groups of 2 linguistic and 3 semantic ids
        (N,).
      voice: Who speaks; by default the decoder's own voice.
      seed: Of the noise of flow and vocoder.
      steps: Of the flow's solver.

    Returns:
      Float32 samples (S,), finite, and their rate in Hz.

    Raises:
      UserError: The ids are wrong or too few, there is no voice, or a part of
        the decoder gives numbers that are not finite.
    """
    mel_TM = self.mel_of(ids, voice, seed, steps)
    wave_S = self.vocoder.wave(mel_TM, seed=seed)
    if not np.isfinite(wave_S).all():
      raise errors.UserError(
        f'decoder: the vocoder {self.vocoder.name} made samples that are not '
        'finite; its weights are broken.'
      )
    return wave_S, self.sample_rate

  def mel_of(
    self,
    ids: Sequence[int],
    voice: Voice | None = None,
    seed: int = 0,
    steps: int = 10,
  ) -> np.ndarray:
    """Ids → log-mel float32 (T, M); see `decode`."""
    ids, voice = voice_lib.check_ids(ids), self.chosen(voice)
    mel_TM = self.flow.mel(
      self.tokens_of(ids),
      prompt_tokens=self.tokens_of(voice.tokens),
      prompt_mel_TM=voice.mel_TM if len(voice.tokens) else None,
      speaker_D=voice.speaker_D,
      seed=seed,
      steps=steps,
    )
    if not np.isfinite(mel_TM).all():
      raise errors.UserError(
        'decoder: the flow made a mel that is not finite; its weights are '
        'broken.'
      )
    return mel_TM

  def tokens_of(self, ids: np.ndarray) -> np.ndarray:
    """What the flow reads of mixed ids.

    A flow whose vocabulary ends before the semantic block's end was trained on
    semantic codes alone, the single-codebook variant.
    """
    if self.flow.config.vocabulary >= voice_lib.IDS.end:
      return ids
    return voice_lib.IDS.deinterleave(ids)[1]

  def chosen(self, voice: Voice | None) -> Voice:
    """The voice that is meant.

    Raises:
      UserError: None is given and the decoder has none.
    """
    voice = voice or self.voice
    if voice is None:
      raise errors.UserError(
        'decoder: no voice; expected a recording of one, as this decoder has '
        'none of its own.'
      )
    return voice

  def check_codes(self, what: str, tokenizer: bindings.Described) -> None:
    """Refuses codes of another tokenizer than the decoder's own.

    Args:
      what: Has the codes, for messages.
      tokenizer: Made them; None if that is not known: it joins `unchecked`.

    Raises:
      UserError: They are another's; both are named.
    """
    bindings.check_tokenizer(
      what,
      tokenizer,
      self.name,
      self.tokenizer,
      'use the decoder and the model that were trained on codes of one '
      'tokenizer',
      say=self.unchecked.append,
    )

  def voice_from(
    self,
    wave_S: np.ndarray,
    rate: int,
    tokenizer: Any,
    text: str = '',
    name: str = 'voice',
  ) -> Voice:
    """A voice from a recording; see `Voice.from_audio`.

    Raises:
      UserError: As there; or the tokenizer is not the decoder's own.
    """
    if hasattr(tokenizer, 'identity'):
      self.check_codes(f'--tokenizer, for {name}', tokenizer.identity)
    if self.speaker is None:
      raise errors.UserError(
        f'{name}: this decoder has no speaker encoder; it can speak only with '
        'the voice it brings.'
      )
    return Voice.from_audio(
      wave_S,
      rate,
      tokenizer=tokenizer,
      speaker=self.speaker,
      mel=self.mel,
      text=text,
      name=name,
    )

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the folder, whole or not at all; an older decoder goes.

    Raises:
      UserError: The folder cannot be written, or holds something else.
    """
    with files.atomic_folder(
      folder, replace=True, expected=_CONTENTS, last=CONFIG
    ) as temporary:
      self._write(temporary)

  def _write(self, folder: pathlib.Path) -> None:
    config = {'format': FORMAT, 'mel': dataclasses.asdict(self.mel)}
    if self.tokenizer:
      config[bindings.TOKENIZER] = dict(self.tokenizer)
    for name in _PARTS:
      part = getattr(self, name)
      described = getattr(part, 'config', None)  # Griffin-Lim has none
      if described is None:
        config[name] = None
      else:
        storage.write_tree(folder / f'{name}.safetensors', part.params)
        config[name] = dataclasses.asdict(described)
    config['voice'] = None
    if self.voice is not None:
      v = self.voice
      arrays = {'mel': v.mel_TM, 'speaker': v.speaker_D}
      storage.write_tree(folder / 'voice.safetensors', arrays)
      config['voice'] = {
        'text': v.text,
        'tokens': v.tokens.tolist(),
        'frames': len(v.mel_TM),
      }
    names = sorted(path.name for path in files.list_folder(folder))
    config[_SUMS] = digests.of_files(folder, names)
    files.write_json(folder / CONFIG, config)

  @classmethod
  def load(cls, folder: str | os.PathLike) -> 'SpeechDecoder':
    """Reads a sealed folder.

    Raises:
      UserError: A file is missing, broken, or does not fit the others.
    """
    folder = files.path(folder)
    path = folder / CONFIG
    if not files.is_file(path):
      raise errors.UserError(
        f'{path}: no such file; expected a speech decoder, as `python -m '
        'step_audio_jax convert` makes it.'
      )
    config = files.read_json(path)
    found = config.get('format') if isinstance(config, Mapping) else None
    if found != FORMAT:
      raise errors.UserError(
        f'{path}: format: found {found!r}, expected {FORMAT!r}.'
      )
    mel = parts.config_of(
      vocoder_mel.VocoderMel, config.get('mel'), path, 'mel'
    )
    flow = parts.flow(config.get('flow'), folder, mel)
    vocoder = vocoder_lib.GriffinLim(mel)
    if config.get('vocoder') is not None:
      vocoder = parts.vocoder(config['vocoder'], folder)
    speaker = None
    if config.get('speaker') is not None:
      speaker = parts.speaker(config['speaker'], folder)
    try:
      decoder = cls(
        flow,
        vocoder,
        speaker,
        mel,
        _own_voice(config.get('voice'), folder, mel, flow.config.speaker_size),
        bindings.tokenizer_of(config, path),
      )
    except errors.UserError as error:
      raise errors.UserError(f'{path}: {error}') from error
    check_files(folder, config)
    decoder.name = str(folder)
    return decoder


def check_files(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Compares the files of a folder with what `save` wrote.

  Args:
    folder: Of the decoder.
    config: Its `config.json`; one without sums was made before there were any.

  Raises:
    UserError: A file is missing or is another one.
  """
  sealed = config.get(_SUMS)
  if not isinstance(sealed, Mapping):
    return
  # Parts that somebody took out of the configuration may be gone.
  used = [n for n in sealed if config.get(n.partition('.')[0]) is not None]
  for name, digest in digests.of_files(folder, used).items():
    if digest != sealed[name]:
      raise errors.UserError(
        f'{folder / name}: not the file that {CONFIG} was written for (its '
        'sha256 differs); export the decoder again.'
      )


def _own_voice(value, folder, mel, speaker_size) -> Voice | None:
  if value is None:
    return None
  try:
    tokens = np.asarray(value['tokens'], np.int32)
    text, frames = str(value['text']), int(value['frames'])
  except (TypeError, KeyError, ValueError) as error:
    raise errors.UserError(
      f'{folder / CONFIG}: voice: expected its text, tokens and frames.'
    ) from error
  if len(tokens):
    tokens = voice_lib.check_ids(tokens)
  arrays = storage.read_tree(
    folder / 'voice.safetensors',
    {
      'mel': jax.ShapeDtypeStruct((frames, mel.bands), np.float32),
      'speaker': jax.ShapeDtypeStruct((speaker_size,), np.float32),
    },
  )
  return Voice(tokens, arrays['mel'], arrays['speaker'], text)
