"""Serves the page and its parts, as they lie beside this file.

Everything is read once. A browser may keep what it got, but asks each time
whether it is still the same (`ETag`), so that a new version of the server never
meets half a page of the old one.
"""

import hashlib
import importlib.resources
from typing import Any

from step_audio_jax.evaluation.pages import page as pages

_TYPES = {
  'html': 'text/html; charset=utf-8',
  'css': 'text/css; charset=utf-8',
  'js': 'text/javascript; charset=utf-8',
}
_INDEX, _STYLE = 'index.html', 'style.css'
# Nothing inline, nothing from elsewhere; `'self'` covers its own socket.
_POLICY = (
  "default-src 'none'; script-src 'self'; style-src 'self'; "
  "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
  "frame-ancestors 'none'"
)
HEADERS = {
  'Cache-Control': 'no-cache',
  'Content-Security-Policy': _POLICY,
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'microphone=(self), camera=(), geolocation=()',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
}


def contents() -> dict[str, bytes]:
  """Name of a file → what is sent for it."""
  folder = importlib.resources.files(__package__) / 'static'
  found = {
    one.name: one.read_bytes()
    for one in folder.iterdir()
    if one.name.rpartition('.')[2] in _TYPES
  }
  found[_STYLE] = pages.STYLE.encode() + found[_STYLE]
  return found


def routes() -> list[Any]:
  """Routes of starlette: `/` and `/page/{name}`; neither needs a token."""
  from starlette import responses
  from starlette import routing

  held = {
    name: (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    for name, content in contents().items()
  }

  def answer(request, name):
    if name not in held:
      return responses.PlainTextResponse(
        'There is no such part of the page.', 404, HEADERS
      )
    content, tag = held[name]
    headers = {
      **HEADERS,
      'ETag': tag,
      'Content-Type': _TYPES[name.rpartition('.')[2]],
    }
    known = request.headers.get('if-none-match', '')
    if tag in (one.strip().removeprefix('W/') for one in known.split(',')):
      del headers['Content-Type']
      return responses.Response(status_code=304, headers=headers)
    return responses.Response(content, headers=headers)

  async def index(request):
    return answer(request, _INDEX)

  async def part(request):
    name = request.path_params['name']
    return answer(request, '' if name == _INDEX else name)

  return [routing.Route('/', index), routing.Route('/page/{name}', part)]
