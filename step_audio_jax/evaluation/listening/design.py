"""What raters are asked: trials over sounds that do not say whose they are.

    mos   one sound, 1 (bad) to 5 (excellent)       every system, every item
    ab    two sounds of one item: which is better   every pair, every item

Beside them stand catch trials, from whose answers it is told whether somebody
listened:

    degraded   the anchor's sound behind noise: rated 2 at most; in a pair with
               the sound as it was, the worse one
    repeated   a sound of the anchor once more: rated as before, 1 more or less;
               in a pair with itself, no difference

The page holds trials, sounds under opaque ids and texts. Whose a sound is
stands in the key, a file apart, which names the page by the digest of all that
it holds. Order and sides are drawn by the page from the digest and the rater's
name.
"""

import dataclasses
import hashlib
import itertools
import secrets
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.listening import stimuli
from step_audio_jax.evaluation.quality import sources
from step_audio_jax.storage import digests

FORMAT = 1
MOS, AB = QUESTIONS = ('mos', 'ab')
DEGRADED, REPEATED = CATCHES = ('degraded', 'repeated')
TEXTS = {
  MOS: 'How natural does this sound?',
  AB: 'Which of the two sounds more natural?',
}
# Declared in the key before anybody has rated.
RULE = {'degraded_most': 2, 'repeated_apart': 1, 'tolerated': 0}
_NUMBER = 'listening page'


@dataclasses.dataclass(frozen=True)
class DesignConfig:
  """What a page asks.

  Attributes:
    questions: Of `QUESTIONS`.
    texts: Question → its words.
    items: How many items at most, drawn; 0 means all.
    catches: Catch trials of each kind and question.
    anchor: The system whose sounds catch trials are made of; None means one
      called `reference`, else the first.
    level_db: Of what is active; None leaves levels as they are.
    title: Of the page.
    seed: From which ids and what is drawn are made; None draws one, which
      nobody can guess.
  """

  questions: tuple[str, ...] = (MOS,)
  texts: Mapping[str, str] = dataclasses.field(
    default_factory=lambda: dict(TEXTS)
  )
  items: int = 0
  catches: int = 2
  anchor: str | None = None
  level_db: float | None = stimuli.LEVEL_DB
  title: str = 'Listening test'
  seed: int | None = None

  def __post_init__(self):
    if not self.questions or set(self.questions) - set(QUESTIONS):
      raise errors.UserError(
        f'listen: questions: found {", ".join(self.questions) or "none"}, '
        f'expected some of {", ".join(QUESTIONS)}.'
      )
    if self.items < 0 or self.catches < 0:
      raise errors.UserError(
        f'listen: items is {self.items} and catches {self.catches}, expected '
        'at least 0.'
      )


@dataclasses.dataclass(frozen=True)
class Design:
  """A page and its key.

  Attributes:
    page: What the page holds, JSON-able, its digest included.
    sounds: Opaque id → sound.
    key: What the page does not say, JSON-able.
  """

  page: dict[str, Any]
  sounds: dict[str, stimuli.Sound]
  key: dict[str, Any]


def chosen(
  systems: Mapping[str, Mapping[str, sources.Recording]], config: DesignConfig
) -> tuple[list[str], dict[str, list[str]]]:
  """Items that every system has, and for each system those that it lacks.

  Raises:
    UserError: There are no systems to compare, no anchor of that name, or no
      item that all have.
  """
  if not systems or (AB in config.questions and len(systems) < 2):
    raise errors.UserError(
      f'--systems: found {len(systems)}, expected at least '
      f'{2 if AB in config.questions else 1}, as NAME=FOLDER.'
    )
  if config.anchor is not None and config.anchor not in systems:
    raise errors.UserError(
      f'--anchor: found {config.anchor!r}, expected one of the systems '
      f'{", ".join(systems)}.'
    )
  every = dict.fromkeys(name for one in systems.values() for name in one)
  common = [n for n in every if all(n in one for one in systems.values())]
  lacking = {
    system: [name for name in every if name not in one]
    for system, one in systems.items()
  }
  if not common:
    raise errors.UserError(
      '--systems: found no recording whose name all of '
      f'{", ".join(systems)} have, expected the same names in each.'
    )
  if config.items and config.items < len(common):
    kept = _generator(config.seed or 0, 'items').choice(
      len(common), config.items, replace=False
    )
    common = [common[place] for place in sorted(kept)]
  return common, lacking


