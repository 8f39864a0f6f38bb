"""What the routes of one server share."""

import asyncio
import dataclasses
import json
import re
from typing import Any, Callable, Mapping, TypeVar

from starlette import requests
from starlette import responses

from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import admission as admission_lib
from step_audio_jax.serving.guards import delivery
from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import metrics as metrics_lib
from step_audio_jax.serving.guards import settings as settings_lib
from step_audio_jax.serving.http import shapes
from step_audio_jax.storage import files

_T = TypeVar('_T')
_PARTS, _MOST_PARTS = (b',', b'{', b'['), 2**17
_SMALL = 2**16  # bytes
_HALVES = re.compile(rb'\\u[dD][89abAB]')  # of surrogate pairs


@dataclasses.dataclass(frozen=True)
class Service:
  """One server.

  Attributes:
    models: What answers.
    settings: What is allowed.
    clock: Seconds that only grow.
    wall: Seconds since 1970.
    admission: What is under way.
    metrics: What was.
  """

  models: services.Models
  settings: settings_lib.Settings
  clock: Callable[[], float]
  wall: Callable[[], float]
  admission: admission_lib.Admission
  metrics: metrics_lib.Metrics

  def first(self, request: requests.Request, kind: str) -> None:
    """The first 'text' or 'audio' of a reply goes out."""
    seconds = self.clock() - request.scope['began']
    self.metrics.first(request.scope['path'], kind, seconds)

  def used(self, usage: services.Usage) -> None:
    """What a reply cost."""
    self.metrics.used(usage.prompt, usage.cached, usage.reply)

  def check_model(self, name: str) -> None:
    """Refuses the name of another model.

    Raises:
      Fault: 404.
    """
    if name != self.models.name:
      raise faults.Fault(
        404,
        f'The model {name!r:.80} does not exist; this server has '
        f'{self.models.name!r}.',
        param='model',
        code='model_not_found',
      )


async def json_body(
  request: requests.Request, shape: Mapping[str, Any]
) -> dict[str, Any]:
  """The body of a request, of a shape.

  Args:
    request: Which.
    shape: A JSON Schema of `shapes`.

  Raises:
    Fault: 400, naming the field; 415 of another media type.
  """
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind.lower() != 'application/json':
    raise faults.Fault(
      415,
      f'content-type: found {kind!r:.60}, expected application/json.',
      code='unsupported_media_type',
    )
  raw = await request.body()
  return await aside(len(raw), _parsed, raw, shape)


def _parsed(raw: bytes, shape: Mapping[str, Any]) -> dict[str, Any]:
  # Recordings have none of these characters, so that this is what there is
  # besides: each costs some time, in which nobody else is served.
  if sum(map(raw.count, _PARTS)) > _MOST_PARTS:
    raise faults.invalid(
      f'body: found more than {_MOST_PARTS} lists, objects and their parts, '
      'expected fewer.',
      code='invalid_json',
    )
  try:
    value = files.parsed(raw.decode(), parse_constant=_no_number)
    if _HALVES.search(raw):
      json.dumps(value, ensure_ascii=False).encode()
  except ValueError as error:
    raise faults.invalid(
      f'We could not parse the JSON body of your request ({error!s:.80}).',
      code='invalid_json',
    ) from error
  shapes.check(value, shape)
  return value


async def aside(size: int, function: Callable[..., _T], *arguments: Any) -> _T:
  """A result that takes its time where its input is large: in a thread then.

  Args:
    size: Bytes of the input.
    function: What gives it.
    *arguments: Of that.
  """
  if size < _SMALL:
    return function(*arguments)
  return await asyncio.to_thread(function, *arguments)


async def answered(
  request: requests.Request, work
) -> responses.Response | dict[str, Any]:
  """What `work` gives, unless the client hangs up before.

  Raises:
    Gone: It did.
  """
  return await delivery.unless_gone(request.receive, work)


def _no_number(name: str) -> None:
  raise ValueError(f'{name} is no number of JSON')
