r"""Whether an edit that is applied twice goes further than once.

    python benchmarks/pipelines/audio_edit.py --output=edits \
      --quickstart=runs/quickstart

makes a graded corpus of sentences in espeak-ng's voices (`make`), tokenises it
with the speech tokenizers of a finished quick start, trains its small model on
the edits (`audio_edit` rows) and edits held-out sentences by one level: once,
and what came out again. Everything goes through the doors; what is there
already is not made again.

`edited.html` beside the corpora shows what the decoder makes of it, measured by
`inspect --style`: applied once is shown as level 1, twice as level 2. What
codes can carry at all is shown by `carried.html`: the voice's own levels,
through codes and decoder, as the speaker of the recording without tags. Prints
one JSON line last; `codes` are figures of the codes alone, by how many there
are.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import time
from typing import Any, Sequence

import numpy as np

from data_pipelines.synthesis import plan
from step_audio_jax import vocabulary
from step_audio_jax.audio import io
from step_audio_jax.chats import own
from step_audio_jax.chats import views
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.decoder import editing
from step_audio_jax.decoder import rendering
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.generation import sampling
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import separation
from step_audio_jax.styles import tags
from step_audio_jax.tokenizers.speech import seal

RECIPE = """
from __gin__ import dynamic_registration
from data_pipelines.factory.leaks import held_out
from data_pipelines.factory.making import grades
from data_pipelines.factory.making import items

