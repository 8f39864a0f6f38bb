"""A trained speech-text model as the voice of a text corpus.

It is asked as its TTS rows taught it and answers with groups of 2 linguistic
and 3 semantic codes; no waveform is made. What it says of a document depends on
the document and its seed alone: a document's texts are one call, and each draws
with its own key.
"""

import dataclasses
import functools
import json
from typing import Any, Mapping, Sequence

import numpy as np

from data_pipelines import words as words_lib
from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

Pair = tuple[np.ndarray, np.ndarray]
_PROMPT, _OUTPUT = 64, 320  # multiples that prompts and outputs are filled to


@dataclasses.dataclass(frozen=True)
class VoiceConfig:
  """Who speaks, and how.

  Attributes:
    run: Run directory of a speech-text model that has learnt TTS.
    step: Which checkpoint; None means the newest.
    linguistic_codes: Codes 0..n-1 that exist; 0 means the whole codebook.
    semantic_codes: The same for semantic codes.
    groups_per_word: Longest speech, groups of 120 ms for each word of it;
      what is not finished by then is not used.
    batch_size: Spans decoded at a time.
    temperature: Of sampling; 0 is greedy.
    top_k: Of sampling.
    top_p: Of sampling.
  """

  run: str
  step: int | None = None
  linguistic_codes: int = 0
  semantic_codes: int = 0
  groups_per_word: int = 8
  batch_size: int = 16
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0

  def __post_init__(self):
    for name in ('groups_per_word', 'batch_size'):
      if getattr(self, name) < 1:
        raise errors.UserError(
          f'voice: {name} is {getattr(self, name)}, expected at least 1.'
        )

  def digest(self) -> str:
    """Of the settings and of which model it is, by its parameters.

    Raises:
      UserError: The run has no checkpoint.
    """
    from step_audio_jax.evaluation.memory import identity
    from step_audio_jax.training.checkpoints import checkpoints

    folder, step = checkpoints.step_folder(self.run, self.step, False)
    told = [dataclasses.asdict(self), step, checkpoints.run_config(self.run)]
    told.append(identity.parameters(folder))
    raw = json.dumps(told, sort_keys=True).encode()
    return digests.of_bytes(raw)

  def speech_tokenizer(self) -> bindings.Described:
    """The tokenizer whose codes the run speaks; None if it does not say."""
    from step_audio_jax.training.checkpoints import checkpoints

    path = files.path(self.run) / 'config.json'
    return bindings.tokenizer_of(checkpoints.run_config(self.run), path)


class Voice:
  """An `interleaving.spans.Synthesise`: texts → codes."""

  def __init__(
    self,
    config: VoiceConfig,
    model: Any,
    variables: Mapping[str, Any],
    vocabulary: vocabulary_lib.Vocabulary,
  ):
    from step_audio_jax.generation import grammar
    from step_audio_jax.generation import sampling

    self._config = config
    self._model, self._variables = model, variables
    self._vocabulary = vocabulary
    self._grammar = grammar.build(
      vocabulary,
      linguistic_codes=config.linguistic_codes or None,
      semantic_codes=config.semantic_codes or None,
    )
    self._sampler = sampling.Sampler(
      config.temperature, config.top_k, config.top_p
    )

  def __call__(self, texts: Sequence[str], seed: int) -> list[Pair]:
    """Speaks texts.

    Args:
      texts: Those of one document.
      seed: Of sampling.

    Returns:
      (linguistic, semantic) codes of each text, whole groups; none of either
      where the model did not come to an end.
    """
    from step_audio_jax.generation import decode
    from step_audio_jax.generation import grammar

    layout = documents_lib.LAYOUTS['tts']
    prompts = [layout.prompt(self._vocabulary, text=text) for text in texts]
    group = vocabulary_lib.GROUP * self._config.groups_per_word
    limits = [group * len(words_lib.spans(text)) for text in texts]
    outputs = decode.generate_outputs(
      self._model,
      self._variables,
      prompts,
      max_new_tokens=limits,
      sampler=self._sampler,
      grammar=self._grammar,
      start=grammar.State.SPEECH,
      rng=seed % 2**32,
      shapes=decode.Shapes(
        self._config.batch_size,
        prompt=decode.round_up(max(map(len, prompts)) - 1, _PROMPT),
        output=decode.round_up(max(limits), _OUTPUT),
      ),
    )
    return [
      self._vocabulary.deinterleave(o.tokens if o.stopped else o.tokens[:0])
      for o in outputs
    ]


@functools.lru_cache(maxsize=1)
def load(config: VoiceConfig) -> Voice:
  """The voice of a run.

  Raises:
    UserError: The run is no language model, or a file of it is missing.
  """
  from step_audio_jax.generation import restore

  return Voice(config, *restore.load_model(config.run, config.step))
