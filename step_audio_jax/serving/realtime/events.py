"""Events of the server, in the shapes of OpenAI's client (`openai.types`)."""

import re
import secrets
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.serving.realtime import faults

Event = dict[str, Any]
_OWN = 'The server failed at this; the session goes on.'
CANCELLED, COMPLETED, INCOMPLETE, FAILED = (
  'cancelled',
  'completed',
  'incomplete',
  'failed',
)
IN_PROGRESS = 'in_progress'
# What our sentences begin with: the field that is wrong.
_FIELD = re.compile(r'([a-z_][\w.\[\]]*): ', re.ASCII)


def new_id(prefix: str) -> str:
  """A name that nobody guesses."""
  return f'{prefix}_{secrets.token_hex(10)}'


def made(kind: str, **fields: Any) -> Event:
  """An event of a kind."""
  return {'type': kind, 'event_id': new_id('event'), **fields}


def error(fault: Exception, event_id: str | None) -> Event:
  """An event that was refused, or something that went wrong."""
  kind, code, param = faults.INVALID, 'invalid_value', None
  told = str(fault)
  if isinstance(fault, faults.Fault):
    kind, code, param = fault.kind, fault.code, fault.param
  elif isinstance(fault, services.Busy):
    kind, code = faults.RATE, 'rate_limit_exceeded'
  elif not isinstance(fault, errors.UserError):
    kind, code, told = faults.SERVER, 'server_error', _OWN
  elif found := _FIELD.match(str(fault)):
    param = found[1]
  return made(
    'error',
    error={
      'type': kind,
      'code': code,
      'message': told,
      'param': param,
      'event_id': event_id,
    },
  )


def usage(found: services.Usage) -> dict[str, Any]:
  """What a reply cost, as clients count it."""
  return {
    'total_tokens': found.prompt + found.reply,
    'input_tokens': found.prompt,
    'output_tokens': found.reply,
    'input_token_details': {
      'cached_tokens': found.cached,
      'text_tokens': found.prompt,
      'audio_tokens': 0,
      'image_tokens': 0,
    },
    'output_token_details': {'text_tokens': found.reply, 'audio_tokens': 0},
  }


def response(
  name: str,
  conversation: str | None,
  session: Mapping[str, Any],
  status: str,
  *,
  output: Sequence[Mapping[str, Any]] = (),
  reason: str | None = None,
  fault: Exception | None = None,
  spent: services.Usage | None = None,
  metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
  """A reply as `response.created` and `response.done` show it.

  Args:
    name: Its id.
    conversation: The id of its conversation; None where it stands beside it.
    session: What is in effect for it.
    status: How far it is.
    output: Its items.
    reason: Why it ended before its end.
    fault: Why it failed.
    spent: What it cost.
    metadata: As the client gave it.
  """
  details = None
  if status in (CANCELLED, INCOMPLETE):
    details = {'type': status, 'reason': reason}
  elif status == FAILED:
    busy = isinstance(fault, services.Busy)
    details = {
      'type': status,
      'error': {
        'type': faults.RATE if busy else faults.SERVER,
        'code': 'rate_limit_exceeded' if busy else 'server_error',
      },
    }
  audio = session['audio']['output']
  return {
    'object': 'realtime.response',
    'id': name,
    'conversation_id': conversation,
    'status': status,
    'status_details': details,
    'output': list(output),
    'output_modalities': session['output_modalities'],
    'max_output_tokens': session['max_output_tokens'],
    'audio': {'output': {'format': audio['format'], 'voice': audio['voice']}},
    'usage': None if spent is None else usage(spent),
    'metadata': metadata,
  }
