"""Git LFS pointers are told as such, wherever the file itself is expected."""

import gzip
import io
import os

import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.corpus import manifest
from step_audio_jax.interop.formats import onnx
from step_audio_jax.interop.formats import pickles
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs
from step_audio_jax.storage import shards
from step_audio_jax.tokenizers.text import text_models

POINTER = (
  b'version https://git-lfs.github.com/spec/v1\n'
  b'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393'
  b'\nsize 12345\n'
)


@pytest.fixture
def pointer(tmp_path):
  path = tmp_path / 'a.wav'
  path.write_bytes(POINTER)
  return path


@pytest.mark.parametrize(
  'content, found',
  [
    (POINTER, True),
    (POINTER.replace(b'\n', b'\r\n'), True),
    (POINTER.replace(b'git-lfs.github.com', b'hawser.github.com'), True),
    (POINTER + b'x' * 2000, False),  # pointers are small
    (b'version 1\n', False),
    (b'', False),
    (b'RIFF' + POINTER, False),
  ],
)
def test_what_a_pointer_is(content, found, tmp_path):
  path = tmp_path / 'x'
  path.write_bytes(content)

  def opened():
    files.opened(path).close()

  for act in (
    lambda: lfs.refuse(content, 'x'),
    lambda: lfs.refuse_path(path, 'x'),
    opened,
  ):
    if found:
      with pytest.raises(errors.UserError, match='run `git lfs pull`'):
        act()
    else:
      act()


def test_a_file_that_is_none_is_read_from_its_beginning(tmp_path):
  path = tmp_path / 'x'
  path.write_bytes(b'version 2\nmore\n')
  with files.opened(path) as handle:
    assert handle.read() == b'version 2\nmore\n'
  with files.opened(path, mode='r', encoding='utf-8') as handle:
    assert handle.read() == 'version 2\nmore\n'
  lfs.refuse(io.BytesIO(POINTER), 'x')  # has no number: what is opened is not
  lfs.refuse_path(tmp_path / 'gone')
  os.mkfifo(tmp_path / 'pipe')
  lfs.refuse_path(tmp_path / 'pipe')  # nobody waits for who writes into it


def test_doors_that_open_files_say_so(pointer, tmp_path):
  for read in (
    lambda: audio_io.read_audio(pointer),
    lambda: audio_io.probe(pointer),
    lambda: files.read_json(pointer),
    lambda: list(files.read_jsonl(pointer)),
    lambda: manifest.read(pointer),
    lambda: onnx.read(pointer),
    lambda: pickles.Checkpoint(pointer),
    lambda: shards.read_header(pointer),
    lambda: text_models.SentencePieceText(pointer),
  ):
    with pytest.raises(errors.UserError) as caught:
      read()
    assert str(caught.value) == (
      f'{pointer}: a Git LFS pointer and not the file that it stands for; run '
      '`git lfs pull` in its repository.'
    )
  (tmp_path / 'x.gz').write_bytes(gzip.compress(POINTER))
  lfs.refuse_path(tmp_path / 'x.gz')
