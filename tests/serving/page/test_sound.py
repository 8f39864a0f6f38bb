"""Its sound: another rate, samples that are counted, the end of speech."""

import json
import urllib.error
import urllib.request

import pytest

from step_audio_jax.evaluation.pages import page as pages
from step_audio_jax.serving.page import page as page_lib
from tests import browser
from tests.serving.page import scripted


@pytest.fixture(scope='module')
def served():
  with scripted.serve(scripted.Script()) as script:
    yield script


@pytest.fixture(scope='module')
def page(served):
  with browser.start(loopback=True) as chromium:
    yield chromium.open(served.address)


# A tone of one rate in pieces of a few lengths, at another rate, compared with
# what it is there: dB of the error, or of what is left where it does not fit.
RESAMPLE = """(async () => {
  const { Resampler } = await import('/page/resample.js');
  const [from, to, hz] = ARGS;
  const made = new Resampler(from, to), out = [];
  let at = 0;
  for (let n = 0; at < from / 2; n++) {
    const length = [128, 1, 333][n % 3];
    out.push(...made.push(Float32Array.from({ length },
      (_, k) => Math.sin(2 * Math.PI * hz * (at + k) / from))));
    at += length;
  }
  const wanted = n => 2 * hz < to ? Math.sin(2 * Math.PI * hz * n / to) : 0;
  let error = 0, count = 0;
  for (let n = 1000; n < out.length; n++, count++) {
    error += (out[n] - wanted(n)) ** 2;
  }
  return [10 * Math.log10(2 * error / count), out.length, at];
})()"""


@browser.needed
@pytest.mark.parametrize('rate', [16000, 44100, 48000])
def test_another_rate(page, rate):
  for hz in (200, 3000, min(0.4 * rate, 9500)):
    error, count, taken = page.value(
      RESAMPLE.replace('ARGS', json.dumps([rate, 24000, hz]))
    )
    assert error < -60, (hz, error)
    # Nothing is lost but what waits for its neighbours.
    assert 0 <= taken * 24000 / rate - count <= 50
  if rate > 24000:
    assert (
      page.value(RESAMPLE.replace('ARGS', json.dumps([rate, 24000, 14000])))[0]
      < -60
    )


# Two items of a known length are played by the audio graph, offline, where
# every sample can be counted; the second is stopped within.
COUNT = """(async () => {
  const rate = 24000, check = 128 * 40, turns = 20;
  const graph = new OfflineAudioContext(1, turns * check, rate);
  await graph.audioWorklet.addModule('/page/playback.js');
  const node = new AudioWorkletNode(graph, 'playback',
    { numberOfInputs: 0, outputChannelCount: [1] });
  node.connect(graph.destination);
  const told = [];
  let answered;
  const stopped = new Promise(resolve => answered = resolve);
  node.port.onmessage = ({ data }) => {
    told.push(data);
    if (data.told === 'stopped') answered(data.items);
  };
  const push = (item, length) => node.port.postMessage({ act: 'push', item,
    samples: new Float32Array(length).fill(0.5) });
  push('a', 1000);
  node.port.postMessage({ act: 'end', item: 'a' });
  push('b', 2000);
  push('b', 5000);
  let items, at;
  for (let n = 1; n < turns; n++) {
    graph.suspend(n * check / rate).then(async () => {
      // What was posted arrives when it does.
      await new Promise(resolve => setTimeout(resolve));
      if (!items && told.some(one => one.item === 'b')) {
        node.port.postMessage({ act: 'stop', asked: 1 });
        at = n * check;
        items = await stopped;
      }
      graph.resume();
    });
  }
  const samples = (await graph.startRendering()).getChannelData(0);
  return {
    items, at, audible: samples.filter(x => x !== 0).length,
    last: samples.findLastIndex(x => x !== 0),
    finished: told.filter(one => one.told === 'finished'),
    started: told.filter(one => one.told === 'started')
      .map(one => Math.round(one.time * rate)),
  };
})()"""


@browser.needed
def test_played_samples_are_counted_exactly(page):
  found = page.value(COUNT)
  (cut,) = found['items']
  assert found['finished'] == [
    {'told': 'finished', 'item': 'a', 'played': 1000}
  ]
  assert (cut['item'], cut['given'], cut['ended']) == ('b', 7000, False)
  assert 1000 + cut['played'] == found['audible']
  # Silent within one turn of the graph.
  assert found['last'] < found['at'] + 128
  first, second = found['started']
  assert second - first >= 1000


@browser.needed
def test_the_end_of_speech(page):
  """Levels as of speech, of a room and of a breath, and when they were."""
  found = page.value("""(async () => {
    const { Timeline } = await import('/page/timeline.js');
    const made = new Timeline();
    const levels = n => n < 50 ? 0.001 : n < 100 ? 0.2 : n < 104 ? 0.05 : 0.002;
    for (let n = 0; n < 20000; n++) made.push(1000 + 20 * n, levels(n % 200));
    return [made.ms, made.endOfSpeech(396500, 398700),
      made.endOfSpeech(1e9, 2e9)];
  })()""")
  # A frame begins each 20 ms: of the last turn, the 104th is the last.
  assert found == [400000, 1000 + 20 * (19800 + 103), None]


@browser.needed
def test_a_calculator_without_programs(page):
  found = page.value("""(async () => {
    const { run } = await import('/page/tools.js');
    return ['1+2*3', '(1+2)*3', '-2^2', '2^-1', '2^3^2', '.5e1/2', '8/4/2',
      '1/0', '(1', '1 2', 'alert(1)', '']
      .map(expression => JSON.parse(run('calculator',
        JSON.stringify({ expression }))));
  })()""")
  values = [7, 9, -4, 0.5, 512, 2.5, 1]
  assert [one.get('value') for one in found[:7]] == values
  assert all(set(one) == {'error'} for one in found[7:])


def fetch(address, **headers):
  asked = urllib.request.Request(address, headers=headers)
  try:
    answer = urllib.request.urlopen(asked, timeout=10)
  except urllib.error.HTTPError as error:
    answer = error
  with answer:
    return answer.status, dict(answer.headers), answer.read()


def test_files_and_their_headers(served):
  status, headers, body = fetch(served.address)
  assert status == 200 and headers['content-type'].startswith('text/html')
  policy = headers['content-security-policy']
  assert "default-src 'none'" in policy and 'unsafe' not in policy
  assert headers['x-content-type-options'] == 'nosniff'
  # Nothing inline, which that policy would not run.
  assert b'style=' not in body and b'<style' not in body
  assert body.count(b'<script') == 1 and b'onclick' not in body
  kinds = {'css': 'text/css', 'js': 'text/javascript'}
  for name, content in page_lib.contents().items():
    ending = name.rpartition('.')[2]
    if ending == 'html':
      continue
    status, headers, body = fetch(f'{served.address}page/{name}')
    assert (status, body) == (200, content)
    assert headers['content-type'].startswith(kinds[ending])
    assert headers['cache-control'] == 'no-cache'
    again = {'If-None-Match': f'"other", W/{headers["etag"]}'}
    assert fetch(f'{served.address}page/{name}', **again)[::2] == (304, b'')
  for name in ('index.html', '..%2fpage.py', 'none.js'):
    assert fetch(f'{served.address}page/{name}')[0] == 404


def test_files_are_small():
  for name, content in page_lib.contents().items():
    own = content.decode().removeprefix(pages.STYLE)
    lines = own.split('\n')
    assert len(lines) <= 500, name
    assert max(map(len, lines)) <= 80, name
