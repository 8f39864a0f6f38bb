"""`POST /v1/chat/completions`: an answer, whole or as it is made, aloud too."""

import asyncio
import base64
from typing import Any, AsyncIterator, Mapping
import uuid

from starlette import requests
from starlette import responses

from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import delivery
from step_audio_jax.serving.http import events
from step_audio_jax.serving.http import service as service_lib
from step_audio_jax.serving.http import shapes
from step_audio_jax.serving.http.chat import remembered as remembered_lib
from step_audio_jax.serving.http.chat import request as request_lib
from step_audio_jax.serving.http.chat import talking
from step_audio_jax.serving.sounds import encoding


class Completions:
  """The route, and what it remembers of what was said."""

  def __init__(self, service: service_lib.Service):
    """Nothing was said yet."""
    self._service = service
    self._remembered = remembered_lib.Remembered(service.wall)

  async def __call__(self, request: requests.Request) -> Any:
    """Answers a request."""
    service, limit = self._service, self._service.settings.reply_seconds
    body = await service_lib.json_body(request, shapes.CHAT)
    read = request_lib.read(service, body, self._remembered)
    asked = await service_lib.answered(request, read)
    answer = _Answer(service, request, asked, self._remembered)
    if asked.stream:
      return delivery.Streamed(
        answer.events(),
        events.MEDIA_TYPE,
        told=events.failed,
        seconds=limit,
      )
    async with asyncio.timeout(limit):
      made = await service_lib.answered(request, answer.whole())
    return responses.JSONResponse(made)


class _Answer:
  """One answer."""

  def __init__(self, service, request, asked, remembered):
    self._service, self._request, self._asked = service, request, asked
    self._remembered = remembered
    self._id = f'chatcmpl-{uuid.uuid4().hex}'
    self._created = int(service.wall())
    self._encoder: encoding.Encoder | None = None
    self._seen: set[str] = set()
    if asked.spoken is not None:
      rate = service.models.mouth.sample_rate
      self._encoder = encoding.Encoder(asked.spoken, rate)
      self._audio_id, self._expires_at = remembered.new()

  async def whole(self) -> dict[str, Any]:
    """The object of a completion."""
    texts, calls, sound, ended = [], [], [], services.Ended()
    async with delivery.closing(self._items()) as items:
      async for item in items:
        if isinstance(item, services.Text):
          texts.append(item.text)
        elif isinstance(item, services.Called):
          calls.append(_call(item.call))
        elif isinstance(item, services.Sound):
          sound.append(self._encoder.add(item.samples_S))
        else:
          ended = item
    text = ''.join(texts)
    message: dict[str, Any] = {
      'role': 'assistant',
      'content': text or (None if calls else ''),
      'refusal': None,
    }
    if calls:
      message['tool_calls'] = calls
    if self._encoder is not None and texts:
      sound.append(self._encoder.end())
      self._said(text)
      raw = encoding.whole(self._asked.spoken, b''.join(sound))
      message['content'] = None
      message['audio'] = {
        'id': self._audio_id,
        'data': base64.b64encode(raw).decode(),
        'expires_at': self._expires_at,
        'transcript': text,
      }
    choice = {
      'index': 0,
      'message': message,
      'logprobs': None,
      'finish_reason': ended.reason,
    }
    return {
      **self._base('chat.completion'),
      'choices': [choice],
      'usage': _usage(ended.usage),
    }

  async def events(self) -> AsyncIterator[bytes]:
    """Chunks of a completion, as they are made."""
    spoken, calls, texts = self._encoder is not None, 0, []
    ended, has_begun = services.Ended(), False
    async with delivery.closing(self._items()) as items:
      async for item in items:
        if not has_begun:
          has_begun = True
          yield self._chunk({'role': 'assistant', 'content': ''})
        if isinstance(item, services.Text):
          texts.append(item.text)
          delta = {'content': item.text}
          if spoken:
            delta = self._audio(transcript=item.text)
          yield self._chunk(delta)
        elif isinstance(item, services.Called):
          for delta in _call_deltas(calls, item.call):
            yield self._chunk({'tool_calls': [delta]})
          calls += 1
        elif isinstance(item, services.Sound):
          raw = self._encoder.add(item.samples_S)
          if raw:
            data = base64.b64encode(raw).decode()
            yield self._chunk(self._audio(data=data))
        else:
          ended = item
    if spoken and texts:
      if raw := self._encoder.end():
        data = base64.b64encode(raw).decode()
        yield self._chunk(self._audio(data=data))
      self._said(''.join(texts))
      yield self._chunk(self._audio(expires_at=self._expires_at))
    yield self._chunk({}, ended.reason)
    if self._asked.with_usage:
      usage = {'choices': [], 'usage': _usage(ended.usage)}
      yield events.event({**self._base('chat.completion.chunk'), **usage})
    yield events.DONE

  async def _items(self) -> AsyncIterator[talking.Item]:
    """Pieces of the reply; `Ended` is the last."""
    models, asked = self._service.models, self._asked
    if self._encoder is None:
      pieces = models.mind.reply(asked.turns, asked.manner)
    else:
      pieces = talking.aloud(
        models.mind, models.mouth, asked.turns, asked.manner
      )
    called = False
    async with delivery.closing(pieces):
      async for piece in pieces:
        if isinstance(piece, services.Ids):
          continue  # speech that nobody wants to hear
        self._count(piece)
        if isinstance(piece, services.Called):
          if called and not asked.several_calls:
            continue
          called = True
        yield piece

  def _count(self, piece) -> None:
    if isinstance(piece, services.Ended):
      self._service.used(piece.usage)
      return
    kind = 'audio' if isinstance(piece, services.Sound) else 'text'
    if kind not in self._seen:
      self._seen.add(kind)
      self._service.first(self._request, kind)

  def _said(self, text: str) -> None:
    self._service.metrics.sound('out', self._encoder.seconds)
    self._remembered.put(self._audio_id, self._expires_at, text)

  def _audio(self, **more) -> dict[str, Any]:
    return {'audio': {'id': self._audio_id, **more}}

  def _base(self, kind: str) -> dict[str, Any]:
    return {
      'id': self._id,
      'object': kind,
      'created': self._created,
      'model': self._service.models.name,
    }

  def _chunk(
    self, delta: Mapping[str, Any], reason: str | None = None
  ) -> bytes:
    choice = {
      'index': 0,
      'delta': delta,
      'logprobs': None,
      'finish_reason': reason,
    }
    more = {'usage': None} if self._asked.with_usage else {}
    return events.event(
      {**self._base('chat.completion.chunk'), 'choices': [choice], **more}
    )


def _call(call: chats.Call) -> dict[str, Any]:
  return {
    'id': call.id or f'call_{uuid.uuid4().hex}',
    'type': 'function',
    'function': {
      'name': call.name,
      'arguments': chats.as_json(call.arguments),
    },
  }


def _call_deltas(index: int, call: chats.Call) -> list[dict[str, Any]]:
  """A call in two parts, as clients join them: who, and with what."""
  whole = _call(call)
  function = whole['function']
  arguments = function['arguments']
  return [
    {'index': index, **whole, 'function': {**function, 'arguments': ''}},
    {'index': index, 'function': {'arguments': arguments}},
  ]


def _usage(usage: services.Usage) -> dict[str, Any]:
  return {
    'prompt_tokens': usage.prompt,
    'completion_tokens': usage.reply,
    'total_tokens': usage.prompt + usage.reply,
    'prompt_tokens_details': {'cached_tokens': usage.cached, 'audio_tokens': 0},
    'completion_tokens_details': {'reasoning_tokens': 0, 'audio_tokens': 0},
  }
