"""What was said up to a pause is heard once; what we say is told from it."""

import asyncio

import numpy as np
import pytest

from step_audio_jax.dialogue.live import pauses
from tests.dialogue import fakes
from tests.dialogue import virtual_time


@pytest.mark.parametrize(
  'text, is_ours',
  [
    ('there are two trains', True),
    ('two trains to berlin please', True),
    ('berlin', False),
    ('no i want the train to rome', False),
    ('wait a moment', False),
    ('', False),
    ('去北京', True),
    ('我要去上海', False),
  ],
)
def test_our_own_words(text, is_ours):
  said = 'There are two trains to Berlin, today. 去北京的火车'
  assert pauses.is_our_own(text, said) == is_ours


def test_a_pause_is_heard_once_whatever_is_heard_later():
  async def scene():
    hearing = fakes.ScriptedEar('how are you', wait=0.1, late=0.2).listen()
    hearing.push(np.zeros(1600, np.float32))
    pause = pauses.Pause(hearing, 0.1, asyncio.create_task)
    hearing.push(np.zeros(1600, np.float32))
    assert (await pause.finish()).id == (await pause.finish()).id
    assert await pause.transcript() == 'how are you'
    assert hearing.finished == 1

  virtual_time.run(scene())


def test_a_pause_that_nobody_asks_for_may_fail(caplog):
  async def scene():
    hearing = fakes.ScriptedEar(RuntimeError('deaf')).listen()
    pause = pauses.Pause(hearing, 0.1, asyncio.create_task)
    await asyncio.sleep(1.0)
    with pytest.raises(RuntimeError, match='deaf'):
      await pause.transcript()

  virtual_time.run(scene())
  assert not caplog.records
