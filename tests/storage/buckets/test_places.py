import os
import pathlib
import pickle

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import files


@pytest.mark.parametrize('scheme', ['gs', 's3'])
@pytest.mark.parametrize(
  'key', ['a', 'a b/c', 'a/ü 你/x.json', 'a%20b/+', '.x/..y', 'a:/b', '-']
)
def test_an_address_joins_and_takes_apart_as_a_path_does(scheme, key):
  root = files.path(f'{scheme}://bucket')
  plain, found = pathlib.PurePosixPath(key), root / key
  assert str(found) == os.fspath(found) == f'{scheme}://bucket/{key}'
  assert (found.scheme, found.bucket, found.key) == (scheme, 'bucket', key)
  assert (found.name, found.suffix, found.stem) == (
    *(plain.name, plain.suffix),
    plain.stem,
  )
  assert found.relative_to(root).as_posix() == key
  assert found.is_relative_to(root) and not root.is_relative_to(found)
  assert str(found.with_name('z')) == f'{scheme}://bucket/' + str(
    plain.with_name('z')
  )
  assert (found / 'y').parent == found == files.path(str(found))
  assert pickle.loads(pickle.dumps(found)) == found
  assert found.is_absolute() and found.absolute() == found
  assert sorted([found / 'b', found / 'a']) == [found / 'a', found / 'b']


def test_a_bucket_alone_and_a_slash_behind():
  for text in ('gs://bucket', 'gs://bucket/'):
    assert files.path(text).key == '' and str(files.path(text)) == 'gs://bucket'
  assert str(files.path('s3://bucket/a/')) == 's3://bucket/a'


@pytest.mark.parametrize(
  ('text', 'found'),
  {
    'gs:/bucket/x': 'found one slash behind gs:, expected gs://bucket/…',
    'gs://': 'found no bucket, expected gs://bucket/…',
    's3:///x': 'found no bucket, expected s3://bucket/…',
    'gs://../x': 'found no bucket',
    'gs://a b/x': "found 'a b', which is no name of a bucket",
    'gs://bucket/a//b': 'found two slashes in a row',
    'gs://bucket//a': 'found two slashes in a row',
    'gs://bucket/../b': "found '..' between slashes",
    'gs://bucket/a/./b': "found '.' between slashes",
    'gs://bucket/a\nb': 'found a control character',
    f'gs://bucket/{"ü" * 600}': 'found a name of 1200 bytes, expected at most',
    'http://host/x': 'found an address, expected a path on this machine, gs://',
    'hdfs://host/x': 'expected a path on this machine, gs://bucket/…, s3://',
    'file:/tmp/x': 'found an address',
    'file://host/x': 'found an address',
    'az://bucket/x': 'found an address',
  }.items(),
)
def test_what_is_no_place_in_a_bucket(text, found):
  for take in (files.path, files.exists, files.read_json, files.is_address):
    with pytest.raises(errors.UserError, match=found.replace('.', r'\.')):
      take(text)
  with pytest.raises(errors.UserError, match='^--output='):
    files.path(text, '--output')


def test_what_pathlib_made_of_an_address_is_never_a_file_here(tmp_path):
  for take in (files.exists, files.read_json, files.remove_tree):
    with pytest.raises(errors.UserError, match='found one slash'):
      take(pathlib.Path('gs://bucket/x'))


def test_addresses_of_files_are_paths(tmp_path):
  (tmp_path / 'a b').write_text('1')
  assert files.path(f'file://{tmp_path}/a b') == tmp_path / 'a b'
  assert files.read_json(f'file://{tmp_path}/a b') == 1
  files.write_json(f'file://{tmp_path}/c', 2)
  assert (tmp_path / 'c').read_text() == '2\n'


def test_what_must_be_on_this_machine():
  with pytest.raises(errors.UserError, match='--x=gs://b1b/c: found a bucket'):
    files.local('gs://b1b/c', '--x')
  assert files.local('./gs:/x') == pathlib.Path('gs:/x')
