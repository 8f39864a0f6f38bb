"""The door of `build`: what it refuses, names and counts."""

import json

import pytest
import seqio

from data_pipelines import __main__ as doors
from data_pipelines.rows import folders
from data_pipelines.rows import verify
from data_pipelines.tasks import corpora
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files
from tests.data_pipelines import tiny


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return tiny.make(tmp_path_factory.mktemp('tiny') / 'corpus')


@pytest.fixture(autouse=True)
def clean():
  """Leaves the registry as it was."""
  before = set(seqio.TaskRegistry.names())
  yield
  for name in set(seqio.TaskRegistry.names()) - before:
    seqio.TaskRegistry.remove(name)
    corpora.DEFINITIONS.pop(name, None)


@pytest.fixture
def own(tmp_path):
  """A corpus that a test may spoil."""
  return tiny.make(tmp_path / 'corpus')


def call(capsys, *argv):
  argv = ['data_pipelines', 'build', *map(str, argv), '--json']
  status = cli.dispatch('data_pipelines', doors.DOORS, argv)
  out = capsys.readouterr()
  if not status:
    return status, json.loads(out.out.splitlines()[-1])
  (line,) = [x for x in out.err.splitlines() if not x.startswith('importing')]
  return status, line


def flags(root, output):
  return [
    '--name=reg', f'--speech={root}/speech', f'--codes={root}/codes',
    f'--text={root}/text', f'--images={root}/images',
    f'--text_model={root}/text.model', f'--output={output}', '--length=64',
  ]  # fmt: skip


def test_counts_of_a_build_add_up(own, tmp_path, capsys):
  codes = speech_codes.read_codes(own / 'codes')
  codes['u0'] = [1024, 1, 2, 3], [1] * 6  # outside its book
  del codes['u1']
  tiny.write_codes(own / 'codes', codes, 'second')
  status, said = call(
    capsys, *flags(own, tmp_path / 'rows'), '--length=128',
    '--tasks=reg_asr,reg_interleaved,reg_image_text', '--splits=train',
  )  # fmt: skip
  assert status == 0
  lines = [*manifest.read(own / 'speech')]
  for name, stats in said.items():
    task, split = name.split('/')
    folder = folders.open_folder(tmp_path / 'rows' / name)
    quarantine = list(files.read_jsonl(folder.path / 'quarantine.jsonl'))
    assert stats['dropped'] == len(quarantine) == folder.stats['dropped']
    if task != 'reg_image_text':
      total = sum(u.split == split for u in lines)
      assert stats['documents'] + stats['dropped'] == total
      assert {line['id'] for line in quarantine} == {'u0', 'u1'}
    assert list(verify.faults(folder)) == []
    packed = {name for _, names in folder for name in names}
    assert len(packed) == stats['documents']
    assert not packed & {line['id'] for line in quarantine}
  assert len(said) == 3


@pytest.mark.parametrize(
  'more, said',
  [
    (['--name=my-corpus'], "name: found 'my-corpus_continuation', expected"),
    (['--name=../up'], "name: found '../up_continuation'"),
    (['--patch_size=0'], '--image_size, --patch_size: found 32, 0'),
    (['--patch_size=5'], 'a whole number of patches'),
    (['--image_size=-8'], '--image_size, --patch_size: found -8, 8'),
    (['--window=1'], '--window: found 1'),
    (['--shard_rows=0'], '--shard_rows: found 0'),
    (['--length=x'], '--length'),
    (['--tasks=asr'], "no task 'asr'"),
    (['--splits=tran'], "the split 'tran'; there are dev, train"),
    (['--tasks=reg_ars'], "no task 'reg_ars'; did you mean 'reg_asr'?"),
    (['--splits=train,tset'], "no task has the split 'tset'; there are dev"),
    (['--length=4'], '--length: found 4'),
    (['--text=/nowhere'], '/nowhere/manifest.jsonl: no such file'),
    (['--codes='], '--codes: missing'),
    (['--codes=/nowhere'], '/nowhere/stats.json: no such file'),
    (['--text_model='], '--text_model: missing'),
    (['--text_model=/no.model'], '/no.model: no such file'),
    (['--module=no_such_module_'], 'cannot be imported'),
    (['--interleaving=both'], "interleaving: found 'both', expected one of"),
    (['--voice=/nowhere'], 'reg_interleaved is a task of --speech already'),
    (['--voice=/nowhere', '--speech='], '/nowhere'),
    (['--parts=0'], '--parts: found 0, expected at least 1'),
    (['--speech=', '--text=', '--images='], 'nothing to build'),
  ],
)
def test_bad_flags_end_with_two_and_write_nothing(
  root, tmp_path, capsys, more, said
):
  status, told = call(capsys, *flags(root, tmp_path / 'rows'), *more)
  assert status == 2 and told.startswith('error: ') and said in told
  assert not (tmp_path / 'rows').exists()


def spoil_manifest(own):
  path = own / 'text' / 'manifest.jsonl'
  path.write_text(path.read_text() + '{"id": "t9", "kind": "text"}\n')


def cut_manifest(own):
  path = own / 'text' / 'manifest.jsonl'
  path.write_text(path.read_text()[:-9])


def cut_codes(own):
  path = sorted((own / 'codes').glob('*.array_record'))[1]
  path.write_bytes(path.read_bytes()[:-700])


def lose_codes(own):
  sorted((own / 'codes').glob('*.array_record'))[1].unlink()


def cut_model(own):
  path = own / 'text.model'
  path.write_bytes(path.read_bytes()[:900])


def odd_model(own):
  (own / 'text.model').write_text('no model')


@pytest.mark.parametrize(
  'spoil, file, said',
  [
    (spoil_manifest, 'text/manifest.jsonl', 'text: missing'),
    (cut_manifest, 'text/manifest.jsonl', 'not a JSON line'),
    (cut_codes, 'codes/codes-00001-of', 'not a whole ArrayRecord file'),
    (lose_codes, 'codes', 'found 1 shards, expected 2'),
    (cut_model, 'text.model', 'text.model'),
    (odd_model, 'text.model', 'text.model'),
  ],
)
def test_a_broken_file_is_named_and_no_rows_are_half_written(
  own, tmp_path, capsys, spoil, file, said
):
  spoil(own)
  output = tmp_path / 'rows'
  status, told = call(capsys, *flags(own, output), '--tasks=reg_asr,reg_text')
  assert status == 2, told
  assert f'{own}/{file}' in told and said in told
  assert not [p for p in output.rglob('*') if p.is_file()]
