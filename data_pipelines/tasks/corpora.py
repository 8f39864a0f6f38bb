"""Corpora in SeqIO's registry.

    # my_corpora.py
    from data_pipelines.tasks import corpora
    corpora.register_speech_corpus(
      'mine', 'data/mine', codes='data/mine_codes', text_model='text.model')

registers the tasks `mine_continuation`, `mine_interleaved`, `mine_asr`,
`mine_tts`, `mine_sft_asr` and `mine_sft_tts`; text and image corpora give
`mine_text` and `mine_image_text`, chats `mine_chat`, preferences
`mine_preference_tqta` and `mine_preference_aqta`. `register_stages('mine')`
adds a mixture for each training stage, with the shares of
`step_audio_jax.corpus.stages`.

SeqIO is the definition layer: `build` packs a task into rows, and training
mixes rows. Importing this module imports SeqIO and TensorFlow (about 10 s).
"""

from typing import Sequence

from data_pipelines import notices

with notices.hold_stderr():
  import seqio

from data_pipelines.tasks import definitions
from data_pipelines.tasks import metrics
from data_pipelines.tasks import sources
from step_audio_jax import errors
from step_audio_jax.corpus import stages

Definition = definitions.Definition
DEFINITIONS: dict[str, Definition] = {}

_DEFAULT_SPLITS = ('train', 'dev', 'test')


def register(
  definition: Definition, conventions: Sequence[str] = ()
) -> seqio.Task:
  """Adds one task to the registry; the same definition twice is one task.

  Args:
    definition: Of the task.
    conventions: Scoring conventions, names in `evaluation.conventions`, whose
      error rates are metrics of asr and tts besides character and word error
      rate.

  Raises:
    UserError: The name is taken by something else, or there is no such
      convention.
  """
  name = definition.name
  metric_fns = metrics.of(definition.kind, conventions)
  if name in seqio.TaskRegistry.names():
    task = seqio.TaskRegistry.get(name)
    same = DEFINITIONS.get(name) == definition
    if same and set(task.metric_fns) == set(metric_fns):
      return task
    raise errors.UserError(
      f'task {name!r} is registered already, with other settings; choose '
      'another name for the corpus.'
    )
  try:
    splits = definition.splits()
  except errors.UserError:  # the corpus may be made later
    splits = _DEFAULT_SPLITS

  task = seqio.TaskRegistry.add(
    name,
    source=sources.CorpusSource(definition, splits),
    preprocessors=[],
    output_features=sources.output_features(definition.text_model),
    postprocess_fn=metrics.target,
    metric_fns=metric_fns,
  )
  DEFINITIONS[name] = definition
  return task


def register_speech_corpus(
  name: str,
  source: str,
  *,
  codes: str,
  text_model: str,
  interleaving: str | None = None,
  conventions: Sequence[str] = (),
  **settings,
) -> list[seqio.Task]:
  """Registers continuation, interleaved, asr, tts, sft_asr and sft_tts.

  Args:
    name: Of the corpus; tasks are called `<name>_<task>`.
    source: Corpus folder.
    codes: What `tokenize` made of it.
    text_model: Text vocabulary.
    interleaving: `segments`, `words` or `poisson`, see
      `interleaving.builders`; None means words where any line has word
      times, and segments where none has.
    conventions: Scoring conventions that are metrics, too, see `register`.
    **settings: `seed`, `poisson`, see `definitions.Definition`; and
      `prompt_loss`, the weight of the given side of asr and tts, of all tasks
      or as {'asr': 0.5, 'tts': 0.0}.
  """
  settings |= {'interleaving': interleaving}
  found = definitions.speech(name, source, codes, text_model, **settings)
  return [register(definition, conventions) for definition in found]


def register_text_corpus(
  name: str, source: str, *, text_model: str, **settings
) -> list[seqio.Task]:
  """Registers `<name>_text`, and with a `voice` `<name>_interleaved`.

  Args:
    name: Of the corpus.
    source: Corpus folder.
    text_model: Text vocabulary.
    **settings: `voice`, the run of a model that has learnt TTS, or an
      `interleaving.voice.VoiceConfig`; `seed`, `poisson`.
  """
  found = definitions.text(name, source, text_model, **settings)
  return [register(definition) for definition in found]


def register_image_text_corpus(
  name: str, source: str, *, text_model: str, **settings
) -> list[seqio.Task]:
  """Registers `<name>_image_text`; settings: `image_size`, `patches`."""
  found = definitions.image_text(name, source, text_model, **settings)
  return [register(definition) for definition in found]


def register_chat_corpus(
  name: str,
  source: str,
  *,
  text_model: str,
  codes: str | None = None,
  **settings,
) -> list[seqio.Task]:
  """Registers `<name>_chat`: SFT rows that learn what the assistant says.

  Args:
    name: Of the corpus.
    source: Corpus folder.
    text_model: Text vocabulary.
    codes: What `tokenize` made of its spoken turns.
    **settings: `prompt_loss`, the weight of what the others say; `sft`, whether
      each of `chats.views.VIEWS` is a task, too; `starts` and `last_only`, see
      `definitions.Definition`.
  """
  found = definitions.chat(name, source, text_model, codes=codes, **settings)
  return [register(definition) for definition in found]


def register_preference_corpus(
  name: str,
  source: str,
  *,
  text_model: str,
  codes: str | None = None,
  **settings,
) -> list[seqio.Task]:
  """Registers `<name>_preference_tqta` and `<name>_preference_aqta`.

  Args:
    name: Of the corpus.
    source: Corpus folder.
    text_model: Text vocabulary.
    codes: What `tokenize` made of its spoken turns.
    **settings: `starts` and `streams`, see `definitions.Definition`.
  """
  found = definitions.preference(
    name, source, text_model, codes=codes, **settings
  )
  return [register(definition) for definition in found]


def register_stages(name: str) -> list[seqio.Mixture]:
  """Adds the mixtures `<name>_text` … `<name>_sft` of `stages.STAGES`.

  Those in `stages.OPTIONAL` only where the corpus has their tasks.

  SeqIO mixes by examples, so its shares are only approximately those of
  tokens; rows are what trains.

  Raises:
    UserError: A stage needs a task that the corpus has not.
  """
  mixtures = []
  for stage, shares in stages.STAGES.items():
    tasks = [(f'{name}_{task}', float(r)) for task, r in shares.items()]
    absent = [t for t, _ in tasks if t not in seqio.TaskRegistry.names()]
    if absent and stage in stages.OPTIONAL:
      continue
    if absent:
      raise errors.UserError(
        f'stage {stage!r} needs the task {absent[0]!r}, which is not '
        f'registered; registered: {", ".join(sorted(DEFINITIONS))}.'
      )
    mixture = f'{name}_{stage}_mix'
    if mixture in seqio.MixtureRegistry.names():  # from the same table
      mixtures.append(seqio.MixtureRegistry.get(mixture))
    else:
      mixtures.append(seqio.MixtureRegistry.add(mixture, tasks))
  return mixtures
