"""The page in a real browser, with a voice that comes out of a wav.

What is said there: 0.6 s of silence, a second of speech, 2 s of silence, half a
second of speech, silence.
"""

import json

import numpy as np
from openai.types import realtime
import pydantic
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


# Keeps the states that it went through: some last for a moment only.
WATCH = """window.seen = [];
new MutationObserver(all => seen.push(...all.map(one => one.oldValue)))
  .observe(document.body,
    { attributeFilter: ['data-state'], attributeOldValue: true });
0"""
PASSED = """((...names) => {
  const all = [...seen, document.body.dataset.state];
  const at = all.reduce((n, one) => n + (one === names[n]), 0);
  return at === names.length && (seen.length = 0, true);
})(...NAMES)"""


def passed(page, *states):
  """Waits until it went through states in order, since the last time."""
  page.wait(PASSED.replace('NAMES', json.dumps(states)))


def opened(chromium, served, **options):
  """The page, whose microphone a button opens, with the focus on Start."""
  page = chromium.open(served.address, **options)
  page.press('Tab', 'Tab', 'ArrowRight', 'Shift+Tab')
  return page


def started(page):
  page.value(WATCH)
  page.press('Enter')
  page.wait('document.body.dataset.link === "open"')
  return page


def check(page, served, faults=()):
  """Nothing went wrong unseen, and nothing was asked of anybody else.

  What the page sent is what the official client's types hold, and our `style`.
  """
  own = served.address, served.address.replace('http', 'ws', 1)
  assert page.outside(*own) == []
  assert {*page.faults} <= {*faults}
  known = pydantic.TypeAdapter(realtime.RealtimeClientEvent)
  for event in served.received:
    assert unknown(known.validate_python(event)) <= {'style'}, event


def unknown(model):
  """Names of fields, at any depth, that a type does not have."""
  found = set(model.model_extra or ())
  for _, value in model:
    for one in value if isinstance(value, list) else [value]:
      if isinstance(one, pydantic.BaseModel):
        found |= unknown(one)
  return found


