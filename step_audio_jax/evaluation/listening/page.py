"""A listening page as one HTML file, or as one with its sounds beside it."""

import base64
import json

from step_audio_jax import errors
from step_audio_jax.evaluation.listening import design as design_lib
from step_audio_jax.evaluation.listening import markup
from step_audio_jax.evaluation.listening import script
from step_audio_jax.evaluation.listening import stimuli
from step_audio_jax.evaluation.listening import style
from step_audio_jax.evaluation.pages import page
from step_audio_jax.storage import files

NAME, KEY, SOUNDS = 'listen.html', 'key.json', 'sounds'
# Nothing from elsewhere is loaded, and nothing is sent.
_POLICY = (
  "default-src 'none'; script-src 'unsafe-inline'; "
  "style-src 'unsafe-inline'; img-src data:; media-src data: file: 'self'; "
  "connect-src 'none'; form-action 'none'; base-uri 'none'"
)


def document(design: design_lib.Design, embedded: bool = True) -> str:
  """The page.

  Args:
    design: What it asks.
    embedded: Whether it holds its sounds; else they lie in the folder
      `sounds` beside it.
  """
  told = {
    **design.page,
    'type': stimuli.TYPE,
    'ending': stimuli.ENDING,
    'test': _test_sound(design),
  }
  # `<` would end the element early, or open a comment in it.
  data = json.dumps(told, ensure_ascii=True).replace('<', '\\u003c')
  held = ''
  if embedded:
    held = ''.join(
      f'<script type="text/plain" id="{name}">'
      f'{base64.b64encode(sound.content).decode()}</script>\n'
      for name, sound in sorted(design.sounds.items())
    )
  body = (
    f'{markup.BODY}<script type="application/json" id="data">{data}</script>\n'
    f'{held}<script>{script.SCRIPT}</script>'
  )
  head = (
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    '<link rel="icon" href="data:,">'
    f'<style>{style.STYLE}</style>'
  )
  return page.page(design.page['title'], body, head)


def write(
  design: design_lib.Design,
  folder: files.Path,
  *,
  embedded: bool = True,
  most_megabytes: float = 100.0,
) -> dict[str, int]:
  """Writes page and key into a folder.

  Args:
    design: What is asked.
    folder: Gets `listen.html`, `key.json` and, not embedded, `sounds`.
    embedded: Whether the page holds its sounds.
    most_megabytes: How large it may be then.

  Returns:
    `bytes` of the page.

  Raises:
    UserError: It would be larger, or cannot be written.
  """
  folder = files.path(folder)
  size = sum(len(sound.content) for sound in design.sounds.values()) * 4 / 3
  if embedded and size > most_megabytes * 1e6:
    raise errors.UserError(
      f'listen: {len(design.sounds)} sounds are {size / 1e6:.1f} MB within a '
      f'page, expected at most {most_megabytes:g}; --noembed keeps them in '
      'files beside it, --items=N takes fewer, --most_megabytes allows more.'
    )
  text = document(design, embedded)
  files.make_folder(folder)
  if not embedded:
    files.make_folder(folder / SOUNDS)
    for name, sound in design.sounds.items():
      files.write_bytes(
        folder / SOUNDS / (name + stimuli.ENDING), sound.content
      )
  files.write_json(folder / KEY, design.key)
  with files.atomic(folder / NAME, 'w') as handle:
    handle.write(text)
  return {'bytes': len(text.encode())}


def _test_sound(design) -> str:
  """A sound that nobody is asked about first: of the first trial's item."""
  return design.page['trials'][0]['sounds'][0]
