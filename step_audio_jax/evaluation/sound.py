"""From generated codes to sound, and back to text.

What TTS wrote is decoded into waveforms, which are kept beside the scores. They
are tokenised again and the model's own ASR reads them; the error rate of that
reading holds the errors of TTS, of flow and vocoder, of the tokenizer, and of
the ASR.
"""

import dataclasses
import pathlib
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio import io
from step_audio_jax.decoder import speech as decoder_lib
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.evaluation import scoring
from step_audio_jax.evaluation import speech as speech_lib
from step_audio_jax.tokenizers import dual


@dataclasses.dataclass(frozen=True)
class SoundConfig:
  """What makes codes sound.

  Attributes:
    decoder: Folder of the speech decoder, which brings its own voice.
    tokenizer: Folder of the tokenizer that reads the sound again.
    utterances: Of each TTS split, in the manifest's order; 0 means all.
    steps: Of the flow's solver.
    seed: Of the noise.
  """

  decoder: str
  tokenizer: str
  utterances: int = 20
  steps: int = 10
  seed: int = 0

  def __post_init__(self):
    if self.utterances < 0 or self.steps < 1:
      raise errors.UserError(
        f'sound: utterances is {self.utterances} and steps {self.steps}, '
        'expected at least 0 and 1.'
      )


def score(
  speaker: speech_lib.Speaker,
  vocabulary: vocabulary_lib.Vocabulary,
  spoken: Mapping[str, Mapping[str, Any]],
  config: SoundConfig,
  folder: pathlib.Path,
) -> dict[str, dict[str, Any]]:
  """Decodes what TTS wrote and reads it again.

  Args:
    speaker: Transcribes.
    vocabulary: Of its ids.
    spoken: Result of `speech.tts`: split → scores with hypotheses.
    config: The decoder.
    folder: Gets `<split>/<utterance id>.wav`.

  Returns:
    Split → {cer, vocoder, utterances, seconds, hypotheses}; each hypothesis
    with its `wav`, relative to `folder`.

  Raises:
    UserError: The decoder or the tokenizer cannot be loaded, or the decoder
      has no voice of its own.
  """
  decoder = decoder_lib.SpeechDecoder.load(config.decoder)
  voice = decoder.chosen(None)
  tokenizer = dual.DualTokenizer.load(config.tokenizer)
  found = {}
  for split, scores in spoken.items():
    items = [h for h in scores['hypotheses'] if len(h['tokens'])]
    items = items[: config.utterances or None]
    waves, rows = [], []
    for item in progress.bar(items, label=f'sound of {split}', unit='utt'):
      ids = voice_lib.IDS.interleave(*vocabulary.deinterleave(item['tokens']))
      wave_S, rate = decoder.decode(ids, voice, config.seed, config.steps)
      name = f'{split}/{item["id"]}.wav'
      io.write_audio(folder / name, wave_S, rate)
      waves.append(io.read_audio(folder / name)[0])
      rows.append({**item, 'wav': name})
    codes = tokenizer.encode_batch(waves)
    texts = speaker.transcribe([vocabulary.interleave(*pair) for pair in codes])
    found[split] = _scored(rows, texts) | {
      'vocoder': decoder.vocoder.name,
      'seconds': round(sum(map(len, waves)) / io.SAMPLE_RATE, 2),
    }
  return found


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
