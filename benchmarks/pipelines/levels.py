r"""Whether levels of tags, as voices are made to speak them, can be told apart.

    python benchmarks/pipelines/levels.py --output=levels

Held-out English sentences of the synthesised corpus, each said without tags and
with every level of speed, pitch, volume and pause, by two of espeak-ng's voices
in turns, or by `--voice` as `synthesize` takes it. The corpus lies in
`--output`, with `levels.html` beside it; what is measured is what `inspect
--style` measures. Prints one JSON line last: of each axis the medians, and the
steps between neighbouring levels in pooled standard errors.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys

from data_pipelines.synthesis import plan
from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import styled
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags

AXES = {
  'speed': ('快速', '慢速'),
  'pitch': ('高音', '低音'),
  'volume': ('大声', '小声'),
}


def marked(sentence: str, levels: int) -> list[str]:
  """A sentence without tags, and with each tag at each level."""
  names = itertools.chain(*AXES.values())
  found = [sentence]
  for name, level in itertools.product(names, range(1, levels + 1)):
    found.append(f'({tags.Tag(name, level)}){sentence}')
  first, second = _halves(sentence)
  for level in range(1, levels + 1):
    found.append(f'{first}({tags.Tag("停顿", level)}){second}')
  return found


def _halves(sentence: str) -> tuple[str, str]:
  """Cut before the word in the middle."""
  words = sentence.split(' ')
  middle = len(words) // 2
  return ' '.join(words[:middle]) + ' ', ' '.join(words[middle:])


def make(
  output: pathlib.Path,
  voices: list[voice_lib.Voice],
  count: int,
  levels: int = tags.LEVELS,
) -> int:
  """Says `count` sentences at all levels; returns the number of lines."""
  config = plan.Config(test=2 * count)
  lines = [
    line
    for line in plan.plan_speech(config)
    if line.split == 'test' and line.language == 'en'
  ][:count]
  voice = voices[0] if voices else espeak.Espeak(('m3', 'f2'))
  cast = [s for s in speakers.cast([voice]) if s.factor == 1][:2]
  found = []
  for number, line in enumerate(lines):
    speaker = cast[number % len(cast)]
    for text in marked(line.text, levels):
      said = styled.speak(
        voice,
        markup.parse(text),
        speaker=speaker,
        language='en',
        seed=line.seed,
      ).speech
      name = f'{len(found):05d}'
      io.write_audio(output / f'wav/{name}.wav', said.samples, said.sample_rate)
      found.append(
        manifest.Utterance(
          id=name,
          split='test',
          audio=f'wav/{name}.wav',
          duration=round(len(said.samples) / said.sample_rate, 6),
          sample_rate=said.sample_rate,
          text=line.text,
          speaker=speaker.name,
          marked=text if text != line.text else None,
        )
      )
  return manifest.write(output, found)


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--voice', action='append', default=[])
  parser.add_argument('--count', type=int, default=30, help='sentences')
  args = parser.parse_args()
  (args.output / 'wav').mkdir(parents=True, exist_ok=True)
  lines = make(args.output, list(map(catalogue.load, args.voice)), args.count)
  command = [
    *(sys.executable, '-m', 'data_pipelines', 'inspect', '--style', '--json'),
    *(f'--path={args.output}', f'--html={args.output / "levels.html"}'),
  ]
  done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
  print(done.stdout)
  measured = json.loads(done.stdout.splitlines()[-1])
  result = {
    'benchmark': 'levels',
    'sentences': args.count,
    'lines': lines,
    'axes': measured['axes'],
  }
  print(json.dumps(result, ensure_ascii=False))


if __name__ == '__main__':
  main()
