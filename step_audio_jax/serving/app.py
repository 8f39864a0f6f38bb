"""The application: every surface of a server behind one gate."""

import importlib
import importlib.util
import time
from typing import Any, Callable

from starlette import routing

from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.turns import metrics as turns_lib
from step_audio_jax.serving import routes as routes_lib
from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import gate
from step_audio_jax.serving.guards import metrics as metrics_lib
from step_audio_jax.serving.guards import settings as settings_lib
from step_audio_jax.serving.http import service as service_lib
from step_audio_jax.serving.page import page as page_lib

_REALTIME = 'step_audio_jax.serving.realtime.endpoint'


def application(
  models: services.Models,
  settings: settings_lib.Settings | None = None,
  clock: Callable[[], float] = time.monotonic,
  *,
  wall: Callable[[], float] = time.time,
  gauges: metrics_lib.Gauges | None = None,
) -> gate.Gate:
  """An ASGI application.

  Args:
    models: What answers.
    settings: What is allowed.
    clock: Seconds that only grow.
    wall: Seconds since 1970.
    gauges: More for `/metrics`, of the engine: name → (help, how to read it).
  """
  settings = settings or settings_lib.Settings()
  admission = admission_lib.Admission(settings)
  turns = turns_lib.Metrics()
  metrics = metrics_lib.Metrics(
    {
      'requests_under_way': (
        'Requests and conversations.',
        lambda: admission.under_way,
      ),
      'held_bytes': ('Of bodies.', lambda: admission.held),
      **{
        f'dialogue_{name}': (
          'Of all spoken turns; see docs/turns.md.',
          lambda name=name: turns.figures()[name],
        )
        for name in turns.figures()
      },
      **(gauges or {}),
    }
  )
  service = service_lib.Service(
    models, settings, clock, wall, admission, metrics
  )
  api = routes_lib.routes(service)
  page = page_lib.routes()
  socket = _made(_REALTIME, 'endpoint', models, settings, turns)
  every = [*api, *page, *([socket] if socket else ())]
  paths = [one.path for one in every]
  shown = [one.path for one in page]
  return gate.Gate(
    routing.Router(every, redirect_slashes=False),
    settings,
    clock,
    admission,
    metrics,
    routes=paths,
    # A page holds nothing secret, and a browser sends no token for it.
    public=[*shown, routes_lib.DOCUMENT],
    unlimited=[routes_lib.HEALTH],
  )


def _made(module: str, name: str, *arguments: Any) -> Any:
  """What a surface that is there gives; None where it is not."""
  parent = module.rpartition('.')[0]
  if not importlib.util.find_spec(parent) or not importlib.util.find_spec(
    module
  ):
    return None
  return getattr(importlib.import_module(module), name)(*arguments)
