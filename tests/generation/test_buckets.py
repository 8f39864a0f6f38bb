"""Runs that are made, read and asked in buckets: as on a disk."""

import json
import re

import numpy as np

from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from tests import stores
from tests.evaluation import test_questions
from tests.interop.language import tiny_folders as tiny
from tests.interop.language import tiny_gguf

corpus = test_questions.corpus


def door(capsys, *argv):
  """The JSON that a door prints."""
  argv = ['-', *map(str, argv), '--json']
  status = cli.dispatch('step_audio_jax', doors.DOORS, argv)
  out, err = capsys.readouterr()
  assert status == 0, err
  return json.loads(out.splitlines()[-1])


def refused(capsys, *argv):
  argv = ['-', *map(str, argv)]
  assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 2
  err = capsys.readouterr().err
  assert err.startswith('error: ') and err.count('\n') == 1, err
  return err


def _placeless(text, *roots):
  for root in roots:
    text = text.replace(str(root), 'ROOT')
  return re.sub(r'"\w*seconds": [\d.]+', '"seconds": 0', text)


def test_a_model_is_made_spelt_and_asked(
  corpus, tmp_path, gs_folder, monkeypatch, capsys
):
  model = tiny_gguf.bpe()
  monkeypatch.setattr(tiny, 'V', model.get_vocab_size())
  tiny_gguf.make(tmp_path / 'm.gguf', model=model)
  manifest.write(
    tmp_path / 'data',
    [
      manifest.Utterance(
        id='a',
        text='cat',
        audio='a.wav',
        duration=1.0,
        sample_rate=16000,
        words=(('cat', 0.0, 0.24),),
      )
    ],
  )
  codes = {
    'a': (np.array([7, 7, 9, 9]), np.array([1, 2, 3, 4, 5, 6])),
    'q-said': (np.arange(4), np.arange(6)),
  }
  monkeypatch.setattr(speech_codes, 'read_codes', lambda _: codes)
  (tmp_path / 'codes').mkdir()
  found = []
  for root in (tmp_path, gs_folder):
    base, start = root / 'base', root / 'start'
    made = door(
      capsys,
      *('convert', f'--from={tmp_path}/m.gguf', f'--to={base}', '--speech'),
    )
    spelt = door(
      capsys,
      *(
        'spell',
        f'--from={base}',
        f'--to={start}',
        f'--corpus={tmp_path}/data',
      ),
      *('--codes=x', '--alike=<|BOT|>=<|end|>'),
    )
    told = door(
      capsys,
      *('complete', '--prompt=the cat', f'--model={start}', '--max_tokens=4'),
    )
    asked = door(
      capsys,
      *('answer', f'--run={start}', f'--corpus={corpus}', f'--base={base}'),
      *(f'--codes={tmp_path}/codes', f'--output={root}/answers.json'),
      '--max_tokens=2',
    )
    door(capsys, 'convert', f'--from={start}', f'--to={root}/out')
    facts = [made, spelt, told, asked, files.read_json(root / 'answers.json')]
    found.append(
      (
        json.loads(_placeless(json.dumps(facts), root, tmp_path)),
        stores.contents(root / 'out'),
        restore.load_model(start)[1],
      )
    )
  (here, exported, _), (there, exported_there, _) = found
  for a, b in zip(here, there, strict=True):
    assert a == b
  assert exported == exported_there
  tables = [one[2]['params']['transformer']['embedding'] for one in found]
  np.testing.assert_array_equal(*tables)
  again = f'--to={gs_folder}/start', f'--corpus={tmp_path}/data', '--codes=x'
  spell = 'spell', f'--from={gs_folder}/base', *again
  assert 'exists; expected a new folder' in refused(capsys, *spell)
  door(capsys, *spell, '--overwrite')
  # What vanishes is named, and nothing is written over what was there.
  sums = gs_folder / 'start/checkpoints/0/sha256.json'
  lost = max(files.read_json(sums), key=len)
  files.remove(sums.parent / lost)
  ask = f'--model={gs_folder}/start', '--max_tokens=1'
  assert lost in refused(capsys, 'complete', '--prompt=a', *ask)
  ask = f'--model={gs_folder}/none', '--max_tokens=1'
  assert f'{gs_folder}/none' in refused(capsys, 'complete', '--prompt=a', *ask)
