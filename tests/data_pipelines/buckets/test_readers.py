"""Every format is ingested from a bucket as it is from a disk."""

import shutil

import pytest

from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from step_audio_jax.storage import files
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees


def everything(folder, *others):
  """Name → content of all below a folder; it and others have other names."""
  found = {}
  for path in files.list_files(folder):
    raw = files.read_bytes(path)
    for number, one in enumerate((folder, *others)):
      raw = raw.replace(str(one).encode(), b'FOLDER-%d' % number)
    found[path.relative_to(folder).as_posix()] = raw
  return found


# The other server takes ten times as long, and readers know no difference.
_ONCE_MORE = ('folder', 'nemo_tarred', 'parquet')


@pytest.mark.parametrize(
  ('root', 'name'),
  [('gs', name) for name in trees.TREES]
  + [('s3', name) for name in _ONCE_MORE],
  indirect=['root'],
)
def test_its_layout_is_read_from_a_bucket(name, root, tmp_path):
  here, there = tmp_path / 'x/in', root / name / 'in'
  here.mkdir(parents=True)
  source, expected = trees.TREES[name](here)
  files.move(shutil.copytree(here, tmp_path / 'copy'), there)
  far = there / source.relative_to(here)
  ends = {
    'disk to disk': (source, tmp_path / 'out', here),
    'bucket to bucket': (far, root / name / 'out', there),
    'bucket to disk': (far, tmp_path / 'here', there),
    'disk to bucket': (source, root / name / 'there', here),
  }
  want = None
  for told, (begin, end, whole) in ends.items():
    kept, left = ingesting.ingested(begin, end, name)
    assert set(kept) == set(expected) and left == [], told
    found = everything(end, whole)
    want = want or found
    assert sorted(found) == sorted(want), told
    assert found == want, told


@pytest.mark.parametrize('root', ['gs'], indirect=True)
def test_the_format_is_told_in_a_bucket_too(root, tmp_path):
  for name in ('folder', 'kaldi', 'nemo', 'parquet', 'text_parquet'):
    (tmp_path / name).mkdir()
    source, expected = trees.TREES[name](tmp_path / name)
    source = root / name / source.relative_to(tmp_path / name)
    files.move(tmp_path / name, root / name)
    kept, _ = ingesting.ingested(source, root / f'out of {name}', 'auto')
    assert set(kept) == set(expected)


def lines(root):
  """A list of WeNet with recordings that are there, and some that are not."""
  names = {
    'good': 'a.wav',
    'whole': f'{root}/in/ü 你/b c.wav',
    'odd': './ü 你//b c.wav',
    'gone': 'gone.wav',
    'out': '../a.wav',
    'far': f'{root}/other/a.wav',
    'here': '/etc/passwd',
    'empty': f'{root}/in/x//a.wav',
    'long': 'x' * 1100,
    'controls': 'a\nb.wav',
    'windows': 'ü 你\\b c.wav',
    'text': 'data.list',
  }
  return [{'key': key, 'wav': wav, 'txt': 'x'} for key, wav in names.items()]


def test_where_recordings_of_a_bucket_may_lie(root, tmp_path):
  files.write_bytes(root / 'in/a.wav', trees.tone(0.5))
  files.write_bytes(root / 'in/ü 你/b c.wav', trees.tone(0.25))
  files.write_bytes(root / 'other/a.wav', trees.tone(0.25))
  files.write_jsonl(root / 'in/data.list', lines(root))
  kept, left = ingesting.ingested(root / 'in', root / 'out', 'wenet')
  # The same recording by other names is one recording.
  assert list(kept) == ['good', 'whole', 'odd', 'windows']
  assert {kept[name].audio for name in ('whole', 'odd', 'windows')} == {
    'audio/ü 你/b c.wav'
  }
  reasons = {one['id']: one['reason'] for one in left}
  said = {
    'gone': 'gone.wav: no such object',
    'out': "without '..'",
    'far': 'leads out of',
    'here': 'leads out of',
    'empty': 'two slashes in a row',
    'long': 'found a name of',
    'controls': 'a control character',
    'text': 'not readable as audio',
  }
  assert set(reasons) == set(said)
  for name, part in said.items():
    assert part in reasons[name], (name, reasons[name])
  # A list on this machine may name what lies in a bucket, where it is told.
  files.write_jsonl(tmp_path / 'data.list', lines(root)[:2])
  kept, left = ingesting.ingested(
    tmp_path, tmp_path / 'out', 'wenet', root=root / 'in'
  )
  assert list(kept) == ['good', 'whole'] and left == []
  assert not files.is_address(kept['good'].audio_path(tmp_path / 'out'))


def test_recordings_that_nobody_opens_are_there_or_refused(root):
  files.write_bytes(root / 'in/a.wav', trees.tone(0.5))
  files.write_jsonl(
    root / 'in/m.json',
    [
      {'audio_filepath': name, 'duration': 0.5, 'text': 'x'}
      for name in ('a.wav', 'b.wav')
    ],
  )
  kept, left = ingesting.ingested(
    root / 'in', root / 'out', 'nemo',
    rules=admission.Rules(trust_durations=True),
  )  # fmt: skip
  assert list(kept) == ['a']
  assert [one['reason'] for one in left] == ['audio/b.wav: no such file.']


def test_commands_of_a_table_run_on_this_machine(root):
  files.write_bytes(root / 'in/wav.scp', b'u1 cat a.wav |\nu2 a.wav\n')
  files.write_bytes(root / 'in/text', b'u1 one\nu2 two\n')
  files.write_bytes(root / 'in/a.wav', trees.tone(0.5))
  kept, left = ingesting.ingested(
    root / 'in', root / 'out', 'kaldi', pipes=True
  )
  assert list(kept) == ['u2']
  assert 'found a bucket, expected a path on this machine' in left[0]['reason']


def test_a_name_that_leads_nowhere_is_no_path_of_a_bucket(root):
  for name in ('..', 'a/../b', '', '\0', None, 7):
    with pytest.raises(base.errors.UserError, match='expected a path inside'):
      base.resolve_inside(root, name)
