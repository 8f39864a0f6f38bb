/* The page: joins its parts, and what is on it. */

import { Latency } from './latency.js';
import { Lines } from './lines.js';
import { Link } from './link.js';
import { Log } from './log.js';
import { Microphone } from './microphone.js';
import { Settings, stored } from './settings.js';
import { Speaker } from './speaker.js';
import { Talk } from './talk.js';
import { Timeline } from './timeline.js';
import { Waves } from './waves.js';

const at = id => document.getElementById(id);
const { body } = document;
const TOKEN = 'token';
const PREROLL = 10; // frames before the button went down, 200 ms
const SLOW = 640e3; // bytes that wait to be sent, ten seconds of sound
const STATES = {
  off: ['Not connected', ''],
  joining: ['Connecting', ''],
  listening: ['Listening', 'speak whenever you like'],
  you: ['You speak', ''],
  pause: ['Pause', 'it is about to reply'],
  reply: ['It replies', 'speak to interrupt it'],
};
const PUSHED = { ...STATES,
  listening: ['Ready', 'hold the button while you speak'],
  you: ['You speak', 'let go when you are done'],
  reply: ['It replies', 'press to interrupt it'],
};
const MUTED = { ...STATES, listening: ['Muted', 'it does not hear you'] };

let model = null; // what the server says of it
let kept = false; // whether the next session goes on with what is shown
let before = []; // frames of the last moment, for push-to-talk

const log = new Log(at('log'), at('empty'));
const lines = new Lines((line, all) => log.show(line, all),
  id => log.remove(id));
const waves = new Waves(at('picture'));
const latency = new Latency({
  figure: at('latency'), last: at('last'), usual: at('usual'),
  picture: at('turns'),
});
const link = new Link(hear, lost);
const speaker = new Speaker({
  started: (item, time) => talk.started(item, time),
  finished: () => talk.show(),
  level: level => waves.hear(1, level),
  gap: () => latency.gap(),
});
const timeline = new Timeline();
const talk = new Talk({
  lines, speaker, timeline,
  send: (event, quiet) => link.send(event, quiet),
  offers: name => settings.own().some(one => one.name === name),
  told: { state: paint, fault, turn: ms => latency.push(ms), wrote: say },
});
const microphone = new Microphone(recorded, () =>
  deaf('The microphone was taken away'));
const settings = new Settings(change);

const pushes = () => body.dataset.mode === 'push';
const isOpen = () => body.dataset.link === 'open';

/* For who does not see it. What is heard is not said here too: it would be
talked into. */
function say(text) { at('said').textContent = text; }

function paint(name) {
  if (!isOpen()) name = body.dataset.link === 'joining' ? 'joining' : 'off';
  const names = pushes() ? PUSHED : microphone.muted ? MUTED : STATES;
  const [state, hint] = names[name];
  body.dataset.state = name;
  at('state-name').textContent = state;
  const hears = microphone.open || name !== 'listening';
  at('state-hint').textContent = hears ? hint : 'write to it';
  at('talk').classList.toggle('on', talk.held);
  at('talk').setAttribute('aria-pressed', talk.held);
  at('hush').disabled = !['pause', 'reply'].includes(name);
}

function connected(state) {
  body.dataset.link = state;
  at('send').disabled = state !== 'open';
  paint(talk.name || 'listening');
}

/* One sentence about what went wrong; `retry`: whether to try again helps. */
function fault(text, retry = false) {
  at('fault-text').textContent = text;
  at('fault').hidden = !text;
  at('again').hidden = !retry;
  at('dismiss').hidden = retry;
}

function deaf(why) {
  body.classList.toggle('deaf', Boolean(why));
  at('deaf').hidden = !why;
  at('deaf-text').textContent = why &&
    `No microphone: ${why}. You can write, and replies are heard.`;
  paint(talk.name || 'listening');
}

function recorded({ frame, level, time }) {
  waves.hear(0, talk.held || !pushes() ? level : 0);
  if (!isOpen()) return;
  if (pushes() && !talk.held) {
    before = [...before, { frame, level, time }].slice(-PREROLL);
    return;
  }
  transmit(frame, level, time);
}

function transmit(frame, level, time) {
  if (link.socket?.bufferedAmount > SLOW) {
    fault('The connection is too slow: more than ten seconds of your voice ' +
      'wait to be sent.');
  }
  timeline.push(time, level);
  const bytes = String.fromCharCode(...new Uint8Array(frame.buffer));
  link.send({ type: 'input_audio_buffer.append', audio: btoa(bytes) }, true);
}

function hear(event) {
  if (event.type === 'session.created') settings.begin(event.session);
  if (event.type === 'session.updated') settings.tell('');
  talk.handle(event);
}

async function listen() {
  try {
    if (!model.hears) throw new Error('this model does not hear');
    await microphone.start();
    if (!isOpen()) microphone.stop();
    else deaf('');
  } catch (error) {
    deaf(error.message);
  }
}

