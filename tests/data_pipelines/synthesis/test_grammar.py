"""The small language and the drawn images."""

import io

import numpy as np
from PIL import Image
import pytest

from data_pipelines.synthesis import drawing
from data_pipelines.synthesis import grammar


@pytest.mark.parametrize('rules', list(grammar.GRAMMARS.values()))
def test_sentences_are_different_and_avoid_the_excluded(rules):
  rng = np.random.default_rng(0)
  first = {rules.joint.join(w) for w in rules.draw_unique(rng, 100)}
  assert len(first) == 100
  second = {rules.joint.join(w) for w in rules.draw_unique(rng, 500, first)}
  assert len(second) == 500 and not first & second
  for text in first | second:
    assert text == text.lower().strip()
    assert not set(text) & set(',.!?，。')


def test_size_counts_what_can_be_drawn():
  small = grammar.Grammar(
    'en',
    ' ',
    {'a': ('x', 'y'), 'b': ('u', 'v', 'w')},
    ((('a', 'b'), 1.0), (('a',), 1.0)),
  )
  assert small.size == 8
  assert small.words == ['u', 'v', 'w', 'x', 'y']
  rng = np.random.default_rng(0)
  drawn = {small.draw(rng) for _ in range(500)}
  assert len(drawn) == small.size
  with pytest.raises(ValueError, match='too many for a grammar of 8'):
    small.draw_unique(rng, 7)


def test_words_and_patterns_fit_together():
  for rules in grammar.GRAMMARS.values():
    used = {name for pattern, _ in rules.patterns for name in pattern}
    assert used == set(rules.classes)
  assert 5 <= min(len(p) for p, _ in grammar.ENGLISH.patterns)
  assert max(len(p) for p, _ in grammar.ENGLISH.patterns) <= 6


def test_english_nouns_have_a_determiner_and_verbs_an_object():
  rules = grammar.ENGLISH
  for pattern, _ in rules.patterns:
    text = ' '.join(pattern).replace('determiner adjective', 'determiner')
    assert (
      text.removesuffix(' adverb') == 'determiner who verb determiner thing'
    )
  # None of them before a vowel, where it would be another word.
  assert 'a' not in rules.words


def test_the_image_shows_what_the_caption_says():
  # The oracle looks at the pixels: where the colour's mass lies, how much
  # there is, and how full its bounding box is.
  for k, scene in enumerate(drawing.scenes()):
    pixels = drawing.draw(scene, np.random.default_rng(k)).astype(int)
    assert pixels.shape == (32, 32, 3)
    colour = np.array(drawing.COLOURS[scene.colour][0])
    mask = np.abs(pixels - colour).sum(-1) < 60
    rows, columns = np.nonzero(mask)
    x = (columns.min() + columns.max()) / 2 - 16
    y = (rows.min() + rows.max()) / 2 - 16
    place = {
      'on the left': x < -4,
      'on the right': x > 4,
      'at the top': y < -4,
      'at the bottom': y > 4,
      'in the middle': abs(x) < 4 and abs(y) < 4,
    }
    assert place[scene.place], scene
    width = np.ptp(columns) + 1
    assert (width > 12) == (scene.size == 'big'), scene
    fill = mask.sum() / (width * (np.ptp(rows) + 1))
    shape = 'square' if fill > 0.95 else 'circle' if fill > 0.68 else 'triangle'
    assert shape == scene.shape, (scene, fill)


def test_captions_are_unique_in_both_languages():
  scenes = drawing.scenes()
  for language in ('en', 'zh'):
    assert len({s.caption(language) for s in scenes}) == len(scenes)
  scene = drawing.Scene('big', 'red', 'circle', 'on the left')
  assert scene.caption('en') == 'a big red circle on the left'
  assert scene.caption('zh') == '左边有一个大的红色圆'


def test_png_files_are_read_back_and_resized(tmp_path):
  pixels = drawing.draw(drawing.scenes()[7], np.random.default_rng(0))
  path = tmp_path / 'a.png'
  path.write_bytes(drawing.png(pixels))
  np.testing.assert_array_equal(drawing.load(path), pixels)
  assert drawing.load(path, 16).shape == (16, 16, 3)
  out = io.BytesIO()
  Image.new('L', (50, 20), 128).save(out, format='PNG')
  path.write_bytes(out.getvalue())
  assert (drawing.load(path) == 128).all()
  path.write_bytes(b'no image')
  with pytest.raises(ValueError, match='not a readable image'):
    drawing.load(path)