items.Recipe.grades = @grades.Grades()
items.Recipe.leaks = @held_out.Rules()
held_out.Rules.overlap = None  # sentences of one grammar have much in common
"""
LEVELS = {
  'speed': (-2, -1, 1, 2),
  'pitch': (-2, -1, 1, 2),
  'pause': (1, 2),
}
LENGTH = 384  # ids of a row


def door(*words: str) -> None:
  """Calls a door of the project as anybody would."""
  subprocess.run([sys.executable, '-m', *words], check=True)


def make_corpora(output: pathlib.Path, count: int, held: int, axes) -> None:
  """The graded corpora `train` and `test`; nothing of a text is in both."""
  config = plan.Config(train=2 * count, test=2 * held)
  texts = collections.defaultdict(list)
  for line in plan.plan_speech(config):
    if line.language == 'en' and line.split in ('train', 'test'):
      texts[line.split].append(line)
  for split, wanted in (('train', count), ('test', held)):
    for folder, shown in ((split, 'train'), (f'held_out_{split}', 'test')):
      lines = [
        manifest.Utterance(id=line.id, kind='text', split=shown, text=line.text)
        for line in texts[split][:wanted]
      ]
      (output / 'texts' / folder).mkdir(parents=True, exist_ok=True)
      manifest.write(output / 'texts' / folder, lines)
  levels = [f'grades.Grades.{axis} = {LEVELS[axis]}' for axis in axes]
  gin = output / 'recipe.gin'
  gin.write_text('\n'.join([RECIPE, *levels, '']))
  for split in texts:
    door(
      *('data_pipelines', 'make', f'--gin_file={gin}'),
      f'--texts={output}/texts/{split}',
      f'--output={output}/{split}',
      *(
        [f'--held_out={output}/texts/held_out_test'] if split == 'train' else []
      ),
    )


def train(output: pathlib.Path, quickstart: pathlib.Path, steps: int) -> float:
  """Trains on the edits; returns how many seconds it took."""
  text_model = quickstart / 'data' / 'text.model'
  for split in ('train', 'test'):
    door(
      *('data_pipelines', 'tokenize', f'--corpus={output}/{split}'),
      f'--tokenizer={quickstart}/tokenizer',
      f'--output={output}/codes_{split}',
    )
  door(
    *('data_pipelines', 'build', '--name=edits', f'--chat={output}/train'),
    *(f'--codes={output}/codes_train', f'--text_model={text_model}'),
    *(f'--length={LENGTH}', f'--output={output}/rows'),
    '--tasks=edits_audio_edit',
  )
  began = time.monotonic()
  door(
    *('step_audio_jax', 'train', '--gin_file=gin/quickstart/sft.gin'),
    *(
      '--gin.STAGE="sft_edit"',
      '--gin.TASK_PREFIX="edits_"',
      '--gin.RATIOS={}',
    ),
    f'--gin.RUN_DIR="{output}/run"',
    f'--gin.ROWS="{output}/rows"',
    f'--gin.TEXT_MODEL="{text_model}"',
    f'--gin.INIT_FROM=["{quickstart}/sft"]',
    f'--gin.STEPS={steps}',
  )
  return time.monotonic() - began


class Take:
  """An edit of a held-out sentence, and what came of it."""

  def __init__(self, name: str, spans, source: manifest.Utterance, ids):
    """Its spans have one tag."""
    self.name, self.spans, self.source = name, spans, source
    (self.tag,) = markup.tags_of(spans)
    self.ids = [ids]  # before, after once, after twice
    self.stopped: list[bool] = []

  @property
  def level(self) -> int:
    """Of the tag, below 0 at the lower end."""
    return self.tag.level * self.tag.entry.sign

  def marked(self, times: int) -> str | None:
    """The text at the level that so many times lead to."""
    if not times:
      return None
    tag = tags.Tag(self.tag.name, times * self.tag.level)
    if self.tag.axis == 'pause':
      pairs = [(one, tag.level if one.pause else 0) for one in self.spans]
      return markup.write(
        markup.Span(one.text, one.style, pause) for one, pause in pairs
      )
    text = markup.plain(self.spans)
    return markup.write([markup.Span(text, tags.Style((tag,)))])


def takes(output: pathlib.Path) -> list[Take]:
  """Edits by one level of what is said without tags, in `test`."""
  lines = {line.id: line for line in manifest.read(output / 'test')}
  codes = speech_codes.read_codes(output / 'codes_test')
  found = []
  for line in lines.values():
    if line.kind != 'chat':
      continue
    question = own.parse(line.turns).turns[0]
    spans, heard = views.edited(question, lambda _: None)
    (tag,) = markup.tags_of(spans)
    source = lines[heard.id]
    if source.marked is None and tag.level == 1:
      ids = voice_lib.IDS.interleave(*codes[heard.id])
      found.append(Take(line.id, spans, source, ids))
  return found


def edit(output, quickstart, found: Sequence[Take], sampler, times=2) -> None:
  """Edits all of them, in batches, the given number of times."""
  linguistic, semantic = seal.code_counts(quickstart / 'tokenizer')
  manner = text_to_codes.SpeakOptions(
    layout='turns',
    longest=8.0,
    linguistic_codes=linguistic,
    semantic_codes=semantic,
    sampler=sampler,
  )
  writer = text_to_codes.Writer.load(output / 'run', manner)
  for _ in range(times):
    prompts = [
      editing.prompt(writer.vocabulary, one.spans, one.ids[-1], writer.starts)
      for one in found
    ]
    texts = [markup.plain(one.spans) for one in found]
    for one, said in zip(found, writer.answer(texts, prompts, 'editing')):
      one.ids.append(said.ids)
      one.stopped.append(said.stopped)


def compared(found: Sequence[Take]) -> dict[str, Any]:
  """Figures of the codes alone.

  Of the speed, characters a second; of pauses, seconds; and for pitch nothing.
  """
  values: dict[str, dict[int, list[float]]] = {}
  for axis in ('speed', 'pause'):
    levels: dict[int, list[float]] = collections.defaultdict(list)
    neutral: dict[str, float] = {}
    for one in found:
      if one.tag.axis != axis:
        continue
      count = sum(map(str.isalnum, markup.plain(one.spans)))
      for times, ids in enumerate(one.ids):
        seconds = len(ids) / vocabulary.GROUP * vocabulary.GROUP_SECONDS
        figure = count / seconds if axis == 'speed' else seconds
        if times:
          levels[times * one.level].append(figure)
        else:
          neutral[one.source.id] = figure
    if levels:
      values[axis] = {**levels, 0: list(neutral.values())}
  return {
    axis: separation.separation(some, axis).to_json()
    for axis, some in values.items()
  }


def sound(output: pathlib.Path, decoder_folder, found: Sequence[Take]) -> None:
  """Decodes what was edited, and the voice's own levels: two corpora."""
  decoder = speech.SpeechDecoder.load(decoder_folder)
  speakers: dict[str, voice_lib.Voice] = {}

  def spoken(folder, name, source, ids, text):
    if source.id not in speakers:
      path = str(source.audio_path(output / 'test'))
      speakers[source.id] = rendering.load_speaker(decoder, path, None)
    wave_S, rate = decoder.decode(ids, speakers[source.id])
    path = f'wav/{name}.wav'
    (output / folder / 'wav').mkdir(parents=True, exist_ok=True)
    io.write_audio(output / folder / path, wave_S, rate)
    return manifest.Utterance(
      id=name,
      split='test',
      audio=path,
      duration=round(len(wave_S) / rate, 6),
      sample_rate=rate,
      text=source.text,
      speaker=source.speaker,
      marked=text,
    )

  lines: dict[str, manifest.Utterance] = {}
  for one in found:
    for times, ids in enumerate(one.ids):
      name = f'{one.name}.{times}' if times else one.source.id
      if name not in lines:
        marked = one.marked(times)
        lines[name] = spoken('edited', name, one.source, ids, marked)
  manifest.write(output / 'edited', lines.values())
  codes = speech_codes.read_codes(output / 'codes_test')
  known = {line.id: line for line in manifest.read(output / 'test')}
  carried = []
  for name, line in known.items():
    if line.kind == 'speech':
      neutral = known[name if line.marked is None else name.rpartition('.')[0]]
      ids = voice_lib.IDS.interleave(*codes[name])
      carried.append(spoken('carried', name, neutral, ids, line.marked))
  manifest.write(output / 'carried', carried)


