"""What of a reply was played: a ledger of its sound, to the group of 120 ms.

    sounds out   |  sentence 1: 25 groups  |  pause  |  sentence 2: 40 groups …
    played                                           ^ 3.96 s
    history      words and ids of sentence 1 and of the first groups of 2

Positions are in the samples that went out, which may be stretched: a sentence
of G groups that has S samples has a group in every S / G of them. Silence
without ids (a pause between sentences) moves nothing on. Ids are exact: whole
groups whose sound was played to its end, so that the history is less than one
group behind what was heard and never in front of it. Words are shared out over
the groups of their sentence (`cutting`).

Axes: S samples.
"""

import dataclasses
import math

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.context import cutting

_SILENT = 1e-5  # of full scale; digital silence, not a quiet breath
# Weight of text (`cutting`) that is said in a group: some 12 letters or 4
# syllables a second. Until a reply has finished sentences of its own.
_PACE = 1.5


@dataclasses.dataclass(frozen=True)
class Played:
  """What was heard of a reply.

  Attributes:
    text: The words.
    ids: Mixed ids, whole groups of 5; empty where the mouth has none.
    groups: Of 120 ms of speech (not of stretched sound).
    ms: Of sound, from its beginning.
    is_whole: Whether that is all that went out.
  """

  text: str
  ids: np.ndarray
  groups: int
  ms: float
  is_whole: bool


class Pace:
  """How much text is said in a group, learnt of finished sentences."""

  def __init__(self):
    self._weight, self._groups = 0.0, 0

  def add(self, weight: float, groups: int) -> None:
    """Of one sentence."""
    if weight and groups:
      self._weight += weight
      self._groups += groups

  @property
  def weight_per_group(self) -> float:
    return self._weight / self._groups if self._groups else _PACE


class _Sentence:
  """The sound from the end of one sentence to the end of the next.

  Attributes:
    begin: Samples in front of it.
    samples: Of it.
    sounding: Samples of it that move on: all but silence without ids.
    groups: Groups of ids in it.
    ended: Whether it is all there.
  """

  def __init__(self, begin: int):
    self.begin = begin
    self.samples = self.sounding = self.groups = 0
    self.ended = False
    self._texts: list[str] = []
    self._ids: list[np.ndarray] = []
    self._ends: list[tuple[int, int]] = []  # samples, sounding behind a part
    self._cuts: cutting.Cuts | None = None

  @property
  def end(self) -> int:
    return self.begin + self.samples

  def add(self, sound: services.Sound) -> None:
    count = len(sound.samples_S)
    ids = np.asarray(sound.ids, np.int32)
    loud_N = np.flatnonzero(np.abs(sound.samples_S) > _SILENT)
    if len(loud_N) and not self.sounding:
      # A pause in front of the sentence, in the same part as its beginning.
      self._ends.append((self.samples + int(loud_N[0]), 0))
      self.sounding += count - int(loud_N[0])
    elif len(loud_N) or len(ids):
      self.sounding += count
    self.samples += count
    self._ends.append((self.samples, self.sounding))
    self.groups += len(ids) // vocabulary.GROUP
    self._ids.append(ids)
    if sound.text:
      self._texts.append(sound.text)
      self._cuts = None
    self.ended = sound.ends

  @property
  def cuts(self) -> cutting.Cuts:
    if self._cuts is None:
      self._cuts = cutting.cuts(''.join(self._texts))
    return self._cuts

  @property
  def ids(self) -> np.ndarray:
    return np.concatenate(self._ids) if self._ids else np.zeros(0, np.int32)

  def length(self, nominal: float) -> float:
    """Its groups, of ids or, without those, of the time that it sounds.

    Args:
      nominal: Samples of a group.
    """
    return self.groups or self._sounds / nominal

  def position(self, samples: int, nominal: float) -> int:
    """Whole groups of it that were played.

    Args:
      samples: That were played of it.
      nominal: Samples of a group at the speed that was asked for.
    """
    if samples >= self.samples and self.ended:
      return self.groups or int((self._sounds + 1) / nominal)
    length = nominal
    # Of what is still being made, ids may be ahead of the sound, and the last
    # group may be half made.
    if self.groups and (
      self.ended or self._sounds > (self.groups + 1.05) * nominal
    ):
      length = self._sounds / self.groups
    # One sample more: they are rounded.
    groups = int((self._sounding(samples) + 1) / length)
    return min(groups, self.groups) if self.groups else groups

  @property
  def _sounds(self) -> int:
    # Words that are all silence are there as long as that is.
    return self.sounding or (self.samples if self._texts else 0)

  def _sounding(self, samples: int) -> int:
    """How many of its first samples move on."""
    if not self.sounding:
      return samples if self._texts else 0
    before = heard = 0
    for end, sounding in self._ends:
      if end >= samples:
        part = sounding - heard
        return heard + (min(samples - before, part) if part else 0)
      before, heard = end, sounding
    return heard


