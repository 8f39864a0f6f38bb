"""The convert door where folders lie in buckets: as on a disk, to the bit."""

import errno
import json
import os
import re
import shutil

import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.decoder import speech
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.storage.buckets import copies
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores as clients
from step_audio_jax.tokenizers.speech import dual
from tests import stores
from tests.interop.decoder import released_decoder
from tests.interop.language import tiny_folders as tiny
from tests.interop.language import tiny_gguf
from tests.interop.tokenizer import released_tokenizer


def convert(source, target, *flags):
  argv = ['-', 'convert', f'--from={source}', f'--to={target}', *flags]
  return cli.dispatch('step_audio_jax', doors.DOORS, argv)


def refused(capsys, source, target, *flags):
  assert convert(source, target, *flags) == 2
  err = capsys.readouterr().err
  lines = [line for line in err.splitlines() if not line.startswith('note: ')]
  assert len(lines) == 1 and lines[0].startswith('error: '), err
  return lines[0]


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
  """Released speech parts and what they become on a disk."""
  root = tmp_path_factory.mktemp('parts')
  for name, write in (
    ('tokenizer', released_tokenizer.write),
    ('decoder', released_decoder.write),
  ):
    write(root / name / 'released')
    assert convert(root / name / 'released', root / name / 'ours') == 0
  return root


@pytest.mark.parametrize(
  ('name', 'last', 'kind'),
  [
    ('tokenizer', 'dual.json', dual.DualTokenizer),
    ('decoder', 'config.json', speech.SpeechDecoder),
  ],
)
def test_speech_parts(parts, tmp_path, gs_folder, capsys, name, last, kind):
  gs, here = gs_folder / name, parts / name
  stores.upload(here / 'released', gs / 'released')
  assert convert(gs / 'released', gs / 'ours') == 0, capsys.readouterr().err
  made = stores.contents(here / 'ours')
  assert stores.contents(gs / 'ours') == made and last in made
  assert f'to {gs}/ours' in capsys.readouterr().out
  assert 'exists; expected a new' in refused(capsys, gs / 'ours', gs / 'ours')
  # It is read there, and replaced; a file of another version is not taken.
  kind.load(here / 'ours').save(tmp_path / 'again')
  kind.load(gs / 'ours').save(gs / 'ours')
  made = stores.contents(tmp_path / 'again')
  assert stores.contents(gs / 'ours') == made
  odd = next(one for one in sorted(made) if one.endswith('.safetensors'))
  files.write_bytes(gs / 'ours' / odd, made[odd] + b' ')
  with pytest.raises(errors.UserError, match=odd):
    kind.load(gs / 'ours')


def test_a_decoder_goes_back(parts, tmp_path, gs_folder):
  ours = parts / 'decoder/ours'
  stores.upload(ours, gs_folder / 'ours')
  assert convert(ours, tmp_path / 'back') == 0
  assert convert(gs_folder / 'ours', gs_folder / 'back') == 0
  made = stores.contents(tmp_path / 'back')
  assert stores.contents(gs_folder / 'back') == made and 'flow.pt' in made


def test_open_models_come_in(tmp_path, s3_folder, monkeypatch, capsys):
  monkeypatch.setattr(shards, '_RANGE', 100)
  tiny.make(tmp_path / 'theirs', 'qwen2', files=2)
  monkeypatch.setattr(tiny, 'V', (model := tiny_gguf.bpe()).get_vocab_size())
  tiny_gguf.make(tmp_path / 'm.gguf', model=model)
  for name in ('theirs', 'm.gguf'):
    there = stores.upload(tmp_path / name, s3_folder / name)
    back = {}
    for place, folder in (('here', tmp_path / name), ('there', there)):
      run = tmp_path / f'{name}-{place}'
      assert convert(folder, run, '--speech') == 0, capsys.readouterr().err
      assert convert(run, tmp_path / 'back') == 0
      back[place] = stores.contents(tmp_path / 'back')
      shutil.rmtree(tmp_path / 'back')
      if place == 'there':
        told = json.loads((run / 'config.json').read_text())
        assert told['converted_from'] == f'{there}'
    assert back['here'] == back['there']
  # Weights of folders come by ranges; a file that is mapped is copied.
  err = capsys.readouterr().err
  notes = [line for line in err.splitlines() if line.startswith('note: s3:')]
  assert len(notes) == 1
  assert f'{s3_folder}/m.gguf is read from a copy of this machine' in notes[0]


