"""Which recordings the documents of a row were made from."""

import os
from typing import Collection

from step_audio_jax.chats import own
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.reports import utterances
from step_audio_jax.storage import files


class Recordings:
  """What was recorded for some documents of a task.

  A document of several utterances has their ids, joined by '+', or those of
  the first and the last of a run of them, joined by '+…+'.

  Attributes:
    note: Why there is no sound at all, or ''.
  """

  def __init__(
    self,
    corpus: str | os.PathLike | None,
    documents: Collection[str] = (),
  ):
    """Looks through the manifest of `corpus`, if there is one.

    Args:
      corpus: The corpus folder.
      documents: Whose recordings are wanted; only they are in memory.
    """
    self.note, self._known = '', {}
    self._runs: dict[tuple[str, str], list[manifest.Utterance]] = {}
    if corpus is None:
      self.note = 'These rows do not say which corpus they were made from.'
    elif not files.is_file(manifest.path_of(corpus)):
      self.note = f'The corpus {corpus} is not here; name it with --corpus.'
    else:
      self._root = manifest.path_of(corpus).parent
      self._search(corpus, documents)

  def _search(self, corpus, documents: Collection[str]) -> None:
    names = {part for one in documents for part in one.split('+')}
    names |= set(documents)
    ends = {run[0]: run for run in map(_run_of, documents) if run}
    running = None
    for utterance in manifest.stream(corpus):
      if utterance.id in names:
        self._known[utterance.id] = utterance
      if utterance.id in ends:
        running = ends[utterance.id]
        split = utterance.split
        self._runs[running] = []
      if running and utterance.split == split:
        self._runs[running].append(utterance)
        if utterance.id == running[1]:
          running = None
    known = self._known.values()
    spoken = {name for one in known for name in own.spoken(one.all_turns)}
    if spoken:  # the turns of a chat stand anywhere in the corpus
      for utterance in manifest.stream(corpus):
        if utterance.id in spoken:
          self._known[utterance.id] = utterance

  def utterances_of(self, document: str) -> list[manifest.Utterance]:
    """The recorded utterances that a document was made from."""
    run = _run_of(document)
    if run in self._runs:
      found = self._runs[run]
    else:
      names = [document] if document in self._known else document.split('+')
      found = [self._known[name] for name in names if name in self._known]
    turns = [name for one in found for name in own.spoken(one.all_turns)]
    found = [*found, *(self._known[n] for n in turns if n in self._known)]
    return [one for one in found if one.audio is not None]

  def player(self, utterance: manifest.Utterance) -> str:
    """An audio element that holds its sound, or a note why there is none."""
    return utterances.player(utterance, self._root)


def _run_of(document: str) -> tuple[str, str] | None:
  """First and last id of `first+…+last`."""
  first, sign, last = document.partition('+…+')
  return (first, last) if sign else None
