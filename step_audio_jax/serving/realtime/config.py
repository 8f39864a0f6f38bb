"""What a session is set to: what clients ask for, and what is in effect.

A session is a JSON object in the shape of `session.created`. An update holds
only what changes, at any depth; what comes back is the whole. Fields of the
protocol that mean nothing here are refused, or shown as what they are here
(`docs/realtime.md` has the list).
"""

import copy
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import tools as tools_lib
from step_audio_jax.dialogue import services
from step_audio_jax.serving.realtime import faults
from step_audio_jax.serving.realtime import formats

REALTIME, TRANSCRIPTION = 'realtime', 'transcription'
AUDIO, TEXT = 'audio', 'text'
SERVER_VAD, SEMANTIC_VAD = 'server_vad', 'semantic_vad'
UNLIMITED = 'inf'

_LONGEST_TEXT = 2**16  # characters of instructions
_MOST_TOOLS = 128
_LONGEST_SCHEMA = 2**16  # characters of JSON
_DEFAULTS = {
  SERVER_VAD: {
    'type': SERVER_VAD,
    'threshold': 0.5,
    'prefix_padding_ms': 300,
    'silence_duration_ms': 500,
    'idle_timeout_ms': None,
    'create_response': True,
    'interrupt_response': True,
  },
  SEMANTIC_VAD: {
    'type': SEMANTIC_VAD,
    'eagerness': 'auto',
    'create_response': True,
    'interrupt_response': True,
  },
}
_DETECTION = {
  SERVER_VAD: faults.table(
    {
      'type': faults.choice(SERVER_VAD),
      'threshold': faults.number(0, 1),
      'prefix_padding_ms': faults.number(0, 5000, whole=True),
      'silence_duration_ms': faults.number(50, 10000, whole=True),
      'idle_timeout_ms': faults.absent('nobody is prompted to speak here'),
      'create_response': faults.flag,
      'interrupt_response': faults.flag,
    }
  ),
  SEMANTIC_VAD: faults.table(
    {
      'type': faults.choice(SEMANTIC_VAD),
      'eagerness': faults.choice('low', 'medium', 'high', 'auto'),
      'create_response': faults.flag,
      'interrupt_response': faults.flag,
    }
  ),
}
_TRUNCATION = faults.table(
  {
    'type': faults.choice('retention_ratio'),
    'retention_ratio': faults.number(0, 1),
    'token_limits': faults.optional(
      faults.table(
        {'post_instructions': faults.number(1, 2**31 - 1, whole=True)}
      )
    ),
  },
  required=('type', 'retention_ratio'),
)
_TRACE = faults.table(
  {
    'workflow_name': faults.text(256),
    'group_id': faults.text(256),
    'metadata': faults.json_object(2**14),
  }
)


def audio_format(value: Any, param: str) -> dict[str, Any]:
  """A format as `session.created` shows it."""
  if not isinstance(value, dict):
    raise faults.wrong(value, param, '{"type": "audio/pcm", "rate": 24000}')
  found = faults.table(
    {
      'type': faults.choice(*formats.FORMATS),
      'rate': faults.optional(faults.number(24000, 24000, whole=True)),
    }
  )(value, param)
  name = found.get('type', formats.PCM)
  if name != formats.PCM:
    if found.get('rate') is not None:
      raise faults.wrong(value['rate'], f'{param}.rate', 'none for G.711')
    return {'type': name}
  return {'type': name, 'rate': 24000}


def _detection(value: Any, param: str) -> dict[str, Any]:
  kind = value.get('type') if isinstance(value, dict) else None
  if kind not in tuple(_DEFAULTS):
    raise faults.wrong(
      value if not isinstance(value, dict) else kind,
      f'{param}.type' if isinstance(value, dict) else param,
      'null, "server_vad" or "semantic_vad"',
    )
  return _DETECTION[kind](value, param)


def _transcription(value: Any, param: str) -> dict[str, Any]:
  """Hints are checked; there is one recogniser, and it takes none."""
  faults.table(
    {
      'model': faults.optional(faults.text(256)),
      'language': faults.optional(faults.text(35)),
      'languages': faults.optional(faults.listed(faults.text(35), 64)),
      'prompt': faults.optional(faults.text(_LONGEST_TEXT)),
      'keywords': faults.optional(faults.listed(faults.text(256), 1024)),
      'delay': faults.optional(
        faults.choice('minimal', 'low', 'medium', 'high', 'xhigh')
      ),
    }
  )(value, param)
  return {}


def _truncation(value: Any, param: str) -> Any:
  if isinstance(value, str):
    return faults.choice('auto', 'disabled')(value, param)
  return _TRUNCATION(value, param)


def _traced(value: Any, param: str) -> None:
  """Nothing is traced: what is asked for is checked and shown as null."""
  if value is not None and value != 'auto':
    _TRACE(value, param)


