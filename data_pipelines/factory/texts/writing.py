"""Texts that a model writes: other words for given ones, or new ones.

    writer = writing.Rewriter(
      client.Endpoint('http://127.0.0.1:8000/v1', 'qwen2.5-7b'),
      'Say this in other words, in one sentence: {text}',
    )
    source = writing.Written(source.Corpora(['data/texts']), [writer], answers)

Who answers is any object with `identity`, `name` and `answers`: an endpoint
(`step_audio_jax.endpoints.client`), a run of ours (`own`). What it writes is
checked as what it is, a stranger's (`checks`); what does not pass is told.
"""

import collections
import dataclasses
import re
from typing import Any, ClassVar, Iterator, Mapping, Protocol, Sequence

from data_pipelines.factory.gates import base
from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.factory.texts import checks as checks_lib
from data_pipelines.factory.texts import source as source_lib
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax import progress
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat
from step_audio_jax.storage import digests

_PLACE = re.compile(r'\{(text|language|topic|number)\}')
_NAME = re.compile('[A-Za-z0-9_-]+')


class Writes(Protocol):
  """A model that answers.

  Attributes:
    name: For messages.
    identity: All that decides what it answers, JSON-able, without secrets.
  """

  name: str
  identity: Mapping[str, Any]

  def answers(
    self,
    questions: Iterator[chat.Question],
    kept: answers_lib.Answers,
    counts: collections.Counter | None = None,
  ) -> Iterator[chat.Reply]:
    """As of `endpoints.client.Endpoint`."""


@dataclasses.dataclass(frozen=True)
class Writer:
  """What a model is asked for; subclasses say how often.

  Attributes:
    model: Who answers.
    prompt: What it is asked, with places that are filled in: `{text}`,
      `{language}` (in English), `{topic}`, `{number}`.
    system: What it is told before.
    name: In ids and in provenance.
    rules: What it may write.
  """

  needs: ClassVar[tuple[str, ...]] = ()  # places of the prompt
  may: ClassVar[tuple[str, ...]] = ()

  model: Writes
  prompt: str
  system: str = ''
  name: str = 'writer'
  rules: checks_lib.Rules = checks_lib.Rules()

  def __post_init__(self):
    if not _NAME.fullmatch(self.name):
      raise errors.UserError(
        f'writer: name: found {self.name!r}, expected letters, digits, _ and -.'
      )
    places = _PLACE.findall(self.prompt)
    for place in self.needs:
      if place not in places:
        raise errors.UserError(
          f'writer: prompt: found no {{{place}}} in {self.prompt[:60]!r}, '
          'expected it.'
        )
    for place in places:
      if place not in (*self.needs, *self.may):
        raise errors.UserError(
          f'writer: prompt: found {{{place}}}, which a {type(self).__name__} '
          'has not.'
        )

  @property
  def settings(self) -> dict[str, Any]:
    """What decides its texts, JSON-able."""
    told = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in ('model', 'rules', 'name')
    }
    return {
      'kind': type(self).__name__,
      **told,
      'prompt_sha256': digests.of_value([self.system, self.prompt]),
      'model': self.model.identity,
      'rules': dataclasses.asdict(self.rules),
    }

  def tasks(
    self, given: Sequence[source_lib.Text]
  ) -> Iterator['tuple[Task, chat.Question]']:
    """What is to be written, and how it is asked for."""
    raise NotImplementedError

  def size(self, given: int) -> int:
    """How many questions there are with so many given texts."""
    raise NotImplementedError

  def _question(self, places: Mapping[str, str], sample: int) -> chat.Question:
    # In one go: what is filled in may have braces of its own.
    asked = _PLACE.sub(lambda match: places[match[1]], self.prompt)
    before = [('system', self.system)] if self.system else []
    return chat.Question((*before, ('user', asked)), sample)


@dataclasses.dataclass(frozen=True)
class Task:
  """A text that is to be written.

  Attributes:
    id: Its own.
    language: Subtag.
    given: What it is made of; None of a new one.
  """

  id: str
  language: str
  given: source_lib.Text | None = None


@dataclasses.dataclass(frozen=True)
class Rewriter(Writer):
  """Makes other texts of given ones.

  Attributes:
    each: How many of each.
    language: Subtag of what it writes; None is that of the given text.
    keep: Whether the given texts are said, too.
  """

  needs = ('text',)
  may = ('language',)

  name: str = 'rewriter'
  each: int = 1
  language: str | None = None
  keep: bool = True

  def __post_init__(self):
    super().__post_init__()
    errors.at_least_one('writer', self, ('each',))
    _check_language(self.language)

  def tasks(self, given):
    for text in given:
      language = self.language or text.language
      places = {'text': text.text, 'language': spoken(language)}
      for number in range(self.each):
        task = Task(f'{text.id}.{self.name}{number}', language, text)
        yield task, self._question(places, number)

  def size(self, given):
    return given * self.each


