"""Overlaps against sets of strings, pair by pair."""

import unicodedata

import numpy as np
import pytest

from data_pipelines.factory.leaks import overlaps

WORDS = (
  'red blue cat dog runs sees small old the a very house 红 猫 看见 小 球 집'
)
WORDS = WORDS.split()


def brute_letters(text):
  out = []
  for letter in unicodedata.normalize('NFKC', text).casefold():
    for one in unicodedata.normalize('NFKC', letter):
      if unicodedata.category(one)[0] in 'LNM':
        wide = 'CJK' in unicodedata.name(one, '') or 'HANGUL SYL' in (
          unicodedata.name(one, '')
        )
        out += [one, f'{one}2'] if wide else [one]
  return out


def brute_grams(text, n):
  letters = brute_letters(text)
  return {tuple(letters[i : i + n]) for i in range(len(letters) - n + 1)}


def brute_best(text, held, n, share, fewest):
  mine, best = brute_grams(text, n), None
  for number, other in enumerate(held):
    theirs = brute_grams(other, n)
    least = min(len(mine), len(theirs))
    if least < fewest:
      continue
    found = len(mine & theirs) / least
    if found >= share - 1e-9 and (best is None or found > best[1]):
      best = number, found
  return best


def sentence(rng, low=3, high=14):
  return ' '.join(rng.choice(WORDS, rng.integers(low, high)))


def spoilt(rng, text):
  """The same with a letter, a word or an end changed."""
  kind, place = rng.integers(4), rng.integers(len(text))
  if kind == 0:
    return text[:place] + 'x' + text[place + 1 :]
  if kind == 1:
    return text[: max(10, place)].upper()
  if kind == 2:
    return f'{sentence(rng)}, {text}!'
  return text[place:] + ' ' + text[:place]


@pytest.mark.parametrize('share', [0.3, 0.8, 1.0])
@pytest.mark.parametrize('n, fewest', [(6, 10), (3, 1), (1, 4)])
def test_the_same_pairs_as_by_brute_force(share, n, fewest):
  rng = np.random.default_rng([n, int(share * 10)])
  held = [sentence(rng) for _ in range(60)]
  asked = [sentence(rng) for _ in range(30)]
  asked += [spoilt(rng, text) for text in held[:50]]
  asked += ['', 'a', '…', held[3]]
  made = overlaps.Overlaps(
    [overlaps.normalise(text) for text in held],
    ngram=n,
    share=share,
    fewest=fewest,
  )
  found = made.find([overlaps.normalise(text) for text in asked])
  for text, match in zip(asked, found):
    expected = brute_best(text, held, n, share, fewest)
    if expected is None:
      assert match is None, text
    else:
      assert match is not None, text
      assert match.share == pytest.approx(expected[1])
      assert match.index == expected[0]


def test_batches_and_portions_change_nothing(monkeypatch):
  rng = np.random.default_rng(5)
  held = [overlaps.normalise(sentence(rng)) for _ in range(50)]
  asked = [overlaps.normalise(spoilt(rng, sentence(rng))) for _ in range(20)]
  asked += held[::7]
  settings = {'ngram': 4, 'share': 0.5, 'fewest': 3}
  found = overlaps.Overlaps(held, **settings).find(asked)
  monkeypatch.setattr(overlaps, '_TOGETHER', 7)
  monkeypatch.setattr(overlaps, '_MOST', 11)
  assert overlaps.Overlaps(held, **settings).find(asked) == found
  assert any(found)


@pytest.mark.parametrize(
  'one, two',
  [
    ('The cat!', 'the  CAT'),
    ('ﬁne', 'FINE'),
    ('ｆｕｌｌ　ｗｉｄｔｈ', 'full width'),
    ('Straße', 'STRASSE'),
    ('cafe\u0301', 'caf\u00e9'),
    ('你好，世界。', '你 好 世界'),
    ('“it’s” №5', 'its no5'),
  ],
)
def test_spellings_of_the_same_text(one, two):
  assert overlaps.normalise(one) == overlaps.normalise(two) != ''


def test_marks_stay():
  # Vowels of Hindi are marks.
  assert overlaps.normalise('कि') != overlaps.normalise('की')
  assert overlaps.normalise(' .,!?—\t') == ''


def test_grams_are_as_many_as_by_brute_force():
  texts = ['', 'abc', 'aaaaaaa', '你好世界', 'a你b好c', 'abcabcabc']
  for n in (1, 2, 3, 6):
    hashes, owner, sizes = overlaps.grams(texts, n)
    assert sizes.tolist() == [len(brute_grams(text, n)) for text in texts]
    assert len(hashes) == len(owner) == sizes.sum()


def test_none_are_held():
  made = overlaps.Overlaps([], ngram=6, share=0.8, fewest=1)
  assert made.find(['abcdefghij', '']) == [None, None]
  assert made.find([]) == []
