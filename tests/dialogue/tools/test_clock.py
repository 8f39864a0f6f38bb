"""What time it is."""

import asyncio
import datetime

import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.tools import clock

NOW = datetime.datetime(2026, 12, 1, 5, 7, 9, tzinfo=datetime.UTC)


def ask(tool, **arguments):
  return asyncio.run(tool.run(**arguments))


def test_zones():
  tool = clock.tool(lambda: NOW, 'Europe/Berlin')
  assert ask(tool) == (
    'Tuesday, 1 December 2026, 06:07:09 in Europe/Berlin (UTC+01:00)'
  )
  for name in ('Asia/Kolkata', 'asia/kolkata', 'Kolkata'):
    assert ask(tool, zone=name) == (
      'Tuesday, 1 December 2026, 10:37:09 in Asia/Kolkata (UTC+05:30)'
    )
  told = ask(tool, zone='Los Angeles')
  assert told.startswith('Monday, 30 November 2026, 21:07:09')


@pytest.mark.parametrize(
  'name', ('', 'Europe/Berlim', '../../etc/passwd', '/etc/passwd', 'a' * 9999)
)
def test_what_is_no_zone(name):
  with pytest.raises(errors.UserError, match='zone: found') as caught:
    ask(clock.tool(lambda: NOW), zone=name)
  assert len(str(caught.value)) < 220
  with pytest.raises(errors.UserError):
    clock.tool(zone=name or 'x')


def test_the_nearest_is_named():
  with pytest.raises(errors.UserError, match="nearest is 'europe/berlin'"):
    ask(clock.tool(lambda: NOW), zone='Europe/Berlim')


def test_the_time_of_the_machine():
  before = datetime.datetime.now(datetime.UTC)
  assert str(before.year) in ask(clock.tool())


def test_a_machine_without_zones(monkeypatch):
  monkeypatch.setattr(clock, '_zones', dict)
  with pytest.raises(errors.UserError, match='pip install tzdata'):
    clock.tool()
