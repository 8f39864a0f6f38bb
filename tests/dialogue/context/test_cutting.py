"""Where sentences are cut."""

from hypothesis import given
from hypothesis import strategies as st
import pytest
import regex

from step_audio_jax.dialogue.context import cutting

MIXED = (
  'Hello there, my friend!',
  '你好，我用iPhone打电话：2024年3月5日。他说“好的”。',
  'วันนี้น้ำท่วมที่เชียงใหม่',
  'ស្វាគមន៍មកកាន់',
  'ကြိုဆိုပါတယ်',
  'नमस्ते दुनिया क्षत्रिय',
  'カ゚ガﾊﾞﾅﾅが食べたい',
  'naïve café 👨‍👩‍👧‍👦👍🏽 flags 🇩🇪🇫🇷 ok',
  '한국어를 공부합니다',
)


def words(text):
  found = cutting.cuts(text)
  return [text[a:b] for a, b in zip([0, *found.ends], found.ends)]


def test_words_and_characters_are_units():
  assert words('Hello there, my friend!') == [
    'Hello', ' there,', ' my', ' friend!'
  ]  # fmt: skip
  assert words('我用iPhone打。') == ['我', '用', 'iPhone', '打。']
  assert words('他说“好的”。') == ['他', '说', '“好', '的”。']
  assert words('2024年3月') == ['2024', '年', '3', '月']
  assert words(' \n ') == [] and words('') == []


@pytest.mark.parametrize('text', MIXED)
def test_no_cut_is_inside_a_character(text):
  borders = {0}
  for cluster in regex.findall(r'\X', text):
    borders.add(max(borders) + len(cluster))
  assert set(cutting.cuts(text).ends) <= borders


@given(st.text(max_size=40), st.floats(0, 1))
def test_any_text_is_cut_to_its_beginning(text, share):
  found = cutting.cuts(text)
  assert list(found.ends) == sorted(set(found.ends))
  assert list(found.weights) == sorted(found.weights)
  cut = found.up_to(share)
  assert text.startswith(cut)
  borders, at = {0}, 0
  for cluster in regex.findall(r'\X', text):
    at += len(cluster)
    borders.add(at)
  if share < 1:
    # White space behind a letter is cut off with its marks, if it has any.
    assert (
      len(cut) in borders or text[len(cut)].isspace() or (cut == text.rstrip())
    )


def test_shares_are_of_what_is_said():
  found = cutting.cuts('one two six ten')  # equal words
  assert [found.up_to(k / 4) for k in range(5)] == [
    '', 'one', 'one two', 'one two six', 'one two six ten'
  ]  # fmt: skip
  assert found.up_to(0.74) == 'one two'
  # A syllable takes as long as three letters.
  assert cutting.cuts('你好abc').up_to(2 / 3) == '你好'
