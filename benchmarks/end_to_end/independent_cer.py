r"""Generated speech, read by a recogniser that knows nothing of this project.

    python benchmarks/end_to_end/independent_cer.py \
      --decoder=runs/quickstart/decoder

PocketSphinx (the `test` extra) with its English model, and the quick start's
own grammar as the only sentences there are. That model was made of people's
voices; it reads most of espeak-ng's badly. So the voice that is spoken with is
the one whose training recordings it reads best, and floors stand beside every
figure:

* `by_voice`   recordings of the training split, voice by voice
* `espeak`     the held-out sentences as espeak-ng says them in that voice: what
               a perfect system would be read as
* `recordings` the held-out recordings, in all voices
* `codes`      the codes of these recordings, decoded with the chosen voice
* `generated`  text → language model → decoder, the chosen voice

Character error rates, fractions. English alone: with Mandarin's words spelt in
English phones the same recogniser has 33 % errors on the best voice's own
recordings, which measures nothing. Prints one JSON line last.
"""

import argparse
import collections
import json
import pathlib
import tempfile

import numpy as np

from data_pipelines.synthesis import grammar as grammar_lib
from data_pipelines.synthesis import plan
from data_pipelines.synthesis.voices import espeak
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.generation import repetition
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.tokenizers.speech import dual

RATE = io.SAMPLE_RATE
CALIBRATION = 12  # recordings of each voice


def jsgf(grammar: grammar_lib.Grammar) -> str:
  """A grammar of the corpus in the Java Speech Grammar Format."""
  rules = [
    f'<{name}> = {" | ".join(words)};'
    for name, words in grammar.classes.items()
  ]
  ways = [
    f'/{weight}/ ' + ' '.join(f'<{name}>' for name in pattern)
    for pattern, weight in grammar.patterns
  ]
  head = ['#JSGF V1.0;', 'grammar corpus;']
  return '\n'.join(
    [*head, *rules, f'public <sentence> = {" | ".join(ways)};\n']
  )


