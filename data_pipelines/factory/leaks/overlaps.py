"""Which texts of a set say nearly the same as others: shared n-grams.

    normalise   NFKC, case folded, letters, digits and marks only
    G(x)        the set of n-grams of letters of x; a character of a script
                without spaces, or a Korean syllable, counts as two letters
    overlap     |G(a) ∩ G(b)| / min(|G(a)|, |G(b)|)

So a text that is a part of another overlaps wholly. Every pair with an overlap
of at least `share` is found, and no other: such a pair has one of the rarest
n-grams of its smaller text in common (prefix filtering, Chaudhuri et al., "A
primitive operator for similarity joins", ICDE 2006), and the pairs that have
are counted out. Texts that are held take about 20 bytes an n-gram, and three
times that while they are read; of those that are asked about nothing is kept.

Axes: G n-grams, B texts that are held, A texts that are asked about, U
different n-grams, P pairs.
"""

from typing import Iterator, NamedTuple, Sequence
import unicodedata

import numpy as np

_TOGETHER = 4096  # texts of a batch
_MOST = 2**22  # n-grams that are counted at once
_PRIME = 0x9E3779B97F4A7C15
_KEPT = ('L', 'N', 'M')  # categories of letters, numbers and marks
_SECOND = 2**24  # the second letter of a character that counts as two
# Of scripts without spaces, and of Korean syllables.
_WIDE = (
  (0x2E80, 0x9FFF),
  (0xAC00, 0xD7FF),
  (0xF900, 0xFAFF),
  (0x20000, 0x3FFFF),
)


class _Letters(dict):
  """Code point → itself where it is kept, else None."""

  def __missing__(self, point):
    kept = unicodedata.category(chr(point))[0] in _KEPT
    self[point] = point if kept else None
    return self[point]


_LETTERS = _Letters()


def normalise(text: str) -> str:
  """A text without case, punctuation, spaces and ways of encoding."""
  text = unicodedata.normalize('NFKC', text).casefold()
  return unicodedata.normalize('NFKC', text).translate(_LETTERS)


class Match(NamedTuple):
  """The text that one has most in common with.

  Attributes:
    index: Of the text, in the order in which they were given.
    share: How much.
  """

  index: int
  share: float