@browser.needed
def test_a_spoken_conversation_with_an_interruption(chromium, served):
  served.replies = [Reply(LONG, 6.0), Reply('Mount Everest.', 0.4)]
  page = chromium.open(served.address)
  page.press('Tab')
  started(page)
  # It is heard, it is answered, and then spoken into.
  turn = 'you', 'pause', 'reply'
  passed(page, 'listening', *turn, *turn, 'listening')
  assert [line.split('\n')[0] for line in page.value(TEXT)] == [
    *('You', 'Reply', 'You', 'Reply'),
  ]
  assert served.heard in page.value(TEXT)[0]
  # 2 s of silence after the first turn, less what the server waits and needs.
  (cut,) = served.of('conversation.item.truncate')
  assert cut['content_index'] == 0
  assert 300 <= cut['audio_end_ms'] <= 2200
  heard = page.value(
    f'document.querySelector("{FIRST.format(2)} .text").firstChild.textContent'
  ).split()
  assert heard == LONG.split()[: cut['audio_end_ms'] // 100]
  lost = page.value(f'document.querySelector("{FIRST.format(2)} s").innerText')
  assert [*heard, *lost.split()] == LONG.split()
  # The turn ended SILENCE_MS before the server said so.
  waits = page.value(
    '[...document.querySelectorAll(".assistant .who")].map('
    'one => parseFloat(one.innerText.match(/after ([0-9.]+) s/)[1]))'
  )
  assert len(waits) == 2 and all(0.28 <= one <= 3 for one in waits), waits
  assert page.value('document.querySelectorAll("#turns rect").length') == 2
  check(page, served)


@browser.needed
def test_push_to_talk_by_keyboard(chromium, served):
  served.replies = [Reply('Yes.', 0.4), Reply(LONG, 4.0), Reply('Done.', 0.2)]
  page = started(opened(chromium, served))
  page.wait('document.activeElement.id === "talk"')
  page.wait('document.getElementById("talk").offsetWidth > 0')
  update = served.of('session.update')[-1]['session']
  assert update['audio']['input']['turn_detection'] is None
  # Nothing is sent before the key goes down, and nothing after it went up.
  assert not served.of('input_audio_buffer.append')
  page.hold('Space')
  page.wait('document.body.dataset.state === "you"')
  page.wait('document.getElementById("talk").ariaPressed === "true"')
  while len(served.of('input_audio_buffer.append')) < 40:
    page.value('0')
  page.let_go('Space')
  passed(page, 'you', 'pause', 'reply')
  sent = len(served.of('input_audio_buffer.append'))
  kinds = [event['type'] for event in served.received]
  assert kinds.index('input_audio_buffer.clear') < kinds.index(
    'input_audio_buffer.append'
  )
  assert kinds[-2:] == ['input_audio_buffer.commit', 'response.create']
  page.wait('document.body.dataset.state === "listening"')
  assert len(served.of('input_audio_buffer.append')) == sent
  # A key that is only touched is no turn; Space writes a space in a text.
  page.press('Space')
  page.wait('document.getElementById("state-hint").innerText.includes("hold")')
  # A finger does the same.
  x, y = page.value(
    '(() => { const box = document.getElementById("talk")'
    '.getBoundingClientRect(); return [box.x + 20, box.y + 20]; })()'
  )
  touch = 'Input.dispatchTouchEvent'
  page.call(touch, type='touchStart', touchPoints=[{'x': x, 'y': y}])
  page.wait('document.body.dataset.state === "you"')
  page.call(touch, type='touchEnd', touchPoints=[])
  page.wait('document.body.dataset.state === "listening"')
  assert len(served.of('input_audio_buffer.commit')) == 1
  page.value('document.getElementById("text").focus()')
  page.write('a b')
  page.press('Enter')
  page.wait('document.body.dataset.state === "reply"')
  assert 'a b' in page.value(TEXT)[2]
  # Escape stops it, and the server learns how much was heard.
  page.press('Escape')
  page.wait('document.body.dataset.state === "listening"')
  page.wait('document.querySelectorAll("#log s").length === 1')
  assert served.of('conversation.item.truncate')[0]['audio_end_ms'] < 1000
  check(page, served)


@browser.needed
def test_a_token_a_lost_connection_and_tools(chromium, served):
  served.token = 'right-1'
  served.replies = [
    Reply(call=('calculator', '{"expression": "2*(3+4)^2"}')),
    Reply('It is 98.', 0.2),
    Reply(call=('weather', '{"place": "Bern"}')),
  ]
  page = opened(chromium, served)
  page.press('Enter')
  page.wait('document.activeElement.id === "token"')
  for token, told in (('wrong', 'does not know'), ('a"b', 'cannot send')):
    page.write(token) if token == 'wrong' else page.value(
      f'document.activeElement.value = {token!r}'
    )
    page.press('Enter')
    page.wait(
      'document.getElementById("token-told").innerText'
      f'.includes({told!r}) && document.activeElement.id === "token"'
    )
  page.write('right-1')
  page.press('Enter')
  page.wait('document.body.dataset.link === "open"')
  assert page.value('[localStorage.length, sessionStorage.token]') == [
    0,
    'right-1',
  ]
  assert not page.value('location.href').count('right')
  # A function of the page is called, run, and its result is said.
  page.click('#tools')
  page.click('#text')
  page.write('how much')
  page.press('Enter')
  page.wait('document.body.innerText.includes("It is 98.")')
  page.wait('document.body.dataset.state === "listening"')
  names = [
    t['name'] for t in served.of('session.update')[-1]['session']['tools']
  ]
  assert names == ['clock', 'calculator']
  told = page.value(TEXT)[1]
  assert '"expression": "2*(3+4)^2"' in told and '{ "value": 98 }' in told
  # One of somebody else waits for its result.
  page.write('weather')
  page.press('Enter')
  page.wait('document.body.innerText.includes("Bern")')
  # The connection is lost; another one is told what was said.
  before = page.value(TEXT)
  scripted.hang_up(served)
  page.wait('document.activeElement.id === "again"')
  told = page.value('document.getElementById("fault").innerText')
  assert told.startswith('The server starts again.')
  served.received.clear()
  page.press('Enter')
  page.wait('document.body.dataset.link === "open"')
  assert page.value(TEXT) == before
  while len(served.of('conversation.item.create')) < 3:
    page.value('0')
  made = [e['item'] for e in served.of('conversation.item.create')]
  assert [(one['role'], one['content'][0]['text']) for one in made] == [
    ('user', 'how much'),
    ('assistant', 'It is 98.'),
    ('user', 'weather'),
  ]
  # What the browser itself says of a token that is refused.
  refused = 'Failed to load resource: the server responded with a status of'
  check(page, served, [f'{refused} 401 (Unauthorized)'])


CONTRAST = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const over = (top, under) => {
    const a = top[3] ?? 1;
    return [0, 1, 2].map(n => a * top[n] + (1 - a) * under[n]);
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(x => x / 255).map(x =>
      x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const srgb = text => {
    const pen = new OffscreenCanvas(1, 1).getContext('2d');
    pen.fillStyle = text;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const ground = one => {
    const all = [];
    for (; one; one = one.parentElement) {
      all.unshift(srgb(getComputedStyle(one).backgroundColor));
    }
    return all.reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    const style = getComputedStyle(one);
    if (!walk.currentNode.data.trim() || !one.offsetWidth) continue;
    if (one.closest(':disabled, option, noscript')) continue;
    const under = ground(one);
    const ink = srgb(style.color);
    let opacity = 1;
    for (let up = one; up; up = up.parentElement) {
      opacity *= getComputedStyle(up).opacity;
    }
    const mixed = over([...ink.slice(0, 3), ink[3] * opacity], under);
    const [a, b] = [light(mixed), light(under)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walk.currentNode.data.trim()]);
  }
  return found.sort((x, y) => x[0] - y[0]);
})()"""


@browser.needed
def test_it_is_readable_everywhere(chromium, served, tmp_path):
  served.replies = [Reply(LONG, 4.0), Reply(call=('clock', '{}')), Reply('x')]
  page = started(opened(chromium, served, width=320, height=640))
  page.click('#settings summary')
  page.click('#text')
  page.write('hello' * 20)
  page.press('Enter')
  page.wait('document.body.dataset.state === "reply"')
  page.press('Escape')
  page.write('what time')
  page.press('Enter')
  page.wait('document.querySelectorAll("#log .tool").length')
  for width in (320, 500, 1100):
    page.resize(width, 700)
    assert page.value(
      'document.documentElement.scrollWidth <= document.documentElement'
      '.clientWidth'
    ), width
  # With all that is shown at other times, and the keys of a keyboard.
  page.value(
    'document.querySelectorAll("[hidden]").forEach(one => one.hidden = false);'
    'document.getElementById("mute").ariaPressed = "true";'
    'document.body.className = "all"; const [sheet] = document.styleSheets;'
    'sheet.insertRule("kbd, .all #controls > button { display: block'
    ' !important }", sheet.cssRules.length)'
  )
  for dark in (False, True, 'held'):
    on = json.dumps(dark == 'held')
    page.value(f'document.getElementById("talk").classList.toggle("on", {on})')
    page.colours(bool(dark))
    found = page.value(CONTRAST)
    assert len(found) > 30 and found[0][0] >= 4.5, found[:5]
  assert page.unnamed() == []
  still = {'name': 'prefers-reduced-motion', 'value': 'reduce'}
  page.call('Emulation.setEmulatedMedia', features=[still])
  page.value('document.body.dataset.state = "pause"')
  assert page.value(
    '[...document.querySelectorAll("*")].map(getComputedStyle).every(one =>'
    ' one.animationName === "none" && parseFloat(one.transitionDuration) === 0)'
  )
  # Keys reach every control, and it is seen where they are.
  page.value('document.activeElement.blur()')
  reached = []
  for _ in range(24):
    page.press('Tab')
    reached.append(page.value('document.activeElement.id'))
    assert not reached[-1] or page.value(
      '(() => { const one = document.activeElement, span = '
      'one.nextElementSibling; return [one, span].some(x => x && '
      'getComputedStyle(x).outlineStyle === "solid"); })()'
    ), reached
  assert {'talk', 'end', 'log', 'text', 'voice', 'style', 'tools'} <= {*reached}
  check(page, served)


@browser.needed
def test_without_a_microphone_it_is_written_to(chromium, served):
  served.replies = [Reply('Hello.', 0.3), Reply('Only in writing.')]
  page = chromium.open(served.address)
  page.value(
    'navigator.mediaDevices.getUserMedia = () => Promise.reject('
    'new DOMException("", "NotAllowedError"))'
  )
  page.press('Tab')
  started(page)
  page.wait('document.getElementById("deaf").offsetWidth > 0')
  assert page.value('document.getElementById("deaf-text").innerText') == (
    'No microphone: the browser was not allowed to use it. You can write, and '
    'replies are heard.'
  )
  page.wait('document.activeElement.id === "text"')
  page.write('hi')
  page.press('Enter')
  passed(page, 'reply', 'listening')
  assert 'Hello.' in page.value(TEXT)[1]
  # What is not spoken is told to screen readers, what is spoken is not.
  said = 'document.getElementById("said").textContent'
  assert page.value(said) == 'Connected to tiny.'
  page.write('hi')
  page.press('Enter')
  page.wait(f'{said} === "Only in writing."')
  assert 'after' in page.value(TEXT)[3]
  check(page, served)
