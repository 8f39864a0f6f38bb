"""Where recordings are cut for subtitles."""

import numpy as np
import pytest

from step_audio_jax.serving.http import transcriptions
from tests.serving import running

RATE = 16000


def test_cuts_lie_in_pauses():
  quiet_S = np.zeros(RATE // 2, np.float32)
  words = [running.speech(2.0), quiet_S] * 5
  samples_S = np.concatenate([quiet_S, *words])
  (one,) = transcriptions.stretches(samples_S, 20)
  assert one == pytest.approx((0.5, 12.5), abs=0.05)
  found = transcriptions.stretches(samples_S, 5.5)
  # Words and pauses take turns of 2 and of half a second.
  edges = [0.5, 5.25, 10.25, 12.5]
  assert [start for start, _ in found] == pytest.approx(edges[:-1], abs=0.05)
  assert [end for _, end in found] == pytest.approx(edges[1:], abs=0.05)


def test_what_has_no_pause_is_cut_where_it_is_full():
  found = transcriptions.stretches(running.speech(10.0), 4)
  assert len(found) == 3
  assert found[0][0] == 0 and found[-1][1] == pytest.approx(10)
  assert all(end - start <= 4 for start, end in found)


@pytest.mark.parametrize(
  ('seconds', 'told'),
  [(0, '00:00:00.000'), (61.2345, '00:01:01.234'), (3599.9996, '01:00:00.000')],
)
def test_clock(seconds, told):
  assert transcriptions.clock(seconds, '.') == told
