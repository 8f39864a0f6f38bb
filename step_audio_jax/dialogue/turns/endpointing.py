"""How long a pause has to be before the user has finished.

A pause alone does not say it: people stop in the middle of a sentence to think
for as long as between two turns. What they have said so far does. "What is the
capital of" goes on; "What is the capital of Peru?" does not. So the wait
shrinks where the words are complete and grows where they are not; where no
transcript has come it is the usual one.
"""

import dataclasses
import re
from typing import Protocol

from step_audio_jax import errors

_ENDS = '.!?。！？…'
_OPEN = ',;:，、；：—-'
# A sentence does not end with these.
_GOES_ON = frozenset(
  """a an the this these my your his her its our their some any every each no
  and or but so because if when while although unless until than as that which
  who whose where whether
  of to in on at by for from with without about into onto over under between
  among through during before after against toward towards like
  is are was were am be been being do does did have has had will would can could
  shall should may might must i'm it's that's you're we're they're i've i'd i'll
  very really quite too more most less not never just only also even maybe
  please let lets i you he she we they
  what's how's where's there's""".split()
)
_GOES_ON |= frozenset(  # verbs that want an object
  """play find send show give bring put set book call remind tell want need
  make take get add open close turn""".split()
)
_ASKS = frozenset(
  """what what's who where when why how which is are do does did can could
  will would""".split()
)
_DIGITS = frozenset(
  'zero oh one two three four five six seven eight nine'.split()
)
_FILLERS = frozenset(
  """uh um er erm hmm hm ah eh well like basically actually anyway
  嗯 呃 额 那个 这个 就是 然后""".split()
)
_GOES_ON_WIDE = (
  '的',
  '和',
  '跟',
  '与',
  '但',
  '但是',
  '因为',
  '所以',
  '如果',
  '然后',
  '在',
  '把',
  '被',
  '对',
  '从',
  '向',
  '给',
  '是',
  '要',
  '想',
  '会',
  '能',
  '可以',
  '还有',
  '或者',
  '就是',
  '那个',
  '这个',
  '一个',
  '很',
  '最',
  '请',
  '帮我',
  '我想',
  '我要',
)
_ENDS_WIDE = (
  '吗',
  '呢',
  '吧',
  '了',
  '啊',
  '呀',
  '么',
  '谢谢',
  '什么',
  '谁',
  '哪里',
)


@dataclasses.dataclass(frozen=True)
class Waits:
  """Seconds of silence that end a turn.

  Attributes:
    complete: Behind words that are a whole.
    usual: Where nothing is known.
    incomplete: Behind words that are to go on.
  """

  complete: float = 0.35
  usual: float = 0.6
  incomplete: float = 1.5

  def __post_init__(self):
    bounds = {name: (0.0, 10.0) for name in ('complete', 'usual', 'incomplete')}
    errors.within('waits', self, bounds)
    if not self.complete <= self.usual <= self.incomplete:
      raise errors.UserError(
        f'waits: found {self.complete}, {self.usual} and {self.incomplete} s, '
        'expected complete <= usual <= incomplete.'
      )


class EndOfTurn(Protocol):
  """Judges whether somebody has finished."""

  def __call__(self, text: str | None) -> float | None:
    """Probability that a turn is over behind these words; None: not known."""


def completeness(text: str | None) -> float | None:
  """Whether a transcript is a whole, 0 to 1; None where there is none."""
  if text is None or not text.strip():
    return None
  text = text.strip().lower()
  if text.endswith('...') or text.endswith('…') or text[-1] in _OPEN:
    return 0.1
  ended = text[-1] in _ENDS
  words = re.findall(r"[\w']+", text.rstrip(_ENDS))
  if not words:
    return None
  last = words[-1]
  if last in _FILLERS:
    return 0.05
  if last in _GOES_ON or _is_within_number(words):
    return 0.1
  if not last.isascii():
    if last.endswith(_ENDS_WIDE):
      return 0.95
    if last.endswith(_GOES_ON_WIDE):
      return 0.15
    return 0.9 if ended else 0.7
  if ended:
    return 0.95
  # A question shows its shape; anything else may get one more phrase.
  return 0.75 if words[0] in _ASKS and len(words) > 3 else 0.5


def _is_within_number(words: list[str]) -> bool:
  """Whether digits are told one by one, and may go on."""
  told = 0
  for word in reversed(words):
    if word not in _DIGITS:
      break
    told += 1
  return 2 <= told < 7


class Endpoint:
  """The wait behind what was said."""

  def __init__(
    self,
    waits: Waits = Waits(),
    judge: EndOfTurn = completeness,
  ):
    """Holds both.

    Args:
      waits: Between which it lies.
      judge: Says whether words are a whole.
    """
    self._waits, self._judge = waits, judge

  def wait(self, text: str | None) -> float:
    """Seconds of silence that end a turn with these words."""
    found, w = self._judge(text), self._waits
    if found is None:
      return w.usual
    if found >= 0.5:
      share = (found - 0.5) / 0.5
      return w.usual + (w.complete - w.usual) * min(1.0, share * 2)
    return w.usual + (w.incomplete - w.usual) * min(1.0, (0.5 - found) / 0.3)


# What listeners say without wanting to speak.
_BACKCHANNELS = frozenset(
  """mhm mm mmm mm-hmm mhmm uh-huh uhhuh huh hm hmm yeah yep yes ok okay right
  sure aha ah oh wow cool great i see haha ha hehe heh laughter laughs cough
  coughs 嗯 嗯嗯 哦 哈哈 噢 对 对对 好 好的 是 是的 啊""".split()
)


def is_backchannel(text: str) -> bool:
  """Whether words only say that somebody listens."""
  words = re.findall(r"[\w'-]+", text.lower())
  return len(words) <= 3 and all(word in _BACKCHANNELS for word in words)
