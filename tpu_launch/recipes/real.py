"""`real`: a language model that people use learns to hear.

An open model comes in by `convert`, a corpus is said by a natural voice, speech
tokenizers are trained on it, the model's speech rows begin as spelt letters,
and adapters learn to write down what is said and to answer it. The report tells
how well it hears a voice that it never heard, and what it still knows when
asked aloud: also of subjects that it only ever heard in sentences, when asked a
second time, and whether it says so when nobody spoke.
"""

import dataclasses
from typing import Any, Iterator, Mapping

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import files
from tpu_launch.recipes import following
from tpu_launch.recipes import recipe

DEFAULT_FOLDER = 'runs/real'
NAME = 'quiz'  # of the tasks
ROW_LENGTH = 256
TASKS = ('sft_asr', 'chat')
# Splits of questions: asked before by others; heard of only; a second question;
# silence.
ASKED, HEARD = 'test_asked', 'test_heard'
FOLLOWED, SILENT = 'test_followed', 'test_silent'
_FOLLOW_UPS, _SILENCES = 200, 60  # chats of train
# With it the untouched model answers most of the questions.
SYSTEM = 'You answer with one word.'
# How the model's own pieces stand for ours.
_ALIKE = ('<|BOT|>=<|im_start|>',)
_STEPS = {'cpu': 1600, 'gpu': 2000}
_STREAMS = {'cpu': 'linguistic', 'gpu': 'both'}
_SEMANTIC = {'cpu': {}, 'gpu': {'STEPS': 280, 'START': 170}}


@dataclasses.dataclass(frozen=True)
class Options:
  """What a user says.

  Attributes:
    model: The open model: a GGUF file or a Hugging Face folder.
    output: Folder of everything that is made.
    voices: Who says the corpus; espeak-ng if nobody.
    device: 'cpu' or 'gpu', which sizes the model's training.
    steps: Of the model's training; 0 is what suits the device.
    more_steps: Behind them, at the learning rate that they end with.
  """

  model: str
  output: str = DEFAULT_FOLDER
  voices: tuple[str, ...] = ()
  device: str = 'cpu'
  steps: int = 0
  more_steps: int = 0

  @property
  def schedule(self) -> int:
    """Steps of the learning rate's schedule."""
    return self.steps or _STEPS[self.device]

  @property
  def run(self) -> str:
    """The run that hears; of another length it is another."""
    return f'{self.output}/hearing-{self.schedule}'


def commands(options: Options) -> list[list[recipe.Command]]:
  """The commands of the recipe, those first that others wait for longest."""
  return [[*_corpus(options), *_model(options), *_scores(options)]]


def _corpus(options: Options) -> Iterator[recipe.Command]:
  """What is said to the model, the model as it is, and codes."""
  root, data = options.output, f'{options.output}/data'

  def train(name: str, *needs: str, **more: Any) -> recipe.Command:
    return recipe.train(
      f'train {name}',
      f'gin/real/{name}.gin',
      needs=('quiz', *needs),
      RUN_DIR=f'{root}/{name}',
      MANIFEST=data,
      **more,
    )

  yield recipe.door(
    'quiz',
    'data_pipelines',
    'quiz',
    f'--output={data}',
    f'--follow_ups={_FOLLOW_UPS}',
    f'--silences={_SILENCES}',
    *(f'--voice={voice}' for voice in options.voices),
  )
  yield train('linguistic')
  yield train('semantic', **_SEMANTIC[options.device])
  yield train('centroids', 'train linguistic', INIT_FROM=[f'{root}/linguistic'])
  yield recipe.door(
    'convert',
    'step_audio_jax',
    'convert',
    f'--from={options.model}',
    f'--to={root}/base',
    '--speech',
  )
  yield from recipe.tokenizing(
    data,
    f'{root}/tokenizer',
    f'{root}/codes',
    linguistic=f'{root}/centroids',
    semantic=f'{root}/semantic',
  )


def _model(options: Options) -> Iterator[recipe.Command]:
  """Rows, the model's start, and what it learns."""
  root, data = options.output, f'{options.output}/data'
  gin_file = 'hearing' if options.device == 'cpu' else 'hearing_gpu'
  text_model = f'{root}/base/tokenizer.json'
  yield recipe.door(
    'build',
    'data_pipelines',
    'build',
    f'--name={NAME}',
    f'--speech={data}',
    f'--chat={data}',
    f'--codes={root}/codes',
    f'--text_model={text_model}',
    f'--tasks={",".join(f"{NAME}_{task}" for task in TASKS)}',
    '--splits=train,dev',
    f'--streams={_STREAMS[options.device]}',
    f'--length={ROW_LENGTH}',
    f'--output={root}/rows',
    needs=('tokenize', 'convert'),
  )
  yield recipe.door(
    'spell',
    'step_audio_jax',
    'spell',
    f'--from={root}/base',
    f'--to={root}/start',
    '--overwrite',  # of codes that were made anew
    f'--corpus={data}',
    f'--codes={root}/codes',
    *(f'--alike={pair}' for pair in _ALIKE),
    needs=('tokenize', 'convert'),
  )
  # No lane is enough for it, so its sums are those of the cores there are.
  yield recipe.door(
    'hear',
    'step_audio_jax',
    'train',
    f'--gin_file=gin/real/{gin_file}.gin',
    *recipe.macros(
      RUN_DIR=options.run,
      INIT_FROM=[f'{root}/start'],
      ROWS=f'{root}/rows',
      TEXT_MODEL=text_model,
      STEPS=options.schedule + options.more_steps,
      SCHEDULE_STEPS=options.schedule,
    ),
    needs=('build', 'spell'),
  )