def make(
  systems: Mapping[str, Mapping[str, sources.Recording]],
  config: DesignConfig = DesignConfig(),
) -> Design:
  """Reads the recordings and lays out a page.

  Args:
    systems: Name → recordings by id.
    config: What is asked.

  Raises:
    UserError: As `chosen`, or a recording cannot be read or is silent.
  """
  items, lacking = chosen(systems, config)
  secret = config.seed
  if secret is None:
    secret = secrets.randbits(128)
  maker = _Maker(systems, items, config, secret)
  trials = [
    trial for question in config.questions for trial in maker.trials(question)
  ]
  # The order in which they were made tells whose sounds they are.
  order = _generator(secret, 'trials').permutation(len(trials))
  trials = [trials[place] for place in order]
  names = [f't{place + 1:04d}' for place in range(len(trials))]
  page = {
    'format': FORMAT,
    'kind': _NUMBER,
    'title': config.title,
    'questions': {name: config.texts[name] for name in config.questions},
    'trials': [{'trial': name, **trial} for name, trial in zip(names, trials)],
    'sounds': {
      name: digests.of_bytes(maker.sounds[name].content)
      for name in sorted(maker.sounds)
    },
  }
  page['page'] = digests.of_value(page)
  key = {
    'format': FORMAT,
    'page': page['page'],
    'seed': str(secret),
    'systems': list(systems),
    'anchor': maker.anchor,
    'level_db': config.level_db,
    'sample_rate': maker.rate,
    'questions': page['questions'],
    'rule': RULE,
    'items': maker.item_names,
    'sounds': maker.owners,
    'trials': {name: trial for name, trial in zip(names, trials)},
    'lacking': {name: some for name, some in lacking.items() if some},
  }
  return Design(page, maker.sounds, key)


class _Maker:
  """Sounds and trials under opaque names."""

  def __init__(self, systems, items, config, secret):
    self._systems, self._config, self._secret = systems, config, secret
    self.anchor = config.anchor or (
      'reference' if 'reference' in systems else next(iter(systems))
    )
    used = [(system, item) for system in systems for item in items]
    self.rate = stimuli.common_rate(systems[s][i].path for s, i in used)
    order = _generator(secret, 'names').permutation(len(items))
    self.item_names = {
      f'i{number + 1:04d}': items[place] for number, place in enumerate(order)
    }
    self.sounds: dict[str, stimuli.Sound] = {}
    self.owners: dict[str, dict[str, Any]] = {}
    self._ids: dict[tuple[str, str], str] = {}
    for name, item in self.item_names.items():
      for system in systems:
        self._add(system, name, systems[system][item].path)

  def _add(self, system, item, path):
    wave_S = stimuli.load(path, self.rate, self._config.level_db)
    owner = {
      'system': system,
      'item': item,
      'wav': str(path),
      'sha256': digests.of_file(path),
    }
    self._ids[system, item] = self._keep(wave_S, owner)

  def _keep(self, wave_S, owner) -> str:
    text = f'{self._secret}/{owner["system"]}/{owner["item"]}'
    name = 's' + hashlib.sha256(text.encode()).hexdigest()[:12]
    self.sounds[name] = stimuli.encode(wave_S, self.rate)
    self.owners[name] = owner
    return name

  def trials(self, question: str) -> list[dict[str, Any]]:
    """All trials of a question, catch trials among them."""
    found = []
    for item in self.item_names:
      own = [self._ids[system, item] for system in self._systems]
      groups = [[one] for one in own]
      if question == AB:
        groups = list(map(list, itertools.combinations(own, 2)))
      found += [_trial(question, item, group) for group in groups]
    generator = _generator(self._secret, f'catch {question}')
    names = list(self.item_names)
    for place in generator.permutation(len(names))[: self._config.catches]:
      item = names[place]
      clean = self._ids[self.anchor, item]
      bad = self._degraded(item, place)
      pairs = {DEGRADED: [bad], REPEATED: [clean]}
      if question == AB:
        pairs = {DEGRADED: [clean, bad], REPEATED: [clean, clean]}
      found += [
        _trial(question, item, group, catch) for catch, group in pairs.items()
      ]
    return found

  def _degraded(self, item, place) -> str:
    path = self._systems[self.anchor][self.item_names[item]].path
    wave_S = stimuli.load(path, self.rate, self._config.level_db)
    wave_S = stimuli.degraded(wave_S, self.rate, int(place))
    return self._keep(wave_S, {'system': None, 'item': item, 'made': DEGRADED})


def _trial(question, item, sounds: Sequence[str], catch: str = ''):
  return {
    'question': question,
    'item': item,
    'sounds': list(sounds),
    'catch': catch,
  }


def _generator(secret: int, what: str) -> np.random.Generator:
  return np.random.default_rng([digests.number(f'{secret} {what}')])
