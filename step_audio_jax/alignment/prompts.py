"""Prompts of a corpus, in an order that is a function of the step.

A prompt is a chat up to where the assistant speaks, as the doors that ask a
model lay it out; what the corpus says behind it is the reference answer. Each
prompt of a batch comes `group` times, its answers side by side.

Axes: B rows of a batch, P places for a prompt.
"""

import collections
import dataclasses
import hashlib
import sys
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.chats import deafness
from step_audio_jax.chats import habits
from step_audio_jax.chats import rendering
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import questions as questions_lib
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.tokenizers.speech import seal
from step_audio_jax.training.feeds import permutation

TTS = 'tts'
# Of `chats.views`; a chat as it is, heard where it is spoken, else read; and
# texts of the corpus' recordings that are to be said.
VIEWS = ('aqta', 'tqta', 'taqta', 'chat', TTS)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt and what is known of it.

  Attributes:
    id: Of the chat, or of the utterance.
    ids: int32 (n,), at least two.
    question: Words of the last turn of the user; '' where nobody knows them.
    expected: Words of the reference answer.
    language: A BCP 47 subtag.
    split: Of the corpus.
    digest: Of what is asked (`quiz.Question.digest`); '' of other texts.
    silenced: `ids` with silence as long as each recording in its place; None
      where it is not known, or nothing is to be heard.
  """

  id: str
  ids: np.ndarray
  question: str = ''
  expected: str = ''
  language: str = 'en'
  split: str = 'train'
  digest: str = ''
  silenced: np.ndarray | None = None

  def answered(
    self, text: str, ids: np.ndarray, stopped: bool
  ) -> sample_lib.Sample:
    """An answer to it, as it is judged; arguments as of `Sample`."""
    return sample_lib.Sample(
      id=self.id,
      question=self.question,
      expected=self.expected,
      language=self.language,
      text=text,
      ids=ids,
      stopped=stopped,
    )


def collect(
  corpus: str,
  vocabulary: vocabulary_lib.Vocabulary,
  *,
  splits: Sequence[str],
  codes: str | Mapping[str, Any] | None,
  view: str = 'aqta',
  layout: habits.Habits = habits.Habits(history=habits.READ),
  longest: int | None = None,
  tokenizer: str | None = None,
) -> tuple[list[Prompt], collections.Counter[str]]:
  """The prompts of a corpus, and why other chats give none → how many.

  Args:
    corpus: Folder of a corpus with chats that end with an answer.
    vocabulary: Turns texts into ids.
    splits: Of the chats.
    codes: What `tokenize` made of it, or id → (linguistic, semantic); spoken
      turns need them.
    view: How the last turn is shown, of `VIEWS`.
    layout: How turns are laid out.
    longest: Ids of a prompt at most; None for any number.
    tokenizer: Folder of the one that made the codes: with it prompts are known
      in silence, too.

  Raises:
    UserError: Nothing gives a prompt.
  """
  if view not in VIEWS:
    raise errors.UserError(
      f'prompts: view is {view!r}, expected one of {", ".join(VIEWS)}.'
    )
  if view == TTS:
    return _to_be_said(corpus, vocabulary, splits, longest)
  if view in ('aqta', 'taqta') and codes is None:
    raise errors.UserError(
      f'prompts: codes is missing, the view {view} hears them.'
    )
  asked, others = quiz.questions(corpus, splits)
  passed = collections.Counter(
    reason.partition(': ')[2] for some in others.values() for reason in some
  )
  heard = codes or {}
  if isinstance(heard, str):
    heard = speech_codes.read_codes(heard)
  quiet = {}
  if tokenizer is not None:
    quiet = questions_lib.silence(tokenizer, quiz.seconds(asked))
  languages = {
    one.id: one.language for one in manifest.stream(corpus, kind='chat')
  }

  def laid(shown, codes):
    def ids_of(speech):
      if speech.id not in codes:
        raise errors.UserError('no codes of the recording')
      return documents_lib.speech_ids(
        vocabulary, *codes[speech.id], layout.streams
      )

    ids, _ = rendering.prompt(
      vocabulary,
      rendering.turns_of(shown, ids_of),
      style=layout.layout(),
      longest=longest,
    )
    return np.asarray(ids, np.int32)

  def silenced(one, shown, ids):
    # Who answers so heard nothing: there is no sound that silence replaces.
    if tokenizer is None or deafness.claims(one.expected):
      return None
    try:
      found = laid(shown, quiet)
    except errors.UserError:
      return None
    return None if np.array_equal(found, ids) else found

  found: list[Prompt] = []
  for split, some in asked.items():
    for one in some:
      try:
        how = view
        if view == 'chat':
          how = 'aqta' if one.speech else 'tqta'
        shown = one.shown(how)
        ids = laid(shown, heard)
      except errors.UserError as error:
        passed[str(error)] += 1
        continue
      found.append(
        Prompt(
          id=one.id,
          ids=ids,
          question=one.question,
          expected=one.expected,
          language=languages[one.id],
          split=split,
          digest=one.digest,
          silenced=silenced(one, shown, ids),
        )
      )
  return _some(found, corpus, splits, longest, passed), passed


def _to_be_said(corpus, vocabulary, splits, longest):
  """As `collect`, of the texts of recordings."""
  layout, found = documents_lib.LAYOUTS['tts'], []
  passed: collections.Counter[str] = collections.Counter()
  for one in manifest.stream(corpus, kind='speech'):
    if one.split not in splits:
      continue
    if not (one.text or '').strip():
      passed['no text'] += 1
      continue
    ids = layout.prompt(vocabulary, text=one.text)
    if longest is not None and len(ids) > longest:
      passed[f'more than {longest} ids'] += 1
      continue
    found.append(
      Prompt(
        id=one.id,
        ids=np.asarray(ids, np.int32),
        question=one.text,
        expected=one.text,
        language=one.language,
        split=one.split,
      )
    )
  return _some(found, corpus, splits, longest, passed), passed


def _some(found, corpus, splits, longest, passed) -> list[Prompt]:
  if found:
    return found
  first = next(iter(passed), 'there is nothing')
  raise errors.UserError(
    f'{corpus}: nothing of the splits {", ".join(splits)} gives a prompt'
    + (f' of at most {longest} ids' if longest else '')
    + f' ({first}).'
  )


class PromptFeed:
  """Global batches of prompts.

  Attributes:
    batch_size: Answers of a batch, `group` to each prompt.
    group: Answers to one prompt.
    places: P.
    prompts: All that fit.
    passed: Why other chats give no prompt → how many.
    vocabulary: What the ids belong to, as `Vocabulary.describe` tells it.
    speech_tokenizer: Whose codes are in them.
    turns: How turns are laid out, as `chats.habits` has it.
    table_size: Ids are below.
  """

  def __init__(
    self,
    *,
    corpus: str,
    vocabulary: vocabulary_lib.Vocabulary,
    batch_size: int,
    splits: Sequence[str] = ('train',),
    codes: str | None = None,
    view: str = 'aqta',
    streams: str = documents_lib.BOTH,
    starts: bool = False,
    group: int = 1,
    longest: int = 256,
    seed: int = 0,
    tokenizer: str | None = None,
  ):
    """Lays all prompts out.

    Args:
      corpus: Folder of a corpus with chats that end with an answer.
      vocabulary: Turns texts into ids.
      batch_size: Answers of a batch.
      splits: Of the chats.
      codes: What `tokenize` made of it; spoken turns need them.
      view: How the last turn is shown, of `VIEWS`.
      streams: Which codes are heard, of `documents.STREAMS`.
      starts: Whether turns have `<s>` behind every `<|BOT|>`.
      group: Answers to one prompt.
      longest: P; longer prompts are passed over and counted.
      seed: Of the order.
      tokenizer: Folder of the one that made the codes: with it `silenced` is
        known, by which a policy's trainer sees whether a reward model listens.

    Raises:
      UserError: The group does not divide the batch, nothing is left, or the
        tokenizer is another's or has nothing to silence.
    """
    if group < 1 or batch_size < 1 or batch_size % group:
      raise errors.UserError(
        f'prompts: group is {group}, expected a divisor of batch_size '
        f'({batch_size}).'
      )
    self.batch_size, self.group, self.places = batch_size, group, longest
    self.table_size = vocabulary.table_size
    self._seed = seed
    self._settings = {
      'splits': list(splits),
      'view': view,
      'streams': streams,
      'starts': starts,
      'group': group,
      'places': longest,
      'batch_size': batch_size,
      'seed': seed,
    }
    self.vocabulary = vocabulary.describe()
    self.speech_tokenizer = bindings.of_codes(codes) if codes else None
    self._silences = tokenizer is not None
    if tokenizer is not None:
      self._check_tokenizer(tokenizer, codes, view)
    self.turns = {'starts': starts, 'streams': streams, 'history': habits.READ}
    self._contents = {
      'manifest': digests.of_file(manifest.path_of(corpus)),
      'codes': codes and _digest_of_codes(codes),
    }
    self.prompts, self.passed = collect(
      corpus,
      vocabulary,
      splits=splits,
      codes=codes,
      view=view,
      layout=habits.Habits(starts, streams, habits.READ),
      longest=longest,
      tokenizer=tokenizer,
    )
    for reason, count in self.passed.most_common(3):
      print(
        f'note: {corpus}: {count} chats give no prompt: {reason}',
        file=sys.stderr,
        flush=True,
      )

  def _check_tokenizer(self, tokenizer, codes, view) -> None:
    if codes is None or view in ('tqta', TTS):
      raise errors.UserError(
        f'prompts: tokenizer is {tokenizer!r}, expected none where nothing is '
        f'heard: codes are {codes!r}, the view is {view}.'
      )
    bindings.check_tokenizer(
      f'the tokenizer {tokenizer}',
      seal.identity(tokenizer),
      codes,
      self.speech_tokenizer,
      'name the tokenizer that made the codes',
    )

  def locate(self, row: int) -> int:
    """Row of the global stream → the prompt's number."""
    size = len(self.prompts)
    epoch, index = divmod(row // self.group, size)
    return permutation.permute(index, size, self._seed * 1_000_003 + epoch)

  def rows(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> list[Prompt]:
    """The prompts of rows start..stop of a step's batch."""
    first = step * self.batch_size
    stop = self.batch_size if stop is None else stop
    return [
      self.prompts[self.locate(row)]
      for row in range(first + start, first + stop)
    ]

  def batch(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray]:
    """Rows start..stop of the global batch of a step.

    Returns:
      tokens int32 (B, P), padded on the left, and starts int32 (B,), the first
      place of each.
    """
    return padded(
      [one.ids for one in self.rows(step, start, stop)], self.places
    )

  def silenced(
    self, step: int, start: int = 0, stop: int | None = None
  ) -> dict[str, np.ndarray] | None:
    """As `batch`, with silence in place of the recordings.

    Returns:
      None without a tokenizer; `starts` is P where nothing was to be heard.
    """
    if not self._silences:
      return None
    nothing = np.zeros(0, np.int32)
    rows = [one.silenced for one in self.rows(step, start, stop)]
    return padded(
      [nothing if ids is None else ids for ids in rows], self.places
    )

  def settings(self) -> dict[str, Any]:
    """What decides which prompt comes when; a resume compares it."""
    return dict(self._settings)

  def contents(self, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Digests of what was read; a resume compares them."""
    del known
    return dict(self._contents)

  def describe(self) -> dict[str, Any]:
    """For `config.json`."""
    return {
      **self._settings,
      'prompts': len(self.prompts),
      'passed_over': sum(self.passed.values()),
    }


def padded(prompts: Sequence[np.ndarray], places: int) -> dict[str, np.ndarray]:
  """Prompts as `PromptFeed.batch` gives them."""
  tokens_BP = np.zeros((len(prompts), places), np.int32)
  starts_B = np.full(len(prompts), places, np.int32)
  for b, ids in enumerate(prompts):
    starts_B[b] = places - len(ids)
    tokens_BP[b, starts_B[b] :] = ids
  return {'tokens': tokens_BP, 'starts': starts_B}


def _digest_of_codes(folder: str) -> str:
  """Of all shards, by their bytes."""
  found = hashlib.sha256()
  for shard in speech_codes.list_shards(folder):
    found.update(digests.of_file(shard).encode())
  return found.hexdigest()
