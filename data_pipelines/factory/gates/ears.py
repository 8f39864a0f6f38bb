"""Who hears and who knows voices: recognisers and embeddings for gates.

Each is a small object that can be pickled and named in gin; what it needs is
loaded by whichever process calls it first. `identity` names by digest what it
hears with: it is part of what a job depends on, and is asked before any work.

    speech.Recognised.transcribe = @ears.Own()
    ears.Own.run = 'runs/quickstart/sft'
    ears.Own.tokenizer = 'runs/quickstart/tokenizer'
"""

import dataclasses
import functools
import threading
from typing import Any, Sequence

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.exports import speaker as speaker_export
from step_audio_jax.decoder.speaker import embeddings
from step_audio_jax.evaluation.memory import identity as identity_lib
from step_audio_jax.evaluation.metrics import judge as judge_lib
from step_audio_jax.evaluation.metrics import judge_folder
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.generation import restore
from step_audio_jax.storage import digests
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import seal
from step_audio_jax.training.checkpoints import checkpoints

_LOADING = threading.Lock()  # a worker may have several threads


@dataclasses.dataclass(frozen=True)
class Own:
  """A checkpoint of ours that transcribes.

  Attributes:
    run: Directory of the run.
    tokenizer: Folder of the speech tokenizer that it was trained with.
    step: Which checkpoint; None is the newest.
    speech: How it decodes.
  """

  run: str
  tokenizer: str
  step: int | None = None
  speech: speech_lib.SpeechConfig = speech_lib.SpeechConfig()

  def __call__(
    self, waves: Sequence[np.ndarray], tags: Sequence[str]
  ) -> list[str]:
    del tags  # it finds out by itself
    with _LOADING:
      tokenizer, speaker = _own(self)
    ids = [speaker.heard(*pair) for pair in tokenizer.encode_batch(waves)]
    # Of less than a group there is nothing to read.
    heard = iter(speaker.transcribe([one for one in ids if len(one)]))
    return [next(heard) if len(one) else '' for one in ids]

  @property
  def identity(self) -> dict[str, Any]:
    return _identity_of_own(self)


@dataclasses.dataclass(frozen=True)
class Stranger:
  """A Whisper model of CTranslate2, as the judge of `evaluate`.

  Attributes:
    model: Its folder, or `package:NAME+NAME`.
    sha256: Of its `model.bin`; None takes any.
    beam: Width of its search.
    compute: Type that it computes in, a name of CTranslate2's.
  """

  model: str
  sha256: str | None = None
  beam: int = 1
  compute: str = 'int8'

  def __call__(
    self, waves: Sequence[np.ndarray], tags: Sequence[str]
  ) -> list[str]:
    with _LOADING:
      judge = _stranger(self)
    known = [languages.language_subtag(tag) or tag for tag in tags]
    for tag in known:
      if tag not in judge.languages:
        raise errors.UserError(f'language: the recogniser knows no {tag!r}')
    return [judge.hear(wave, tag) for wave, tag in zip(waves, known)]

  @property
  def identity(self) -> dict[str, Any]:
    return _identity_of_stranger(self)


@dataclasses.dataclass(frozen=True)
class Voices:
  """The speaker encoder of a run or of a speech decoder: `embed` of a gate.

  Attributes:
    encoder: Directory of the run, or folder of the decoder.
  """

  encoder: str

  def __call__(self, waves: Sequence[np.ndarray]) -> np.ndarray:
    with _LOADING:
      encoder = _encoder(self.encoder)
    return encoder.embed_batch(waves)

  @property
  def identity(self) -> dict[str, Any]:
    return {'encoder': _digest_of_encoder(self.encoder)}


@dataclasses.dataclass(frozen=True)
class Speakers:
  """Who sounds how: `reference` of a gate; the mean of somebody's embeddings.

  Attributes:
    embeddings: File that `embed` wrote of a corpus, with the same encoder.
    corpus: That corpus, which says who speaks; its training split counts.
  """

  embeddings: str
  corpus: str

  def __call__(self, speaker: str) -> np.ndarray | None:
    return _means(self).get(speaker)

  @property
  def identity(self) -> dict[str, Any]:
    return {
      'embeddings': digests.of_file(self.embeddings),
      'manifest': digests.of_file(manifest.path_of(self.corpus)),
    }


@functools.lru_cache(maxsize=2)
def _own(ear: Own):
  tokenizer = dual.DualTokenizer.load(ear.tokenizer)
  model, variables, vocabulary = restore.load_model(ear.run, ear.step)
  if not vocabulary.linguistic_size:
    raise errors.UserError(
      f'{ear.run}: a model without speech ids, expected one that hears.'
    )
  model = restore.unroll_layers(model)
  speaker = speech_lib.Speaker(
    model, variables, vocabulary, ear.speech, shows_progress=False
  )  # whoever asks has a bar of its own
  return tokenizer, speaker


@functools.lru_cache(maxsize=2)
def _stranger(ear: Stranger) -> judge_lib.Judge:
  place = judge_folder.locate(ear.model)
  config = judge_lib.JudgeConfig(ear.model, beam=ear.beam, compute=ear.compute)
  return judge_lib.Judge(place, config)


_encoder = functools.lru_cache(maxsize=2)(speaker_export.open_encoder)


@functools.lru_cache(maxsize=4)
def _means(reference: Speakers) -> dict[str, np.ndarray]:
  vectors = embeddings.read(reference.embeddings)
  found: dict[str, list[np.ndarray]] = {}
  for one in manifest.stream(reference.corpus, kind='speech'):
    if one.split == 'train' and one.speaker and one.id in vectors:
      found.setdefault(one.speaker, []).append(vectors[one.id])
  if not found:
    raise errors.UserError(
      f'{reference.embeddings}: no speaker of the training split of '
      f'{reference.corpus} is in it; expected embeddings of that corpus.'
    )
  return {name: np.mean(some, axis=0) for name, some in found.items()}


@functools.lru_cache(maxsize=4)
def _identity_of_own(ear: Own) -> dict[str, Any]:
  _, step = checkpoints.step_folder(ear.run, ear.step)
  memory = identity_lib.DigestCache(ear.run)  # never saved
  return {
    'model': memory.model(ear.run, step),
    'step': step,
    'tokenizer': seal.identity(ear.tokenizer)['sha256'],
    'speech': dataclasses.asdict(ear.speech),
  }


@functools.lru_cache(maxsize=4)
def _identity_of_stranger(ear: Stranger) -> dict[str, Any]:
  place = judge_folder.locate(ear.model)
  judge_lib.check_library()
  sums = judge_folder.sums(place)
  judge_folder.check_model(place, sums[judge_folder.MODEL], ear.sha256)
  return {
    'name': place.name,
    'files': digests.of_value(sums),
    'beam': ear.beam,
    'compute': ear.compute,
  }


@functools.lru_cache(maxsize=4)
def _digest_of_encoder(path: str) -> str:
  leaves = jax.tree_util.tree_leaves_with_path(_encoder(path).params)
  return digests.of_value(
    {
      jax.tree_util.keystr(place): digests.of_bytes(np.asarray(x).tobytes())
      for place, x in leaves
    }
  )
