"""A stand-in for an outside ear, and folders of a judge's layout, for tests."""

import base64
import hashlib
import struct

import numpy as np

from step_audio_jax.evaluation.metrics import judge as judge_lib
from tests.evaluation import parrot

HEAD = struct.pack('<IH', 6, 12) + b'WhisperSpec\0'
FILES = {
  'model.bin': HEAD + bytes(range(40)),
  'config.json': b'{}',
  'tokenizer.json': b'{"model": 1}',
  'vocabulary.txt': b'a\nb\n',
}
RATE, GROUP = 16000, 1920  # samples of 120 ms


def wave(text):
  """Each letter is a constant whose height says which."""
  letters = np.asarray([parrot.LETTERS.index(letter) for letter in text])
  return np.repeat((letters + 1) / 64, GROUP).astype(np.float32)


class Ear:
  """Hears levels, writes capitals and full stops; knows English alone."""

  languages = frozenset({'en'})
  made: list = []

  def __init__(self, place, config):
    self.made.append((place, config))
    self.beam = config.beam

  def hear(self, wave_S, language):
    assert language == 'en'
    groups = wave_S[: len(wave_S) // GROUP * GROUP].reshape(-1, GROUP)
    letters = np.round(groups[:, 600:1300].mean(axis=1) * 64 - 1).astype(int)
    text = ''.join(parrot.LETTERS[letter] for letter in letters)
    return f'{text.capitalize()}.'


def write_folder(folder, **changes):
  """A judge's folder; `changes` are contents by name without its ending."""
  folder.mkdir(parents=True)
  for name, content in FILES.items():
    content = changes.get(name.partition('.')[0], content)
    if content is not None:
      (folder / name).write_bytes(content)
  return folder


def install(site, name, contents):
  """A package as an installer leaves it, with digests in its RECORD."""
  data = site / name / 'data'
  data.mkdir(parents=True)
  (site / name / '__init__.py').write_text('raise AssertionError("imported")')
  info = site / f'{name}-1.0.dist-info'
  info.mkdir()
  (info / 'METADATA').write_text(
    f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n'
  )
  lines = []
  for file, content in contents.items():
    (data / file).write_bytes(content)
    digest = hashlib.sha256(content).digest()
    sealed = base64.urlsafe_b64encode(digest).decode().rstrip('=')
    lines.append(f'{name}/data/{file},sha256={sealed},{len(content)}')
  (info / 'RECORD').write_text('\n'.join(lines) + '\n')


def stand_in(monkeypatch):
  """Puts the ear where a recogniser would be loaded."""
  monkeypatch.setattr(judge_lib, 'Judge', Ear)
  monkeypatch.setattr(judge_lib, 'check_library', lambda: None)
  monkeypatch.setattr(Ear, 'made', [])
  return Ear.made