@dataclasses.dataclass(frozen=True)
class Author(Writer):
  """Writes new texts.

  Attributes:
    count: How many.
    language: Subtag.
    topics: By turns, for `{topic}`.
  """

  may = ('language', 'topic', 'number')

  name: str = 'author'
  count: int = 100
  language: str = 'en'
  topics: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    errors.at_least_one('writer', self, ('count',))
    _check_language(self.language)
    if ('topic' in _PLACE.findall(self.prompt)) != bool(self.topics):
      raise errors.UserError(
        f'writer: topics: found {len(self.topics)}, expected some where the '
        'prompt has {topic}, and none where it has not.'
      )

  def tasks(self, given):
    del given
    for number in range(self.count):
      places = {'language': spoken(self.language), 'number': str(number + 1)}
      if self.topics:
        places['topic'] = self.topics[number % len(self.topics)]
      task = Task(f'{self.name}-{number:06d}', self.language)
      yield task, self._question(places, number)

  def size(self, given):
    return self.count


class Written:
  """A source: given texts, and what writers make of them and beside them.

  Attributes:
    counts: Of requests, retries and replies, as of `Endpoint.answers`.
  """

  def __init__(
    self,
    given: source_lib.Source,
    writers: Sequence[Writer],
    kept: answers_lib.Answers,
    held_out: held_out_lib.HeldOut | None = None,
  ):
    """Nothing is read or asked yet.

    Args:
      given: May have no texts, where nobody makes others of them.
      writers: By turns.
      kept: Where answers are kept.
      held_out: What nothing may be made of: no model is shown a given text
        that leaks.

    Raises:
      UserError: Two writers have one name.
    """
    check_names(writers)
    self._given, self._writers, self._kept = given, tuple(writers), kept
    self._held_out = held_out
    self._told: dict[str, dict[str, Any]] = {}
    self.counts: collections.Counter[str] = collections.Counter()

  def read(self) -> Iterator[source_lib.Text | source_lib.Refused]:
    found = list(self._given.read())
    yield from (one for one in found if isinstance(one, source_lib.Refused))
    given = [one for one in found if isinstance(one, source_lib.Text)]
    seen: dict[int, str] = {}
    if all(getattr(one, 'keep', True) for one in self._writers):
      yield from given
    for text in given:
      seen.setdefault(checks_lib.mark_of(text.text), text.id)
    leaks = self._leaks(given)
    clean = [text for text in given if text.id not in leaks]
    for writer in self._writers:
      if 'text' in writer.needs:
        leaking = [text for text in given if text.id in leaks]
        for task, _ in writer.tasks(leaking):
          told = f'text: it is to be made of {task.given.id!r}, a leak: '
          told += leaks[task.given.id]
          yield source_lib.Refused(task.id, base.FAILED, told)
      yield from self._of(writer, clean, seen)

  def writers(self) -> Mapping[str, Any]:
    return {**self._given.writers(), **self._told}

  def name(self) -> str:
    names = [self._given.name(), *(one.model.name for one in self._writers)]
    return ', '.join(names)

  def _leaks(self, given) -> dict[str, str]:
    """Ids of given texts that leak, and how."""
    if self._held_out is None:
      return {}
    found = self._held_out.find(
      [held_out_lib.Line(text.id, text.text) for text in given]
    )
    return {leak.id: leak.sentence() for leak in found if leak is not None}

  def _of(self, writer, given, seen):
    waiting: collections.deque[Task] = collections.deque()
    models: set[str] = set()
    checks = checks_lib.Checks(writer.rules)

    def questions():
      for task, question in writer.tasks(given):
        waiting.append(task)
        yield question

    replies = writer.model.answers(questions(), self._kept, self.counts)
    total = writer.size(len(given))
    for reply in progress.bar(
      replies, label=writer.name, total=total, unit='text'
    ):
      task = waiting.popleft()
      models |= {reply.model} if reply.model else set()
      yield self._judged(writer, checks, task, reply, seen)
    self._told[writer.name] = {
      **writer.settings,
      **({'answered_by': sorted(models)} if models else {}),
    }

  def _judged(self, writer, checks, task, reply, seen):
    if reply.kind:
      outcome = base.UNMEASURED
      return source_lib.Refused(task.id, outcome, reply.fault)
    text = checks.clean(reply.text)
    given = task.given
    fault = checks.fault(text, task.language, given and given.text)
    if not fault:
      earlier = seen.setdefault(checks_lib.mark_of(text), task.id)
      if earlier != task.id:
        fault = f'text: found the words of {earlier!r}, expected new ones.'
    if fault:
      self.counts['replies/refused'] += 1
      return source_lib.Refused(task.id, base.FAILED, fault)
    return source_lib.Text(
      task.id,
      ' '.join(text.split()),
      task.language,
      given.source if given else '',
      writer.name,
      reply.key,
    )


def check_names(writers: Sequence[Writer]) -> None:
  """Refuses two of one name.

  Raises:
    UserError: There are.
  """
  counts = collections.Counter(writer.name for writer in writers)
  for name, count in counts.items():
    if count > 1:
      raise errors.UserError(
        f'writers: {count} are called {name!r}; give each a name of its own.'
      )


def spoken(language: str) -> str:
  """A language's name in English."""
  import langcodes

  return langcodes.get(language).display_name()


def _check_language(language: str | None) -> None:
  if language is not None and languages.language_subtag(language) != language:
    raise errors.UserError(
      f'writer: language: found {language!r}, expected a subtag such as en.'
    )
