"""A server on loopback, its clients, and sound for them."""

import base64
import contextlib
import io
import socket
import threading

import numpy as np
import soundfile

from step_audio_jax.serving import app
from step_audio_jax.serving.guards import connections
from step_audio_jax.serving.guards import settings as settings_lib
from tests.dialogue import fakes


class Running:
  """Where a server is, and what it is made of."""

  def __init__(self, application, models, server, port):
    self.application, self.models = application, models
    self.server, self.port = server, port
    self.url = f'http://127.0.0.1:{port}'

  def client(self, **more):
    """OpenAI's."""
    import openai

    given = {'api_key': 'none', 'max_retries': 0, 'timeout': 20, **more}
    return openai.OpenAI(base_url=f'{self.url}/v1', **given)

  @contextlib.contextmanager
  def socket(self):
    with socket.create_connection(('127.0.0.1', self.port), 20) as found:
      yield found


@contextlib.contextmanager
def running(models=None, **limits):
  """A server in a thread of its own, that ends behind the block."""
  settings = settings_lib.Settings(**{'port': 0, 'per_minute': 0, **limits})
  models = models or fakes.models()
  application = app.application(models, settings)
  listener = socket.create_server(('127.0.0.1', 0))
  server = connections.Server(application, settings)
  thread = threading.Thread(target=server.run, args=([listener],))
  thread.start()
  try:
    port = listener.getsockname()[1]
    yield Running(application, models, server, port)
  finally:
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def speech(seconds=0.5, rate=16000):
  """Something that is not silent, (S,)."""
  count = round(seconds * rate)
  return (np.sin(np.arange(count) * 0.3) / 3).astype(np.float32)


def recording(seconds=0.5, rate=16000, form='WAV', subtype=None, samples=None):
  """A file."""
  raw = io.BytesIO()
  samples = speech(seconds, rate) if samples is None else samples
  soundfile.write(raw, samples, rate, subtype, format=form)
  return raw.getvalue()


def input_audio(raw, form='wav'):
  """A part of a message."""
  data = base64.b64encode(raw).decode()
  return {'type': 'input_audio', 'input_audio': {'data': data, 'format': form}}
