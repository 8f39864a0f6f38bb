"""Sessions' `turn_detection` as settings of ours."""

import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import controller
from step_audio_jax.dialogue.turns import endpointing
from step_audio_jax.dialogue.turns import server_vad


def test_every_field_of_server_vad():
  found = server_vad.settings(
    {
      'type': 'server_vad',
      'threshold': 0.7,
      'prefix_padding_ms': 200,
      'silence_duration_ms': 500,
      'create_response': False,
      'interrupt_response': False,
      'idle_timeout_ms': 6000,
    }
  )
  assert (found.mode, found.threshold, found.prefix) == ('vad', 0.7, 0.2)
  assert found.release == pytest.approx(0.55)
  assert found.waits == endpointing.Waits(0.5, 0.5, 0.5)
  assert (found.replies, found.interrupts, found.idle) == (False, False, 6.0)


def test_what_is_not_said_is_as_it_was():
  base = controller.Settings(prefix=0.1)
  assert server_vad.settings({'type': 'server_vad'}, base) == base
  assert server_vad.settings({'idle_timeout_ms': None}, base) == base


def test_none_is_manual():
  found = server_vad.settings(None)
  assert (found.mode, found.replies) == (controller.MANUAL, False)


def test_eagerness():
  low = server_vad.settings({'type': 'semantic_vad', 'eagerness': 'low'})
  high = server_vad.settings({'type': 'semantic_vad', 'eagerness': 'high'})
  assert high.waits.complete < low.waits.complete


@pytest.mark.parametrize(
  'detection, told',
  [
    ({'type': 'x'}, "type is 'x', expected server_vad or semantic_vad"),
    ({'threshold': 2}, 'threshold is 2.0, expected 0 to 1'),
    ({'threshold': 'a'}, "threshold is 'a', expected a number"),
    ({'silence_duration_ms': -1}, 'is -1, expected 0 to 10000'),
    ({'silence_duration_ms': True}, 'is True, expected a whole number'),
    ({'create_response': 1}, 'is 1, expected true or false'),
    ({'eagerness': 'low'}, "found 'eagerness'"),
    ({'type': 'semantic_vad', 'eagerness': 'x'}, 'expected one of low'),
  ],
)
def test_what_cannot_be(detection, told):
  with pytest.raises(errors.UserError, match=told):
    server_vad.settings(detection)
