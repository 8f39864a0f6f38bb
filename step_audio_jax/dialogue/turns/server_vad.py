"""`turn_detection` of OpenAI's realtime sessions → our settings.

`server_vad` ends a turn by a fixed silence, if the client names one; without it
the words decide, as they do in `semantic_vad`, whose `eagerness` says how soon.
`None` is a session whose turns are what the client commits.
"""

import dataclasses
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import controller
from step_audio_jax.dialogue.turns import endpointing

# Waits of `semantic_vad` against ours.
_EAGERNESS = {'low': 2.0, 'medium': 1.0, 'auto': 1.0, 'high': 0.7}
_SHARED = {'create_response': ('replies', bool)}
_SHARED['interrupt_response'] = ('interrupts', bool)
_SERVER = {
  'threshold': ('threshold', float),
  'prefix_padding_ms': ('prefix', int),
  'silence_duration_ms': ('waits', int),
  'idle_timeout_ms': ('idle', int),
}
_FIELDS = {
  'server_vad': {**_SHARED, **_SERVER},
  'semantic_vad': {**_SHARED, 'eagerness': ('waits', str)},
}


def settings(
  detection: Mapping[str, Any] | None,
  base: controller.Settings = controller.Settings(),
) -> controller.Settings:
  """Our settings for a session's `turn_detection`.

  Args:
    detection: As the client sent it.
    base: What holds where it says nothing.

  Raises:
    UserError: A field is none of these, or out of bounds.
  """
  if detection is None:
    return dataclasses.replace(base, mode=controller.MANUAL, replies=False)
  kind = detection.get('type', 'server_vad')
  if kind not in _FIELDS:
    raise errors.UserError(
      f'turn_detection: type is {kind!r}, expected server_vad or semantic_vad.'
    )
  changed: dict[str, Any] = {'mode': controller.VAD}
  for name, value in detection.items():
    if name == 'type' or value is None:
      continue
    if name not in _FIELDS[kind]:
      raise errors.UserError(
        f'turn_detection: found {name!r}, expected one of '
        f'{", ".join(sorted(_FIELDS[kind]))} for {kind}.'
      )
    ours, of = _FIELDS[kind][name]
    changed[ours] = _value(name, value, of, base)
  if 'threshold' in changed:  # the border of release keeps its distance
    distance = base.threshold - base.release
    changed['release'] = max(0.0, changed['threshold'] - distance)
  return dataclasses.replace(base, **changed)


def _value(name: str, value: Any, of: type, base: controller.Settings) -> Any:
  """A field of the client as ours."""
  if of is float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if type(value) is not of:
    kinds = {bool: 'true or false', float: 'a number', int: 'a whole number'}
    raise errors.UserError(
      f'turn_detection: {name} is {value!r}, expected {kinds.get(of, "words")}.'
    )
  if name == 'eagerness':
    if value not in _EAGERNESS:
      raise errors.UserError(
        f'turn_detection: eagerness is {value!r}, expected one of '
        f'{", ".join(_EAGERNESS)}.'
      )
    share, w = _EAGERNESS[value], base.waits
    return endpointing.Waits(
      w.complete * share, w.usual * share, w.incomplete * share
    )
  if name == 'threshold' and not 0 <= value <= 1:
    raise errors.UserError(
      f'turn_detection: threshold is {value}, expected 0 to 1.'
    )
  if not name.endswith('_ms'):
    return value
  most = 3_600_000 if name == 'idle_timeout_ms' else 10_000
  if not 0 <= value <= most:
    raise errors.UserError(
      f'turn_detection: {name} is {value}, expected 0 to {most}.'
    )
  seconds = value / 1000
  if name == 'silence_duration_ms':
    return endpointing.Waits(seconds, seconds, seconds)
  return seconds
