"""Plain words for styles, in two languages; what is in no table is told."""

import pytest

from step_audio_jax import errors
from step_audio_jax.styles import instructions
from step_audio_jax.styles import tags


@pytest.mark.parametrize(
  'text, expected',
  [
    ('please speak a bit faster', '(快速1)'),
    ('faster', '(快速2)'),
    ('Could you talk more slowly, please?', '(慢速2)'),
    ('very sad and slow', '(悲伤3)(慢速2)'),
    ('sad', '(悲伤1)'),
    ('extremely angry', '(生气4)'),
    ('as fast as possible', '(快速5)'),
    ('unhappy', '(悲伤1)'),
    ('much louder', '(大声3)'),
    ('speak up a bit', '(大声1)'),
    ('in a slightly higher pitch', '(高音1)'),
    ('with a deep voice', '(低音2)'),
    ('whisper', '(耳语)'),
    ('Say it in Cantonese', '(粤语)'),
    ('with a Sichuan accent, happily', '(高兴2)(四川话)'),
    ('rap it', '(RAP)'),
    ('用四川话说', '(四川话)'),
    ('请用粤语快一点说', '(粤语)(快速1)'),
    ('用rap的方式', '(RAP)'),
    ('说得很慢', '(慢速3)'),
    ('声音再大一点', '(大声1)'),
    ('非常高兴地，慢一些', '(高兴3)(慢速1)'),
    ('快乐', '(高兴2)'),
    ('更快一点', '(快速1)'),
    ('请用悲伤的语气朗读这段话', '(悲伤1)'),
    ('哼唱出来', '(哼唱)'),
    ('用哼唱的方式', '(哼唱)'),
    ('说唱', '(RAP)'),
    ('尽可能小声', '(小声5)'),
    ('声音高兴一点', '(高兴1)'),
  ],
)
def test_words_become_tags(text, expected):
  assert str(instructions.understand(text)) == expected


@pytest.mark.parametrize(
  'text, left',
  [
    ('like a pirate', 'pirate'),
    ('not so fast', 'not so'),
    ("don't shout", "don't"),
    ('lower', 'lower'),
    ('a bit faster than before', 'than before'),
    ('不要太快', '不 太'),
    ('像海盗一样说', '像海盗一样'),
    ('fastish', 'fastish'),
    ('use pauses', 'use pauses'),
  ],
)
def test_what_is_in_no_table_is_told(text, left):
  with pytest.raises(errors.UserError, match='in no table') as told:
    instructions.understand(text)
  assert repr(left) in str(told.value)


@pytest.mark.parametrize('text', ['', '  ', '...', 'please say it', '请说'])
def test_what_asks_for_nothing_is_refused(text):
  with pytest.raises(errors.UserError, match='asks for nothing'):
    instructions.understand(text)


@pytest.mark.parametrize(
  'text',
  ['fast and slow', 'happy, then sad', '用四川话和粤语', 'fast, very fast'],
)
def test_words_that_contradict_each_other_are_refused(text):
  with pytest.raises(errors.UserError, match='both say the'):
    instructions.understand(text)


def test_the_table_has_every_tag_and_each_of_its_words_works():
  names = {name.name for name in tags.NAMES if name.kind != 'pause'}
  assert set(instructions.WORDS) == names
  for name, words in instructions.WORDS.items():
    for word in words:
      if word.isalpha():  # no pattern
        found = instructions.understand(word)
        assert [tag.name for tag in found.tags] == [name], word


@pytest.mark.parametrize(
  'text, expected',
  [
    ('(fast 2)', '(快速2)'),
    ('fast 1', '(快速1)'),
    ('a bit faster', '(快速1)'),
    ('（四川话）', '(四川话)'),
  ],
)
def test_tags_and_words_are_both_read(text, expected):
  assert str(instructions.read(text)) == expected


@pytest.mark.parametrize('text', ['(fasst 2)', 'fasst 2', '(a bit faster)'])
def test_tags_that_are_wrong_are_no_words(text):
  with pytest.raises(errors.UserError, match='which does not exist'):
    instructions.read(text)
