"""A model behind an address says 1 or 0 of answers, or nothing that counts."""

import math
import re

import numpy as np

from step_audio_jax.alignment.rewards import judged
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.endpoints import client
from tests.endpoints import server as server_lib

SAID = {'Rome': '1', 'Oslo': ' 0.', 'Bonn': 'It is right: 1', 'Riga': ''}


def test_one_zero_or_nothing_that_counts(tmp_path):
  samples = [
    sample_lib.Sample(
      town, 'Capital?', 'Rome' if town != 'Oslo' else '', 'en', text,
      np.zeros(0, np.int32), True,
    )
    for town, text in [*((town, town) for town in SAID), ('-', '<<<1>>> [1] 1')]
  ]  # fmt: skip

  def some(asked):
    *_, (_, text) = re.findall(
      r'<<<(\w+)\n(.*?)\n\1>>>', server_lib.said(asked), re.DOTALL
    )
    return server_lib.completion(SAID.get(text, '0'))

  with server_lib.serving(some) as server:
    endpoint = client.Endpoint(server.url, 'tiny', tries=1)
    scorer = judged.Judged(endpoint, str(tmp_path))
    found = scorer(samples)
    again = scorer(samples)
    assert len(server.asked) == len(samples)
  assert found[:2] == [1.0, 0.0] and found[4] == 0.0
  assert math.isnan(found[2]) and math.isnan(found[3])
  assert np.array_equal(found, again, equal_nan=True)
