"""What a chat completion asks → turns for a mind, and how it is to answer."""

import dataclasses
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import messages as messages_lib
from step_audio_jax.chats import tools as tools_lib
from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.http import service as service_lib
from step_audio_jax.serving.http import voices
from step_audio_jax.serving.http.chat import remembered as remembered_lib
from step_audio_jax.serving.sounds import decoding
from step_audio_jax.serving.sounds import encoding

_LONGEST_PIECE = 64  # characters of an id, on the mean of a chat
_BLOCK = services.HEARD_RATE  # samples that an ear is given at once


@dataclasses.dataclass(frozen=True)
class Asked:
  """A chat completion.

  Attributes:
    turns: The chat.
    manner: Of the answer.
    spoken: Format of the audio that is wanted; None of words alone.
    stream: Whether it is sent as it is made.
    with_usage: Whether a stream tells its cost.
    several_calls: Whether there may be more than one call.
  """

  turns: tuple[chats.Turn, ...]
  manner: services.Manner
  spoken: str | None
  stream: bool
  with_usage: bool
  several_calls: bool


async def read(
  service: service_lib.Service,
  body: Mapping[str, Any],
  remembered: remembered_lib.Remembered,
) -> Asked:
  """What a request asks.

  Args:
    service: Asked.
    body: Of the shape `shapes.CHAT`.
    remembered: What was said aloud before.

  Raises:
    Fault: It cannot be answered; the field is named.
  """
  service.check_model(body['model'])
  spoken, voice = _audio(service, body)
  stream = bool(body.get('stream'))
  if stream and spoken not in (None, encoding.PCM):
    raise faults.invalid(
      f"audio.format: found {spoken!r}, expected 'pcm16' of a stream.",
      'audio.format',
      'invalid_value',
    )
  if body.get('stream_options') and not stream:
    raise faults.invalid(
      "stream_options: expected none without 'stream': true.",
      'stream_options',
      'invalid_value',
    )
  size = sum(map(_size, body['messages']))
  turns = await service_lib.aside(size, _turns, body, remembered)
  choice = _tool_choice(body, turns)
  turns = tuple([await _heard(service, turn) for turn in turns])
  most = await _most(service, body, turns)
  options = body.get('stream_options') or {}
  return Asked(
    turns,
    services.Manner(
      temperature=_or(body, 'temperature', 0.0),
      top_p=_or(body, 'top_p', 1.0),
      top_k=_or(body, 'top_k', 0),
      most=most,
      seed=body.get('seed'),
      tool_choice=choice,
      response_schema=_response_schema(body.get('response_format')),
      stops=_stops(body.get('stop')),
      voice=voice,
    ),
    spoken,
    stream,
    bool(options.get('include_usage')),
    body.get('parallel_tool_calls') is not False,
  )


def _size(message: Mapping[str, Any]) -> int:
  """About how many bytes of recordings a message has."""
  content = message.get('content')
  parts = content if isinstance(content, list) else ()
  return sum(len(one.get('input_audio', {}).get('data', '')) for one in parts)


def _or(body, name: str, default: Any) -> Any:
  found = body.get(name)
  return default if found is None else found


def _audio(service, body) -> tuple[str | None, str | None]:
  """Format and voice of audio that is wanted."""
  if 'audio' not in (body.get('modalities') or ()):
    return None, None
  mouth = voices.mouth_of(service.models)
  audio = body.get('audio')
  if audio is None:
    raise faults.invalid(
      "Missing required parameter: 'audio'.",
      'audio',
      'missing_required_parameter',
    )
  form = encoding.check(audio['format'], 'audio.format')
  return form, voices.voice_of(mouth, audio['voice'], 'audio.voice')


def _turns(body, remembered) -> tuple[chats.Turn, ...]:
  """Turns whose recordings are files still."""
  tools = body.get('tools')
  value: dict[str, Any] = {
    'messages': [
      _message(one, f'messages[{n}]', remembered)
      for n, one in enumerate(body['messages'])
    ]
  }
  called = {
    call['function']['name']: None
    for message in body['messages']
    for call in message.get('tool_calls') or ()
  }
  if not tools and called:
    # A chat whose calls are over may come without their tools.
    tools = [{'type': 'function', 'function': {'name': one}} for one in called]
  value['tools'] = tools or []
  found = list(messages_lib.parse(value).turns)
  while len(found) > 1 and found[0].role == found[1].role == chats.SYSTEM:
    joined = f'{found[0].text}\n{found[1].text}'
    found[:2] = [dataclasses.replace(found[0], parts=(joined,))]
  found = [turn for turn in found if turn.role != chats.TOOLS or turn.tools]
  checks.check(chats.Conversation(tuple(found)))
  if found[-1].role == chats.ASSISTANT:
    raise faults.invalid(
      f'{found[-1].where}.role: found assistant at the end, expected a turn '
      'to answer.',
      f'{found[-1].where}.role',
      'invalid_value',
    )
  return tuple(found)