def tool(value: Any, param: str) -> dict[str, Any]:
  """A function, as the protocol has it."""
  kind = value.get('type', 'function') if isinstance(value, dict) else None
  if kind == 'mcp':
    raise faults.Fault(
      f'{param}.type: tools of MCP servers cannot be named by a client here; '
      'expected "function".',
      'unsupported',
      f'{param}.type',
    )
  found = faults.table(
    {
      'type': faults.choice('function'),
      'name': faults.text(64, least=1),
      'description': faults.optional(faults.text(_LONGEST_SCHEMA)),
      'parameters': faults.optional(faults.json_object(_LONGEST_SCHEMA)),
    },
    required=('name',),
  )(value, param)
  try:
    tools_lib.check_schema(as_schema(found), param)
  except errors.UserError as error:
    raise faults.Fault(str(error), 'invalid_value', param) from error
  return {'type': 'function', **found}


def as_schema(found: Mapping[str, Any]) -> dict[str, Any]:
  """A function of the protocol → a schema of `chats`."""
  inner = {k: v for k, v in found.items() if k != 'type' and v is not None}
  return {'type': 'function', 'function': inner}


def tool_choice(value: Any, param: str) -> Any:
  """A mode, or a function by name."""
  if isinstance(value, str):
    return faults.choice('auto', 'none', 'required')(value, param)
  return faults.table(
    {'type': faults.choice('function'), 'name': faults.text(64, least=1)},
    required=('type', 'name'),
  )(value, param)


def modalities(models: services.Models) -> faults.Check:
  """One of text and audio, that the models can give."""

  def check(value, param):
    found = faults.listed(faults.choice(TEXT, AUDIO), 2)(value, param)
    if len(found) != 1:
      raise faults.wrong(value, param, '["audio"] or ["text"]')
    if found == [AUDIO] and models.mouth is None:
      raise faults.Fault(
        f'{param}: this server has no speech decoder; expected ["text"].',
        'unsupported',
        param,
      )
    return found

  return check


def voice(models: services.Models) -> faults.Check:
  """A voice of the mouth, as a string or {"id"}."""
  names = tuple(models.mouth.voices) if models.mouth else ()

  def check(value, param):
    if isinstance(value, dict):
      value = faults.table({'id': faults.text(256)}, ('id',))(value, param)
      value = value['id']
    if not names:
      raise faults.Fault(
        f'{param}: this server has no speech decoder; expected null.',
        'unsupported',
        param,
      )
    return faults.choice(*names)(value, param)

  return check


def longest_reply(value: Any, param: str) -> Any:
  """A number of ids, or "inf"."""
  if isinstance(value, str):
    return faults.choice(UNLIMITED)(value, param)
  return faults.number(1, 4096, whole=True)(value, param)


def no_prompt() -> faults.Check:
  """Templates live in OpenAI's dashboard."""
  return faults.absent('there are no stored prompts here')


def no_reasoning() -> faults.Check:
  """Our minds answer at once."""
  return faults.absent('there is no reasoning effort to choose here')


def _checks(models: services.Models, name: str, kind: str) -> faults.Check:
  """What an update of a session of a kind may hold."""

  def own_model(value, param):
    if value not in (None, name, models.name):
      raise faults.wrong(value, param, f'{faults.shown(name)}, which it is')
    return name

  hears = faults.table(
    {
      'format': audio_format,
      'transcription': faults.optional(_transcription),
      'noise_reduction': faults.absent('the server reduces no noise'),
      'turn_detection': faults.optional(_detection),
    }
  )
  says = faults.table(
    {
      'format': audio_format,
      'voice': faults.optional(voice(models)),
      'speed': faults.number(0.5, 2),
    }
  )
  both = {
    'type': faults.choice(REALTIME, TRANSCRIPTION),
    'include': faults.absent('log probabilities are not given'),
  }
  if kind == TRANSCRIPTION:
    return faults.table({**both, 'audio': faults.table({'input': hears})})
  return faults.table(
    {
      **both,
      'audio': faults.table({'input': hears, 'output': says}),
      'model': own_model,
      'instructions': faults.text(_LONGEST_TEXT),
      'output_modalities': modalities(models),
      'tools': faults.listed(tool, _MOST_TOOLS),
      'tool_choice': tool_choice,
      'parallel_tool_calls': faults.optional(faults.flag),
      'max_output_tokens': longest_reply,
      'truncation': _truncation,
      'tracing': _traced,
      'prompt': no_prompt(),
      'reasoning': no_reasoning(),
    }
  )


