"""Pairs that reject "I did not hear you" where something was to be heard.

    deaf      a clear question   chosen: its answer     rejected: a deaf reply
    silence   nobody speaks      chosen: a deaf reply   rejected: an answer

People score a deaf reply well, and have no other occasion to than silence. A
reward model that learns of their pairs alone rewards it everywhere (arXiv
2502.11946, 5.2.6): the first kind tells it when such a reply is bad, the second
keeps it good where it is right.

Questions are chats that end with a spoken turn and its answer in writing. Deaf
replies are drawn, or are what a policy said (`rollouts`). Silence is that of
the corpus, where a chat's answer is deaf, and recordings of rooms that are made
(`synthesis.speech.quiet`). Everything follows from the seed and the ids.
"""

import dataclasses
import os
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from data_pipelines.factory import additions
from data_pipelines.synthesis import speech
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio import levels
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import deafness
from step_audio_jax.chats import own
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests

DEAF, SILENCE = CATEGORIES = ('deaf', 'silence')
FOLDER = 'silence'  # of the recordings that are made
_QUIET = 'quiet'  # their split: there is nothing to transcribe


@dataclasses.dataclass(frozen=True)
class Config:
  """How much of what.

  Attributes:
    seed: Everything follows from it.
    splits: Whose questions are taken.
    replies: Deaf replies that are drawn for each question.
    silences: Share of the questions whose place a silence takes, too.
  """

  seed: int = 0
  splits: tuple[str, ...] = ('train',)
  replies: int = 1
  silences: float = 0.25

  def __post_init__(self):
    additions.check_splits(self.splits)
    most = min(map(len, deafness.REPLIES.values()))
    if not 0 < self.replies <= most:
      raise errors.UserError(
        f'--replies: found {self.replies}, expected 1 to {most}.'
      )
    if not 0 <= self.silences <= 1:
      raise errors.UserError(
        f'--silences: found {self.silences}, expected a share from 0 to 1.'
      )


class Question(NamedTuple):
  """A chat that is asked aloud and answered in writing.

  Attributes:
    chat: It.
    said: The last turn of the user.
    answer: The last turn.
    silent: Whether nobody speaks, and the answer says so.
  """

  chat: manifest.Utterance
  said: manifest.Utterance
  answer: Mapping[str, Any]
  silent: bool


class Silence(NamedTuple):
  """A recording in which nobody speaks: int16 (S,) at `speech.SAMPLE_RATE`."""

  line: manifest.Utterance
  samples: np.ndarray


def is_made(line: manifest.Utterance) -> bool:
  """Whether a line of a manifest was added here."""
  if line.kind == 'speech':
    made = (line.audio or '').startswith(f'{FOLDER}/')
    return made and line.id.endswith('-silence')
  if line.kind != 'preference' or line.category not in CATEGORIES:
    return False
  _, sign, number = line.id.rpartition('-deaf-')
  return line.id.endswith('-silent') or bool(sign and number.isdigit())


def question_of(
  chat: manifest.Utterance,
  recordings: Mapping[str, manifest.Utterance],
  corpus: str | os.PathLike,
) -> Question | None:
  """A chat as a question; None where it is none.

  Args:
    chat: A line of a manifest.
    recordings: Its lines of speech, by id.
    corpus: Where they lie.

  Raises:
    UserError: Its recording is missing, silent though it is answered, or not
      silent though the answer claims it.
  """
  if chat.kind != 'chat':
    return None
  turns = chat.turns or ()
  roles = [turn['role'] for turn in turns[-2:]]
  if roles != [chats.USER, chats.ASSISTANT]:
    return None
  if 'text' not in turns[-1] or 'calls' in turns[-1]:
    return None
  name = next(own.spoken(turns[-2:-1]), None)
  if name is None:
    return None
  said = recordings.get(name)
  if said is None or said.audio is None:
    raise errors.UserError(f'turns: {name!r} has no recording in the corpus.')
  answer = turns[-1]
  peak = 0.0
  if said.text != '':
    peak = audio_io.find_peak(said.audio_path(corpus), **said.part())
  silent, deaf = peak < levels.SILENCE, deafness.claims(answer['text'])
  if silent != deaf:
    heard = 'nothing is' if silent else 'something is'
    raise errors.UserError(
      f'turns: {heard} heard in {name!r}, but {answer["text"]!r:.40} is the '
      f'answer, expected {"a question" if silent else "silence"} there.'
    )
  return Question(chat, said, answer, silent)