def inspected(output: pathlib.Path, name: str) -> dict[str, Any]:
  """What `inspect --style` says of a corpus; writes its page."""
  command = [
    *(sys.executable, '-m', 'data_pipelines', 'inspect', '--style', '--json'),
    *(f'--path={output / name}', f'--html={output / name}.html'),
  ]
  done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
  return json.loads(done.stdout.splitlines()[-1])['axes']


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument(
    '--quickstart', type=pathlib.Path, default=pathlib.Path('runs/quickstart')
  )
  parser.add_argument('--count', type=int, default=300, help='sentences')
  parser.add_argument('--held_out', type=int, default=30, help='sentences')
  parser.add_argument('--steps', type=int, default=900)
  parser.add_argument('--temperature', type=float, default=0.5)
  parser.add_argument('--axes', default='speed,pause')
  parser.add_argument(
    '--sound',
    action=argparse.BooleanOptionalAction,
    default=True,
    help='whether to decode and measure what is heard, too',
  )
  args = parser.parse_args()
  output = args.output.absolute()
  axes = args.axes.split(',')
  make_corpora(output, args.count, args.held_out, axes)
  seconds = train(output, args.quickstart, args.steps)
  found = takes(output)
  edit(output, args.quickstart, found, sampling.Sampler(args.temperature))
  stopped = np.mean([flag for one in found for flag in one.stopped])
  result = {
    'benchmark': 'audio_edit',
    'sentences': args.held_out,
    'steps': args.steps,
    'training_seconds': round(seconds, 1),
    'came_to_an_end': round(float(stopped), 4),
    'codes': compared(found),
  }
  decoder = args.quickstart / 'decoder'
  if args.sound and files.is_dir(decoder):
    print(json.dumps(result, ensure_ascii=False), flush=True)
    sound(output, decoder, found)
    result['edited'] = inspected(output, 'edited')
    result['carried'] = inspected(output, 'carried')
  print(json.dumps(result, ensure_ascii=False))


if __name__ == '__main__':
  main()