def initial(
  models: services.Models, id: str, expires_at: int, name: str | None = None
) -> dict[str, Any]:
  """A session as it begins.

  Args:
    models: What it talks with.
    id: Of the session.
    expires_at: When it ends, seconds since 1970.
    name: Of the model, as the client called it.
  """
  return {
    'type': REALTIME,
    'object': 'realtime.session',
    'id': id,
    'model': name or models.name,
    'output_modalities': [AUDIO if models.mouth else TEXT],
    'instructions': '',
    'tools': [],
    'tool_choice': 'auto',
    'parallel_tool_calls': True,
    'max_output_tokens': UNLIMITED,
    'tracing': None,
    'truncation': 'auto',
    'prompt': None,
    'reasoning': None,
    'expires_at': expires_at,
    'audio': {
      'input': {
        'format': {'type': formats.PCM, 'rate': 24000},
        'transcription': None,
        'noise_reduction': None,
        'turn_detection': dict(_DEFAULTS[SERVER_VAD]) if models.ear else None,
      },
      'output': {
        'format': {'type': formats.PCM, 'rate': 24000},
        'voice': models.mouth.voices[0] if models.mouth else None,
        'speed': 1.0,
      },
    },
    'include': None,
  }


def updated(
  session: Mapping[str, Any],
  given: Any,
  models: services.Models,
  *,
  has_spoken: bool,
  is_replying: bool,
) -> dict[str, Any]:
  """A session with what a client changes; the one that is given stays.

  Args:
    session: What is in effect.
    given: `session` of a `session.update`.
    models: What it talks with.
    has_spoken: Whether a reply was heard, after which the voice stays.
    is_replying: Whether one is being said, while which the speed stays.

  Raises:
    Fault: A field is unknown, or not what it may be.
  """
  if not isinstance(given, dict):
    raise faults.wrong(given, 'session', 'an object')
  if 'type' not in given:
    raise faults.Fault(
      'session.type: the parameter is missing; expected "realtime" or '
      '"transcription".',
      'missing_required_parameter',
      'session.type',
    )
  kind = faults.choice(REALTIME, TRANSCRIPTION)(given['type'], 'session.type')
  if kind != session['type']:
    session = _turned(session, kind)
  checked = _checks(models, session.get('model', models.name), kind)
  change = checked(given, 'session')
  new = copy.deepcopy(dict(session))
  change = copy.deepcopy(change)
  audio = change.pop('audio', {})
  new.update(change)
  for side in audio:
    given_side, kept = audio[side], new['audio'][side]
    if side == 'input':
      _listen(given_side, kept, models)
    else:
      _speak(given_side, kept, has_spoken, is_replying)
  _check_choice(new)
  return new


def _turned(session, kind) -> dict[str, Any]:
  """The other kind of session, with the same ears."""
  if kind == REALTIME:
    raise faults.Fault(
      'session.type: a transcription session cannot become a realtime one; '
      'expected "transcription".',
      'invalid_value',
      'session.type',
    )
  kept = ('id', 'expires_at', 'include')
  return {
    'type': TRANSCRIPTION,
    'object': 'realtime.transcription_session',
    **{name: session[name] for name in kept},
    'audio': {
      'input': {**session['audio']['input'], 'transcription': {}},
    },
  }


def _listen(given, kept, models) -> None:
  detection = given.get('turn_detection')
  if detection is not None:
    if models.ear is None:
      raise faults.Fault(
        'session.audio.input.turn_detection: this server does not hear; '
        'expected null.',
        'unsupported',
        'session.audio.input.turn_detection',
      )
    before = kept['turn_detection'] or {}
    if before.get('type') != detection['type']:
      before = _DEFAULTS[detection['type']]
    given = {**given, 'turn_detection': {**before, **detection}}
  if given.get('transcription') is not None:
    given = {**given, 'transcription': {'model': models.name}}
  kept.update(given)


def _speak(given, kept, has_spoken, is_replying) -> None:
  param = 'session.audio.output'
  if given.get('voice') is None:
    given = {k: v for k, v in given.items() if k != 'voice'}
  elif has_spoken and given['voice'] != kept['voice']:
    raise faults.Fault(
      f'{param}.voice: a voice cannot change once it was heard; expected '
      f'{faults.shown(kept["voice"])}.',
      'cannot_update_voice',
      f'{param}.voice',
    )
  if is_replying and given.get('speed', kept['speed']) != kept['speed']:
    raise faults.Fault(
      f'{param}.speed: cannot change while a response is in progress; '
      f'expected {kept["speed"]:g}.',
      'invalid_value',
      f'{param}.speed',
    )
  if is_replying and given.get('format', kept['format']) != kept['format']:
    raise faults.Fault(
      f'{param}.format: cannot change while a response is in progress.',
      'invalid_value',
      f'{param}.format',
    )
  kept.update(given)


def _check_choice(session) -> None:
  """A tool that is chosen has to be one of the tools."""
  chosen = session.get('tool_choice')
  names = [one['name'] for one in session.get('tools', ())]
  if len(set(names)) < len(names):
    raise faults.wrong(names, 'session.tools', 'a name once')
  if isinstance(chosen, dict) and chosen['name'] not in names:
    raise faults.wrong(
      chosen['name'], 'session.tool_choice.name', 'the name of one of the tools'
    )