async function start() {
  if (body.dataset.link === 'joining' || isOpen()) return;
  fault('');
  at('token-form').hidden = true;
  connected('joining');
  if (!kept) {
    lines.clear();
    latency.clear();
  }
  // Browsers let sound begin within a click or a key alone.
  const sound = speaker.start().catch(() =>
    fault('This browser cannot play the replies.'));
  try {
    model = await link.connect(stored(TOKEN));
    await sound;
  } catch (error) {
    speaker.close();
    connected('off');
    if (error.token) askToken(error.message);
    else fault(error.message, true);
    return;
  }
  if (!link.open) return; // it was lost already, and that was told
  at('model').textContent = model.id;
  settings.voices(model.voices);
  Object.assign(timeline, new Timeline());
  talk.reset();
  update();
  if (kept) talk.restore();
  kept = false;
  before = [];
  connected('open');
  talk.show();
  waves.start();
  say(`Connected${model.id && ` to ${model.id}`}.`);
  await listen();
  const idle = [null, body, at('start'), at('again')];
  if (idle.includes(document.activeElement)) {
    at(!microphone.open ? 'text' : pushes() ? 'talk' : 'mute').focus();
  }
}

function update() {
  link.send({ type: 'session.update', session:
    settings.session(model.id, pushes()) });
}

function quiet() {
  link.close();
  speaker.close();
  microphone.stop();
  waves.stop();
  talk.reset();
  connected('off');
}

function end() {
  quiet();
  kept = false;
  say('Ended.');
  at('start').focus();
}

function lost(why) {
  quiet();
  kept = true;
  fault(why, true);
  if (!at('text').value) at('again').focus(); // nobody is writing
}

function askToken(why) {
  at('token-form').hidden = false;
  at('token-told').textContent = `${why} It is kept in this tab only.`;
  at('token').focus();
}

/* A setting was changed, at any time. */
async function change(name) {
  if (!isOpen()) return;
  const spoke = lines.all.some(line => line.role === 'assistant');
  if (name === 'voice' && spoke) {
    // A session keeps the voice that was heard: another one goes on.
    settings.tell('The new voice goes on in a new session.');
    quiet();
    kept = true;
    await start();
    return;
  }
  update();
}

function mute() {
  if (!isOpen() || pushes()) return;
  microphone.mute(!microphone.muted);
  at('mute').setAttribute('aria-pressed', microphone.muted);
  say(microphone.muted ? 'Muted.' : 'Not muted.');
  paint(talk.name);
}

function press() {
  if (!isOpen() || !pushes() || !microphone.open || talk.held) return;
  speaker.context?.resume();
  fault('');
  talk.press();
  for (const one of before) transmit(one.frame, one.level, one.time);
  before = [];
}

function release() {
  if (talk.held && !talk.release()) {
    at('state-hint').textContent = 'hold it for as long as you speak';
  }
}

function choose() {
  const mode = document.querySelector('[name=mode]:checked').value;
  if (mode === body.dataset.mode) return;
  release();
  body.dataset.mode = mode;
  stored('mode', mode === 'push' ? mode : '');
  microphone.mute(false);
  at('mute').setAttribute('aria-pressed', false);
  if (isOpen()) {
    // What was begun hands-free is no part of what a button begins.
    link.send({ type: 'input_audio_buffer.clear' }, true);
    update();
  }
  talk.talking = false;
  paint(talk.name || 'listening');
}

at('start').addEventListener('click', start);
at('again').addEventListener('click', start);
at('dismiss').addEventListener('click', () => fault(''));
at('end').addEventListener('click', end);
at('ask').addEventListener('click', listen);
at('mute').addEventListener('click', mute);
at('hush').addEventListener('click', () => talk.interrupt(true));
at('write').addEventListener('submit', event => {
  event.preventDefault();
  const text = at('text').value.trim();
  if (!text || !isOpen()) return;
  at('text').value = '';
  talk.write(text);
});
at('token-form').addEventListener('submit', event => {
  event.preventDefault();
  stored(TOKEN, at('token').value.trim());
  at('token').value = '';
  start();
});
for (const one of document.querySelectorAll('[name=mode]')) {
  one.addEventListener('change', choose);
}

/* The button: held by pointer or key; a click of a screen reader toggles. */
at('talk').addEventListener('pointerdown', event => {
  if (event.button) return;
  at('talk').setPointerCapture(event.pointerId);
  press();
});
for (const kind of ['pointerup', 'pointercancel', 'lostpointercapture']) {
  at('talk').addEventListener(kind, release);
}
at('talk').addEventListener('contextmenu', event => event.preventDefault());
at('talk').addEventListener('click', event => {
  if (event.pointerType || event.detail) return;
  if (talk.held) release(); else press();
});

/* Keys that something else has a use for are left to it. */
const TYPING = 'input:not([type=radio]):not([type=checkbox]), textarea, select';
const USES = `${TYPING}, button:not(#talk), summary, [type=checkbox]`;
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key, target } = event;
  if (key === 'Escape' && isOpen()) talk.interrupt(true);
  const isTalk = target === at('talk') && key === 'Enter';
  if ((key === ' ' && !target.matches(USES)) || isTalk) {
    if (!isOpen() || !pushes()) return;
    event.preventDefault();
    if (!event.repeat) press();
  } else if (key.toLowerCase() === 'm' && !target.matches(TYPING)) mute();
});
document.addEventListener('keyup', event => {
  if (event.key !== ' ' && event.key !== 'Enter') return;
  // Some browsers click a button as its key goes up.
  if (event.target === at('talk')) event.preventDefault();
  release();
});
// Whoever leaves while he holds the button has let go.
addEventListener('blur', release);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) release();
});
addEventListener('pagehide', () => link.close());

if (stored('mode') === 'push') {
  document.querySelector('[value=push]').checked = true;
}
choose();
if (matchMedia('(max-width: 56rem)').matches) at('settings').open = false;
connected('off');
