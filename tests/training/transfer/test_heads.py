"""Heads are copied by the names of their entries, never by their place."""

import pathlib
import subprocess
import sys

from flax import linen as nn
import jax
import numpy as np
import pytest

from step_audio_jax.decoder.speaker import objective as speaker_objective
from step_audio_jax.models.speaker import campplus
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.tokenizers.speech import codebook
from step_audio_jax.tokenizers.training import labels
from step_audio_jax.tokenizers.training import objectives
from step_audio_jax.training.transfer import heads
from step_audio_jax.training.transfer import transfer
from tests.training import toy_rows

ROOT = pathlib.Path(__file__).parents[3]


class Spells:
  """An objective with a head of letters and a codebook."""

  def __init__(self, letters, codes=3):
    self.letters, self.codes = tuple(letters), codes

  def heads(self):
    return (heads.Head('params/head', self.letters, 'labels', before=1),)

  def all_or_nothing(self):
    return ('codebook/',)

  def tree(self, seed):
    rng = np.random.default_rng(seed)
    size = len(self.letters) + 1
    return {
      'params': {
        'body': {'kernel': rng.normal(size=(5, 4)).astype(np.float32)},
        'head': {
          'kernel': rng.normal(size=(4, size)).astype(np.float32),
          'bias': rng.normal(size=size).astype(np.float32),
        },
      },
      'codebook': {
        'table': rng.normal(size=(self.codes, 4)).astype(np.float32),
        'counts': np.arange(4.0, dtype=np.float32),
      },
    }


def started(old, new, recorded=None):
  """Variables of `new` started from those of `old`; what is told."""
  saved, fresh = old.tree(0), transfer.flatten(new.tree(1))
  shapes = {path: leaf.shape for path, leaf in fresh.items()}
  recorded = {'labels': list(old.letters)} if recorded is None else recorded
  flat, told = heads.match_heads(
    'run', transfer.flatten(saved), recorded, shapes, new
  )
  out, names = transfer.transfer(
    new.tree(1),
    [('run', {'flat': 1} if not flat else _nested(flat))],
    lambda paths: {path: fresh[path] for path in paths},
  )
  return saved, transfer.flatten(out), fresh, told, names


def _nested(flat):
  out = {}
  for path, leaf in flat.items():
    *above, last = path.split('/')
    place = out
    for name in above:
      place = place.setdefault(name, {})
    place[last] = leaf
  return out


def test_entries_follow_their_characters():
  saved, out, fresh, told, names = started(Spells('abcd'), Spells('xcbz'))
  old, new = saved['params']['head'], out['params/head/kernel']
  # Blank, x, c, b, z.
  np.testing.assert_array_equal(new[:, [0, 2, 3]], old['kernel'][:, [0, 3, 2]])
  np.testing.assert_array_equal(
    out['params/head/bias'][[0, 2, 3]], old['bias'][[0, 3, 2]]
  )
  for entry in (1, 4):
    np.testing.assert_array_equal(
      new[:, entry], fresh['params/head/kernel'][:, entry]
    )
  assert told == [
    "run: params/head keeps what it has for 2 of 4 labels; fresh: 'x', 'z'."
  ]
  np.testing.assert_array_equal(
    out['params/body/kernel'], saved['params']['body']['kernel']
  )
  assert not names


def test_another_alphabet_of_the_same_size_is_another_head():
  _, out, fresh, told, names = started(Spells('abc'), Spells('xyz'))
  for path in ('params/head/kernel', 'params/head/bias'):
    np.testing.assert_array_equal(out[path], fresh[path])
  assert sorted(names) == ['params/head/bias', 'params/head/kernel']
  assert told == [
    'run: params/head starts fresh: none of its 3 labels is one of the 3 here.'
  ]


def test_the_same_alphabet_is_copied_as_it_is():
  saved, out, _, told, names = started(Spells('abc'), Spells('abc'))
  for path, leaf in transfer.flatten(saved).items():
    np.testing.assert_array_equal(out[path], leaf)
  assert not told and not names


@pytest.mark.parametrize('recorded', [{}, {'labels': 7}, {'labels': None}])
def test_labels_that_nobody_wrote_down_are_not_guessed(recorded):
  _, out, fresh, told, _ = started(Spells('abc'), Spells('abc'), recorded)
  np.testing.assert_array_equal(
    out['params/head/bias'], fresh['params/head/bias']
  )
  assert 'does not say what its labels are' in told[0]