class Maker:
  """Makes the pairs of questions."""

  def __init__(
    self,
    config: Config,
    questions: Iterable[Question],
    rollouts: Mapping[str, Sequence[str]] | None = None,
  ):
    """Knows all questions: what is said into silence is another's answer.

    Args:
      config: How much.
      questions: All of them.
      rollouts: Id of a chat → deaf replies to it; None draws some.
    """
    self._config, self._rollouts = config, rollouts
    self._answers: dict[tuple[str, str], list[str]] = {}
    for one in questions:
      if not one.silent:
        group = one.chat.split, one.chat.language
        self._answers.setdefault(group, []).append(one.answer['text'])

  def made(
    self, question: Question
  ) -> Iterator[manifest.Utterance | Silence | errors.UserError]:
    """What is added behind a chat, in order, or why something is not."""
    chat = question.chat
    rng = np.random.default_rng([self._config.seed, digests.number(chat.id)])
    known = deafness.REPLIES.get(chat.language)
    if known is None:
      yield errors.UserError(
        f'language: found {chat.language!r}, expected '
        f'{" or ".join(deafness.REPLIES)}: there are no replies of others.'
      )
      known = ()
    # All is drawn for each, so that one setting does not change another.
    order = rng.permutation(len(known))
    shown, sound = rng.random(), int(rng.integers(2**31))
    place = int(rng.integers(2**31))
    if question.silent:
      others = self._answers.get((chat.split, chat.language))
      if not others:
        yield errors.UserError(
          f'turns: no question of {chat.split!r} in {chat.language!r} has an '
          'answer that could be said into this silence.'
        )
        return
      yield self._pair(
        question, 'silent', SILENCE, question.answer['text'],
        others[place % len(others)],
      )  # fmt: skip
      return
    replies = [known[i] for i in order[: self._config.replies]]
    if self._rollouts is not None:
      replies = self._rollouts.get(chat.id, ())
    for number, reply in enumerate(replies):
      yield self._pair(
        question, f'deaf-{number}', DEAF, question.answer['text'], reply
      )
    spoken_alone = 'speech' in chat.turns[-2]  # else the question is read, too
    if known and spoken_alone and shown < self._config.silences:
      silence = _silence(question, sound)
      yield silence
      yield self._pair(
        question, 'silent', SILENCE, known[order[0]], question.answer['text'],
        silence.line.id,
      )  # fmt: skip

  def _pair(
    self, question, name: str, category: str, chosen, rejected, heard=None
  ) -> manifest.Utterance:
    chat = question.chat
    turns = [dict(turn) for turn in chat.turns[:-1]]
    if heard is not None:
      turns[-1]['speech'] = heard
    return additions.preference(
      chat, name, chosen, rejected, turns=tuple(turns), category=category
    )


def _silence(question: Question, seed: int) -> Silence:
  samples = speech.quiet(seed)
  # Named by what is in it: other seeds leave what others refer to.
  name = digests.of_bytes(samples.tobytes())[:16]
  line = manifest.Utterance(
    id=f'{question.chat.id}-silence',
    split=_QUIET,
    text='',
    language=question.chat.language,
    audio=f'{FOLDER}/{name}.wav',
    duration=round(len(samples) / speech.SAMPLE_RATE, 6),
    sample_rate=speech.SAMPLE_RATE,
  )
  return Silence(line, samples)