def test_runs_go_out(tmp_path, gs_folder, capsys):
  tiny.make(tmp_path / 'theirs', 'llama')
  assert convert(tmp_path / 'theirs', tmp_path / 'run') == 0
  like = stores.upload(tmp_path / 'theirs', gs_folder / 'like')
  for target in (tmp_path / 'out', gs_folder / 'out'):
    assert convert(tmp_path / 'run', target, '--shard_gb=1e-6') == 0
  made = stores.contents(tmp_path / 'out')
  assert stores.contents(gs_folder / 'out') == made and shards.INDEX in made
  assert convert(tmp_path / 'run', gs_folder / 'x', f'--like={like}') == 0
  capsys.readouterr()
  like = gs_folder / 'nowhere'
  assert f'--like={like}: found no such folder' in refused(
    capsys, tmp_path / 'run', gs_folder / 'y', f'--like={like}'
  )


def test_what_is_not_there_or_only_half(tmp_path, gs_folder, capsys):
  gs = gs_folder
  assert refused(capsys, gs / 'none', gs / 'x') == (
    f'error: --from={gs}/none: no such folder.'
  )
  nowhere = 'gs://no-such-bucket/x'
  assert 'gs://no-such-bucket: no such bucket.' in refused(
    capsys, nowhere, gs / 'x'
  )
  assert 'gs://no-such-bucket: no such bucket.' in refused(
    capsys, tmp_path, nowhere
  )
  tiny.make(tmp_path / 'theirs', 'llama', files=3)
  half = stores.upload(tmp_path / 'theirs', gs / 'half')
  gone = half / 'model-00002-of-00003.safetensors'
  files.remove(gone)
  assert f'{gone}: cannot be read (no such object).' in refused(
    capsys, half, gs / 'x'
  )
  files.remove(half / 'config.json')
  assert re.search(
    f'{half}/config.json: no such', refused(capsys, half, gs / 'x')
  )
  assert not files.exists(gs / 'x')


def test_no_permission_is_told_at_once(
  tmp_path, gs_folder, capsys, monkeypatch
):
  tiny.make(tmp_path / 'theirs', 'llama')
  there = stores.upload(tmp_path / 'theirs', gs_folder / 'theirs')
  put, get = clients.Bucket.put, clients.Bucket.get

  def denied(of, told):
    def request(self, key, *args, **keywords):
      if told in key:
        raise failures.Denied(self.where(key), 'no permission for it (403: no)')
      return of(self, key, *args, **keywords)

    return request

  monkeypatch.setattr(clients.Bucket, 'get', denied(get, 'model.safetensors'))
  assert 'model.safetensors: cannot be read (no permission for it (403' in (
    refused(capsys, there, tmp_path / 'x')
  )
  monkeypatch.setattr(clients.Bucket, 'put', denied(put, 'out'))
  assert 'no permission for it (403: no)' in refused(
    capsys, tmp_path / 'theirs', gs_folder / 'out'
  )


def test_a_copy_needs_room(tmp_path, gs_folder, capsys, monkeypatch):
  monkeypatch.setattr(tiny, 'V', (model := tiny_gguf.bpe()).get_vocab_size())
  tiny_gguf.make(tmp_path / 'm.gguf', model=model)
  there = stores.upload(tmp_path / 'm.gguf', gs_folder / 'm.gguf')

  def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(copies.moving, 'copy_one', full)
  for place, reason in (
    ('/proc/none', 'No such file or directory'),
    (str(tmp_path / 'copies'), 'No space left on device'),
  ):
    monkeypatch.setenv('STEP_AUDIO_JAX_COPIES', place)
    told = refused(capsys, there, tmp_path / 'x')
    assert f'error: {there}: cannot be copied to {place} ({reason})' in told
    assert 'another folder in $STEP_AUDIO_JAX_COPIES' in told
  assert not any((tmp_path / 'copies').iterdir())
