"""The routes of the HTTP surface."""

import functools
from typing import Any

from starlette import requests
from starlette import responses
from starlette import routing

import step_audio_jax
from step_audio_jax.serving.http import information as information_lib
from step_audio_jax.serving.http import openapi
from step_audio_jax.serving.http import service as service_lib
from step_audio_jax.serving.http import speech
from step_audio_jax.serving.http import transcriptions
from step_audio_jax.serving.http.chat import completions

HEALTH, DOCUMENT = '/health', '/openapi.json'


def routes(service: service_lib.Service) -> list[routing.BaseRoute]:
  """Of one server."""
  information = information_lib.Information(service)
  document = openapi.document(
    step_audio_jax.__version__,
    service.models.name,
    service.settings.token is not None,
  )

  async def described(request: requests.Request) -> responses.Response:
    del request
    return responses.JSONResponse(document)

  def post(path: str, function: Any) -> routing.Route:
    async def answer(request: requests.Request) -> Any:
      return await function(request)

    return routing.Route(path, answer, methods=['POST'])

  spoken = functools.partial(speech.speech, service)
  written = functools.partial(transcriptions.transcribe, service)
  return [
    post('/v1/chat/completions', completions.Completions(service)),
    post('/v1/audio/speech', spoken),
    post('/v1/audio/transcriptions', written),
    routing.Route('/v1/models', information.models),
    routing.Route('/v1/models/{model:path}', information.model),
    routing.Route(HEALTH, information.health),
    routing.Route('/metrics', information.metrics),
    routing.Route(DOCUMENT, described),
  ]
