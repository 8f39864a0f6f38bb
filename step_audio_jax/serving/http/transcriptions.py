"""`POST /v1/audio/transcriptions`: a recording → what is said in it."""

import asyncio
import dataclasses
import math
from typing import Any, AsyncIterator

import numpy as np
from starlette import datastructures
from starlette import requests
from starlette import responses

from step_audio_jax import languages
from step_audio_jax.audio import levels
from step_audio_jax.audio.meters import activity
from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import delivery
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.http import events
from step_audio_jax.serving.http import service as service_lib
from step_audio_jax.serving.sounds import decoding

JSON, TEXT, VERBOSE, SRT, VTT = 'json', 'text', 'verbose_json', 'srt', 'vtt'
FORMATS = (JSON, TEXT, VERBOSE, SRT, VTT)
_YES, _NO = ('true', '1'), ('false', '0', '')
_LONGEST_PIECE = 20.0  # seconds of a subtitle
_FIELDS = 64  # of a form
_FIELD_BYTES = 2**16


@dataclasses.dataclass(frozen=True)
class _Asked:
  """What a form says."""

  file: datastructures.UploadFile
  form: str
  language: str | None
  manner: services.Manner
  stream: bool


@dataclasses.dataclass(frozen=True)
class _Segment:
  """Words of a stretch of a recording, seconds."""

  start: float
  end: float
  text: str


async def transcribe(
  service: service_lib.Service, request: requests.Request
) -> Any:
  """Answers a request."""
  ear = service.models.ear
  if ear is None:
    raise faults.Fault(
      404,
      f'The model {service.models.name!r} does not hear: this server has no '
      'speech tokenizer.',
      param='model',
      code='model_not_found',
    )
  async with request.form(
    max_files=1, max_fields=_FIELDS, max_part_size=_FIELD_BYTES
  ) as form:
    asked = _read(service, form)
    raw = await asked.file.read()
  longest = service.settings.longest_sound
  samples_S = await service_lib.answered(
    request, decoding.decoded(raw, 'file', longest)
  )
  seconds = len(samples_S) / services.HEARD_RATE
  service.metrics.sound('in', seconds)
  limit = service.settings.reply_seconds
  if asked.stream:
    return delivery.Streamed(
      _as_events(service, request, ear, samples_S, asked),
      events.MEDIA_TYPE,
      told=events.failed,
      seconds=limit,
    )
  in_pieces = asked.form in (VERBOSE, SRT, VTT)
  hear = _heard_in_pieces if in_pieces else _heard_whole
  work = hear(service, ear, samples_S, asked)
  async with asyncio.timeout(limit):
    segments, usage = await service_lib.answered(request, work)
  service.first(request, 'text')
  return _told(asked, segments, seconds, usage)


def _read(service, form: datastructures.FormData) -> _Asked:
  """The fields; those that OpenAI has besides are hints, and are let be."""

  def text(name, default=None):
    value = form.get(name)
    if value is None:
      return default
    if not isinstance(value, str):
      raise faults.invalid(
        f'{name}: found a file, expected a text.', name, 'invalid_type'
      )
    return value

  file = form.get('file')
  if not isinstance(file, datastructures.UploadFile):
    raise faults.invalid(
      "Missing required parameter: 'file'."
      if file is None
      else 'file: found a text, expected a file of a multipart form.',
      'file',
      'missing_required_parameter' if file is None else 'invalid_type',
    )
  model = text('model')
  if model is None:
    raise faults.invalid(
      "Missing required parameter: 'model'.",
      'model',
      'missing_required_parameter',
    )
  service.check_model(model)
  kind = text('response_format', JSON)
  if kind not in FORMATS:
    raise _unexpected('response_format', kind, ', '.join(FORMATS))
  stream = text('stream', 'false').lower()
  if stream not in (*_YES, *_NO):
    raise _unexpected('stream', stream, 'true or false')
  if stream in _YES and kind not in (JSON, TEXT):
    raise _unexpected('response_format', kind, 'json or text with stream')
  language = text('language')
  if language and languages.language_subtag(language) is None:
    raise _unexpected('language', language, 'a tag such as en or zh')
  if 'logprobs' in form.getlist('include[]'):
    raise _unexpected('include[]', 'logprobs', 'none: there are none here')
  for name in form.getlist('timestamp_granularities[]'):
    if name != 'segment':
      raise _unexpected('timestamp_granularities[]', name, 'segment')
  temperature = _temperature(text('temperature', '0'))
  most = service.settings.longest_reply
  manner = services.Manner(temperature=temperature, most=most)
  return _Asked(file, kind, language or None, manner, stream in _YES)


def _temperature(given: str) -> float:
  try:
    found = float(given)
  except ValueError:
    found = math.nan
  if not 0 <= found <= 1:
    raise _unexpected('temperature', given, '0 to 1')
  return found


def _unexpected(field: str, found: Any, expected: str) -> faults.Fault:
  return faults.invalid(
    f'{field}: found {found!r:.60}, expected {expected}.',
    field,
    'invalid_value',
  )


async def _parts(
  service, ear, samples_S, asked, usages
) -> AsyncIterator[services.Text]:
  """Texts; what they cost is added to `usages`."""
  heard = ear.transcribe(samples_S, asked.manner)
  with service.admission.holding(samples_S.nbytes):
    async with delivery.closing(heard):
      async for piece in heard:
        if isinstance(piece, services.Text):
          yield piece
        elif isinstance(piece, services.Ended):
          service.used(piece.usage)
          usages.append(piece.usage)


