"""Speech codes of a corpus: read over all shards, refused where broken."""

from array_record.python import array_record_module
import numpy as np
import pytest
import safetensors.numpy

from step_audio_jax import errors
from step_audio_jax.corpus import speech_codes


def write_codes(path, records):
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  for record in records:
    writer.write(record)
  writer.close()


def test_codes_are_read_by_id_over_all_shards(tmp_path):
  rng = np.random.default_rng(0)
  want = {
    f'u{k}': (
      rng.integers(0, 1024, 2 * k).astype(np.uint16),
      rng.integers(0, 4096, 3 * k + 1).astype(np.uint16),
    )
    for k in range(5)
  }
  for shard in range(2):
    write_codes(
      tmp_path / f'codes-{shard:05d}-of-00002.array_record',
      [
        safetensors.numpy.save(
          {'linguistic': pair[0], 'semantic': pair[1]}, {'id': name}
        )
        for k, (name, pair) in enumerate(want.items())
        if k % 2 == shard
      ],
    )
  found = speech_codes.read_codes(tmp_path)
  assert sorted(found) == sorted(want)
  for name, pair in want.items():
    assert found[name][0].dtype == np.uint16
    np.testing.assert_array_equal(found[name][0], pair[0])
    np.testing.assert_array_equal(found[name][1], pair[1])


def test_missing_or_broken_codes_are_said(tmp_path):
  with pytest.raises(errors.UserError, match='tokenize'):
    speech_codes.read_codes(tmp_path)
  path = tmp_path / 'codes-00000-of-00002.array_record'
  write_codes(path, [b'xx'])
  with pytest.raises(errors.UserError, match='found 1 shards, expected 2'):
    speech_codes.read_codes(tmp_path)
  path.rename(tmp_path / 'codes-00000-of-00001.array_record')
  with pytest.raises(errors.UserError, match='record 0 is not a tokenised'):
    speech_codes.read_codes(tmp_path)
