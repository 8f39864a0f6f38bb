"""Whole sentences and halves of them, as a recogniser writes them."""

import pytest

from step_audio_jax.dialogue.turns import completeness
from step_audio_jax.dialogue.turns import endpointing

judged = completeness.completeness


@pytest.mark.parametrize(
  'text',
  """what is the
  i would like to
  what is the capital of
  i want to fly to
  can you um
  could you play
  well,
  and then...
  my number is four two
  can you tell me
  tell me
  what do you
  is it
  if it rains tomorrow
  where did it
  what color is
  my cat has the red cup what color is
  i do not really
  turn off
  how do i get from
  this is a small red
  so
  that is because
  我想
  我要一杯咖啡和
  那个
  如果明天下雨""".splitlines(),
)
def test_what_goes_on(text):
  assert judged(text) < 0.31
  assert endpointing.Endpoint().wait(text) > 1.1


@pytest.mark.parametrize(
  'text',
  """what is the capital of france
  what is the capital of peru
  stop it.
  stop
  tell me a joke
  tell me more
  my cat has the red cup what color is it
  my bird has the green door who has it
  my horse has one red cup how many
  who is the fish with
  where are you from
  how are you
  do you know what time it is
  what should i do
  what do you want
  turn it off
  can you help me
  thank you
  is it going to rain
  please set a timer for ten minutes
  今天天气怎么样吗
  谢谢
  妈妈有红苹果谁有
  老师看见白鱼谁看见
  现在小猫喜欢白鱼说说
  北京到上海有多远""".splitlines(),
)
def test_what_is_a_whole(text):
  assert judged(text) >= 0.75
  assert endpointing.Endpoint().wait(text) == pytest.approx(0.25)


@pytest.mark.parametrize('text', [None, '', ' ', '?'])
def test_where_nothing_is_known_the_wait_is_the_usual_one(text):
  assert judged(text) is None
  assert endpointing.Endpoint().wait(text) == endpointing.Waits().usual


def test_a_full_stop_behind_half_a_sentence_is_not_believed():
  assert judged('What is the.') < 0.1 < judged('What is the capital of Peru?')


def test_a_whole_number_of_digits_is_not_in_its_middle():
  said = 'call five five five one two three four'
  assert judged(said) >= 0.5


def test_any_words_are_a_probability():
  from step_audio_jax.dialogue.turns import lexicon

  words = sorted(lexicon.VERBS | lexicon.AUXILIARIES | lexicon.ASKING)
  words += ['', "'", "it's", 'peru', 'the', 'like', 'when', 'three']
  for one in words:
    for other in ('what', 'i', 'the', 'when', 'is', 'well', ''):
      found = judged(f'{other} {one}')
      assert found is None or 0 <= found <= 1
