"""What of a corpus sizes the runs that learn it.

How many steps, how long rows are, and whether the tokenizers are continued or
trained anew, follows from the corpus (`plan`); these rules are this project's.
"""

import dataclasses
import math
import pathlib

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.corpus import manifest
from tpu_launch.recipes import quickstart

_MARKERS = 16  # ids of a document besides text and speech, at most
_LONGEST_ROW = 2048
_VOICE_SECONDS = (0.5, 10.0)
_RECORDINGS = 1600  # of the quick start, which its numbers of steps suit
_MOST_SCALE = 25
_ANEW_SECONDS = 300.0


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