class Recogniser:
  """PocketSphinx that expects sentences of one grammar."""

  def __init__(self, grammar: grammar_lib.Grammar):
    import pocketsphinx

    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'corpus.jsgf'
      path.write_text(jsgf(grammar), encoding='utf-8')
      self._decoder = pocketsphinx.Decoder(
        lm=None, jsgf=str(path), loglevel='FATAL', cmn='batch', lw=3.0
      )

  def read(self, wave_S: np.ndarray) -> str:
    """What is said in a waveform at 16 kHz."""
    # Some quiet around: a word at the very edge is lost.
    wave_S = np.pad(wave_S, (RATE // 10, RATE // 5))
    wave_S = 0.9 * wave_S / max(1e-6, np.abs(wave_S).max())
    pcm = (wave_S * 32767).astype('<i2').tobytes()
    self._decoder.start_utt()
    self._decoder.process_raw(pcm, no_search=False, full_utt=True)
    self._decoder.end_utt()
    found = self._decoder.hyp()
    return found.hypstr if found else ''


def rate(recogniser, texts, waves) -> tuple[float, list[str]]:
  """Corpus error rate and what was read."""
  total, read = scoring.Errors(), []
  for text, wave in zip(texts, waves, strict=True):
    read.append(recogniser.read(wave))
    total += scoring.count(text, read[-1])
  return round(total.rate, 4), read


def waves_of(utterances, root):
  return [io.read_audio(u.audio_path(root), **u.part())[0] for u in utterances]


def said_by(speaker, text):
  """espeak-ng's own sentence at 16 kHz; of others' speakers, in its first."""
  voices = plan.Config().voices
  variant = speaker if speaker in voices else voices[0]
  said = espeak.speak(text, voice=f'en-us+{variant}')
  samples = said.samples
  return voice_lib.resample(samples, said.sample_rate, RATE)


def by_voice(recogniser, utterances, root) -> dict[str, float]:
  """Error rate of each voice's recordings, the best first."""
  voices = collections.defaultdict(list)
  for utterance in utterances:
    voices[utterance.speaker].append(utterance)
  found = {}
  for speaker, some in voices.items():
    some = some[:CALIBRATION]
    found[speaker], _ = rate(
      recogniser, [u.text for u in some], waves_of(some, root)
    )
  return dict(sorted(found.items(), key=lambda item: item[1]))


def english(corpus, split):
  return [
    u
    for u in manifest.read(corpus, splits=[split], kind='speech')
    if u.language == 'en'
  ]


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--decoder', default='runs/quickstart/decoder')
  parser.add_argument('--tokenizer', default='runs/quickstart/tokenizer')
  parser.add_argument('--corpus', default='runs/quickstart/data/speech')
  parser.add_argument('--run', default='runs/quickstart/sft')
  parser.add_argument('--split', default='test')
  parser.add_argument('--count', type=int, default=20)
  parser.add_argument('--voice', help='of the corpus; default: read best')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--temperature', type=float, default=0.0)
  parser.add_argument('--repetition_window', type=int, default=0)
  parser.add_argument('--floor_only', action='store_true')
  parser.add_argument('--wavs', help='folder for the generated sound')
  args = parser.parse_args()
  recogniser = Recogniser(grammar_lib.ENGLISH)
  root = manifest.path_of(args.corpus).parent
  train = english(args.corpus, 'train')
  voices = by_voice(recogniser, train, root)
  voice_name = args.voice or next(iter(voices))
  held_out = english(args.corpus, args.split)[: args.count]
  texts = [u.text for u in held_out]
  recordings = waves_of(held_out, root)
  result = {
    'benchmark': 'independent_cer',
    'recogniser': 'pocketsphinx, English model, grammar of the corpus',
    'sentences': len(texts),
    'voice': voice_name,
    'by_voice': voices,
    'espeak': rate(recogniser, texts, [said_by(voice_name, t) for t in texts])[
      0
    ],
    'recordings': rate(recogniser, texts, recordings)[0],
  }
  if not args.floor_only:
    heard = next(u for u in train if u.speaker == voice_name)
    (sample,) = waves_of([heard], root)
    result |= spoken(args, recogniser, texts, recordings, sample)
  print(json.dumps(result, ensure_ascii=False))


def spoken(args, recogniser, texts, recordings, sample):
  """The figures that need a decoder and a model."""
  decoder = speech.SpeechDecoder.load(args.decoder)
  tokenizer = dual.DualTokenizer.load(args.tokenizer)
  voice = speech.Voice.of_speaker(
    decoder.speaker.embed(sample), decoder.mel.bands
  )

  def sound(ids):
    wave, hertz = decoder.decode(ids, voice, args.seed)
    return voice_lib.resample(wave, hertz, RATE)

  codes = [
    voice_lib.IDS.interleave(*pair)
    for pair in tokenizer.encode_batch(recordings)
  ]
  linguistic, semantic = dual.code_counts(args.tokenizer)
  model, variables, vocabulary = restore.load_model(args.run)
  writer = text_to_codes.Writer(
    restore.unroll_layers(model),
    variables,
    vocabulary,
    text_to_codes.SpeakOptions(
      linguistic_codes=linguistic,
      semantic_codes=semantic,
      longest=6.0,
      sampler=sampling.Sampler(
        args.temperature,
        repetition=repetition.Repetition(args.repetition_window, 0.3),
      ),
      seed=args.seed,
    ),
  )
  written = writer.write(texts, label='writing codes')
  generated = [sound(piece.ids) for piece in written]
  if args.wavs:
    for number, wave in enumerate(generated):
      io.write_audio(pathlib.Path(args.wavs) / f'{number:02d}.wav', wave, RATE)
  cer, read = rate(recogniser, texts, generated)
  return {
    'vocoder': decoder.vocoder.name,
    'codes': rate(recogniser, texts, [sound(ids) for ids in codes])[0],
    'generated': cer,
    'finished': sum(piece.stopped for piece in written),
    'read': [{'text': text, 'read': found} for text, found in zip(texts, read)],
  }


if __name__ == '__main__':
  main()
