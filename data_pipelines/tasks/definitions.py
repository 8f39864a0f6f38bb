"""Tasks as data: what they are made of, their documents, their digest.

This module knows neither SeqIO nor TensorFlow, so that a finished build is
recognised in a second. `corpora` turns definitions into SeqIO tasks.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
from typing import Callable, Iterable, Iterator, Mapping

import numpy as np

from data_pipelines.documents import examples as corpus_examples
from data_pipelines.documents import survey
from data_pipelines.interleaving import builders
from data_pipelines.interleaving import examples as interleaving_examples
from data_pipelines.interleaving import voice as interleaving_voice
from data_pipelines.synthesis import drawing
from data_pipelines.tasks import text_models
from data_pipelines.tasks import turns
from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.chats import habits
from step_audio_jax.chats import rendering
from step_audio_jax.chats import views
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

VERSION = 1  # part of every digest; raise it when documents change
INTERLEAVING_VERSION = 3  # the same, of interleaved documents alone
TOKENIZER_JSON_VERSION = 2  # the same, where a tokenizer.json encodes the text

Example = interleaving_examples.Example
Document = documents_lib.Document
OnBad = interleaving_examples.OnBad
OnCut = Callable[[str, rendering.Cut], None]

# Task → (kind of document, settings).
SPEECH_TASKS = {
  'continuation': ('continuation', {}),
  'interleaved': ('interleaved', {}),
  'asr': ('asr', {'prompt_loss': 1.0}),
  'tts': ('tts', {'prompt_loss': 1.0}),
  'sft_asr': ('asr', {'prompt_loss': 0.0}),
  'sft_tts': ('tts', {'prompt_loss': 0.0}),
}
TEXT_TASKS = {'text': ('text', {})}
IMAGE_TEXT_TASKS = {'image_text': ('image_text', {})}
_SPEAKING = ('tts', 'tts_turns')
# Kinds that can do with the linguistic codes.
_HEARING = ('asr', 'chat', 'preference')
_IN_TURNS = ('chat', 'tts_turns', 'preference')
CHAT_TASKS = {'chat': ('chat', {'prompt_loss': 0.0})}
# Those of SFT, which are built where they are asked for by name.
SPEECH_SFT = {
  'tts_turns': ('tts_turns', {'prompt_loss': 0.0, 'last_only': True})
}
CHAT_SFT = {
  view: ('chat', {'prompt_loss': 0.0, 'last_only': True, 'view': view})
  for view in views.VIEWS
}
EDIT = 'audio_edit'  # of the views
# What reward models learn: the answer is in writing.
PREFERENCE_TASKS = {
  f'preference_{view}': ('preference', CHAT_SFT[view][1])
  for view in ('tqta', 'aqta')
}
ON_REQUEST = frozenset({*SPEECH_SFT, *CHAT_SFT, *PREFERENCE_TASKS})


@dataclasses.dataclass(frozen=True)
class Definition:
  """One task over one corpus.

  Attributes:
    name: `<corpus>_<task>`, as in the SeqIO registry.
    kind: Of the documents: a name in `documents.LAYOUTS`, `chat`,
      `preference`, `tts_turns` or `interleaved`.
    corpus: Corpus folder.
    text_model: Text vocabulary, a SentencePiece model or `tokenizer.json`.
    codes: Folder of the tokenised corpus; for speech.
    prompt_loss: Weight of the given side of asr, tts and chat.
    image_size: Side of the images, pixels.
    patches: Places that an image takes.
    seed: Of the choices that interleaving makes.
    interleaving: Which of `interleaving.builders.BUILDERS`; None means words
      where any line has word times, and segments where none has.
    poisson: How the builder of that name draws.
    voice: Speaks a text corpus where that is interleaved.
    streams: Which codes are in asr and chat, of `documents.STREAMS`.
    last_only: Chats learn the assistant's last reply alone.
    view: Which of `chats.views.VIEWS` a chat is shown in; '' as it is.
    starts: Turns have `<s>` behind every `<|BOT|>`, as released code has it.
  """

  name: str
  kind: str
  corpus: str
  text_model: str
  codes: str | None = None
  prompt_loss: float = 1.0
  image_size: int = drawing.SIZE
  patches: int = 16
  seed: int = 0
  interleaving: str | None = None
  poisson: builders.Poisson = builders.Poisson()
  voice: interleaving_voice.VoiceConfig | None = None
  streams: str = documents_lib.BOTH
  last_only: bool = False
  view: str = ''
  starts: bool = False

  def __post_init__(self):
    if not re.fullmatch(r'[\w.]+', self.name):  # also the name of a folder
      raise errors.UserError(
        f'name: found {self.name!r}, expected letters, digits, "_" and "." '
        'only.'
      )
    if not 0 <= self.prompt_loss < math.inf:
      raise errors.UserError(
        f'prompt_loss: found {self.prompt_loss}, expected a weight >= 0.'
      )
    if self.streams not in documents_lib.STREAMS:
      raise errors.UserError(
        f'streams: found {self.streams!r}, expected one of '
        f'{", ".join(documents_lib.STREAMS)}.'
      )
    if self.view and self.view not in views.VIEWS:
      raise errors.UserError(
        f'view: found {self.view!r}, expected one of {", ".join(views.VIEWS)}.'
      )
    interleaving_examples.check(self.interleaving, self.voice)

  def splits(self) -> list[str]:
    """Splits of the corpus that this task can use, in the file's order."""
    return survey.read_survey(self.corpus).splits(self.corpus_kind)

  @property
  def corpus_kind(self) -> str:
    if self.voice:
      return 'text'
    other = ('text', 'image_text', 'chat', 'preference')
    return self.kind if self.kind in other else 'speech'

  def vocabulary(self) -> vocabulary.Vocabulary:
    """The id space: the text model with the speech block behind it."""
    return text_models.load(self.text_model)

  def speech_tokenizer(self) -> bindings.Described:
    """The tokenizer whose codes are in the documents; None if not known.

    Raises:
      UserError: The codes come of several.
    """
    if self.codes is not None:
      return bindings.of_codes(self.codes)
    return self.voice.speech_tokenizer() if self.voice else None

  def tags(self, split: str) -> list[str]:
    """Tags of how texts are spoken that are in the documents of a split."""
    found = survey.read_survey(self.corpus).tags.get(('speech', split), ())
    return list(found) if self.kind in _SPEAKING else []

  def edits(self, split: str) -> list[str]:
    """Tags of what a split of chats teaches to change in recordings."""
    if self.view != EDIT:
      return []
    return turns.tags_of_edits(self._utterances(split))

  def categories(self, split: str) -> list[str]:
    """Of the preferences of a split, in the order of their numbers in rows."""
    sorts = survey.read_survey(self.corpus).categories
    return list(sorts.get((self.corpus_kind, split), ()))

  def layout(self) -> dict[str, str | bool]:
    """How turns are laid out, as `chats.habits` has it; {} without turns."""
    if self.kind not in _IN_TURNS:
      return {}
    found: dict[str, str | bool] = {'starts': self.starts}
    if self.kind != 'tts_turns':
      found['streams'] = self.streams
    if self.kind != 'tts_turns' and self.view != EDIT:
      found['history'] = habits.READ if self.view else habits.HEARD
    return found

  def digest(self, split: str) -> str:
    """Of everything that decides the documents of a split."""
    told = dataclasses.asdict(self)
    settings = {k: told.pop(k) for k in ('interleaving', 'poisson', 'voice')}
    for name in ('streams', 'last_only', 'view', 'starts'):
      if getattr(self, name) == getattr(type(self), name):
        del told[name]  # as before there was a choice
    if self.kind == 'tts_turns':
      told['block'] = corpus_examples.BLOCK
    if self.kind == 'interleaved':
      told['interleaving'] = [INTERLEAVING_VERSION, settings]
    if self.voice:
      told['voice'] = self.voice.digest()
    if str(self.text_model).endswith('.json'):
      told['tokenizer_json'] = TOKENIZER_JSON_VERSION
    told |= {
      'version': VERSION,
      'split': split,
      'corpus': digests.of_file(manifest.path_of(self.corpus)),
      'text_model': text_models.digest(self.text_model),
      'codes': None,
    }
    if self.codes is not None:
      stats = files.read_json(files.path(self.codes) / 'stats.json')
      told['codes'] = stats['digest']
    if self.kind == 'image_text':
      found = files.ahead(
        self.corpus, self._image_digest, self._utterances(split)
      )
      told['images'] = [digest for digest in found if digest]
    return digests.of_bytes(json.dumps(told, sort_keys=True).encode())

  def _image_digest(self, utterance: manifest.Utterance) -> str | None:
    path = utterance.image_path(self.corpus)
    return digests.of_file(path) if files.exists(path) else None

  def _utterances(self, split: str) -> Iterator[manifest.Utterance]:
    for utterance in manifest.stream(self.corpus, kind=self.corpus_kind):
      if utterance.split == split:
        yield utterance

  def examples(
    self, split: str, part: corpus_examples.Part = corpus_examples.Part()
  ) -> Iterator[Example]:
    """The raw examples of a split or a part of it; see `documents.examples`."""
    return corpus_examples.read(
      self.corpus,
      self.corpus_kind,
      split,
      self.codes,
      part,
      transcripts=bool(self.view),
      references=self.kind == 'tts_turns',
    )

  def documents(
    self,
    examples: Iterable[Example],
    on_bad: OnBad,
    split: str | None = None,
    longest: int | None = None,
    on_cut: OnCut = lambda name, cut: None,
  ) -> Iterator[Document]:
    """Examples → documents; `on_bad(id, file, reason)` for what cannot be.

    Args:
      examples: Of `examples`.
      on_bad: Told of what is left out.
      split: What the examples are a part of. It decides how they are
        interleaved where no setting does; without it they do themselves.
      longest: Ids that a chat may have; a longer one loses its oldest turns.
      on_cut: Told of those, `on_cut(id, cut)`.
    """
    table = self.vocabulary()
    if self.kind == 'interleaved':
      yield from self._maker(table, split).documents(examples, on_bad)
      return

    def attempt(example):
      try:
        if self.kind in _IN_TURNS:
          return example, self._chat(table, example, longest, on_cut), ''
        return example, self._document(table, example), ''
      except (errors.UserError, ValueError) as error:
        files.raise_outage(error)
        return example, None, str(error)

    # Others than images ask for no file.
    place = self.corpus if self.kind == 'image_text' else os.curdir
    for example, document, fault in files.ahead(place, attempt, examples):
      if document is not None:
        yield document
      else:
        on_bad(example['id'], example['file'] or None, fault)

  def _maker(self, table, split: str | None) -> interleaving_examples.Maker:
    name = self.interleaving
    if name is None and split is not None:
      timed = survey.read_survey(self.corpus).timed
      name = 'words' if (self.corpus_kind, split) in timed else 'segments'
    return interleaving_examples.Maker(
      table, self._seed_of, self._pair, name, self.poisson, self.voice
    )

  def _chat(self, table, example: Example, longest, on_cut) -> Document:
    speaks = self.kind == 'tts_turns'
    style = rendering.layout(self.starts, speaks)
    shown = {'codes': self.codes, 'streams': self.streams, 'view': self.view}
    if self.kind == 'preference':
      # What is cut of one answer's prompt would not be cut of the other's.
      return rendering.pair(
        table,
        example['id'],
        *turns.of_preference(table, example, **shown),
        style=style,
        margin=example['margin'],
        category=example['category'],
      )
    if speaks:
      told = turns.of_speaker(table, example, self._pair(example))
    else:
      told = turns.of_chat(table, example, **shown)
    document, cut = rendering.document(
      table,
      example['id'],
      told,
      style=style,
      prompt_loss=self.prompt_loss,
      last_only=self.last_only,
      longest=longest,
    )
    if cut is not None:
      on_cut(example['id'], cut)
    return document

  def _document(self, table, example: Example) -> Document:
    name = example['id']
    layout = documents_lib.LAYOUTS[self.kind]
    contents = {
      kind: self._content(table, example, kind) for kind in layout.contents
    }
    return layout.document(
      table, name, prompt_loss=self.prompt_loss, **contents
    )

  def _content(self, table, example: Example, kind: str):
    if kind == 'speech':
      return documents_lib.speech_ids(table, *self._pair(example), self.streams)
    words = example['text']
    if kind == 'text':
      return corpus_examples.text_of(example, self.kind in _SPEAKING)
    path = manifest.Utterance(
      id=example['id'], kind='image_text', text=words, image=example['file']
    ).image_path(self.corpus)
    return documents_lib.Image(
      drawing.load(path, self.image_size), self.patches
    )

  def _pair(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
    pair = example['linguistic'], example['semantic']
    if not len(pair[0]):
      raise errors.UserError(
        'codes: none for this utterance; its audio is missing or was put in '
        f'quarantine, see {self.codes}/quarantine.jsonl.'
      )
    return pair

  def _seed_of(self, name: str) -> int:
    raw = hashlib.blake2b(f'{self.seed}/{name}'.encode(), digest_size=8)
    return int.from_bytes(raw.digest(), 'little')


def speech(
  name: str,
  corpus: str,
  codes: str,
  text_model: str,
  *,
  sft: bool = False,
  **settings,
) -> list[Definition]:
  """The tasks of a speech corpus called `name`; with `sft` those of SFT too."""
  return _all(
    SPEECH_TASKS | (SPEECH_SFT if sft else {}),
    name,
    corpus=str(corpus),
    codes=str(codes),
    text_model=str(text_model),
    **settings,
  )


def text(
  name: str,
  corpus: str,
  text_model: str,
  *,
  voice: interleaving_voice.VoiceConfig | str | None = None,
  **settings,
) -> list[Definition]:
  """The tasks of a plain-text corpus called `name`.

  Args:
    name: Of the corpus.
    corpus: Its folder.
    text_model: Text vocabulary.
    voice: The run of a language model that speaks; with it there is an
      interleaved task too, part of whose words this model says.
    **settings: `seed`, `poisson`; see `Definition`.
  """
  settings |= {'corpus': str(corpus), 'text_model': str(text_model)}
  found = _all(TEXT_TASKS, name, **settings)
  if voice is not None:
    if not isinstance(voice, interleaving_voice.VoiceConfig):
      voice = interleaving_voice.VoiceConfig(str(voice))
    settings |= {'interleaving': 'poisson', 'voice': voice}
    found += _all({'interleaved': ('interleaved', {})}, name, **settings)
  return found


def image_text(
  name: str, corpus: str, text_model: str, **settings
) -> list[Definition]:
  """The task of a corpus of images with captions called `name`."""
  return _all(
    IMAGE_TEXT_TASKS,
    name,
    corpus=str(corpus),
    text_model=str(text_model),
    **settings,
  )


def chat(
  name: str,
  corpus: str,
  text_model: str,
  *,
  codes: str | None = None,
  sft: bool = False,
  **settings,
) -> list[Definition]:
  """The task of a corpus of chats called `name`; with `sft` those of SFT too.

  Args:
    name: Of the corpus.
    corpus: Its folder.
    text_model: Text vocabulary.
    codes: What `tokenize` made of it; spoken turns need them.
    sft: Whether each of `chats.views.VIEWS` is a task, too.
    **settings: See `Definition`.
  """
  return _all(
    CHAT_TASKS | (CHAT_SFT if sft else {}),
    name,
    corpus=str(corpus),
    codes=None if codes is None else str(codes),
    text_model=str(text_model),
    **settings,
  )


def preference(
  name: str,
  corpus: str,
  text_model: str,
  *,
  codes: str | None = None,
  **settings,
) -> list[Definition]:
  """The tasks of the preferences of a corpus called `name`; as `chat`."""
  return _all(
    PREFERENCE_TASKS,
    name,
    corpus=str(corpus),
    codes=None if codes is None else str(codes),
    text_model=str(text_model),
    **settings,
  )


def _all(tasks, name, prompt_loss=None, **settings) -> list[Definition]:
  """A definition of each task; `prompt_loss` is of all, or {task: weight}."""
  weights = prompt_loss
  if not isinstance(weights, Mapping):
    weights = {} if weights is None else dict.fromkeys(tasks, weights)
  unknown = sorted(set(weights) - set(tasks))
  if unknown:
    raise errors.UserError(
      f'prompt_loss: no task {unknown[0]!r}, expected {", ".join(tasks)}.'
    )
  found = []
  streams = settings.pop('streams', documents_lib.BOTH)
  starts = settings.pop('starts', False)
  last_only = settings.pop('last_only', False)
  for task, (kind, extra) in tasks.items():
    given = {**extra, **settings}
    if kind in _HEARING:
      given['streams'] = streams
    if kind in _IN_TURNS:
      given['starts'] = starts
      given['last_only'] = last_only or extra.get('last_only', False)
    if task in weights:
      given['prompt_loss'] = float(weights[task])
    found.append(Definition(name=f'{name}_{task}', kind=kind, **given))
  return found