class Ledger:
  """The sound of one part of a reply, as it goes out, and what was played."""

  def __init__(
    self, sample_rate: int, speed: float = 1.0, pace: Pace | None = None
  ):
    """An empty one.

    Args:
      sample_rate: Hz, of the sound.
      speed: That the mouth was asked for: 2 is half as long.
      pace: Of whoever speaks; shared by the replies of a conversation.

    Raises:
      UserError: There is no such rate or speed.
    """
    if not sample_rate >= 1 or not 0.01 <= speed <= 100:
      raise errors.UserError(
        f'sound: found {sample_rate} Hz at a speed of {speed}, expected a rate '
        'from 1 and a speed of 0.01 to 100.'
      )
    self._rate = sample_rate
    self._group = vocabulary.GROUP_SECONDS * sample_rate / speed
    self._pace = pace if pace is not None else Pace()
    self._sentences: list[_Sentence] = []
    self._samples = 0  # that went out
    self._made = 0  # these, and the rest of a sentence that did not
    self._most: int | None = None  # samples, behind which it was cut
    self._is_final = False
    self._reported = 0.0  # ms
    self._announced = ''
    self._is_closed = False
    self._known: Played | None = None  # what `played` is

  def add(self, sound: services.Sound, is_sent: bool = True) -> None:
    """More that went out.

    What comes behind a cut is taken for sent, and for not heard.

    Args:
      sound: That was made behind what there is.
      is_sent: Whether anybody may have heard it. The rest of a sentence that
        was cut is not sent, and yet says where the words of its begin lie.

    Raises:
      UserError: Its ids are no whole groups.
    """
    if len(sound.ids) % vocabulary.GROUP:
      raise errors.UserError(
        f'sound: found {len(sound.ids)} ids, expected whole groups of '
        f'{vocabulary.GROUP}.'
      )
    if not self._sentences or self._sentences[-1].ended:
      self._sentences.append(_Sentence(self._made))
    sentence = self._sentences[-1]
    sentence.add(sound)
    self._made += len(sound.samples_S)
    if is_sent:
      self._samples = self._made
    self._known = None
    if sound.ends:
      self._pace.add(sentence.cuts.weight, sentence.groups)

  def announce(self, text: str) -> None:
    """More text was given to be said, in front of its sound.

    Needed where a mouth tells the text of a sentence behind its sound, or none
    at all: an interruption would find no words.
    """
    self._announced += text
    self._known = None

  def close(self, is_whole: bool = True) -> bool:
    """No more will go out.

    Args:
      is_whole: All was said; else the last sentence may be unfinished.

    Returns:
      Whether it was open.
    """
    was_open, self._is_closed = not self._is_closed, True
    if self._sentences and is_whole and not self.is_cut:
      self._sentences[-1].ended = True
    self._known = None
    return was_open

  @property
  def sent_ms(self) -> float:
    """How long what went out is; less where it was cut."""
    samples = self._samples if self._most is None else self._most
    return 1000 * samples / self._rate

  @property
  def is_within_sentence(self) -> bool:
    """Whether the last sentence is not made to its end."""
    return bool(self._sentences) and not self._sentences[-1].ended

  @property
  def reported_ms(self) -> float:
    """How much was played for sure, as far as the client said."""
    return self._reported

  @property
  def is_cut(self) -> bool:
    """Whether it was interrupted."""
    return self._most is not None

  def report(self, ms: float) -> None:
    """The client says how much it has played; a report that is late is none.

    Raises:
      UserError: It is more than was sent, or no time.
    """
    self._check(ms, self._most)
    self._reported = max(self._reported, min(ms, self.sent_ms))

  def cut(self, ms: float, final: bool = True) -> Played:
    """It was interrupted; what is behind `ms` was not heard.

    Args:
      ms: Of sound, as `Played.ms`.
      final: The client says so. What a server assumes (`final=False`) is
        corrected by whatever is said later, up and down; what the client said
        can only become less, as what was cut off is gone.

    Raises:
      UserError: It is more than was sent, or no time.
    """
    # What was only assumed is not gone.
    self._check(ms, None if not self._is_final else self._most)
    if self._is_final and not final:
      return self.played  # a guess, and the client has spoken
    self._most = min(self._at(ms), self._samples)
    self._is_final = final
    self._known = None
    return self.played

  @property
  def played(self) -> Played:
    """All that went out, or what is left of it behind a cut."""
    if self._known is None:
      most = self._samples if self._most is None else self._most
      self._known = self._upto(most)
    return self._known

  def upto(self, ms: float) -> Played:
    """What was heard if `ms` of it were played.

    Raises:
      UserError: It is more than was sent, or no time.
    """
    self._check(ms, self._most)
    return self._upto(min(self._at(ms), self._samples))

  def _at(self, ms: float) -> int:
    """Samples; all of them where the last milliseconds were rounded off."""
    if ms > 1000 * self._samples / self._rate - 1:
      return self._samples
    return round(ms * self._rate / 1000)

  def _check(self, ms: float, most: int | None) -> None:
    number = isinstance(ms, (int, float)) and not isinstance(ms, bool)
    # An integer may be too large for any float.
    if not number or not 0 <= ms <= 1e12:
      raise errors.UserError(
        f'audio_end_ms: found {ms!r:.40}, expected milliseconds from 0.'
      )
    # Clients say whole milliseconds, and may round up.
    there = math.ceil(
      1000 * (self._samples if most is None else most) / self._rate
    )
    if ms > there:
      raise errors.UserError(
        f'audio_end_ms: found {ms:.15g}, expected at most the {there} ms of '
        'sound that there are.'
      )

  def _upto(self, samples: int) -> Played:
    texts, ids, groups = [], [], 0
    for sentence in self._sentences:
      if sentence.begin > samples:
        break
      heard = min(samples - sentence.begin, sentence.samples)
      whole = sentence.position(heard, self._group)
      ids.append(sentence.ids[: whole * vocabulary.GROUP])
      groups += whole
      words = sentence.cuts
      if not words.text and sentence is self._sentences[-1]:
        words = self._to_come(''.join(texts), sentence)
      if heard == sentence.samples and sentence.ended:
        texts.append(words.text)
      else:
        texts.append(words.up_to(self._share(sentence, words.weight, whole)))
    return Played(
      ''.join(texts).rstrip(),
      np.concatenate(ids) if ids else np.zeros(0, np.int32),
      groups,
      1000 * samples / self._rate,
      samples >= self._samples,
    )

  def _to_come(self, said: str, sentence: _Sentence) -> cutting.Cuts:
    """What was given to be said behind what has sounded."""
    if not sentence.sounding:
      return cutting.cuts('')
    # Mouths may tell white space in another way than it was given.
    place, given = 0, self._announced
    for letter in ''.join(said.split()):
      while place < len(given) and given[place].isspace():
        place += 1
      if given[place : place + 1] != letter:
        return cutting.cuts('')
      place += 1
    return cutting.cuts(given[place:])

  def _share(self, sentence: _Sentence, weight: int, groups: int) -> float:
    """How much of words was said in the first groups of a sentence."""
    length = sentence.length(self._group)
    if not sentence.ended:
      # How long it would have become, nobody knows.
      length = max(length, math.ceil(weight / self._pace.weight_per_group))
    return min(groups / length, 1.0) if length else 0.0
