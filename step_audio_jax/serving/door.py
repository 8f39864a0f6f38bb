"""The `serve` door: a server that people and programs talk to."""

import dataclasses
import gc
import os
import socket
import sys
import threading
import time
from typing import Any, Sequence

from absl import flags

from step_audio_jax import errors
from step_audio_jax import memory
from step_audio_jax.commands import cli
from step_audio_jax.commands import compiled
from step_audio_jax.decoder.doors import speak
from step_audio_jax.serving.guards import settings as settings_lib
from step_audio_jax.storage import files

TOKEN = 'STEP_AUDIO_TOKEN'
MODEL, TOKENIZER, DECODER = speak.MODEL, speak.TOKENIZER, speak.DECODER
_LIMITS = {
  'most_bytes': "Bytes of a request's body.",
  'most_requests': 'Requests and conversations under way at once.',
  'most_per_client': 'Of these, of one client.',
  'burst': 'Requests of one client at once, see --per_minute.',
  'longest_input': 'Characters of a text that is spoken.',
  'longest_reply': 'Ids of a reply.',
}
_TIMES = {
  'per_minute': 'Requests of one client in a minute; 0 is no limit.',
  'longest_sound': 'Seconds of a recording.',
  'reply_seconds': 'Of one reply, at most.',
  'write_seconds': 'A reader that takes nothing for so long is hung up on.',
  'drain_seconds': 'What replies under way are given when the server ends.',
}
_DEFAULTS = settings_lib.Settings()
_TRIM = 20.0  # seconds between two times that free memory is given back
_SWITCH = 5e-4  # seconds after which a thread gives the interpreter away


def _define(fv: flags.FlagValues) -> None:
  def text(name, default, help_text):
    flags.DEFINE_string(name, default, help_text, flag_values=fv)

  def several(name, help_text):
    flags.DEFINE_multi_string(name, [], help_text, flag_values=fv)

  text(
    'host',
    _DEFAULTS.host,
    'Address that is listened at. Where others can reach it, as at 0.0.0.0, a '
    'token is required.',
  )
  flags.DEFINE_integer(
    'port', _DEFAULTS.port, '0 takes a free one.', flag_values=fv
  )
  text(
    'token_variable',
    TOKEN,
    'Of the environment, that holds the token which clients send as '
    '`Authorization: Bearer TOKEN`; none is asked for where it is not set.',
  )
  text('token_file', None, 'A file that holds the token, in its place.')
  several('host_name', 'A name that browsers know this server by.')
  several('origin', 'Of a page elsewhere that may ask, https://HOST.')
  several('proxy', 'Address whose X-Forwarded-For is believed.')
  for name, told in _LIMITS.items():
    flags.DEFINE_integer(name, getattr(_DEFAULTS, name), told, flag_values=fv)
  for name, told in _TIMES.items():
    flags.DEFINE_float(name, getattr(_DEFAULTS, name), told, flag_values=fv)
  text('model', None, f'Run that answers; ${MODEL[0]}, {MODEL[1]}.')
  text('tokenizer', None, f'Tokenizer; ${TOKENIZER[0]}, {TOKENIZER[1]}.')
  text('decoder', None, f'Speech decoder; ${DECODER[0]}, {DECODER[1]}.')
  flags.DEFINE_integer(
    'step',
    None,
    'Checkpoint of --model; by default the newest.',
    flag_values=fv,
  )
  text('ear', None, 'Run that writes down what is heard; by default --model.')
  text('mouth', None, 'Run that turns text into codes; by default --model.')
  several('voice', 'NAME=FILE: a recording of a further voice.')
  text('name', None, 'What clients call the model; by default its folder.')
  flags.DEFINE_bool(
    'speaks',
    False,
    'Let the model answer in text and speech by turns, if it has learnt that, '
    'instead of having its text spoken.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'text_only', False, 'Neither hear nor speak.', flag_values=fv
  )
  flags.DEFINE_enum(
    'speculation',
    'on',
    ('on', 'off'),
    'Begin a reply at a pause of the user, before it is known whether the turn '
    'is over.',
    flag_values=fv,
  )
  text(
    'end_of_turn',
    _DEFAULTS.end_of_turn,
    'Who says whether a turn is over: words, or pause, whatever was said.',
  )
  flags.DEFINE_multi_string(
    'tool',
    [],
    'A tool that realtime sessions are given and that runs here: clock or '
    'calculator. Repeat for more.',
    flag_values=fv,
  )
  text(
    'tool_servers',
    None,
    'A file that names servers of more tools (MCP); see docs/tools.md.',
  )
  text(
    'mind_url',
    None,
    'Let another server answer, that speaks the protocol of chat completions '
    '(vLLM with an exported folder): https://HOST/v1.',
  )
  text('mind_name', None, 'Name of the model there.')
  text(
    'mind_key_variable',
    None,
    'Of the environment, that holds the key of that server.',
  )


def settings_of(fv: flags.FlagValues) -> settings_lib.Settings:
  """What the flags say.

  Raises:
    UserError: A limit makes no sense, or there is no token where one has to
      be.
  """
  given = {name: fv[name].value for name in (*_LIMITS, *_TIMES)}
  return settings_lib.Settings(
    host=fv.host,
    port=fv.port,
    token=_token(fv),
    hosts=tuple(fv.host_name),
    origins=tuple(fv.origin),
    proxies=tuple(fv.proxy),
    speculation=fv.speculation == 'on',
    end_of_turn=fv.end_of_turn,
    tools=tuple(fv.tool),
    tool_servers=fv.tool_servers,
    **given,
  )