async def _heard_whole(service, ear, samples_S, asked):
  usages: list[services.Usage] = []
  parts = _parts(service, ear, samples_S, asked, usages)
  text = ''.join([piece.text async for piece in parts])
  seconds = len(samples_S) / services.HEARD_RATE
  return [_Segment(0.0, seconds, text)], usages


async def _heard_in_pieces(service, ear, samples_S, asked):
  """Cut at pauses, for an ear does not tell when a word was said."""
  usages: list[services.Usage] = []
  segments = []
  for start, end in await asyncio.to_thread(stretches, samples_S):
    rate = services.HEARD_RATE
    some_S = samples_S[round(start * rate) : round(end * rate)]
    if levels.is_silent(some_S):
      continue
    parts = _parts(service, ear, some_S, asked, usages)
    text = ''.join([piece.text async for piece in parts])
    if text.strip():
      segments.append(_Segment(start, end, text.strip()))
  return segments, usages


def stretches(
  samples_S: np.ndarray, longest: float = _LONGEST_PIECE
) -> list[tuple[float, float]]:
  """(start, end) of parts between pauses, none longer than it has to be.

  Args:
    samples_S: At `services.HEARD_RATE`.
    longest: Seconds; a longer part has no pause to be cut at, and is cut
      where it is full.
  """
  found = activity.find(samples_S, services.HEARD_RATE)
  whole = len(samples_S) / services.HEARD_RATE
  begin, end = found.begin, found.end
  if not end > begin:  # all of it is one level
    begin, end = 0.0, whole
  cuts = [begin]
  middles = [(a + b) / 2 for a, b in found.pauses]
  for number, place in enumerate(middles, 1):
    following = middles[number] if number < len(middles) else end
    if following - cuts[-1] > longest:
      cuts.append(place)
  made = []
  for start, stop in zip(cuts, [*cuts[1:], end], strict=True):
    count = max(1, math.ceil((stop - start) / longest))
    size = (stop - start) / count
    made += [(start + n * size, start + (n + 1) * size) for n in range(count)]
  return made


async def _as_events(
  service, request, ear, samples_S, asked
) -> AsyncIterator[bytes]:
  usages: list[services.Usage] = []
  texts: list[str] = []
  async with delivery.closing(
    _parts(service, ear, samples_S, asked, usages)
  ) as parts:
    async for piece in parts:
      if not texts:
        service.first(request, 'text')
      texts.append(piece.text)
      yield events.event({'type': 'transcript.text.delta', 'delta': piece.text})
  yield events.event(
    {
      'type': 'transcript.text.done',
      'text': ''.join(texts),
      'usage': _usage(usages),
    }
  )
  yield events.DONE


def _usage(usages: list[services.Usage]) -> dict[str, Any]:
  prompt = sum(one.prompt for one in usages)
  reply = sum(one.reply for one in usages)
  return {
    'type': 'tokens',
    'input_tokens': prompt,
    'output_tokens': reply,
    'total_tokens': prompt + reply,
    'input_token_details': {'audio_tokens': prompt, 'text_tokens': 0},
  }


def _told(asked: _Asked, segments, seconds: float, usages):
  text = ' '.join(one.text for one in segments)
  if languages.is_spaceless(asked.language or '', text):
    text = ''.join(one.text for one in segments)
  if asked.form == JSON:
    return responses.JSONResponse({'text': text, 'usage': _usage(usages)})
  if asked.form == TEXT:
    return responses.PlainTextResponse(f'{text}\n')
  if asked.form == VERBOSE:
    return responses.JSONResponse(
      {
        'task': 'transcribe',
        # No ear tells a language; what the client knows is given back.
        'language': asked.language or 'und',
        'duration': seconds,
        'text': text,
        'segments': [_verbose(n, one, asked) for n, one in enumerate(segments)],
        'usage': {'type': 'duration', 'seconds': math.ceil(seconds)},
      }
    )
  if asked.form == SRT:
    blocks = [
      f'{n}\n{clock(one.start, ",")} --> {clock(one.end, ",")}\n{one.text}\n'
      for n, one in enumerate(segments, 1)
    ]
    return responses.PlainTextResponse('\n'.join(blocks))
  blocks = [
    f'{clock(one.start, ".")} --> {clock(one.end, ".")}\n{one.text}\n'
    for one in segments
  ]
  return responses.PlainTextResponse(
    '\n'.join(['WEBVTT\n', *blocks]), media_type='text/vtt'
  )


def _verbose(number: int, segment: _Segment, asked: _Asked) -> dict[str, Any]:
  """A segment; what Whisper knows and an ear does not is 0."""
  return {
    'id': number,
    'seek': 0,
    'start': round(segment.start, 3),
    'end': round(segment.end, 3),
    'text': segment.text,
    'tokens': [],
    'temperature': asked.manner.temperature,
    'avg_logprob': 0.0,
    'compression_ratio': 0.0,
    'no_speech_prob': 0.0,
  }


def clock(seconds: float, mark: str) -> str:
  """A time of a subtitle, 00:01:02.345."""
  whole = round(seconds * 1000)
  minutes, rest = divmod(whole, 60000)
  return (
    f'{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}'
    f'{rest % 1000:03}'
  )
