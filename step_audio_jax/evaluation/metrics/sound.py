"""From generated codes to sound, and back to text.

What TTS wrote is decoded into waveforms, which are kept beside the scores. They
are tokenised again and the model's own ASR reads them; the error rate of that
reading holds the errors of TTS, of flow and vocoder, of the tokenizer, and of
the ASR.
"""

import dataclasses
import functools
import pathlib
from typing import Any, Callable, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.decoder import speech as decoder_lib
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.speaker import embeddings as embeddings_lib
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import dual


@dataclasses.dataclass(frozen=True)
class SoundConfig:
  """What makes codes sound.

  Attributes:
    decoder: Folder of the speech decoder, which brings its own voice.
    tokenizer: Folder of the tokenizer that reads the sound again.
    utterances: Of each TTS split, in the manifest's order; 0 means all.
    steps: Of the flow's solver.
    seed: Of the noise.
    embeddings: File of speaker embeddings (`embed`) of the corpus: every
      utterance is spoken in the voice of its speaker, the mean of the
      speaker's embeddings and no prompt. None means the decoder's own voice.
  """

  decoder: str
  tokenizer: str
  utterances: int = 20
  steps: int = 10
  seed: int = 0
  embeddings: str | None = None

  def __post_init__(self):
    if self.utterances < 0 or self.steps < 1:
      raise errors.UserError(
        f'sound: utterances is {self.utterances} and steps {self.steps}, '
        'expected at least 0 and 1.'
      )


def wave_folder(run: str | pathlib.Path, step: int) -> pathlib.Path:
  """Where the waveforms of a step lie."""
  return files.path(run) / 'evaluation' / f'{step}_sound'


def score(
  speaker: speech_lib.Speaker,
  vocabulary: vocabulary_lib.Vocabulary,
  spoken: Mapping[str, Mapping[str, Any]],
  config: SoundConfig,
  folder: pathlib.Path,
  corpus: str | None = None,
) -> dict[str, dict[str, Any]]:
  """Decodes what TTS wrote and reads it again.

  Args:
    speaker: Transcribes.
    vocabulary: Of its ids.
    spoken: Result of `speech.tts`: split → scores with hypotheses.
    config: The decoder.
    folder: Gets `<split>/<utterance id>.wav`.
    corpus: Whose utterances they are; says who speaks where there are
      embeddings.

  Returns:
    Split → {cer, vocoder, utterances, silent, unread, seconds, hypotheses};
    each hypothesis with its `wav`, relative to `folder`. Where TTS wrote no
    speech (`silent` of them) there is none, and all of the text is missing;
    `unread` are texts that met the length limit.

  Raises:
    UserError: The decoder or the tokenizer cannot be loaded, or the decoder
      has no voice of its own and there are no embeddings.
  """
  decoder = decoder_lib.SpeechDecoder.load(config.decoder)
  voice_of = voices(decoder, config.embeddings, corpus)
  tokenizer = dual.DualTokenizer.load(config.tokenizer)
  found = {}
  for split, scores in spoken.items():
    items = scores['hypotheses'][: config.utterances or None]
    waves, rows = [], []
    for item in progress.bar(items, label=f'sound of {split}', unit='utt'):
      if not len(item['tokens']):
        rows.append(item)
        continue
      ids = voice_lib.mixed_ids(vocabulary, item['tokens'])
      wave_S, rate = decoder.decode(
        ids, voice_of(item['id']), config.seed, config.steps
      )
      name = f'{split}/{_file_name(item["id"])}.wav'
      io.write_audio(folder / name, wave_S, rate)
      waves.append(io.read_audio(folder / name)[0])
      rows.append({**item, 'wav': name})
    codes = tokenizer.encode_batch(waves) if waves else []
    read = iter(speaker.read([vocabulary.interleave(*pair) for pair in codes]))
    heard = [next(read) if 'wav' in row else ('', True) for row in rows]
    found[split] = _scored(rows, [text for text, _ in heard]) | {
      'vocoder': decoder.vocoder.name,
      'silent': len(rows) - len(waves),
      'unread': sum(not stopped for _, stopped in heard),
      'seconds': round(sum(map(len, waves)) / io.SAMPLE_RATE, 2),
    }
  return found


def voices(
  decoder: decoder_lib.SpeechDecoder, embeddings: str | None, corpus: str | None
) -> Callable[[str], voice_lib.Voice]:
  """Id of an utterance → the voice it is spoken in.

  Without embeddings that is the decoder's own. With them it is the mean of
  what the utterance's speaker has in the train split, of all splits where
  there is none, or the utterance's own where nobody is named.
  """
  if not embeddings or corpus is None:
    own = decoder.chosen(None)
    return lambda name: own
  vectors = embeddings_lib.read(embeddings)
  speakers = {}
  by_speaker: dict[str, list[manifest_lib.Utterance]] = {}
  for utterance in manifest_lib.read(corpus, kind='speech'):
    speakers[utterance.id] = utterance.speaker
    if utterance.speaker and utterance.id in vectors:
      by_speaker.setdefault(utterance.speaker, []).append(utterance)

  @functools.cache
  def mean(speaker: str) -> voice_lib.Voice:
    said = by_speaker[speaker]
    said = [u for u in said if u.split == 'train'] or said
    vector_D = np.mean([vectors[u.id] for u in said], axis=0)
    return voice_lib.Voice.of_speaker(vector_D, decoder.mel.bands)

  def voice_of(name: str) -> voice_lib.Voice:
    if speakers.get(name) in by_speaker:
      return mean(speakers[name])
    if name not in vectors:
      raise errors.UserError(
        f'{embeddings}: no embedding of {name!r} nor of its speaker; run '
        '`python -m step_audio_jax embed` on this corpus.'
      )
    return voice_lib.Voice.of_speaker(vectors[name], decoder.mel.bands)

  return voice_of


def _file_name(name: str) -> str:
  """An id as a path that stays below its folder."""
  parts = name.split('/')
  inside = all(part not in ('', '.', '..') for part in parts)
  return (
    name if inside and '\0' not in name else digests.of_bytes(name.encode())
  )


def _scored(rows, texts) -> dict[str, Any]:
  total, hypotheses = scoring.Errors(), []
  for row, text in zip(rows, texts, strict=True):
    counts = scoring.count(row['reference'], text, row['language'])
    total += counts
    hypotheses.append({**row, 'hypothesis': text, 'cer': counts.rate})
  return {
    'cer': total.rate,
    'errors': dataclasses.asdict(total),
    'utterances': len(hypotheses),
    'hypotheses': hypotheses,
  }
