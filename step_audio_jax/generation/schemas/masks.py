"""Which ids may come next, from an automaton over bytes and a trie of ids.

Most ids stay inside the terminal that is being read: what they do there is one
walk of the trie, made once for every state of a terminal and shared by all
schemas. The rest end it and go on behind it; where a trie goes on is few nodes,
and what is known of them is kept for each cell. A count of characters only
chooses among them. Masks themselves are kept too, so that a state that was met
before costs a look-up.

Letters: V vocabulary.
"""

import dataclasses
from typing import Iterable

import numpy as np

from step_audio_jax.generation.schemas import automaton as automaton_lib
from step_audio_jax.generation.schemas import limits as limits_lib
from step_audio_jax.generation.schemas import terminals
from step_audio_jax.generation.schemas import tokens as tokens_lib

# What is kept for one vocabulary, bytes.
_WALKS, _EXITS, _MASKS = 96 * 2**20, 16 * 2**20, 64 * 2**20
_LEAST = 1000  # bytes of what has no size


def _bytes(arrays: Iterable[np.ndarray]) -> int:
  return _LEAST + sum(one.nbytes for one in arrays)


@dataclasses.dataclass(frozen=True, eq=False)
class Walk:
  """What a terminal makes of the parts of a trie.

  Attributes:
    ids: Ids that end inside it.
    states: Where.
    costs: Characters that they complete.
    whose: Which of the roots they are behind.
    exits: Nodes at which it may end, and behind which there is more.
    exit_states: Where that is.
    exit_costs: Characters up to there.
    exit_whose: Which of the roots they are behind.
  """

  ids: np.ndarray
  states: np.ndarray
  costs: np.ndarray
  whose: np.ndarray
  exits: np.ndarray
  exit_states: np.ndarray
  exit_costs: np.ndarray
  exit_whose: np.ndarray


def walk(
  trie: tokens_lib.Trie,
  terminal: terminals.Terminal,
  state: int,
  roots: np.ndarray,
) -> Walk:
  """Follows a terminal from a state, below some nodes of a trie."""
  nodes, states = roots, np.full(len(roots), state, np.int32)
  costs = np.zeros(len(roots), np.int16)
  whose = np.arange(len(roots), dtype=np.int32)
  found: list[tuple[np.ndarray, ...]] = []
  while len(nodes):
    below, parents = trie.children(nodes)
    kinds = terminal.class_256[trie.byte_M[below]]
    states = states[parents]
    following = terminal.next_SC[states, kinds]
    kept = np.flatnonzero(following >= 0)
    nodes, parents = below[kept], parents[kept]
    costs = costs[parents] + terminal.cost_SC[states[kept], kinds[kept]]
    whose, states = whose[parents], following[kept]
    found.append((nodes, states, costs, whose))
  nodes, states, costs, whose = (
    np.concatenate(one) if found else np.zeros(0, np.int64)
    for one in (zip(*found) if found else ((),) * 4)
  )
  ids, places = trie.ids_of(nodes)
  out = np.flatnonzero(
    (terminal.label_S[states] >= 0) & (trie.count_M[nodes] > 0)
  )
  return Walk(
    ids,
    states[places],
    costs[places],
    whose[places],
    nodes[out],
    states[out],
    costs[out],
    whose[out],
  )


def _fits(terminal, states, counts) -> np.ndarray:
  """Whether an end can be reached from states with counts, bool."""
  if terminal.fits_RS is None:
    return np.ones(len(states), bool)
  most = len(terminal.row_N) - 1
  rows = terminal.row_N[np.minimum(counts, most)]
  return terminal.fits_RS[rows, states] & (counts <= most)


class Walks:
  """What is kept for one vocabulary, and shared by all schemas.

  Attributes:
    tokens: What its ids write.
    masks: By the ways in which a text may go on.
    exits: By a way: the ids that end its terminal.
  """

  def __init__(self, tokens: tokens_lib.Tokens):
    self.tokens = tokens
    self.masks = limits_lib.Kept(_MASKS, lambda mask_V: _bytes([mask_V]))
    self.exits = limits_lib.Kept(_EXITS, _bytes)
    self._walks = limits_lib.Kept(
      _WALKS, lambda one: _bytes(vars(one).values())
    )

  def of(self, terminal: terminals.Terminal, state: int) -> Walk:
    """What all ids do from a state of a terminal."""
    return self._walks.get(
      (terminal.number, state),
      lambda: walk(self.tokens.trie, terminal, state, np.zeros(1, np.int32)),
    )


class Masks:
  """Masks of the states of one automaton."""

  def __init__(self, automaton: automaton_lib.Automaton, walks: Walks):
    self.automaton, self._walks = automaton, walks
    self.tokens = walks.tokens

  def mask(self, state: automaton_lib.State) -> np.ndarray:
    """Text ids that may come next, bool (V,); read-only."""
    keys = tuple(map(self._key, state.ways))
    return self._walks.masks.get(keys, lambda: self._made(state))

  def _key(self, way: automaton_lib.Configuration) -> tuple:
    """Equal where the same ids may come next."""
    terminal, window = way.terminal, b''
    if terminal.row_N is not None:
      ahead = way.count + self.tokens.trie.longest + 1
      window = terminal.row_N[way.count : ahead].tobytes()
    return terminal.bounds, way.state, window, way.cell

  def _made(self, state: automaton_lib.State) -> np.ndarray:
    found_V = np.zeros(self.tokens.size, bool)
    for way in state.ways:
      terminal = way.terminal
      walked = self._walks.of(terminal, way.state)
      fits = _fits(terminal, walked.states, walked.costs + way.count)
      found_V[walked.ids[fits]] = True
      ids, states, costs = self._walks.exits.get(
        (terminal.number, way.state, way.cell),
        lambda: self._behind(way, walked),  # noqa: B023 - called at once
      )
      found_V[ids[_fits(terminal, states, costs + way.count)]] = True
    found_V.setflags(write=False)
    return found_V

  def _behind(self, way, walked: Walk):
    """Ids that end a terminal: they, in which state, at which cost."""
    labels = way.terminal.label_S[walked.exit_states]
    found = []
    for label in np.unique(labels).tolist():
      here = np.flatnonzero(labels == label)
      ids, whose = self._reached(
        self.automaton.after(way.cell, label), walked.exits[here]
      )
      whose = here[whose]
      found.append((ids, walked.exit_states[whose], walked.exit_costs[whose]))
    if not found:
      return (np.zeros(0, np.int64),) * 3
    return tuple(map(np.concatenate, zip(*found)))

  def _reached(self, state: automaton_lib.State, roots: np.ndarray):
    """(ids that go on from a state below roots, whose they are)."""
    every, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for way in state.ways:
      terminal = way.terminal
      walked = walk(self.tokens.trie, terminal, way.state, roots)
      fits = _fits(terminal, walked.states, walked.costs + way.count)
      every.append(walked.ids[fits])
      owners.append(walked.whose[fits])
      labels = terminal.label_S[walked.exit_states]
      open_to = _fits(
        terminal, walked.exit_states, walked.exit_costs + way.count
      )
      for label in np.unique(labels[open_to]).tolist():
        here = np.flatnonzero(open_to & (labels == label))
        ids, whose = self._reached(
          self.automaton.after(way.cell, label), walked.exits[here]
        )
        every.append(ids)
        owners.append(walked.exit_whose[here[whose]])
    return np.concatenate(every), np.concatenate(owners)
