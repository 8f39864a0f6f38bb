"""The commands of `adapt`, sized by what `ingest` found (`sizing`)."""

import dataclasses
from typing import Any, Iterator, Sequence

from step_audio_jax.corpus import stages
from tpu_launch.recipes import quickstart
from tpu_launch.recipes import recipe
from tpu_launch.recipes import sizing

NAME = 'adapt'  # of the tasks
_LINGUISTIC_STEPS, _SEMANTIC_STEPS, _SEMANTIC_START = 160, 280, 170
_MODEL_STEPS, _PRIOR_STEPS, _FLOW_STEPS = 600, 1200, 300


@dataclasses.dataclass(frozen=True)
class Options:
  """What a user says.

  Attributes:
    source: The recordings, as `ingest` takes them.
    output: Folder of everything that is made.
    base: Folder of a quick start.
    ingest: More flags of `ingest`.
    speech: Whether it learns to speak with these voices, too.
  """

  source: str
  output: str
  base: str = quickstart.DEFAULT_FOLDER
  ingest: tuple[str, ...] = ()
  speech: bool = True


def commands(options: Options) -> Iterator[list[recipe.Command]]:
  """The recipe; what follows `ingest` depends on what it found."""
  corpus = f'{options.output}/data'
  yield [
    recipe.door(
      'ingest',
      'data_pipelines',
      'ingest',
      f'--source={options.source}',
      f'--output={corpus}',
      *options.ingest,
    )
  ]
  yield after_ingest(options, sizing.survey(corpus))


def after_ingest(
  options: Options, found: sizing.Survey
) -> list[recipe.Command]:
  """The recipe behind `ingest`."""
  names = Names(options)
  sizes = sizing.plan(found)
  made = [*_codes(names, sizes)]
  if options.speech:
    made += _speech(names, sizes, found)
  made += _model(names, sizes, found)
  made += _evaluations(names, sizes, found, options.speech)
  return [*made, _report(names, found, [command.name for command in made])]


class Names:
  """Where the recipe puts things."""

  def __init__(self, options: Options):
    root = options.output
    self.root, self.base = root, options.base
    self.corpus, self.codes = f'{root}/data', f'{root}/codes'
    self.rows, self.tokenizer = f'{root}/rows', f'{root}/tokenizer'
    self.text_model = f'{options.base}/data/text.model'
    self.model, self.decoder = f'{root}/model', f'{root}/decoder'
    self.speakers = f'{root}/speakers.npz'

  def run(self, name: str) -> str:
    return f'{self.root}/{name}'

  def before(self, name: str) -> str:
    """The quick start's."""
    return f'{self.base}/{name}'


def _codes(names: Names, sizes: sizing.Plan) -> Iterator[recipe.Command]:
  """Tokenizers of these recordings, and the codes that they give."""

  def encoder(stream: str, steps: int, **more: Any) -> recipe.Command:
    start = {} if sizes.anew else {'INIT_FROM': [names.before(stream)]}
    return recipe.train(
      f'train {stream}',
      f'gin/quickstart/{stream}.gin',
      RUN_DIR=names.run(stream),
      MANIFEST=names.corpus,
      STEPS=sizes.steps(steps),
      BUCKETS=sizes.buckets,
      **start,
      **more,
    )

  yield encoder('linguistic', _LINGUISTIC_STEPS)
  yield encoder('semantic', _SEMANTIC_STEPS, START=sizes.steps(_SEMANTIC_START))
  yield recipe.train(
    'train centroids',
    'gin/quickstart/centroids.gin',
    RUN_DIR=names.run('centroids'),
    MANIFEST=names.corpus,
    BUCKETS=sizes.buckets,
    INIT_FROM=[names.run('linguistic')],
    needs=('train linguistic',),
  )
  yield from recipe.tokenizing(
    names.corpus,
    names.tokenizer,
    names.codes,
    linguistic=names.run('centroids'),
    semantic=names.run('semantic'),
  )


def _model(
  names: Names, sizes: sizing.Plan, found: sizing.Survey
) -> Iterator[recipe.Command]:
  """Rows and the tuned model."""
  tasks = [f'{NAME}_{task}' for task in stages.STAGES['sft']]
  yield recipe.door(
    'build',
    'data_pipelines',
    'build',
    f'--name={NAME}',
    f'--speech={names.corpus}',
    f'--codes={names.codes}',
    f'--text_model={names.text_model}',
    f'--tasks={",".join(tasks)}',
    f'--splits={",".join(["train", *found.dev])}',
    f'--length={sizes.length}',
    f'--output={names.rows}',
    needs=('tokenize',),
  )
  yield recipe.train(
    'train model',
    'gin/adapt/sft.gin',
    RUN_DIR=names.model,
    INIT_FROM=[names.before('sft')],
    SPEECH_ROWS='keep',  # codes of other tokenizers, but like them
    TEXT_MODEL=names.text_model,
    ROWS=names.rows,
    TASK_PREFIX=f'{NAME}_',
    BATCH_SIZE=sizes.rows,
    STEPS=sizes.steps(_MODEL_STEPS),
    needs=('build',),
  )


