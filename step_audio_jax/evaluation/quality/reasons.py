"""Why something was not measured, in words that can be counted.

A reason names no file and no number that differs between recordings, so that a
thousand recordings have a handful of reasons.
"""

from step_audio_jax import errors


class NotComputed(errors.UserError):
  """A figure cannot be had.

  Attributes:
    reason: Why, as it is counted.
  """

  def __init__(self, reason: str):
    super().__init__(f'not computed: {reason}')
    self.reason = reason


class Unfit(errors.UserError):
  """Nothing can be measured of a recording.

  Attributes:
    reason: Why, as it is counted.
  """

  def __init__(self, reason: str, sentence: str):
    super().__init__(sentence)
    self.reason = reason
