"""The commands of `adapt`, sized by what `ingest` found.

How many steps, how long rows are, and whether the tokenizers are continued or
trained anew, follows from the corpus (`plan`); these rules are this project's.
"""

import dataclasses
import math
import pathlib
from typing import Any, Iterator

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import stages
from tpu_launch.recipes import quickstart
from tpu_launch.recipes import recipe

NAME = 'adapt'  # of the tasks
_MARKERS = 16  # ids of a document besides text and speech, at most
_LONGEST_ROW = 2048
_VOICE_SECONDS = (0.5, 10.0)
_RECORDINGS = 1600  # of the quick start, which its numbers of steps suit
_MOST_SCALE = 25
_ANEW_SECONDS = 300.0
_LINGUISTIC_STEPS, _SEMANTIC_STEPS, _SEMANTIC_START = 160, 280, 170
_MODEL_STEPS, _FLOW_STEPS = 600, 1000


@dataclasses.dataclass(frozen=True)
class Survey:
  """What of a corpus decides how it is learnt.

  Attributes:
    train: Recordings of the train split with a transcript.
    seconds: Their length together.
    longest: Seconds of the longest recording of any split.
    longest_text: Bytes of UTF-8 of the longest transcript of any split.
    held_out: Other splits that have transcribed speech, test splits last.
    speakers: Named speakers of the train split.
    voice: A recording to speak with, relative to the corpus, or None.
    voice_channel: Which channel of it, where its line names one.
  """

  train: int
  seconds: float
  longest: float
  longest_text: int
  held_out: tuple[str, ...]
  speakers: int
  voice: str | None
  voice_channel: int | None = None

  @property
  def dev(self) -> list[str]:
    """The held-out splits that are no test."""
    return [name for name in self.held_out if not name.startswith('test')]


def survey(corpus: str | pathlib.Path) -> Survey:
  """Reads what `ingest` made.

  Raises:
    UserError: Nothing can be learnt from it, or nothing was held out.
  """
  recordings = manifest.read(corpus, kind='speech')
  spoken = [u for u in recordings if u.audio is not None and u.text]
  train = [u for u in spoken if u.split == 'train']
  # Test splits last, the unseen voice behind them; names decide the rest.
  held_out = sorted(
    {u.split for u in spoken} - {'train'},
    key=lambda name: (
      name.startswith('test'),
      name == manifest.UNSEEN_VOICE,
      name,
    ),
  )
  where = manifest.path_of(corpus)
  if not spoken:
    raise errors.UserError(
      f'{where}: found no transcript of any of {len(recordings)} recordings, '
      'expected what is said in them: in a column `text` of a table '
      '`metadata.csv`, or as a format of `ingest` has it.'
    )
  if not train or not held_out:
    raise errors.UserError(
      f'{where}: found {len(train)} recordings with a transcript in the split '
      f'train and {len(spoken) - len(train)} in others, expected some in both; '
      'a column `split` of the table says which is which.'
    )
  shortest, longest = _VOICE_SECONDS
  # A voice is given as a file: it begins with it, and has one channel or all.
  voices = [
    u
    for u in train
    if shortest <= u.duration <= longest
    and not u.offset
    and not isinstance(u.channel, tuple)
  ]
  voice = max(voices, key=lambda u: (u.duration, u.id), default=None)
  return Survey(
    train=len(train),
    seconds=sum(u.duration for u in train),
    longest=max(u.duration for u in spoken),
    longest_text=max(len(u.text.encode()) for u in spoken),
    held_out=tuple(held_out),
    speakers=len({u.speaker for u in train} - {None}),
    voice=voice and voice.audio,
    voice_channel=voice and voice.channel,
  )


@dataclasses.dataclass(frozen=True)
class Plan:
  """Sizes of the runs; see `plan`.

  Attributes:
    length: Of rows, tokens.
    rows: Of a batch of the language model.
    groups: Of the longest utterance, 120 ms each.
    text_tokens: Of the longest transcript, at most.
    buckets: Widths of batches of recordings.
    scale: Steps in multiples of those that suit a small corpus.
    anew: Whether the tokenizers start from nothing.
  """

  length: int
  rows: int
  groups: int
  text_tokens: int
  buckets: int
  scale: float
  anew: bool

  def steps(self, least: int) -> int:
    """Of a run that takes `least` on a small corpus; a multiple of ten."""
    return math.ceil(least * self.scale / 10) * 10