def _message(message, where: str, remembered) -> dict[str, Any]:
  """A message as `chats.messages` takes it: no field of it names a file."""
  role, content = message['role'], message.get('content')
  audio = message.get('audio')
  if audio is not None:
    if role != 'assistant':
      raise faults.invalid(
        f'{where}.audio: found audio of {role}, expected it of the assistant.',
        f'{where}.audio',
        'invalid_value',
      )
    said = remembered.get(audio['id'])
    if said is None:
      said = audio.get('transcript')
    if not content and not isinstance(said, str):
      raise faults.invalid(
        f'{where}.audio.id: found {audio["id"]!r:.80}, which is not known here '
        'any more; expected its transcript, or the content.',
        f'{where}.audio.id',
        'audio_not_found',
      )
    content = content or said
  if isinstance(content, list):
    content = [
      _part(part, f'{where}.content[{n}]', role)
      for n, part in enumerate(content)
    ]
  elif content is None and message.get('refusal'):
    content = message['refusal']
  made = {'role': role, 'content': content}
  for name in ('tool_calls', 'tool_call_id'):
    if message.get(name) is not None:
      made[name] = message[name]
  if role == 'tool' and 'tool_call_id' not in made:
    raise faults.invalid(
      f"Missing required parameter: '{where}.tool_call_id'.",
      f'{where}.tool_call_id',
      'missing_required_parameter',
    )
  return made


def _part(part, where: str, role: str) -> dict[str, Any]:
  if part['type'] != 'input_audio':
    return {'type': 'text', 'text': part[part['type']]}
  if role != 'user':
    raise faults.invalid(
      f'{where}.type: found input_audio of {role}, expected it of the user.',
      f'{where}.type',
      'invalid_value',
    )
  field = f'{where}.input_audio.data'
  raw = decoding.from_base64(part['input_audio']['data'], field)
  if not raw:
    raise faults.invalid(
      f'{field}: found no bytes, expected a recording.', field, 'invalid_value'
    )
  return {'type': 'audio', 'audio': {'bytes': raw}}


async def _heard(service, turn: chats.Turn) -> chats.Turn:
  """A turn whose recording an ear has heard."""
  speech = turn.speech
  if speech is None:
    return turn
  where = f'{turn.where}.content'
  if service.models.ear is None:
    raise faults.invalid(
      f'{where}: found audio, but the model {service.models.name!r} does not '
      'hear; expected text.',
      where,
      'unsupported_modality',
    )
  samples_S = await decoding.decoded(
    speech.data, where, service.settings.longest_sound
  )
  service.metrics.sound('in', len(samples_S) / services.HEARD_RATE)
  with service.admission.holding(samples_S.nbytes):
    heard = await _listened(service.models, samples_S, where)
  parts = tuple(heard if one is speech else one for one in turn.parts)
  return dataclasses.replace(turn, parts=parts)


async def _listened(models, samples_S, where: str) -> chats.Speech:
  """What an ear heard, as the mind takes it."""
  hearing = models.ear.listen()
  try:
    for begin in range(0, len(samples_S), _BLOCK):
      hearing.push(samples_S[begin : begin + _BLOCK])
    heard = await hearing.finish()
    if not models.mind.hears and heard.text is None:
      heard = dataclasses.replace(heard, text=await hearing.transcript())
    return heard
  except errors.UserError as error:
    raise faults.of(error, where) from error
  finally:
    hearing.cancel()  # the rest of what it could still be asked


def _tool_choice(body, turns) -> str:
  given = body.get('tool_choice')
  if not body.get('tools'):
    if given not in (None, 'auto', 'none'):
      raise faults.invalid(
        "tool_choice: expected none without 'tools'.",
        'tool_choice',
        'invalid_value',
      )
    return 'none'
  if not isinstance(given, dict):
    return given or 'auto'
  name = given['function']['name']
  tools = chats.Conversation(turns).tools
  known = [tools_lib.name_of(one) for one in tools]
  if name not in known:
    raise faults.invalid(
      f'tool_choice.function.name: found {name!r}, expected one of '
      f'{", ".join(filter(None, known))}.',
      'tool_choice.function.name',
      'invalid_value',
    )
  if name in ('auto', 'none', 'required'):
    # `Manner.tool_choice` could not tell it from the word.
    return 'required'
  return name


def _response_schema(given) -> dict[str, Any] | None:
  kind = (given or {}).get('type', 'text')
  if kind == 'text':
    return None
  if kind == 'json_object':
    return {'type': 'object'}
  import jsonschema

  schema, field = given['json_schema'].get('schema', {}), 'response_format'
  try:
    jsonschema.Draft202012Validator.check_schema(schema)
  except (jsonschema.SchemaError, RecursionError) as error:
    told = getattr(error, 'message', 'nested too deeply')
    raise faults.invalid(
      f'{field}.json_schema.schema: no JSON Schema: {told:.120}.',
      f'{field}.json_schema.schema',
      'invalid_json_schema',
    ) from error
  return schema


def _stops(given) -> tuple[str, ...]:
  return (given,) if isinstance(given, str) else tuple(given or ())


async def _most(service, body, turns) -> int:
  """Ids that the reply may have."""
  names = ('max_completion_tokens', 'max_tokens')
  asked = next((body[one] for one in names if body.get(one)), None)
  mind, settings = service.models.mind, service.settings
  # What is far too long is not counted id by id.
  size = sum(len(turn.text) for turn in turns)
  if body.get('tools'):
    size += len(chats.as_json(body['tools']))
  length = mind.longest
  if size <= _LONGEST_PIECE * mind.longest:
    length = await service_lib.aside(size, mind.length, turns)
  if length >= mind.longest:
    found = f'{length} or more' if length == mind.longest else length
    raise faults.invalid(
      f"This model's maximum context length is {mind.longest} tokens; "
      f'messages: found {found}, expected fewer.',
      'messages',
      'context_length_exceeded',
    )
  wanted = settings.usual_reply if asked is None else asked
  return min(wanted, settings.longest_reply, mind.longest - length)
