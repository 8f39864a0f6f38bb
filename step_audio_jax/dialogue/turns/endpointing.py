"""How long a pause has to be before the user has finished.

A pause alone does not say it: people stop in the middle of a sentence to think
for as long as between two turns. What they have said so far does. "What is the
capital of" goes on; "what is the capital of peru" does not. So the wait shrinks
where the words are complete and grows where they are not; where no transcript
has come it is the usual one.
"""

import dataclasses
import re
from typing import Protocol

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import completeness


@dataclasses.dataclass(frozen=True)
class Waits:
  """Seconds of silence that end a turn.

  Attributes:
    complete: Behind words that are a whole.
    usual: Where nothing is known.
    incomplete: Behind words that are to go on.
  """

  complete: float = 0.25
  usual: float = 0.55
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


def unknown(text: str | None) -> None:
  """Judges nothing: the pause alone ends a turn."""
  del text


USUAL = 'words'
_JUDGES: dict[str, EndOfTurn] = {
  USUAL: completeness.completeness,
  'pause': unknown,
}


def register(name: str, judge: EndOfTurn) -> None:
  """Makes a judge known, such as a model.

  Args:
    name: Under which `judge_of` finds it.
    judge: Is called in the middle of a conversation: it may not wait.

  Raises:
    ValueError: There is one of that name.
  """
  if name in _JUDGES:
    raise ValueError(f'there is a judge {name!r} of ends of turns already.')
  _JUDGES[name] = judge


def judge_of(name: str) -> EndOfTurn:
  """A judge by its name.

  Raises:
    UserError: There is none of that name.
  """
  if name not in _JUDGES:
    raise errors.UserError(
      f'end_of_turn: found {name!r}, expected one of {", ".join(_JUDGES)}.'
    )
  return _JUDGES[name]


class Endpoint:
  """The wait behind what was said."""

  def __init__(
    self,
    waits: Waits = Waits(),
    judge: EndOfTurn = completeness.completeness,
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
      share = min(1.0, (found - 0.5) / 0.25)
      return w.usual + (w.complete - w.usual) * share
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
