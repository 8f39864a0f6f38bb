"""Server-sent events, as OpenAI's streams have them."""

import json
from typing import Any, Mapping

from step_audio_jax.serving.guards import faults

MEDIA_TYPE = 'text/event-stream; charset=utf-8'
DONE = b'data: [DONE]\n\n'


def event(value: Mapping[str, Any]) -> bytes:
  """One event."""
  written = json.dumps(value, ensure_ascii=False, separators=(',', ':'))
  return f'data: {written}\n\n'.encode(errors='replace')


def failed(error: Exception) -> bytes:
  """The last event of a stream that something ended."""
  return event(faults.logged(error, 'stream').body)
