"""`quickstart`: from nothing to a report, by public commands.

The recipe trains every part, small, on a corpus that it makes itself; how its
commands are run is told in `recipe`.
"""

from typing import Any

from absl import flags

from step_audio_jax.commands import cli
from step_audio_jax.storage import files
from tpu_launch.recipes import recipe

DEFAULT_FOLDER = 'runs/quickstart'
ROW_LENGTH = 272
VOICE = 'dev-00000'  # whose voice the decoder speaks with
STAGES = ('stage1', 'stage2', 'stage3', 'sft')


def commands(root: str) -> list[list[recipe.Command]]:
  """The commands of the quick start, in order; those in one list run together.

  Args:
    root: Folder of everything that is made.
  """
  data, tokenizer = f'{root}/data', f'{root}/tokenizer'
  speech = f'{data}/speech'
  text_model, rows = f'{data}/text.model', f'{root}/rows'
  codes = f'{root}/codes/speech'
  steps = [
    [
      recipe.door(
        'synthesize', 'data_pipelines', 'synthesize', f'--output={data}'
      )
    ],
    [
      recipe.door(
        'vocabulary',
        'data_pipelines',
        'vocabulary',
        *(f'--corpus={data}/{name}' for name in ('text', 'speech', 'images')),
        f'--output={text_model}',
      )
    ],
    [
      recipe.train(
        f'train {stream}',
        f'gin/quickstart/{stream}.gin',
        RUN_DIR=f'{root}/{stream}',
        MANIFEST=speech,
      )
      for stream in ('linguistic', 'semantic')
    ],
  ]
  return steps + _after_tokenizers(
    root, data, codes, rows, tokenizer, text_model
  )


def _after_tokenizers(root, data, codes, rows, tokenizer, text_model):
  """The second half of the recipe: codes, rows, stages, report."""
  speech = f'{data}/speech'
  speakers = f'{root}/speakers.npz'
  steps = [
    [
      recipe.train(
        'train centroids',
        'gin/quickstart/centroids.gin',
        RUN_DIR=f'{root}/centroids',
        MANIFEST=speech,
        INIT_FROM=[f'{root}/linguistic'],
      ),
      recipe.train(
        'train speaker',
        'gin/quickstart/speaker.gin',
        RUN_DIR=f'{root}/speaker',
        MANIFEST=speech,
      ),
    ],
    [
      recipe.door(
        'export tokenizer',
        'step_audio_jax',
        'tokenize',
        f'--export={tokenizer}',
        f'--linguistic={root}/centroids',
        f'--semantic={root}/semantic',
      ),
      recipe.door(
        'embed',
        'step_audio_jax',
        'embed',
        f'--corpus={speech}',
        f'--speaker={root}/speaker',
        f'--output={speakers}',
      ),
    ],
    [
      recipe.door(
        'tokenize',
        'data_pipelines',
        'tokenize',
        f'--corpus={speech}',
        f'--tokenizer={tokenizer}',
        f'--output={codes}',
      )
    ],
    [
      recipe.door(
        'build',
        'data_pipelines',
        'build',
        f'--speech={speech}',
        f'--codes={codes}',
        f'--text={data}/text',
        f'--images={data}/images',
        f'--text_model={text_model}',
        '--name=quickstart',
        '--splits=train,dev',
        f'--length={ROW_LENGTH}',
        f'--output={rows}',
      )
    ],
  ]

  def language_model(stage, **macros):
    return recipe.train(
      f'train {stage}',
      f'gin/quickstart/{stage}.gin',
      RUN_DIR=f'{root}/{stage}',
      ROWS=rows,
      TEXT_MODEL=text_model,
      **macros,
    )

  steps += _decoder(root, speech, codes, speakers, tokenizer)
  # The backbone and the image encoder, which is frozen from then on.
  steps.append([language_model('text'), language_model('vision')])
  before = [f'{root}/text', f'{root}/vision']
  for stage in STAGES:
    steps.append([language_model(stage, INIT_FROM=before)])
    last, splits = stage == STAGES[-1], {}
    if last:
      # Settings were chosen on dev; only the finished model meets test.
      splits = {
        'ASR_SPLITS': ['dev', 'test', 'test_unseen_voice'],
        'TTS_SPLITS': ['dev', 'test'],
        'DECODER': f'{root}/decoder',
        'TOKENIZER': tokenizer,
      }
    steps.append(
      [
        recipe.door(
          f'evaluate {stage}',
          'step_audio_jax',
          'evaluate',
          f'--gin_file=gin/quickstart/evaluate{"_sound" if last else ""}.gin',
          *recipe.macros(MANIFEST=speech, CODES=codes, ROWS=rows, **splits),
          f'--checkpoints={root}/{stage}',
          '--steps=last',
        )
      ]
    )
    before = [f'{root}/{stage}']
  steps.append(
    [
      recipe.door(
        'report',
        'step_audio_jax',
        'report',
        '--gin_file=gin/quickstart/report.gin',
        *recipe.macros(
          RUNS=[f'{root}/{name}' for name in ('text', *STAGES)],
          OUTPUT=root,
          MANIFEST=speech,
          ROWS=rows,
          TIMING=f'{root}/timing.json',
        ),
      )
    ]
  )
  return steps


def _decoder(root, speech, codes, speakers, tokenizer):
  """From codes back to sound; no vocoder, so that Griffin-Lim speaks.

  In minutes the flow needs every core, and from its mels Griffin-Lim is good
  enough to be understood.
  """
  return [
    [
      recipe.train(
        'train flow',
        'gin/quickstart/flow.gin',
        RUN_DIR=f'{root}/flow',
        MANIFEST=speech,
        CODES=codes,
        EMBEDDINGS=speakers,
      )
    ],
    [
      recipe.door(
        'export decoder',
        'step_audio_jax',
        'speak',
        f'--export={root}/decoder',
        f'--flow={root}/flow',
        f'--speaker={root}/speaker',
        f'--tokenizer={tokenizer}',
        f'--voice={speech}/wav/{VOICE}.wav',
      )
    ],
  ]


def _define(fv) -> None:
  flags.DEFINE_string(
    'output', DEFAULT_FOLDER, 'Folder of everything made.', flag_values=fv
  )


def _main(fv) -> dict[str, Any]:
  files.check_writable(fv.output, '--output', folder=True)
  steps = commands(fv.output)
  if fv.dry_run:
    return recipe.show(steps)
  recipe.check_in_checkout()
  return recipe.result(fv.output, recipe.follow(steps, fv.output))


DOOR = cli.Door(
  summary=(
    'Runs the whole recipe, small, on this machine, and writes a report.\n\n'
    'example: python -m tpu_launch quickstart --output=runs/quickstart'
  ),
  main=_main,
  define=_define,
  uses_gin=False,
)