def _scores(options: Options) -> Iterator[recipe.Command]:
  """How well it hears, what it answers, and a page of it."""
  root, data = options.output, f'{options.output}/data'
  streams = _STREAMS[options.device]
  yield recipe.door(
    'evaluate',
    'step_audio_jax',
    'evaluate',
    '--gin_file=gin/real/evaluate.gin',
    *recipe.macros(
      MANIFEST=data,
      CODES=f'{root}/codes',
      STREAMS=streams,
      ASR_SPLITS=['test', 'test_unseen_voice'],
    ),
    f'--checkpoints={options.run}',
    '--steps=last',
    needs=('hear',),
  )
  yield recipe.door(
    'answer',
    'step_audio_jax',
    'answer',
    f'--run={options.run}',
    f'--corpus={data}',
    f'--codes={root}/codes',
    f'--splits={",".join((ASKED, HEARD, FOLLOWED, SILENT))}',
    f'--streams={streams}',
    f'--base={root}/base',
    f'--system={SYSTEM}',
    f'--output={root}/answers.json',
    needs=('hear', 'evaluate'),  # one model at a time
  )
  yield recipe.door(
    'report',
    'step_audio_jax',
    'report',
    '--gin_file=gin/real/report.gin',
    *recipe.macros(
      RUNS=[options.run],
      OUTPUT=root,
      MANIFEST=data,
      ROWS=f'{root}/rows',
      TIMING=f'{root}/{recipe.TIMING}',
    ),
    needs=('evaluate', 'answer'),
  )


def figures(root: str) -> dict[str, Any]:
  """What the recipe aims at, from `answers.json`; fractions."""
  found = files.read_json(files.path(root) / 'answers.json')

  def share(kind: str, *splits: str) -> float:
    some = [found[kind][split] for split in splits]
    right = sum(one['right'] * one['questions'] for one in some)
    return right / sum(one['questions'] for one in some)

  written, untouched = (
    share(kind, ASKED, HEARD) for kind in ('written', 'untouched')
  )
  return {
    'spoken_asked': share('spoken', ASKED),
    'spoken_heard_only': share('spoken', HEARD),
    'spoken_followed': share('spoken', FOLLOWED),
    'silence_refused': share('spoken', SILENT),
    'written': written,
    'untouched': untouched,
    'written_of_untouched': written / untouched if untouched else None,
  }


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'model',
    None,
    'The open model: a GGUF file or a Hugging Face folder of SmolLM2 135M '
    'Instruct.',
    flag_values=fv,
    required=True,
  )
  flags.DEFINE_string(
    'output', DEFAULT_FOLDER, 'Folder of everything made.', flag_values=fv
  )
  flags.DEFINE_multi_string(
    'voice',
    [],
    'Who says the corpus, as of `synthesize`; espeak-ng if nobody.',
    flag_values=fv,
  )
  flags.DEFINE_enum(
    'device', 'cpu', list(_STEPS), 'What the model is trained on.',
    flag_values=fv,
  )  # fmt: skip
  flags.DEFINE_integer(
    'steps',
    0,
    "Of the model's training; 0 is what suits the device.",
    lower_bound=0,
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'more_steps',
    0,
    'Behind these, in the same run, at the learning rate that they end with.',
    lower_bound=0,
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  options = Options(
    model=fv.model,
    output=recipe.folder_of(fv.output),
    voices=tuple(fv.voice),
    device=fv.device,
    steps=fv.steps,
    more_steps=fv.more_steps,
  )
  parts = commands(options)
  recipe.check_in_checkout()
  files.check_writable(fv.output, '--output', folder=True)
  if not files.exists(fv.model):
    raise errors.UserError(
      f'--model={fv.model}: no such file or folder, expected a GGUF file or a '
      'Hugging Face folder.'
    )
  if fv.dry_run:
    return recipe.show(parts)
  output = options.output
  timing = following.follow(parts, output)
  return {**recipe.result(output, timing), **figures(output)}


DOOR = cli.Door(
  summary="""Gives an open language model ears; says what it hears and knows.

    python -m tpu_launch real --model=SmolLM2-135M-Instruct.gguf \\
      --voice=en_US-joe-medium.onnx --output=runs/real

Every command is shown before it runs; after a kill the same command continues.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
