"""The page in a real browser, with a voice that comes out of a wav.

What is said there: 0.6 s of silence, a second of speech, 2 s of silence, half a
second of speech, silence.
"""

import numpy as np
import pytest
import soundfile

from tests import browser
from tests.serving.page import scripted

Reply = scripted.Reply
TEXT = '[...document.querySelectorAll("#log li")].map(one => one.innerText)'
LONG = ' '.join(f'word{n}' for n in range(60))  # 10 of them in a second
FIRST = '#log li:nth-child({})'


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
  path = tmp_path_factory.mktemp('voice') / 'voice.wav'
  rng = np.random.default_rng(0)
  parts = [np.zeros(int(0.6 * 48000))]
  for seconds, silence in ((1.0, 2.0), (0.5, 20.0)):
    time_S = np.arange(int(seconds * 48000)) / 48000
    phase_S = 2 * np.pi * np.cumsum(140 + 30 * np.sin(7 * time_S)) / 48000
    voice_S = sum(np.sin(k * phase_S) / k for k in range(1, 20))
    syllables_S = 0.6 + 0.4 * np.sin(2 * np.pi * 5 * time_S)
    parts += [0.25 * voice_S * syllables_S, np.zeros(int(silence * 48000))]
  samples_S = np.concatenate(parts)
  samples_S = samples_S + 1e-4 * rng.standard_normal(len(samples_S))
  soundfile.write(path, samples_S, 48000, 'PCM_16')
  with browser.start(loopback=True, microphone=path) as started:
    yield started


@pytest.fixture
def served():
  with scripted.serve(scripted.Script()) as script:
    yield script


def started(chromium, served, **options):
  page = chromium.open(served.address, **options)
  page.press('Tab', 'Enter')
  page.wait('document.body.dataset.link === "open"')
  return page


def check(page, served):
  """Nothing went wrong unseen, and nothing was asked of anybody else."""
  own = served.address, served.address.replace('http', 'ws', 1)
  assert page.outside(*own) == [] and page.faults == []


@browser.needed
def test_a_spoken_conversation_with_an_interruption(chromium, served):
  served.replies = [Reply(LONG, 6.0), Reply('Mount Everest.', 0.4)]
  page = started(chromium, served)
  # It is heard, it is answered, and then spoken into.
  for state in ('you', 'pause', 'reply', 'you', 'pause', 'reply', 'listening'):
    page.wait(f'document.body.dataset.state === "{state}"')
  assert [line.split('\n')[0] for line in page.value(TEXT)] == [
    *('You', 'Reply', 'You', 'Reply'),
  ]
  assert served.heard in page.value(TEXT)[0]
  # 2 s of silence after the first turn, less what the server waits and needs.
  (cut,) = served.of('conversation.item.truncate')
  assert cut['content_index'] == 0
  assert 800 <= cut['audio_end_ms'] <= 2000
  heard = page.value(f'document.querySelector("{FIRST.format(2)} .text")'
                     '.firstChild.textContent').split()
  assert heard == LONG.split()[: cut['audio_end_ms'] // 100]
  lost = page.value(f'document.querySelector("{FIRST.format(2)} s").innerText')
  assert [*heard, *lost.split()] == LONG.split()
  # The turn ended SILENCE_MS before the server said so.
  waits = page.value(
    '[...document.querySelectorAll(".assistant .who")].map('
    'one => parseFloat(one.innerText.match(/after ([0-9.]+) s/)[1]))'
  )
  assert len(waits) == 2 and all(0.3 <= one <= 1.2 for one in waits), waits
  assert page.value('document.querySelectorAll("#turns rect").length') == 2
  check(page, served)
