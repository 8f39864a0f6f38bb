"""What a benchmark is: items that are asked, and figures of the answers.

A benchmark is a frozen dataclass that says four things, and nothing of models,
checkpoints, caches or reports:

    read()      what it holds: items, and what of it cannot be asked and why
    asks        how a model is asked (`WAYS`)
    decoding    how long and how an answer may be
    score(…)    rows and figures of the answers

`asking` asks a checkpoint, `family` keeps what it answered, by weights and
data, and what that is worth, by convention and judge. So answers are scored
again without being asked again.

    class Digits(spoken.Transcription):
      def read(self):
        return benchmark.reading(items of my files)
"""

import abc
import dataclasses
from typing import (
  Any,
  Callable,
  ClassVar,
  Iterable,
  Mapping,
  NamedTuple,
  Sequence,
)

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import figures
from step_audio_jax.storage import files

# How a model is asked.
TRANSCRIBE = 'transcribe'  # a recording → its words
SPEAK = 'speak'  # a text → speech codes, and their sound
ANSWER = 'answer'  # a chat → the assistant's words and calls
CHOOSE = 'choose'  # a text and its continuations → their log-likelihoods
RESYNTHESIZE = 'resynthesize'  # a recording → its codes → their sound
RECORDED = 'recorded'  # nobody: what a system did was recorded before
WAYS = (TRANSCRIBE, SPEAK, ANSWER, CHOOSE, RESYNTHESIZE, RECORDED)

# In which way the same item is put.
PLAIN = 'plain'  # as the benchmark has it
SILENCED = 'silenced'  # silence as long as each recording in its place
CASCADE = 'cascade'  # the run's own transcript, in writing
WRITTEN = 'written'  # the true transcript, in writing
CONTROLS = (PLAIN, SILENCED, CASCADE, WRITTEN)
# Which of them say something: whose words are wanted cannot be read to a model,
# and what is spoken or chosen does not hang on what is heard.
SENSIBLE = {TRANSCRIBE: (PLAIN, SILENCED), ANSWER: CONTROLS}

Figure = figures.Figure

# Of `Item.about`: what may come behind its text, for `CHOOSE`.
CONTINUATIONS = 'continuations'

_SHOWN = 5  # of what is wrong, by name
# Fields that decide about no figure, or are told of elsewhere.
_ELSEWHERE = (
  *('name', 'folder', 'most', 'controls', 'decoding', 'aloud'),
  *('published', 'unpublished'),
)


@dataclasses.dataclass(frozen=True)
class Item:
  """One thing that is asked.

  Attributes:
    id: Its own in the benchmark.
    chat: Turns up to the answer; recordings by `path` or `data`.
    references: Answers that are right; several where any of them will do.
    language: Tag.
    about: What else the scoring or a reader wants: category, options,
      instructions. JSON-able, and part of every row.
  """

  id: str
  chat: chats_lib.Conversation
  references: tuple[str, ...] = ()
  language: str = 'en'
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def recordings(self) -> tuple[chats_lib.Speech, ...]:
    """All that is heard, in order."""
    return tuple(
      part
      for turn in self.chat.turns
      for part in turn.parts
      if isinstance(part, chats_lib.Speech)
    )

  @property
  def text(self) -> str:
    """Words of the last turn of the user; '' where nobody knows them."""
    last = [t for t in self.chat.turns if t.role == chats_lib.USER]
    if not last:
      return ''
    parts = [
      part if isinstance(part, str) else part.text or ''
      for part in last[-1].parts
    ]
    return '\n'.join(filter(None, parts))


def heard(
  id: str,
  speech: chats_lib.Speech,
  *references: str,
  language: str = 'en',
  instruction: str = '',
  **about: Any,
) -> Item:
  """An item of one recording, with an instruction in front of it or without."""
  parts = (instruction, speech) if instruction else (speech,)
  turn = chats_lib.Turn(chats_lib.USER, parts)
  chat = chats_lib.Conversation((turn,))
  return Item(id, chat, tuple(references), language, about)