def _evaluations(
  names: Names, sizes: sizing.Plan, found: sizing.Survey, speech: bool
) -> Iterator[recipe.Command]:
  """What the model gets wrong, and what is heard of what it speaks."""

  def evaluate(name, gin_file, *needs, **more):
    return recipe.door(
      name,
      'step_audio_jax',
      'evaluate',
      f'--gin_file=gin/adapt/{gin_file}.gin',
      *recipe.macros(
        MANIFEST=names.corpus,
        CODES=names.codes,
        ROWS=names.rows if found.dev else None,
        ROW_SPLIT=found.dev[0] if found.dev else 'dev',
        ASR_SPLITS=list(found.held_out),
        TTS_SPLITS=[_scored(found)],
        TEXT_TOKENS=sizes.text_tokens,
        SPEECH_GROUPS=sizes.groups,
        **more,
      ),
      f'--checkpoints={names.model}',
      '--steps=last',
      needs=needs,
    )

  yield evaluate('evaluate', 'evaluate', 'train model')
  if speech:
    # What was scored without the decoder is kept and not scored again.
    yield evaluate(
      'evaluate sound',
      'evaluate_sound',
      'evaluate',
      'export decoder',
      DECODER=names.decoder,
      TOKENIZER=names.tokenizer,
      EMBEDDINGS=names.speakers,
    )


def _scored(found: sizing.Survey) -> str:
  """The split whose figures the report shows."""
  return 'test' if 'test' in found.held_out else found.held_out[0]


def _speech(
  names: Names, sizes: sizing.Plan, found: sizing.Survey
) -> Iterator[recipe.Command]:
  """From codes to sound in the new voices.

  Who can be told apart only from others: where the recordings name one speaker
  or none, the quick start's speaker encoder stays.
  """
  speaker = names.before('speaker')
  if found.speakers > 1:
    speaker = names.run('speaker')
    yield recipe.train(
      'train speaker',
      'gin/quickstart/speaker.gin',
      RUN_DIR=speaker,
      MANIFEST=names.corpus,
      INIT_FROM=[names.before('speaker')],
    )
  yield recipe.door(
    'embed',
    'step_audio_jax',
    'embed',
    f'--corpus={names.corpus}',
    f'--speaker={speaker}',
    f'--output={names.speakers}',
    needs=('train speaker',) if found.speakers > 1 else (),
  )
  flow = dict(
    MANIFEST=names.corpus,
    CODES=names.codes,
    EMBEDDINGS=names.speakers,
    BUCKETS=sizes.buckets,
    MAX_SECONDS=30.0,
  )
  yield recipe.train(
    'train flow_prior',
    'gin/quickstart/flow_prior.gin',
    RUN_DIR=names.run('flow_prior'),
    STEPS=sizes.steps(_PRIOR_STEPS),
    needs=('tokenize', 'embed'),
    **flow,
  )
  yield recipe.train(
    'train flow',
    'gin/quickstart/flow.gin',
    RUN_DIR=names.run('flow'),
    STEPS=sizes.steps(_FLOW_STEPS),
    INIT_FROM=[names.run('flow_prior')],
    needs=('train flow_prior',),
    **flow,
  )
  voice = [f'--voice={names.corpus}/{found.voice}'] if found.voice else []
  if found.voice_channel is not None:
    voice.append(f'--channel={found.voice_channel}')
  yield recipe.door(
    'export decoder',
    'step_audio_jax',
    'speak',
    f'--export={names.decoder}',
    f'--flow={names.run("flow")}',
    f'--speaker={speaker}',
    f'--tokenizer={names.tokenizer}',
    *voice,
    needs=('train flow',),
  )


def _report(
  names: Names, found: sizing.Survey, needs: Sequence[str]
) -> recipe.Command:
  return recipe.door(
    'report',
    'step_audio_jax',
    'report',
    '--gin_file=gin/adapt/report.gin',
    *recipe.macros(
      RUNS=[names.model],
      OUTPUT=names.root,
      MANIFEST=names.corpus,
      ROWS=names.rows,
      TIMING=f'{names.root}/{recipe.TIMING}',
      ASR_SPLIT=_scored(found),
    ),
    needs=needs,
  )
