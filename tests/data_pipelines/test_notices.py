"""The notices of TensorFlow's libraries stay inside."""

import os
import pathlib
import subprocess
import sys

import pytest

from data_pipelines import notices

ROOT = pathlib.Path(notices.__file__).parents[1]


def test_seqio_and_tensorflow_are_imported_without_a_word():
  env = {k: v for k, v in os.environ.items() if 'TF_' not in k}
  done = subprocess.run(
    [sys.executable, '-c', 'from data_pipelines.tasks import corpora'],
    cwd=ROOT,
    env=env,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stderr == done.stdout == ''


def test_what_is_held_back_is_shown_where_the_import_fails(capfd):
  with notices.hold_stderr():
    os.write(2, b'a notice\n')
  with pytest.raises(ImportError):
    with notices.hold_stderr():
      os.write(2, b'why it fails\n')
      raise ImportError
  os.write(2, b'behind it\n')
  assert capfd.readouterr().err == 'why it fails\nbehind it\n'