def written(
  id: str, text: str, *references: str, language: str = 'en', **about: Any
) -> Item:
  """An item in writing."""
  chat = chats_lib.Conversation((chats_lib.Turn(chats_lib.USER, (text,)),))
  return Item(id, chat, tuple(references), language, about)


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a benchmark holds.

  Attributes:
    items: That can be asked, in the benchmark's order.
    left_out: Reason → ids (or places) of what cannot; never forgotten in a
      denominator.
    version: Of the benchmark, as far as it says one; '' else.
  """

  items: tuple[Item, ...]
  left_out: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict
  )
  version: str = ''

  @property
  def of(self) -> int:
    """How many there are, asked or not."""
    return len(self.items) + sum(map(len, self.left_out.values()))

  def counted(self, cut: Mapping[str, int] | None = None) -> dict[str, Any]:
    """As `counts.count`."""
    left_out = {why: len(ids) for why, ids in self.left_out.items()}
    return counts.count(len(self.items), self.of, 'items', left_out, cut)


def reading(
  found: Iterable[Item | tuple[str, str]], where: Any, version: str = ''
) -> Reading:
  """What a loader found, checked: ids once, something to ask.

  Args:
    found: Items, and (id, why it is none) of what cannot be asked.
    where: File or folder, for messages.
    version: Of the benchmark.

  Raises:
    UserError: Nothing can be asked.
  """
  items: dict[str, Item] = {}
  left_out: dict[str, list[str]] = {}
  for one in found:
    if isinstance(one, tuple):
      left_out.setdefault(one[1], []).append(one[0])
    elif one.id in items:
      left_out.setdefault('an id that was there before', []).append(one.id)
    else:
      items[one.id] = one
  if not items:
    told = '; '.join(
      f'{len(ids)} {why} ({", ".join(ids[:_SHOWN])})'
      for why, ids in left_out.items()
    )
    raise errors.UserError(
      f'{where}: found nothing that can be asked'
      f'{f" ({told})" if told else ""}, expected items of the benchmark.'
    )
  return Reading(
    tuple(items.values()),
    {why: tuple(ids) for why, ids in left_out.items()},
    version,
  )


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How answers are decoded.

  Attributes:
    most: Ids of a text at most.
    groups: Of speech at most, 120 ms each.
    temperature: 0 is greedy.
    top_p: Of the likeliest ids with this probability.
    seed: Where the temperature is not 0; each item's own follows from it.
  """

  most: int = 256
  groups: int = 250
  temperature: float = 0.0
  top_p: float = 1.0
  seed: int = 0

  def __post_init__(self):
    errors.at_least_one('benchmark decoding', self, ('most', 'groups'))


class Answer(NamedTuple):
  """What a model answered to an item.

  Attributes:
    text: In words; None where there is none.
    calls: Of tools, {'name', 'arguments'} each; a string where it is no JSON.
    stopped: Whether it ended before its limit.
    seconds: That it took, its share of the batch.
    codes: Speech ids.
    wav: File of their sound, relative to the folder of the rows.
    likelihoods: Of each continuation, (nats, ids, characters).
    fault: Why it is none; '' of an answer.
  """

  text: str | None
  calls: Sequence[Any] = ()
  stopped: bool = True
  seconds: float = 0.0
  codes: Sequence[int] = ()
  wav: str = ''
  likelihoods: Sequence[tuple[float, int, int]] = ()
  fault: str = ''


