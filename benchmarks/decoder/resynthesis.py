r"""What speech codes lose: recordings against what is made of their codes.

    python benchmarks/decoder/resynthesis.py --decoder=runs/quickstart/decoder \
      [--second=ANOTHER_DECODER] [--windows]

For the first `--count` utterances of a split, each against the original at its
own times:

* `ceiling`   original mel → vocoder: what the vocoder alone loses
* `codes`     codes → flow → vocoder, with the speaker embedding of the original
* `second`    the same with another decoder, such as the single-codebook one
* `windows`   as `codes`, the flow in overlapping windows

Figures: `mel` (mean difference of the log-mels), `mcd` (dB), `cents`,
`correlation` and `voicing` of F0, `speaker` (cosine of the embeddings), `cer`
(what the run's own ASR reads in the codes of the sound; `original` is its
figure for the recordings). `mel_of_flow` is the distance of the flow's mel,
before any vocoder. Prints one JSON line last.
"""

import argparse
import json
import time

import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio import io
from step_audio_jax.audio.features import pitch
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder import windows
from step_audio_jax.evaluation.metrics import distances
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.evaluation.metrics import speech as speech_lib
from step_audio_jax.generation import restore
from step_audio_jax.tokenizers.speech import dual

RATE = io.SAMPLE_RATE


class Original:
  """A recording and what the comparison needs of it."""

  def __init__(self, utterance, root, decoder, tokenizer):
    part = utterance.part()
    path = utterance.audio_path(root)
    self.utterance, mel = utterance, decoder.mel
    self.wave_16k, _ = io.read_audio(path, **part)
    self.wave, _ = io.read_audio(path, sample_rate=mel.sample_rate, **part)
    self.mel_TM = voice_lib.log_mel(self.wave, mel)
    self.f0_T = pitch.track(self.wave, mel.sample_rate, mel.hop)
    self.ids = voice_lib.IDS.interleave(*tokenizer.encode(self.wave_16k))
    self.speaker_D = decoder.speaker.embed(self.wave_16k)

  @property
  def voice(self):
    """Who speaks; no prompt, which would be the answer."""
    return speech.Voice.of_speaker(self.speaker_D, self.mel_TM.shape[1])


def compared(original, wave, decoder) -> dict[str, float]:
  """Figures of one waveform at the decoder's rate."""
  mel = decoder.mel
  mel_TM = voice_lib.log_mel(wave, mel)
  wave_16k = voice_lib.resample(wave, mel.sample_rate, RATE)
  f0_T = pitch.track(wave, mel.sample_rate, mel.hop)
  return {
    'mel': distances.mel_distance(original.mel_TM, mel_TM),
    'mcd': distances.mel_cepstral_distortion(original.mel_TM, mel_TM),
    **distances.pitch_difference(original.f0_T, f0_T),
    'speaker': likeness(decoder.speaker, original.speaker_D, wave_16k),
  }


def likeness(encoder, speaker_D, wave_16k) -> float:
  """Cosine of a speaker and who speaks here; NaN where nobody does."""
  try:
    return distances.cosine(speaker_D, encoder.embed(wave_16k))
  except errors.UserError:  # silence
    return float('nan')


def vocoded(decoder, original, seed):
  return decoder.vocoder.wave(original.mel_TM, seed=seed)


def decoded(decoder, original, seed):
  return decoder.decode(original.ids, original.voice, seed)[0]


def windowed(decoder, original, seed):
  stream = windows.WindowStream(decoder, original.voice, seed=seed)
  return stream.push(original.ids, final=True)


class Ear:
  """The run's own ASR, for waveforms."""

  def __init__(self, run, tokenizer):
    model, variables, vocabulary = restore.load_model(run)
    self._speaker = speech_lib.Speaker(
      restore.unroll_layers(model), variables, vocabulary
    )
    self._vocabulary, self._tokenizer = vocabulary, tokenizer

  def cer(self, waves, utterances) -> float:
    """Corpus error rate of waveforms at 16 kHz."""
    pairs = self._tokenizer.encode_batch(waves)
    texts = self._speaker.transcribe(
      [self._vocabulary.interleave(*pair) for pair in pairs]
    )
    total = scoring.Errors()
    for utterance, text in zip(utterances, texts):
      total += scoring.count(utterance.text, text, utterance.language)
    return round(total.rate, 4)


def measure(originals, decoder, make, ear, seed, label):
  """Mean figures of one way to make the sound."""
  rows, waves, seconds = [], [], 0.0
  make(decoder, originals[0], seed)  # compiles
  for original in progress.bar(originals, label=label, unit='utt'):
    begin = time.perf_counter()
    wave = make(decoder, original, seed)
    seconds += time.perf_counter() - begin
    rows.append(compared(original, wave, decoder))
    waves.append(voice_lib.resample(wave, decoder.sample_rate, RATE))
  found = distances.means(rows)
  total = sum(len(wave) for wave in waves) / RATE
  found['rtf'] = round(seconds / total, 4)
  if ear is not None:
    found['cer'] = ear.cer(waves, [o.utterance for o in originals])
  return found


def flow_distance(originals, decoder, seed) -> float:
  """Mean distance of the flow's mel from the original's."""
  found = [
    distances.mel_distance(
      original.mel_TM, decoder.mel_of(original.ids, original.voice, seed)
    )
    for original in originals
  ]
  return round(float(np.mean(found)), 4)


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--decoder', default='runs/quickstart/decoder')
  parser.add_argument('--second')
  parser.add_argument('--tokenizer', default='runs/quickstart/tokenizer')
  parser.add_argument('--corpus', default='runs/quickstart/data/speech')
  parser.add_argument('--run', default='runs/quickstart/sft')
  parser.add_argument('--no_asr', action='store_true')
  parser.add_argument('--split', default='test')
  parser.add_argument('--count', type=int, default=40)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--windows', action='store_true')
  args = parser.parse_args()
  decoder = speech.SpeechDecoder.load(args.decoder)
  tokenizer = dual.DualTokenizer.load(args.tokenizer)
  ear = None if args.no_asr else Ear(args.run, tokenizer)
  utterances = manifest.read(args.corpus, splits=[args.split], kind='speech')
  root = manifest.path_of(args.corpus).parent
  originals = [
    Original(u, root, decoder, tokenizer) for u in utterances[: args.count]
  ]
  result = {
    'benchmark': 'resynthesis',
    'decoder': args.decoder,
    'vocoder': decoder.vocoder.name,
    'split': args.split,
    'utterances': len(originals),
    'seconds': round(sum(len(o.wave_16k) for o in originals) / RATE, 1),
    'mel_of_flow': flow_distance(originals, decoder, args.seed),
  }
  if ear is not None:
    result['original'] = {
      'cer': ear.cer(
        [o.wave_16k for o in originals], [o.utterance for o in originals]
      )
    }
  ways = {'ceiling': (decoder, vocoded), 'codes': (decoder, decoded)}
  if args.windows:
    ways['windows'] = (decoder, windowed)
  if args.second:
    ways['second'] = (speech.SpeechDecoder.load(args.second), decoded)
  for name, (who, make) in ways.items():
    result[name] = measure(originals, who, make, ear, args.seed, name)
  print(json.dumps(result))


if __name__ == '__main__':
  main()