def test_a_codebook_fits_as_a_whole_or_not_at_all():
  saved, out, fresh, told, names = started(Spells('a', 3), Spells('a', 5))
  np.testing.assert_array_equal(
    out['codebook/counts'], fresh['codebook/counts']
  )
  assert sorted(names) == ['codebook/counts', 'codebook/table']
  assert 'codebook starts fresh: codebook/table has shape (3, 4)' in told[0]
  np.testing.assert_array_equal(
    out['params/head/bias'], saved['params']['head']['bias']
  )


def speech(name):
  """(an objective of n labels and of k codes, a batch) by name."""
  batch = {
    'wave': np.zeros((1, 15360), np.float32),
    'samples': np.full(1, 15360, np.int32),
    'step': np.int32(0),
  }

  def letters(count):
    return labels.Labels(tuple('abcdefgh'[:count]))

  def linguistic(count):
    config = paraformer.ParaformerConfig(
      width=16, heads=2, mlp_width=16, layers=2
    )
    return objectives.LinguisticCTC(config, letters(count), cif=1.0)

  def codes(count):
    return codebook.CodebookConfig(size=count, start=8, reservoir=16)

  return {
    'linguistic': lambda n, k: linguistic(n),
    'centroids': lambda n, k: objectives.LinguisticKMeans(
      linguistic(n), codes(k)
    ),
    'semantic': lambda n, k: objectives.SemanticCTC(
      s3.S3Config(
        width=16, heads=2, layers=1, positions=24, codes=k, head_layers=1
      ),
      letters(n),
      codes(k),
    ),
    'speaker': lambda n, k: speaker_objective.SpeakerAAM(
      campplus.CampplusConfig(
        embedding=8,
        growth=4,
        bottleneck=2,
        initial=8,
        head_width=4,
        head_blocks=(1, 1),
        layers=(2, 2, 2),
      ),
      tuple('abcdefgh'[:n]),
    ),
  }[name], batch


@pytest.mark.parametrize(
  'name', ['linguistic', 'centroids', 'semantic', 'speaker']
)
def test_objectives_declare_all_that_depends_on_labels_and_codes(name):
  """What changes its shape with them is a head, or all or nothing."""
  make, batch = speech(name)

  def shapes(objective):
    found = jax.eval_shape(lambda: objective.init(jax.random.key(0), batch))
    flat = transfer.flatten(nn.unbox(found))
    return {path: leaf.shape for path, leaf in flat.items()}

  base = shapes(make(3, 4))
  with_labels, with_codes = shapes(make(5, 4)), shapes(make(3, 6))
  declared = {
    path
    for head in make(3, 4).heads()
    for path in (head.path, f'{head.path}/kernel', f'{head.path}/bias')
    if path in base
  }
  assert {p for p in base if base[p] != with_labels[p]} == declared
  assert declared
  for head in make(3, 4).heads():
    for path in declared & {head.path, f'{head.path}/kernel'}:
      assert base[path][head.axis] == len(head.labels) + head.before
  groups = tuple(getattr(make(3, 4), 'all_or_nothing', tuple)())
  resized = {p for p in base if base[p] != with_codes[p]}
  assert all(path.startswith(groups) for path in resized)
  # A run says what its labels are, where others look for them.
  for head in make(3, 4).heads():
    assert tuple(make(3, 4).describe()[head.recorded]) == head.labels


def test_bad_input_at_the_start_is_one_line_from_a_process(tmp_path):
  """No thread of a checkpoint has a word of its own behind the sentence."""
  toy_rows.write_source(tmp_path / 'rows', 'a', 9)
  gin_file = tmp_path / 'tiny.gin'
  gin_file.write_text(toy_rows.gin_text(tmp_path / 'rows'))
  # Something that a kill left, which is cleared at the start.
  left = (
    tmp_path / 'run' / 'checkpoints' / '4.orbax-checkpoint-tmp' / 'variables'
  )
  left.mkdir(parents=True)
  for number in range(200):
    (left / f'{number}').write_bytes(bytes(10))
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'step_audio_jax',
      'train',
      f'--gin_file={gin_file}',
      f"--gin.RUN_DIR='{tmp_path / 'run'}'",
      f"--gin.INIT_FROM=['{tmp_path}']",
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  lines = [x for x in done.stderr.splitlines() if not x.startswith('run:')]
  assert lines[-1].startswith(f'error: {tmp_path}: no finished checkpoint')
  assert 'Traceback' not in done.stderr and len(lines) <= 2
  assert not left.exists()
