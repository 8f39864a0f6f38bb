"""`POST /v1/audio/speech`: a text → its sound, sent as it is said."""

import base64
from typing import Any, AsyncIterator

from starlette import requests

from step_audio_jax import errors
from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import delivery
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.http import events
from step_audio_jax.serving.http import service as service_lib
from step_audio_jax.serving.http import shapes
from step_audio_jax.serving.http import voices
from step_audio_jax.serving.sounds import encoding

_USUAL = 'mp3'  # OpenAI's


async def speech(
  service: service_lib.Service, request: requests.Request
) -> delivery.Streamed:
  """Answers a request."""
  asked = await service_lib.json_body(request, shapes.SPEECH)
  service.check_model(asked['model'])
  mouth = voices.mouth_of(service.models)
  text, most = asked['input'], service.settings.longest_input
  if len(text) > most:
    raise faults.invalid(
      f'input: found {len(text)} characters, expected {most} at most.',
      'input',
      'string_above_max_length',
    )
  if not text.strip():
    raise faults.invalid(
      'input: found only spaces, expected a text.', 'input', 'invalid_value'
    )
  name = encoding.check(
    asked.get('response_format') or _USUAL, 'response_format'
  )
  manner = services.Manner(
    voice=voices.voice_of(mouth, asked['voice'], 'voice'),
    style=asked.get('instructions') or None,
    speed=asked.get('speed') or 1.0,
  )
  encoder = encoding.Encoder(name, mouth.sample_rate)
  pieces = _spoken(service, request, mouth, text, manner, encoder)
  seconds = service.settings.reply_seconds
  if asked.get('stream_format') == 'sse':
    usage = {'input_tokens': _words(text), 'output_tokens': 0}
    return delivery.Streamed(
      _as_events(pieces, usage),
      events.MEDIA_TYPE,
      told=events.failed,
      seconds=seconds,
    )
  media_type = encoding.MEDIA_TYPES[name]
  return delivery.Streamed(pieces, media_type, seconds=seconds)


async def _spoken(
  service, request, mouth, text, manner, encoder
) -> AsyncIterator[bytes]:
  async def texts():
    yield text

  is_first = True
  try:
    async with delivery.closing(mouth.speak(texts(), manner)) as sounds:
      async for sound in sounds:
        made = encoder.add(sound.samples_S)
        if is_first:
          is_first = False
          service.first(request, 'audio')
        yield made
  except errors.UserError as error:
    raise _told(error) from error
  yield encoder.end()
  service.metrics.sound('out', encoder.seconds)


def _told(error: errors.UserError) -> faults.Fault:
  """What a mouth says is wrong, by the names of the request."""
  told = faults.of(error, 'input')
  if told.param == 'style':
    told.param = 'instructions'
  return told


async def _as_events(
  pieces: AsyncIterator[bytes], usage: dict[str, Any]
) -> AsyncIterator[bytes]:
  async with delivery.closing(pieces):
    async for piece in pieces:
      if piece:
        audio = base64.b64encode(piece).decode()
        yield events.event({'type': 'speech.audio.delta', 'audio': audio})
  total = sum(usage.values())
  usage = {**usage, 'total_tokens': total}
  yield events.event({'type': 'speech.audio.done', 'usage': usage})


def _words(text: str) -> int:
  """What a text is worth, for mouths do not tell: words."""
  return len(text.split())
