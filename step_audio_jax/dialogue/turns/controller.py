"""Who speaks when: a state machine over timed events.

Step-Audio's controller (arXiv 2502.11946, section 3.4) has four states:

    SILENCE        → speech                        → USER_SPEAKING
    USER_SPEAKING  → a pause: begin a reply        → USER_PAUSED
    USER_PAUSED    → speech: discard the reply     → USER_SPEAKING
                   → a longer pause: commit it     → BOT_REPLYING
    BOT_REPLYING   → played to its end             → SILENCE
                   → speech: hold what is played;
                     a cough or "mhm": go on
                     else: stop it                 → USER_SPEAKING

Thresholds and waits are ours; the paper names none. Nothing here knows a clock,
a thread or a sound: events come with their times (`events`), and what is to be
done goes out as actions.
"""

import dataclasses
import enum

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import endpointing
from step_audio_jax.dialogue.turns import events as ev


class State(enum.Enum):
  """Of the paper."""

  SILENCE = 'silence'
  USER_SPEAKING = 'user_speaking'
  USER_PAUSED = 'user_paused'
  BOT_REPLYING = 'bot_replying'


VAD, MANUAL = MODES = ('vad', 'manual')


@dataclasses.dataclass(frozen=True)
class Settings:
  """How turns are told.

  Attributes:
    mode: 'vad', or 'manual': turns are what buttons and commits say.
    threshold: Probability from which on a frame is speech.
    release: Below which it is none any more.
    start: Seconds of speech with which a turn begins.
    prefix: Seconds in front of it that belong to it.
    least: Seconds of speech that a turn has at least.
    pause: Seconds of silence after which words are asked for and a reply is
      begun; None never before the turn is over.
    speculates: Whether a reply is begun at a pause, before the turn is over.
    waits: Seconds of silence that end a turn.
    judge: Name of who says whether words are a whole (`endpointing`).
    interrupt: Seconds of speech that end a reply, whatever is said.
    resume: Seconds of silence after which a reply that was held goes on.
    replies: Whether turns are replied to.
    interrupts: Whether speech ends a reply.
    idle: Seconds of silence behind a reply after which the user is asked;
      None never.
  """

  mode: str = VAD
  threshold: float = 0.5
  release: float = 0.35
  start: float = 0.09
  prefix: float = 0.3
  least: float = 0.12
  pause: float | None = 0.03
  speculates: bool = True
  waits: endpointing.Waits = endpointing.Waits()
  judge: str = endpointing.USUAL
  interrupt: float = 1.1  # it is held already: to decide late is not heard
  resume: float = 0.3
  replies: bool = True
  interrupts: bool = True
  idle: float | None = None

  def __post_init__(self):
    if self.mode not in MODES:
      raise errors.UserError(
        f'turns: mode is {self.mode!r}, expected one of {", ".join(MODES)}.'
      )
    endpointing.judge_of(self.judge)
    times = ('start', 'prefix', 'least', 'pause', 'interrupt', 'resume')
    errors.within(
      'turns',
      self,
      {
        'threshold': (0.0, 1.0),
        'release': (0.0, self.threshold),
        **{name: (0.0, 10.0) for name in times},
        'idle': (0.0, 3600.0),
      },
    )


