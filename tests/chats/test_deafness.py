"""Which replies say that nothing was heard."""

import pytest

from step_audio_jax.chats import deafness


@pytest.mark.parametrize(
  'text',
  [
    *deafness.REPLIES['en'],
    *deafness.REPLIES['zh'],
    'I’m sorry, but I was unable to hear you.',
    'I could not understand what you said.',
    "Hmm, I couldn't quite make out your question.",
    'Sorry, didn’t catch that!',
    'There was no sound in your message.',
    'Can you say that again?\nI heard nothing.',
    '对不起，您刚才说的我没能听懂。',
    '请您再讲一次好吗',
    '听不清，我这边没有信号。我听不清您说什么。',
  ],
)
def test_claims_of_not_having_heard_are_found(text):
  assert deafness.claims(text)


@pytest.mark.parametrize(
  'text',
  [
    '',
    'Paris is in France.',
    'Sound does not travel in space, so nobody would hear it.',
    'He did not hear the bell.',
    'I do not understand Latin.',
    'I hear that it rains often in Lima.',
    'Dogs catch sticks. They do not tire of it.',
    '法国的首都是巴黎。',
    '在太空里听不到声音。',
    '这首歌很好听，没有人不喜欢。',
  ],
)
def test_answers_are_none(text):
  assert not deafness.claims(text)


def test_replies_differ():
  for replies in deafness.REPLIES.values():
    assert len(set(replies)) == len(replies) >= 6
