"""Every benchmark of the catalogue that is heard, spoken or compared.

A sample of each public layout is read; what is missing of the public set is
left out, and counted.
"""

import pytest

from data_pipelines.benchmarks import catalogue
from step_audio_jax.evaluation.benchmarks import benchmark
from tests.data_pipelines.benchmarks import layouts

OURS = [
  name
  for module in ('recordings', 'speaking', 'texts')
  for name, one in catalogue.all_entries().items()
  if one.loader.startswith(f'{module}:')
]


def test_every_loader_has_a_sample():
  assert sorted(layouts.LAYOUTS) == sorted(OURS)


@pytest.mark.parametrize('name', OURS)
def test_it_is_read(name, tmp_path):
  expected = layouts.LAYOUTS[name](tmp_path / name)
  (one,) = catalogue.benchmarks((name,), str(tmp_path))
  found = one.read()
  assert {item.id: (item.text, item.language) for item in found.items} == (
    expected
  )
  public = catalogue.entry(name).expected
  if public:
    there = len(found.items)
    ((why, missing),) = found.left_out.items()
    assert why == f'not in the folder, which has {there} of {public:,}'
    assert missing[0] == f'item {there + 1}'
    assert found.of == there + len(missing) == public
    assert found.version == f'{there} items, the public set has {public:,}'
  elif name == 'gigaspeech':
    assert found.left_out == {
      'text: found <MUSIC>, expected speech': ('Y1_G0',),
      'text: found <SIL>, expected speech': ('Y1_G1',),
    }
  else:
    assert not found.left_out
  if one.asks in (benchmark.TRANSCRIBE, benchmark.RESYNTHESIZE):
    assert all(len(item.recordings) == 1 for item in found.items)