class Controller:
  """One conversation's.

  Attributes:
    state: Where it is.
    settings: How turns are told; may be replaced between events.
  """

  def __init__(self, settings: Settings = Settings()):
    """Begins in silence.

    Args:
      settings: How turns are told.
    """
    self.state, self.settings = State.SILENCE, settings
    self._at = float('-inf')
    self._next = 0  # number of the next reply
    self._reply: int | None = None  # begun or heard
    self._is_held = False
    self._is_pressed = False
    self._is_speech = False
    self._spoken = 0.0  # seconds of speech since the onset
    self._since = 0.0  # where the turn's sound begins
    self._onset = 0.0
    self._last = 0.0  # end of the last speech
    self._voiced = 0.0  # seconds of speech in this turn
    self._words: tuple[str, float] | None = None
    self._held_from = 0.0  # where the speech begins that holds a reply
    self._committed = 0.0  # up to where sound was made turns, by commits
    self._doubted = False  # whether a reply went on before words came
    self._quiet_since: float | None = None  # end of the last reply
    self._asked_at = 0.0  # end of the speech whose words were asked for

  @property
  def reply(self) -> int | None:
    """Number of the reply that is begun or heard."""
    return self._reply

  @property
  def is_held(self) -> bool:
    """Whether it is heard but for now."""
    return self._is_held

  def feed(self, event: ev.Event) -> list[ev.Action]:
    """What is to be done about an event, in order.

    Raises:
      ValueError: It is earlier than the one before.
    """
    if event.at < self._at:
      raise ValueError(f'{event} is earlier than {self._at}.')
    self._at = event.at
    name = f'_on_{type(event).__name__.lower()}'
    return getattr(self, name)(event)

  # Sound.

  def _on_frame(self, event: ev.Frame) -> list[ev.Action]:
    s = self.settings
    begins = event.at - event.seconds
    border = s.release if self._is_speech else s.threshold
    speech = event.speech >= border and not event.echo
    if speech:
      if not self._is_speech:
        self._onset = begins
        self._spoken = 0.0
      self._spoken += event.seconds
      self._last = event.at
      self._voiced += event.seconds
    self._is_speech = speech
    if s.mode == MANUAL or self._is_pressed:
      return []
    act = {
      State.SILENCE: self._in_silence,
      State.USER_SPEAKING: self._while_speaking,
      State.USER_PAUSED: self._in_pause,
      State.BOT_REPLYING: self._while_replying,
    }[self.state]
    return act(event.at)

  def _in_silence(self, at: float) -> list[ev.Action]:
    if not self._is_speech:
      self._voiced = 0.0
      return self._idle(at)
    if self._spoken < self.settings.start:
      return []
    return self._begin(at)

  def _idle(self, at: float) -> list[ev.Action]:
    """Nobody has said anything since the last reply."""
    limit, since = self.settings.idle, self._quiet_since
    if limit is None or since is None or at - since < limit:
      return []
    self._quiet_since = None
    found: list[ev.Action] = [ev.Idle(at)]
    return found + self._answer(at) if self.settings.replies else found

  def _begin(self, at: float) -> list[ev.Action]:
    self.state = State.USER_SPEAKING
    self._since = self._onset - self.settings.prefix
    self._words = self._quiet_since = None
    return [ev.BeginTurn(at, self._since)]

  def _while_speaking(self, at: float) -> list[ev.Action]:
    pause = self.settings.pause
    silent = at - self._last
    if self._is_speech or pause is None and silent < self._wait():
      return []
    if pause is not None and silent < pause:
      return []
    self.state = State.USER_PAUSED
    found = self._ask_words(at)
    if pause is not None and self._is_worth_a_guess():
      found.append(ev.Speculate(at, self._numbered(), self._last))
    return found + self._in_pause(at)

  def _ask_words(self, at: float) -> list[ev.Action]:
    """Once a pause."""
    pause = self.settings.pause
    if pause is None or at - self._last < pause or self._last == self._asked_at:
      return []
    self._asked_at = self._last
    return [ev.Paused(at, self._last)]

  def _in_pause(self, at: float) -> list[ev.Action]:
    if self._is_speech:
      if self._spoken < self.settings.start:
        return []
      self.state = State.USER_SPEAKING
      return self._discarded(at)
    if at - self._last < self._wait():
      return []
    return self._end(at)

  def _wait(self) -> float:
    """Silence that ends the turn, by the words that are known."""
    judge = endpointing.judge_of(self.settings.judge)
    endpoint = endpointing.Endpoint(self.settings.waits, judge)
    text = None
    # Words of what was said before the last pause say nothing of this one.
    if self._words is not None and self._words[1] >= self._last - 0.25:
      text = self._words[0]
    return endpoint.wait(text)

  def _is_worth_a_guess(self) -> bool:
    s = self.settings
    return s.replies and s.speculates and self._voiced >= s.least

  def _end(self, at: float) -> list[ev.Action]:
    """The turn is over."""
    worth = self._voiced >= self.settings.least
    self._voiced = 0.0
    if not worth:
      self.state = State.SILENCE
      return [*self._discarded(at), ev.DropTurn(at)]
    found: list[ev.Action] = [ev.EndTurn(at, self._since, self._last)]
    if not self.settings.replies:
      self.state = State.SILENCE
      return found + self._discarded(at)
    return found + self._answer(at)

  def _answer(self, at: float) -> list[ev.Action]:
    """The reply that was begun, or a new one, is heard."""
    if self._reply is None:
      self._numbered()
    self.state, self._is_held = State.BOT_REPLYING, False
    self._doubted, self._quiet_since = False, None
    # Words that come from here on are of what is said meanwhile.
    self._onset = self._onset if self._is_speech else at
    return [ev.Reply(at, self._reply)]

  def _while_replying(self, at: float) -> list[ev.Action]:
    s = self.settings
    if not s.interrupts:
      self._voiced = 0.0
      return []
    if self._is_speech:
      if not self._is_held:
        if self._spoken < s.start:
          return []
        self._is_held = True
        self._since = self._onset - s.prefix
        self._voiced = self._spoken
        self._words, self._doubted = None, False
        self._held_from = self._onset
        return [ev.Hold(at, self._reply, self._since)]
      # Who is known to say "mhm" may say it twice as long.
      is_mhm = self._words is not None and not self._says_something()
      if self._voiced >= (2 * s.interrupt if is_mhm else s.interrupt):
        return self._interrupted(at)
      return []
    if not self._is_held:
      self._voiced = 0.0
      return []
    found = self._ask_words(at) if self._voiced >= s.least else []
    if at - self._last < s.resume:
      return found
    if self._words is not None and self._says_something():
      return found + self._interrupted(at)
    self._is_held, self._voiced, self._doubted = False, 0.0, True
    return [*found, ev.Resume(at, self._reply)]

  def _says_something(self) -> bool:
    text = self._words[0]
    return bool(text.strip()) and not endpointing.is_backchannel(text)

  def _interrupted(self, at: float) -> list[ev.Action]:
    # Clients throw away what they have when they hear that somebody speaks.
    found = [ev.BeginTurn(at, self._since), ev.Stop(at, self._reply)]
    self._reply, self._is_held, self._doubted = None, False, False
    # It was said with words: it is a turn, however short.
    self._voiced = max(self._voiced, self.settings.least)
    self.state = State.USER_SPEAKING
    if not self._is_speech:
      found += self._while_speaking(at)
    return found

  # Words.

  def _on_words(self, event: ev.Words) -> list[ev.Action]:
    if event.until <= self._words_from():
      return []  # of the turn before, come late
    if self._words is None or event.until >= self._words[1]:
      self._words = (event.text, event.until)
    if self.settings.mode == MANUAL or self._is_pressed:
      return []
    if self.state == State.USER_PAUSED and not self._is_speech:
      return self._in_pause(event.at)
    if self.state == State.BOT_REPLYING and (self._is_held or self._doubted):
      if self._says_something():
        return self._interrupted(event.at)
    return []

  def _words_from(self) -> float:
    """Where the sound begins whose words are of interest."""
    if self.state == State.BOT_REPLYING:
      return self._held_from if self._is_held or self._doubted else self._onset
    return self._since

  # Replies.

  def _on_ready(self, event: ev.Ready) -> list[ev.Action]:
    del event
    return []

  def _on_failed(self, event: ev.Failed) -> list[ev.Action]:
    return self._on_ended(event)

  def _on_ended(self, event) -> list[ev.Action]:
    if event.reply != self._reply:
      return []
    self._reply = None
    if self.state == State.BOT_REPLYING:
      held, self._is_held, self._doubted = self._is_held, False, False
      if held:  # somebody is speaking already
        self.state = State.USER_SPEAKING
        return [ev.BeginTurn(event.at, self._since)]
      self._to_silence(event.at)
    return []

  def _to_silence(self, at: float):
    self.state, self._quiet_since = State.SILENCE, at
    if not self._is_speech:
      self._voiced = 0.0

  def _numbered(self) -> int:
    self._reply = self._next
    self._next += 1
    return self._reply

  def _discarded(self, at: float) -> list[ev.Action]:
    if self._reply is None:
      return []
    gone, self._reply = self._reply, None
    return [ev.Discard(at, gone)]

  def _quiet(self, at: float) -> list[ev.Action]:
    """Gives up what is begun or heard."""
    if self.state != State.BOT_REPLYING:
      return self._discarded(at)
    gone, self._reply, self._is_held = self._reply, None, False
    self._doubted = False
    return [] if gone is None else [ev.Stop(at, gone)]

  # Buttons and programs.

  def _on_tick(self, event: ev.Tick) -> list[ev.Action]:
    if self.settings.mode == MANUAL or self._is_pressed:
      return []
    if self._is_speech:
      # Who mutes the microphone in the middle of a word sends no more frames.
      if event.at - self._last < self.settings.waits.incomplete:
        return []
      self._is_speech = False
    act = {
      State.SILENCE: self._idle,
      State.USER_SPEAKING: self._while_speaking,
      State.USER_PAUSED: self._in_pause,
      State.BOT_REPLYING: self._while_replying,
    }[self.state]
    return act(event.at)

  def _on_press(self, event: ev.Press) -> list[ev.Action]:
    if self._is_pressed:
      return []
    found = self._quiet(event.at)
    self._is_pressed = True
    self._voiced, self._words = 0.0, None
    if self.state not in (State.USER_SPEAKING, State.USER_PAUSED):
      self._since = event.at
      found.append(ev.BeginTurn(event.at, event.at))
    self.state = State.USER_SPEAKING
    return found

  def _on_release(self, event: ev.Release) -> list[ev.Action]:
    if not self._is_pressed:
      return []
    self._is_pressed = False
    # Who holds a button means it, however short it was.
    return self._on_commit(event)

  def _on_commit(self, event: ev.Event) -> list[ev.Action]:
    found: list[ev.Action] = []
    if not self.is_open:
      if self.settings.mode != MANUAL:
        return []
      # Nothing but the commits says where turns of this mode begin.
      found = self._quiet(event.at) if self.settings.replies else []
      self._since = self._committed
      if self.state == State.BOT_REPLYING and not self.settings.replies:
        self._committed = event.at
        return [ev.EndTurn(event.at, self._since, event.at)]
    self._last = self._committed = event.at
    self._voiced = max(self._voiced, self.settings.least)
    return found + self._end(event.at)

  @property
  def is_open(self) -> bool:
    """Whether a turn of the user has begun and not ended."""
    return self.state in (State.USER_SPEAKING, State.USER_PAUSED)

  def _on_asked(self, event: ev.Asked) -> list[ev.Action]:
    found = self._quiet(event.at)
    if self.is_open:  # what was said so far is a turn, or was a noise
      worth = self._voiced >= self.settings.least or self._is_pressed
      until = event.at if self._is_pressed else self._last
      ended = ev.EndTurn(event.at, self._since, until)
      found.append(ended if worth else ev.DropTurn(event.at))
    self._voiced = 0.0
    self._numbered()
    return found + self._answer(event.at)

  def _on_cancel(self, event: ev.Cancel) -> list[ev.Action]:
    found = self._quiet(event.at)
    if self.state == State.BOT_REPLYING:
      self._to_silence(event.at)
    return found
