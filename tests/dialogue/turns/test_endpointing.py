"""What goes on, what is a whole, and the wait behind it."""

import pytest

from step_audio_jax.dialogue.turns import endpointing


@pytest.mark.parametrize(
  'text',
  [
    'what is the capital of',
    'i want to fly to',
    'can you um',
    'well,',
    'and then...',
    'could you play',
    'my number is four two',
    '我想',
    '我要一杯咖啡和',
    '那个',
  ],
)
def test_what_goes_on(text):
  assert endpointing.completeness(text) < 0.3
  assert endpointing.Endpoint().wait(text) > 1.2


@pytest.mark.parametrize(
  'text',
  ['what is the capital of peru', 'stop it.', '今天天气怎么样吗', '谢谢'],
)
def test_what_is_a_whole(text):
  assert endpointing.completeness(text) > 0.7
  assert endpointing.Endpoint().wait(text) == pytest.approx(0.35)


@pytest.mark.parametrize('text', [None, '', ' ', '?'])
def test_where_nothing_is_known_the_wait_is_the_usual_one(text):
  assert endpointing.completeness(text) is None
  assert endpointing.Endpoint().wait(text) == 0.6


def test_a_whole_number_of_digits_is_not_in_its_middle():
  said = 'call five five five one two three four'
  assert endpointing.completeness(said) >= 0.5


def test_another_judge():
  endpoint = endpointing.Endpoint(judge=lambda text: 0.0)
  assert endpoint.wait('stop it.') == 1.5


def test_who_listens():
  for text in ('mhm', 'Yeah.', 'uh-huh', '嗯', 'okay right', 'haha'):
    assert endpointing.is_backchannel(text), text
  for text in ('stop', 'yeah but no', 'ok ok ok ok', '停'):
    assert not endpointing.is_backchannel(text), text
