"""Recordings, images and files that the made corpora are put together from."""

import gzip
import io
import json
import tarfile

import numpy as np
import soundfile

RATE = 8000
SECONDS = (0.25, 0.5, 0.375)  # ragged


def tone(seconds, rate=RATE, channels=1, form='WAV'):
  """Bytes of a recording; what a channel holds tells which it is."""
  count = round(seconds * rate)
  samples = (
    np.sin(np.arange(count) / 5)[:, None] * 0.1 * (1 + np.arange(channels))
  )
  out = io.BytesIO()
  soundfile.write(out, samples, rate, format=form)
  return out.getvalue()


def png(colour):
  import PIL.Image

  out = io.BytesIO()
  PIL.Image.new('RGB', (4, 3), colour).save(out, 'PNG')
  return out.getvalue()


def put(path, content):
  """Writes bytes, text, or JSON lines."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(content, list):
    lines = (json.dumps(line, ensure_ascii=False) for line in content)
    content = ''.join(f'{line}\n' for line in lines)
  if isinstance(content, str):
    content = content.encode()
  if path.suffix == '.gz':
    content = gzip.compress(content, mtime=0)
  path.write_bytes(content)
  return path


def tar(path, members):
  """A tar of (name, bytes)."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, 'w') as archive:
    for name, data in members:
      data = data.encode() if isinstance(data, str) else data
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  return path


def said(text, seconds=None, **fields):
  """Expected fields."""
  if seconds is not None:
    fields['duration'] = seconds
  return {'text': text, **fields}