class Overlaps:
  """Texts that are held against others."""

  def __init__(
    self, texts: Sequence[str], *, ngram: int, share: float, fewest: int
  ):
    """Reads the texts.

    Args:
      texts: Normalised.
      ngram: Letters of an n-gram.
      share: The least overlap that is found, above 0, at most 1.
      fewest: N-grams that both texts of a pair have at least; fewer are a
        phrase, which many sentences contain.
    """
    self._ngram, self._share, self._fewest = ngram, share, fewest
    parts = list(_batched(texts, ngram)) or [(0, *grams([], ngram))]
    hashes_G = np.concatenate([part[1] for part in parts])
    text_G = np.concatenate([part[2] + part[0] for part in parts])
    self._sizes_B = np.concatenate([part[3] for part in parts])
    del parts
    self._known_U, number_G, counts_U = np.unique(
      hashes_G, return_inverse=True, return_counts=True
    )
    del hashes_G
    # Rarer n-grams have smaller ids.
    order_U = np.argsort(counts_U, kind='stable')
    self._id_U = np.empty(len(order_U), np.int64)
    self._id_U[order_U] = np.arange(len(order_U))
    id_G = self._id_U[number_G].astype(np.uint32)
    del number_G
    order_G = np.lexsort((id_G, text_G))
    self._own_G = id_G[order_G]  # of each text, the rarest first
    self._begin_B = _starts(self._sizes_B)
    text_G = text_G[order_G].astype(np.uint32)
    order_G = np.argsort(self._own_G, kind='stable')
    self._text_G = text_G[order_G]  # of each n-gram
    self._begin_U = _starts(counts_U[order_U])
    place_G = np.arange(len(text_G)) - self._begin_B[text_G]
    first_G = place_G < self._prefix(self._sizes_B)[text_G]
    order_G = np.argsort(self._own_G[first_G], kind='stable')
    self._rare_G = self._own_G[first_G][order_G]  # among the rarest of a text
    self._rare_text_G = text_G[first_G][order_G]

  def find(self, texts: Sequence[str]) -> list[Match | None]:
    """For each text, normalised, the one that it overlaps most with."""
    found: list[Match | None] = []
    for _, hashes_G, text_G, sizes_A in _batched(texts, self._ngram):
      found += self._matches(hashes_G, text_G, sizes_A)
    return found

  def _prefix(self, sizes):
    """How many of a text's rarest n-grams a match has one of."""
    return np.where(sizes < self._fewest, 0, sizes - self._needed(sizes) + 1)

  def _needed(self, sizes):
    return np.ceil(self._share * sizes - 1e-9).astype(np.int64)

  def _matches(self, hashes_G, text_G, sizes_A):
    found: list[Match | None] = [None] * len(sizes_A)
    if not len(self._known_U) or not len(hashes_G):
      return found
    place_G = np.searchsorted(self._known_U, hashes_G)
    place_G = np.minimum(place_G, len(self._known_U) - 1)
    hit_G = self._known_U[place_G] == hashes_G
    a, ids = text_G[hit_G], self._id_U[place_G[hit_G]]
    order = np.lexsort((ids, a))
    a, ids = a[order], ids[order]
    hits_A = np.bincount(a, minlength=len(sizes_A))
    # N-grams that nobody has are rarer still.
    left_A = self._prefix(sizes_A) - (sizes_A - hits_A)
    rare = np.arange(len(a)) - _starts(hits_A)[a] < left_A[a]
    begin, end = self._begin_U[ids[rare]], self._begin_U[ids[rare] + 1]
    pairs = [(a[rare], begin, end, self._text_G)]
    begin = np.searchsorted(self._rare_G, ids, 'left')
    end = np.searchsorted(self._rare_G, ids, 'right')
    pairs.append((a, begin, end, self._rare_text_G))
    keys = ids + a * len(self._known_U)  # rising
    for pair_a, pair_b in self._distinct(pairs, sizes_A):
      sizes = np.minimum(sizes_A[pair_a], self._sizes_B[pair_b])
      counts = self._common(keys, pair_a, pair_b)
      for one in np.flatnonzero(counts >= self._needed(sizes)):
        match = Match(int(pair_b[one]), float(counts[one] / sizes[one]))
        other = found[pair_a[one]]
        if other is None or match.share > other.share:
          found[pair_a[one]] = match
    return found

  def _distinct(
    self, pairs, sizes_A
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs to be counted out, in portions."""
    total = len(self._sizes_B)
    keys = [
      np.unique(one.astype(np.int64) * total + listed[places])
      for one, places, listed in _expanded(pairs)
    ]
    found = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    pair_a, pair_b = np.divmod(found, total)
    both = np.minimum(sizes_A[pair_a], self._sizes_B[pair_b]) >= self._fewest
    pair_a, pair_b = pair_a[both], pair_b[both]
    for part in _portions(self._sizes_B[pair_b]):
      yield pair_a[part], pair_b[part]

  def _common(self, keys, pair_a, pair_b):
    """How many n-grams both texts of each pair have."""
    sizes = self._sizes_B[pair_b]
    pair = np.repeat(np.arange(len(pair_a)), sizes)
    ids = self._own_G[_ranges(self._begin_B[pair_b], sizes)]
    wanted = ids + pair_a[pair] * len(self._known_U)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.bincount(pair[keys[place] == wanted], minlength=len(pair_a))


def _expanded(pairs):
  """Yields (texts asked about, places in a list, the list), in portions."""
  for a, begin, end, listed in pairs:
    counts = end - begin
    for part in _portions(counts):
      places = _ranges(begin[part], counts[part])
      yield np.repeat(a[part], counts[part]), places, listed


def _portions(sizes: np.ndarray) -> Iterator[slice]:
  """Cuts a list so that the sizes of each part are about `_MOST` together."""
  ends = np.cumsum(sizes)
  start = 0
  while start < len(sizes):
    done = ends[start - 1] if start else 0
    stop = max(start + 1, int(np.searchsorted(ends, done + _MOST, 'right')))
    yield slice(start, stop)
    start = stop


def _starts(counts: np.ndarray) -> np.ndarray:
  """Where each of some parts begins, and where the last ends."""
  return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _ranges(begin: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Numbers that follow each beginning, so many of each, in one array."""
  shift = np.repeat(begin - _starts(counts)[:-1], counts)
  return np.arange(len(shift)) + shift


def _batched(texts: Sequence[str], ngram: int):
  for start in range(0, len(texts), _TOGETHER):
    yield start, *grams(texts[start : start + _TOGETHER], ngram)


def grams(
  texts: Sequence[str], ngram: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The different n-grams of each text, as 64-bit hashes.

  Args:
    texts: Normalised.
    ngram: Letters of one.

  Returns:
    Hashes uint64 (G,), the text that each is of, int64 (G,), rising, and how
    many each text has, int64 (texts,).
  """
  joined = ''.join(texts).encode('utf-32-le', 'surrogatepass')
  points = np.frombuffer(joined, '<u4').astype(np.uint64)
  is_wide = np.zeros(len(points), bool)
  for low, high in _WIDE:
    is_wide |= (points >= low) & (points <= high)
  owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
  letters, owner = np.repeat(points, 1 + is_wide), np.repeat(owner, 1 + is_wide)
  second = np.flatnonzero(is_wide) + np.arange(1, np.count_nonzero(is_wide) + 1)
  letters[second] += _SECOND
  lengths = np.bincount(owner, minlength=len(texts))
  places = np.arange(len(letters)) - _starts(lengths)[owner]
  begins = np.flatnonzero(places + ngram <= lengths[owner])
  mixed = _mixed(letters)
  hashes = np.zeros(len(begins), np.uint64)
  for step in range(ngram):
    hashes = hashes * np.uint64(_PRIME) + mixed[begins + step]
  hashes, owner = _mixed(hashes), owner[begins]
  order = np.lexsort((hashes, owner))
  hashes, owner = hashes[order], owner[order]
  new = np.ones(len(hashes), bool)
  new[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
  hashes, owner = hashes[new], owner[new]
  return hashes, owner, np.bincount(owner, minlength=len(texts))


def _mixed(values: np.ndarray) -> np.ndarray:
  """SplitMix64: every bit of the input moves every bit of the output."""
  values = values + np.uint64(_PRIME)
  values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return values ^ (values >> np.uint64(31))
