"""The wait behind words, judges by their names, and who only listens."""

import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import completeness
from step_audio_jax.dialogue.turns import controller
from step_audio_jax.dialogue.turns import endpointing


def test_the_wait_falls_where_words_are_more_complete():
  waits = [
    endpointing.Endpoint(judge=lambda text, found=found: found).wait('')
    for found in (0.0, 0.2, 0.3, 0.5, 0.6, 0.75, 1.0)
  ]
  assert waits == sorted(waits, reverse=True)
  assert (waits[0], waits[3], waits[-1]) == pytest.approx((1.5, 0.55, 0.25))


def test_who_listens():
  for text in ('mhm', 'Yeah.', 'uh-huh', '嗯', 'okay right', 'haha'):
    assert endpointing.is_backchannel(text), text
  for text in ('stop', 'yeah but no', 'ok ok ok ok', '停'):
    assert not endpointing.is_backchannel(text), text


def test_judges_by_their_names(monkeypatch):
  monkeypatch.setattr(endpointing, '_JUDGES', dict(endpointing._JUDGES))
  endpointing.register('mine', lambda text: 0.9)
  assert endpointing.judge_of('mine')('and the') == 0.9
  assert endpointing.judge_of('words') is completeness.completeness
  assert endpointing.judge_of('pause')('stop it.') is None
  assert controller.Settings(judge='mine').judge == 'mine'
  with pytest.raises(ValueError, match="a judge 'mine'"):
    endpointing.register('mine', completeness.completeness)
  with pytest.raises(errors.UserError, match="found 'x', expected one of wor"):
    controller.Settings(judge='x')
