"""Where compiled programs are kept."""

import os

import jax
import pytest

from step_audio_jax.commands import compiled


@pytest.fixture
def told(monkeypatch, tmp_path):
  """What JAX is told, of a user whose cache is empty."""
  found = {}
  monkeypatch.setattr(jax.config, 'update', found.__setitem__)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  for name in (
    compiled.FOLDER,
    'JAX_ENABLE_COMPILATION_CACHE',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES',
  ):
    monkeypatch.delenv(name, raising=False)
  return found


def test_a_folder_of_the_users_own_is_made(told, tmp_path):
  folder = compiled.keep()
  assert folder == str(tmp_path / 'step_audio_jax' / 'compiled')
  assert os.stat(folder).st_mode & 0o777 == 0o700
  assert told['jax_compilation_cache_dir'] == folder
  assert told['jax_persistent_cache_min_compile_time_secs'] == 0
  assert told['jax_compilation_cache_max_size'] > 0


def test_what_others_may_write_into_is_not_run(told, tmp_path):
  folder = tmp_path / 'step_audio_jax' / 'compiled'
  folder.mkdir(parents=True)
  folder.chmod(0o777)
  assert compiled.keep() is None and not told


def test_a_home_that_cannot_be_written_into_is_none(told, tmp_path):
  (tmp_path / 'step_audio_jax').write_text('in the way')
  assert compiled.keep() is None and not told


def test_the_environment_goes_first(told, monkeypatch, tmp_path):
  monkeypatch.setenv(compiled.FOLDER, str(tmp_path / 'mine'))
  assert compiled.keep() == told['jax_compilation_cache_dir']
  assert told['jax_compilation_cache_dir'] == str(tmp_path / 'mine')
  assert 'jax_compilation_cache_max_size' not in told
  monkeypatch.setenv('JAX_ENABLE_COMPILATION_CACHE', 'false')
  assert compiled.keep() is None
