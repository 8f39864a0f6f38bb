"""Tasks as data: what they are made of, their documents, their digest.

This module knows neither SeqIO nor TensorFlow, so that a finished build is
recognised in a second. `corpora` turns definitions into SeqIO tasks.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
from typing import Iterable, Iterator

import numpy as np

from data_pipelines import code_stream
from data_pipelines import documents as documents_lib
from data_pipelines import drawing
from data_pipelines import interleaving_builders
from data_pipelines import interleaving_examples
from data_pipelines import interleaving_voice
from data_pipelines import records
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest
from step_audio_jax import vocabulary

VERSION = 1  # part of every digest; raise it when documents change
INTERLEAVING_VERSION = 2  # the same, of interleaved documents alone

Example = interleaving_examples.Example
Document = documents_lib.Document
OnBad = interleaving_examples.OnBad

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
CHAT_TASKS = {'chat': ('chat', {'prompt_loss': 0.0})}


@dataclasses.dataclass(frozen=True)
class Definition:
  """One task over one corpus.

  Attributes:
    name: `<corpus>_<task>`, as in the SeqIO registry.
    kind: Layout of the documents, a function of `documents`.
    corpus: Corpus folder.
    text_model: Text vocabulary, a SentencePiece model or `tokenizer.json`.
    codes: Folder of the tokenised corpus; for speech.
    prompt_loss: Weight of the given side of asr, tts and chat.
    image_size: Side of the images, pixels.
    patches: Places that an image takes.
    seed: Of the choices that interleaving makes.
    interleaving: Which of `interleaving_builders.BUILDERS`; None means words
      where any line has word times, and segments where none has.
    poisson: How the builder of that name draws.
    voice: Speaks a text corpus where that is interleaved.
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
  poisson: interleaving_builders.Poisson = interleaving_builders.Poisson()
  voice: interleaving_voice.VoiceConfig | None = None

  def __post_init__(self):
    if not re.fullmatch(r'[\w.]+', self.name):  # also the name of a folder
      raise errors.UserError(
        f'name: found {self.name!r}, expected letters, digits, "_" and "." '
        'only.'
      )
    interleaving_examples.check(self.interleaving, self.voice)

  def splits(self) -> list[str]:
    """Splits of the corpus that this task can use, in the file's order."""
    found = manifest.stream(self.corpus, kind=self.corpus_kind)
    return list(dict.fromkeys(u.split for u in found))

  @property
  def corpus_kind(self) -> str:
    if self.voice:
      return 'text'
    other = ('text', 'image_text', 'chat')
    return self.kind if self.kind in other else 'speech'

  def vocabulary(self) -> vocabulary.Vocabulary:
    """The id space: the text model with the speech block behind it."""
    return load_vocabulary(self.text_model)

  def digest(self, split: str) -> str:
    """Of everything that decides the documents of a split."""
    told = dataclasses.asdict(self)
    settings = {k: told.pop(k) for k in ('interleaving', 'poisson', 'voice')}
    if self.kind == 'interleaved':
      told['interleaving'] = [INTERLEAVING_VERSION, settings]
    if self.voice:
      told['voice'] = self.voice.digest()
    told |= {
      'version': VERSION,
      'split': split,
      'corpus': records.sha256(manifest.path_of(self.corpus)),
      'text_model': records.sha256(_file(self.text_model)),
      'codes': None,
    }
    if self.codes is not None:
      stats = files.read_json(pathlib.Path(self.codes) / 'stats.json')
      told['codes'] = stats['digest']
    if self.kind == 'image_text':
      told['images'] = [
        records.sha256(path)
        for utterance in self._utterances(split)
        if (path := utterance.image_path(self.corpus)).exists()
      ]
    raw = json.dumps(told, sort_keys=True).encode()
    return hashlib.sha256(raw).hexdigest()

  def _utterances(self, split: str) -> Iterator[manifest.Utterance]:
    for utterance in manifest.stream(self.corpus, kind=self.corpus_kind):
      if utterance.split == split:
        yield utterance

  def examples(self, split: str) -> Iterator[Example]:
    """The raw examples of a split: what the SeqIO source yields.

    Yields:
      id, text, language, speaker, file: str; words and turns: JSON;
      linguistic and semantic: uint16, empty where the utterance has no codes.
    """
    codes = None
    if self.codes is not None and self.kind != 'chat':
      codes = code_stream.CodeStream(self.codes)
    empty = np.zeros(0, np.uint16)
    for utterance in manifest.stream(self.corpus, kind=self.corpus_kind):
      # Also those of other splits, so that their codes are passed.
      pair = codes.get(utterance.id) if codes and utterance.audio else None
      if utterance.split != split:
        continue
      linguistic, semantic = pair or (empty, empty)
      yield {
        'id': utterance.id,
        'text': utterance.text or '',
        'language': utterance.language,
        'speaker': utterance.speaker or '',
        'file': utterance.audio or utterance.image or '',
        'words': json.dumps(utterance.words or [], ensure_ascii=False),
        'turns': json.dumps(utterance.turns or [], ensure_ascii=False),
        'linguistic': linguistic,
        'semantic': semantic,
      }

  def documents(
    self, examples: Iterable[Example], on_bad: OnBad
  ) -> Iterator[Document]:
    """Examples → documents; `on_bad(id, file, reason)` for what cannot be."""
    table = self.vocabulary()
    if self.kind == 'interleaved':
      maker = interleaving_examples.Maker(
        table,
        self._seed_of,
        self._pair,
        self.interleaving,
        self.poisson,
        self.voice,
      )
      yield from maker.documents(examples, on_bad)
      return
    for example in examples:
      try:
        yield self._document(table, example)
      except (errors.UserError, ValueError) as error:
        on_bad(example['id'], example['file'] or None, str(error))

  def _document(self, table, example: Example) -> Document:
    name, words = example['id'], example['text']
    if self.kind == 'text':
      return documents_lib.text(table, name, words)
    if self.kind == 'image_text':
      path = manifest.Utterance(
        id=name, kind='image_text', text=words, image=example['file']
      ).image_path(self.corpus)
      image = drawing.load(path, self.image_size)
      return documents_lib.image_text(
        table, name, words, image, patches=self.patches
      )
    if self.kind == 'chat':
      turns = [self._turn(turn) for turn in json.loads(example['turns'])]
      return documents_lib.chat(
        table, name, turns, prompt_loss=self.prompt_loss
      )
    pair = self._pair(example)
    if self.kind == 'continuation':
      return documents_lib.continuation(table, name, *pair)
    if self.kind == 'asr':
      return documents_lib.asr(
        table, name, words, *pair, prompt_loss=self.prompt_loss
      )
    return documents_lib.tts(
      table, name, words, *pair, prompt_loss=self.prompt_loss
    )

  def _turn(self, turn):
    """(role, text or codes)."""
    if 'text' in turn:
      return turn['role'], turn['text']
    codes = _codes(self.codes) if self.codes is not None else {}
    if turn['speech'] not in codes:
      raise errors.UserError(
        f'turns: no codes of {turn["speech"]!r} in {self.codes}, expected '
        'those of the corpus.'
      )
    return turn['role'], codes[turn['speech']]

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
  name: str, corpus: str, codes: str, text_model: str, **settings
) -> list[Definition]:
  """The tasks of a speech corpus called `name`."""
  return _all(
    SPEECH_TASKS,
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
  **settings,
) -> list[Definition]:
  """The task of a corpus of chats called `name`; spoken turns need codes."""
  return _all(
    CHAT_TASKS,
    name,
    corpus=str(corpus),
    codes=None if codes is None else str(codes),
    text_model=str(text_model),
    **settings,
  )


def _all(tasks, name, **settings) -> list[Definition]:
  return [
    Definition(name=f'{name}_{task}', kind=kind, **{**extra, **settings})
    for task, (kind, extra) in tasks.items()
  ]


@functools.lru_cache(maxsize=8)
def load_vocabulary(text_model: str) -> vocabulary.Vocabulary:
  """The vocabulary over a text model.

  Raises:
    UserError: The file is not there or holds no text model.
  """
  return vocabulary.load(text_model=str(_file(text_model)))


def _file(path: str | os.PathLike) -> pathlib.Path:
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.UserError(f'{path}: no such file, expected a text model.')
  return path


def _codes(folder: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  stats = files.read_json(pathlib.Path(folder) / 'stats.json')
  return _codes_of(folder, stats['digest'])


@functools.lru_cache(maxsize=4)
def _codes_of(folder: str, digest: str):
  return manifest.read_codes(folder)
