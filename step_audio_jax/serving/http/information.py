"""What a server says of itself: its model, whether it is well, its figures."""

from typing import Any

from starlette import requests
from starlette import responses

from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.http import service as service_lib


class Information:
  """`/v1/models`, `/health`, `/metrics`."""

  def __init__(self, service: service_lib.Service):
    """Of this server, from now on."""
    self._service, self._since = service, int(service.wall())

  def _model(self) -> dict[str, Any]:
    models = self._service.models
    return {
      'id': models.name,
      'object': 'model',
      'created': self._since,
      'owned_by': 'step_audio_jax',
      'max_model_len': models.mind.longest,
      'voices': list(models.mouth.voices) if models.mouth else [],
      'hears': models.ear is not None,
    }

  async def models(self, request: requests.Request) -> responses.Response:
    """`GET /v1/models`."""
    del request
    return responses.JSONResponse({'object': 'list', 'data': [self._model()]})

  async def model(self, request: requests.Request) -> responses.Response:
    """`GET /v1/models/{model}`."""
    self._service.check_model(request.path_params['model'])
    return responses.JSONResponse(self._model())

  async def health(self, request: requests.Request) -> responses.Response:
    """`GET /health`: 200 where it may be asked, else 503."""
    del request
    admission = self._service.admission
    return responses.JSONResponse(
      {
        'status': admission.state,
        'model': self._service.models.name,
        'under_way': admission.under_way,
      },
      200 if admission.state == admission_lib.READY else 503,
    )

  async def metrics(self, request: requests.Request) -> responses.Response:
    """`GET /metrics`."""
    del request
    text, media_type = self._service.metrics.text()
    return responses.Response(text, headers={'content-type': media_type})