def _token(fv: flags.FlagValues) -> str | None:
  if fv.token_file is not None:
    with files.opened(fv.token_file, '--token_file') as handle:
      raw = handle.read(2**12)
    return raw.decode(errors='replace').strip()
  return os.environ.get(fv.token_variable) or None


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  settings = settings_of(fv)
  described = {
    **{
      field.name: getattr(settings, field.name)
      for field in dataclasses.fields(settings)
      if field.name != 'token'
    },
    'secured': settings.token is not None,
    'model': fv.model,
    'mind': fv.mind_url,
  }
  if fv.dry_run:
    if not fv.json:
      for name, value in described.items():
        print(f'{name}: {value}')
    return described
  return {**described, **_serve(fv, settings)}


def _serve(fv, settings: settings_lib.Settings) -> dict[str, Any]:
  try:
    from step_audio_jax.serving import app
    from step_audio_jax.serving import warming
    from step_audio_jax.serving.guards import connections
  except ModuleNotFoundError as error:
    if (error.name or '').startswith('step_audio_jax'):
      raise
    raise errors.UserError(
      f'serve: {error.name} is not installed; expected '
      "`pip install 'step_audio_jax[serve]'`."
    ) from error

  began = time.monotonic()
  # The engine's thread asks for the interpreter several times a turn; in the
  # usual 5 ms a whole turn is over.
  sys.setswitchinterval(_SWITCH)
  listener = _listener(settings)
  port = listener.getsockname()[1]
  url = f'http://{_shown(settings.host)}:{port}'
  models: list[Any] = []

  def make():
    models.append(_loaded(fv))
    models[0].warm_up()
    # What is there now stays: looking through it for what may go would hold
    # everybody up for a tenth of a second at times.
    gc.collect()
    gc.freeze()
    return app.application(models[0], settings, gauges=models[0].gauges())

  def done(error):
    if error is not None:
      server.should_exit = True
      return
    seconds = time.monotonic() - began
    print(f'{url} is ready after {seconds:.1f} s.', file=sys.stderr, flush=True)

  over = threading.Event()
  threading.Thread(target=_trim, args=(over,), daemon=True).start()
  application = warming.Warming(make, done)
  server = connections.Server(application, settings)
  print(f'{url} warms up.', file=sys.stderr, flush=True)
  try:
    server.run(sockets=[listener])
  finally:
    over.set()
    for one in models:
      one.close()
  if application.error is not None:
    raise application.error
  return {'url': url, 'seconds': round(time.monotonic() - began, 3)}


def _trim(over: threading.Event) -> None:
  """Gives back what requests leave between blocks that stay, now and then."""
  while not over.wait(_TRIM):
    memory.give_back_freed()


def _loaded(fv):
  """Models as the flags name them; `warm_up`, `gauges` and `close` are theirs.

  Raises:
    UserError: A folder is not there, or they do not belong together.
  """
  from step_audio_jax.dialogue.models import load

  compiled.keep()

  def folder(flag, given, where):
    return cli.default_folder(flag, given, *where, 'serve')

  speech = not fv.text_only
  loaded = load.load(
    load.Config(
      model=folder('model', fv.model, MODEL),
      step=fv.step,
      tokenizer=(
        folder('tokenizer', fv.tokenizer, TOKENIZER) if speech else None
      ),
      decoder=folder('decoder', fv.decoder, DECODER) if speech else None,
      ear=fv.ear,
      mouth=fv.mouth,
      voices=_voices(fv.voice),
      speaks=fv.speaks,
      name=fv.name,
    )
  )
  if fv.mind_url is None:
    return loaded
  from step_audio_jax.dialogue.remote import mind

  address = mind.Address(
    fv.mind_url, fv.mind_name or '', key_variable=fv.mind_key_variable
  )
  return dataclasses.replace(loaded, mind=mind.RemoteMind(address))


def _voices(given: Sequence[str]) -> dict[str, str]:
  found: dict[str, str] = {}
  for one in given:
    name, sign, path = one.partition('=')
    if not (name and sign and path) or name in found:
      raise errors.UserError(
        f'--voice: found {one!r:.80}, expected NAME=FILE, each name once.'
      )
    found[name] = path
  return found


def _listener(settings: settings_lib.Settings) -> socket.socket:
  host = settings.host.strip('[]')
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server(
      (host, settings.port), family=family, backlog=settings.most_connections
    )
  except OSError as error:
    told = error.strerror or str(error)
    raise errors.UserError(
      f'serve: {host}, port {settings.port}: {told}; expected an address of '
      'this machine and a port that is free.'
    ) from error


def _shown(host: str) -> str:
  return f'[{host}]' if ':' in host and not host.startswith('[') else host


DOOR = cli.Door(
  summary="""Serve a model to people and programs, as OpenAI's clients ask.

    python -m step_audio_jax serve --model runs/quickstart/sft
    http://127.0.0.1:8000                 a page to talk to it
    http://127.0.0.1:8000/v1              base_url of the `openai` client
    http://127.0.0.1:8000/openapi.json    what can be asked

It ends on SIGTERM when replies under way have, or after --drain_seconds.""",
  main=_main,
  define=_define,
  texts=('mind_url', 'origin'),
  uses_gin=False,
)
