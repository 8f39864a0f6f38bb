"""What is wrong with a request, as OpenAI says it.

    {"error": {"message", "type", "param", "code"}}

with the status that makes of it the right exception in OpenAI's clients.
"""

import asyncio
import re
import sys
import traceback
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.dialogue import services

INVALID, SERVER, LIMITED = (
  'invalid_request_error',
  'server_error',
  'rate_limit_error',
)
# `messages[0].content: found …` names its field.
_FIELD = re.compile(r'([A-Za-z_][\w.\[\]-]*): ')


class Fault(Exception):
  """A request that is refused, or a reply that failed.

  Attributes:
    status: Of HTTP.
    message: One sentence.
    kind: OpenAI's `type`.
    param: The field; None of no single one.
    code: A word that programs compare; None where there is none.
    headers: Sent along.
  """

  def __init__(
    self,
    status: int,
    message: str,
    kind: str = INVALID,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
  ):
    """Tells all of it."""
    super().__init__(message)
    self.status, self.message, self.kind = status, message, kind
    self.param, self.code, self.headers = param, code, dict(headers or {})

  @property
  def body(self) -> dict[str, Any]:
    """What is sent."""
    return {
      'error': {
        'message': self.message,
        'type': self.kind,
        'param': self.param,
        'code': self.code,
      }
    }


def invalid(
  message: str, param: str | None = None, code: str | None = None
) -> Fault:
  """400: something is wrong with what was sent."""
  return Fault(400, message, INVALID, param, code)


def busy(message: str, seconds: float = 1.0) -> Fault:
  """503: not now."""
  return Fault(
    503, message, SERVER, code='overloaded', headers=retry_after(seconds)
  )


def retry_after(seconds: float) -> dict[str, str]:
  """The header, in whole seconds, which is all that some clients read."""
  return {'retry-after': str(max(1, -int(-seconds // 1)))}


def logged(error: Exception, name: str) -> Fault:
  """What a client is told; the log is told what it is not.

  Args:
    error: What was raised.
    name: Of the request.
  """
  fault = of(error)
  if fault.status == 500:
    print(f'{name}:', file=sys.stderr)
    traceback.print_exception(error, file=sys.stderr)
  return fault


def of(error: BaseException, field: str | None = None) -> Fault:
  """What a client is told of whatever went wrong.

  Args:
    error: What was raised; of what is none of the client's business it is told
      nothing.
    field: Of the request, where the error itself names none.
  """
  if isinstance(error, Fault):
    return error
  if isinstance(error, errors.UserError):
    named = _FIELD.match(str(error))
    return invalid(str(error), named[1] if named else field, 'invalid_value')
  if isinstance(error, services.Busy):
    return busy(f'{error}' or 'All places are taken; try again later.')
  if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
    return Fault(504, 'The reply took too long.', SERVER, code='reply_time_out')
  return Fault(
    500, 'The server had an error; its log says which.', SERVER, code='failed'
  )