def plan(found: Survey) -> Plan:
  """Sizes that suit a corpus.

  Rows hold the longest utterance with its transcript. Encoders, model and flow
  see every recording about as often as the quick start's see its 1,600.
  """
  groups = math.ceil(found.longest / vocabulary.GROUP_SECONDS)
  document = groups * vocabulary.GROUP + found.longest_text + _MARKERS
  length = min(
    max(quickstart.ROW_LENGTH, -(-document // 16) * 16), _LONGEST_ROW
  )
  return Plan(
    length=length,
    rows=max(1, round(4 * quickstart.ROW_LENGTH / length)),
    groups=groups,
    text_tokens=found.longest_text + 8,
    buckets=1 if found.longest < 5 else 2,
    scale=min(max(1.0, found.train / _RECORDINGS), _MOST_SCALE),
    anew=found.seconds >= _ANEW_SECONDS,
  )


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
  yield from after_ingest(options, survey(corpus))


def after_ingest(
  options: Options, found: Survey
) -> Iterator[list[recipe.Command]]:
  """The recipe behind `ingest`."""
  names = Names(options)
  sizes = plan(found)
  yield from _codes(names, sizes)
  yield from _model(names, sizes, found)
  if options.speech:
    yield from _speech(names, sizes, found)
  yield [_report(names, found)]


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


def _codes(names: Names, sizes: Plan) -> Iterator[list[recipe.Command]]:
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

  yield [
    encoder('linguistic', _LINGUISTIC_STEPS),
    encoder('semantic', _SEMANTIC_STEPS, START=sizes.steps(_SEMANTIC_START)),
  ]
  yield [
    recipe.train(
      'train centroids',
      'gin/quickstart/centroids.gin',
      RUN_DIR=names.run('centroids'),
      MANIFEST=names.corpus,
      BUCKETS=sizes.buckets,
      INIT_FROM=[names.run('linguistic')],
    )
  ]
  yield [
    recipe.door(
      'export tokenizer',
      'step_audio_jax',
      'tokenize',
      f'--export={names.tokenizer}',
      f'--linguistic={names.run("centroids")}',
      f'--semantic={names.run("semantic")}',
    )
  ]
  yield [
    recipe.door(
      'tokenize',
      'data_pipelines',
      'tokenize',
      f'--corpus={names.corpus}',
      f'--tokenizer={names.tokenizer}',
      f'--output={names.codes}',
    )
  ]


def _model(
  names: Names, sizes: Plan, found: Survey
) -> Iterator[list[recipe.Command]]:
  """Rows, the tuned model, and what it gets wrong."""
  tasks = [f'{NAME}_{task}' for task in stages.STAGES['sft']]
  yield [
    recipe.door(
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
    )
  ]
  yield [
    recipe.train(
      'train model',
      'gin/quickstart/sft.gin',
      RUN_DIR=names.model,
      INIT_FROM=[names.before('sft')],
      SPEECH_ROWS='keep',  # codes of other tokenizers, but like them
      TEXT_MODEL=names.text_model,
      ROWS=names.rows,
      TASK_PREFIX=f'{NAME}_',
      BATCH_SIZE=sizes.rows,
      STEPS=sizes.steps(_MODEL_STEPS),
    )
  ]
  yield [_evaluate('evaluate', 'evaluate', names, sizes, found)]


def _evaluate(
  name: str, gin_file: str, names: Names, sizes: Plan, found: Survey, **more
) -> recipe.Command:
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
  )


def _scored(found: Survey) -> str:
  """The split whose figures the report shows."""
  return 'test' if 'test' in found.held_out else found.held_out[0]


def _speech(
  names: Names, sizes: Plan, found: Survey
) -> Iterator[list[recipe.Command]]:
  """From codes to sound in the new voices.

  Who can be told apart only from others: where the recordings name one speaker
  or none, the quick start's speaker encoder stays.
  """
  speaker = names.before('speaker')
  if found.speakers > 1:
    speaker = names.run('speaker')
    yield [
      recipe.train(
        'train speaker',
        'gin/quickstart/speaker.gin',
        RUN_DIR=speaker,
        MANIFEST=names.corpus,
        INIT_FROM=[names.before('speaker')],
      )
    ]
  yield [
    recipe.door(
      'embed',
      'step_audio_jax',
      'embed',
      f'--corpus={names.corpus}',
      f'--speaker={speaker}',
      f'--output={names.speakers}',
    )
  ]
  yield [
    recipe.train(
      'train flow',
      'gin/quickstart/flow.gin',
      RUN_DIR=names.run('flow'),
      MANIFEST=names.corpus,
      CODES=names.codes,
      EMBEDDINGS=names.speakers,
      BUCKETS=sizes.buckets,
      STEPS=sizes.steps(_FLOW_STEPS),
    )
  ]
  voice = [f'--voice={names.corpus}/{found.voice}'] if found.voice else []
  if found.voice_channel is not None:
    voice.append(f'--channel={found.voice_channel}')
  yield [
    recipe.door(
      'export decoder',
      'step_audio_jax',
      'speak',
      f'--export={names.decoder}',
      f'--flow={names.run("flow")}',
      f'--speaker={speaker}',
      f'--tokenizer={names.tokenizer}',
      *voice,
    )
  ]
  yield [
    _evaluate(
      'evaluate sound',
      'evaluate_sound',
      names,
      sizes,
      found,
      DECODER=names.decoder,
      TOKENIZER=names.tokenizer,
      EMBEDDINGS=names.speakers,
    )
  ]


def _report(names: Names, found: Survey) -> recipe.Command:
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
  )