@dataclasses.dataclass(frozen=True)
class Scored:
  """What answers are worth.

  Attributes:
    figures: By name; the first is the one that the benchmark is known by.
    rows: JSON-able, one an item, in its order; each with `id`.
    not_computed: Figure → why there is none.
    cut: Reason → items that are scored, but not as they should be: ended at a
      limit, without an answer, not to be parsed.
    counted: As `counts.count`, where scoring itself finds out what cannot be
      scored; None where what was read tells.
  """

  figures: Mapping[str, Figure]
  rows: Sequence[Mapping[str, Any]]
  not_computed: Mapping[str, str] = dataclasses.field(default_factory=dict)
  cut: Mapping[str, int] = dataclasses.field(default_factory=dict)
  counted: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Means:
  """What scoring may use. What is None makes figures that are not computed.

  Attributes:
    conventions: Names, of texts that are compared.
    judge: `judges.Judge`.
    ear: An outside recogniser, file of a sound and its language → words.
    similarity: Two files of sounds → cosine of their speakers.
    quality: File of a sound → figures of it.
    sounds: Folder that `Answer.wav` is relative to.
    absent: Which of them is missing → why.
  """

  conventions: Sequence[str] = ('plain',)
  judge: Any = None
  ear: Any = None
  similarity: Any = None
  quality: Any = None
  sounds: str = ''
  absent: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def why_not(self, name: str) -> str:
    """Why a figure that needs one of them is not computed."""
    return self.absent.get(name, f'no {name} is named')


@dataclasses.dataclass(frozen=True)
class Benchmark(abc.ABC):
  """Base of all: a name, where its files lie, how much of it is asked.

  Attributes:
    name: That figures and files bear.
    folder: Of its public layout, local or in a bucket.
    most: Items at most, the first ones; 0 is all.
    decoding: Of answers.
    controls: Of `CONTROLS`: how else the same is asked.
    aloud: Whether written answers are spoken, too, and that is heard.
    published: System → figure → value that others publish of themselves, rates
      and accuracies in percent; shown beside ours, and nothing else.
    unpublished: What they do not tell beside it.
  """

  name: str
  folder: str
  most: int = 0
  decoding: Decoding = Decoding()
  controls: tuple[str, ...] = (PLAIN,)
  aloud: bool = False
  published: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict, kw_only=True, hash=False
  )
  unpublished: str = dataclasses.field(default='', kw_only=True)

  # Of `WAYS`.
  asks: ClassVar[str] = ANSWER

  def __post_init__(self):
    if self.most < 0:
      raise errors.UserError(
        f'benchmark {self.name}: most: found {self.most}, expected a number of '
        'items, or 0 for all.'
      )
    if not self.controls or len(set(self.controls)) < len(self.controls):
      raise errors.UserError(
        f'benchmark {self.name}: controls: found {tuple(self.controls)}, '
        f'expected some of {", ".join(CONTROLS)}, each once.'
      )
    for control in self.controls:
      if control not in CONTROLS:
        raise errors.UserError(
          f'benchmark {self.name}: controls: found {control!r}, expected some '
          f'of {", ".join(CONTROLS)}.'
        )

  @abc.abstractmethod
  def read(self) -> Reading:
    """All that it holds.

    Raises:
      UserError: It is not there, half of it, or of another version.
    """

  @abc.abstractmethod
  def score(
    self, items: Sequence[Item], answers: Sequence[Answer], means: Means
  ) -> Scored:
    """Rows and figures of the answers to all items.

    An answer with a fault counts as a wrong one, and in `cut`.
    """

  @property
  def recorded(self) -> tuple[str, ...]:
    """Folders, beside its items, whose content its figures depend on."""
    return ()

  @property
  def settings(self) -> dict[str, Any]:
    """What decides about its figures beside its items: JSON-able."""
    told = dataclasses.asdict(self)
    for name in _ELSEWHERE:
      told.pop(name)
    return {'class': type(self).__name__, **told}

  def path(self, *parts: str) -> files.AnyPath:
    """Below its folder."""
    return files.path(self.folder).joinpath(*parts)


def asked(
  item: Item, content: Callable[[chats_lib.Speech], str] = lambda speech: ''
) -> list[Any]:
  """All that a model is given of an item, JSON-able.

  Args:
    item: That is asked.
    content: Digest of a recording: where it lies does not matter.
  """

  def told(part: str | chats_lib.Speech) -> Any:
    if isinstance(part, str):
      return part
    return [content(part), part.text, {} if part.is_whole else part.part]

  turns = [
    [
      turn.role,
      [told(part) for part in turn.parts],
      [call.written for call in turn.calls],
      list(turn.tools),
    ]
    for turn in item.chat.turns
  ]
  return [item.id, turns, item.about.get(CONTINUATIONS)]
