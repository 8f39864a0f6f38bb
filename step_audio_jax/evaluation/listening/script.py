"""The program of a listening page, plain JavaScript without any library.

It reads its trials from the script element `data` and each sound from the
element of its id, or from a file beside the page. Order and sides are drawn by
mulberry32 from a hash of the page's digest and the rater's name: the same
rater has the same order after a reload, another has another one.
"""

SCRIPT = r"""
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const at = id => document.getElementById(id);
const SCALE = {
  mos: [['5', 'Excellent'], ['4', 'Good'], ['3', 'Fair'], ['2', 'Poor'],
    ['1', 'Bad']],
  ab: [['a', 'A is better'], ['same', 'No difference'], ['b', 'B is better']],
};
const KEYS = {
  mos: [['Space', 'play or pause'], ['1', ''], ['…', ''],
    ['5', 'rate'], ['←', ''], ['→', 'lower, higher'], ['Enter', 'go on'],
    ['Backspace', 'back']],
  ab: [['←', 'play A'], ['→', 'play B'], ['Space', 'play or pause'],
    ['1', 'A'], ['2', 'no difference'], ['3', 'B'], ['Enter', 'go on'],
    ['Backspace', 'back']],
};
const COLUMNS = ['page', 'rater', 'place', 'trial', 'item', 'sounds',
  'question', 'score', 'seconds', 'plays', 'catch'];
const audio = new Audio();
let rater = '', trials = [], answers = {}, place = 0, began = 0;
let playing = -1, screen = 'welcome';

function hash(text) {
  let h = 1779033703 ^ text.length;
  for (let i = 0; i < text.length; i++) {
    h = Math.imul(h ^ text.charCodeAt(i), 3432918353);
    h = (h << 13) | (h >>> 19);
  }
  h = Math.imul(h ^ (h >>> 16), 2246822507);
  h = Math.imul(h ^ (h >>> 13), 3266489909);
  return (h ^ (h >>> 16)) >>> 0;
}

function generator(seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(list, draw) {
  const out = list.slice();
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  // The same words are not heard twice in a row, where that can be had.
  for (let i = 1; i < out.length; i++) {
    if (out[i].item !== out[i - 1].item) continue;
    for (let k = 1; k < out.length; k++) {
      const j = (i + k) % out.length;
      const near = n => n < 0 || n >= out.length ? '' : out[n].item;
      const other = out[j].item, own = out[i].item;
      if (other !== near(i - 1) && other !== near(i + 1) &&
          own !== near(j - 1) && own !== near(j + 1)) {
        [out[i], out[j]] = [out[j], out[i]];
        break;
      }
    }
  }
  return out;
}

function drawn(name) {
  const draw = generator(hash(data.page + '/' + name));
  const out = [];
  for (const question of Object.keys(data.questions)) {
    const own = data.trials.filter(one => one.question === question);
    for (const one of shuffled(own, draw)) {
      const swapped = one.sounds.length > 1 && draw() < 0.5;
      out.push({...one,
        sounds: swapped ? one.sounds.slice().reverse() : one.sounds});
    }
  }
  return out;
}

// What is kept in this browser.
const slot = name => 'listening/' + data.page + '/' + name;
function load(name) {
  try { return JSON.parse(localStorage.getItem(slot(name)) || 'null'); }
  catch (error) { return null; }
}
function keep() {
  clock();
  try {
    localStorage.setItem(slot(rater), JSON.stringify({answers, place}));
    localStorage.setItem(slot(''), JSON.stringify(rater));
  } catch (error) {
    at('kept').textContent = 'This browser keeps nothing of this page: do ' +
      'not close it before you have saved the ratings.';
  }
}

function source(id) {
  const held = document.getElementById(id);
  return held ? 'data:' + data.type + ';base64,' + held.textContent.trim()
    : 'sounds/' + id + data.ending;
}

function answer() {
  const one = trials[place];
  return answers[one.trial] ||= {
    score: '', seconds: 0, plays: one.sounds.map(() => 0),
    heard: one.sounds.map(() => false),
  };
}

function play(index) {
  const one = trials[place];
  if (playing === index && !audio.paused) { audio.pause(); paint(); return; }
  if (playing !== index) {
    playing = index;
    audio.src = source(one.sounds[index]);
  }
  if (audio.ended || audio.currentTime === 0) answer().plays[index] += 1;
  tell('');
  audio.play().catch(error => tell('The sound cannot be played: ' + error));
}
audio.addEventListener('ended', () => {
  if (screen === 'trial' && playing >= 0) {
    answer().heard[playing] = true;
    keep();
    paint();
  }
});
for (const kind of ['play', 'pause']) audio.addEventListener(kind, () => {
  if (screen === 'trial') paint();
});

function quiet() {
  audio.pause();
  audio.removeAttribute('src');
  playing = -1;
}

function rate(score) {
  answer().score = score;
  keep();
  tell('');
  paint();
}

// The time that a trial takes, up to now.
function clock() {
  if (!began) return;
  answer().seconds += (performance.now() - began) / 1000;
  began = performance.now();
}

function lacks(one) {
  const mine = answers[one.trial];
  if (!mine || !mine.heard.every(Boolean)) {
    return one.sounds.length > 1 ? 'Please hear both to their ends first.'
      : 'Please hear the sound to its end first.';
  }
  return mine.score ? '' : 'Please give a rating first.';
}

function go(to) {
  clock();
  began = 0;
  quiet();
  place = Math.max(0, Math.min(to, trials.length));
  keep();
  if (place < trials.length) { show('trial'); build(); } else finish();
}

function next() {
  const lacking = lacks(trials[place]);
  if (lacking) tell(lacking); else go(place + 1);
}

function tell(text) { at('told').textContent = text; }

function show(name) {
  screen = name;
  for (const id of ['welcome', 'trial', 'end']) at(id).hidden = id !== name;
}

function element(kind, text, set) {
  const one = document.createElement(kind);
  one.textContent = text;
  return Object.assign(one, set || {});
}

// A click leaves the focus on the question, so that keys mean what they say.
function pressed(action) {
  return () => { action(); if (screen === 'trial') at('question').focus(); };
}

function build() {
  const one = trials[place];
  at('question').textContent = data.questions[one.question];
  at('place').textContent = (place + 1) + ' of ' + trials.length;
  at('done').style.width = 100 * place / trials.length + '%';
  at('players').replaceChildren(...one.sounds.map((id, index) => {
    const button = element('button', '', {className: 'play'});
    button.onclick = pressed(() => play(index));
    return button;
  }));
  at('scale').replaceChildren(...SCALE[one.question].map(([score, name], n) => {
    const button = element('button', '');
    button.setAttribute('role', 'radio');
    button.dataset.score = score;
    button.append(element('kbd', one.question === 'mos' ? score : n + 1),
      element('span', name));
    button.onclick = pressed(() => rate(score));
    return button;
  }));
  at('keys').replaceChildren(...KEYS[one.question].flatMap(([key, text]) =>
    [element('kbd', key), ' ' + text + ' ']));
  at('back').hidden = place === 0;
  tell('');
  began = performance.now();
  paint();
  at('question').focus();
}

function paint() {
  const one = trials[place], mine = answer();
  [...at('players').children].forEach((button, index) => {
    const runs = playing === index && !audio.paused && !audio.ended;
    const name = one.sounds.length > 1 ? ' ' + 'AB'[index] : '';
    const state = runs ? 'playing' : mine.heard[index] ? 'heard'
      : 'not heard yet';
    button.classList.toggle('on', runs);
    button.replaceChildren((runs ? 'Pause' : 'Play') + name,
      element('small', state));
  });
  for (const button of at('scale').children) {
    const chosen = button.dataset.score === mine.score;
    button.setAttribute('aria-checked', chosen);
    button.tabIndex = 0;
  }
  at('next').setAttribute('aria-disabled', Boolean(lacks(one)));
}

function csv() {
  const quoted = value => {
    const text = String(value);
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"'
      : text;
  };
  const lines = [COLUMNS];
  trials.forEach((one, index) => {
    const mine = answers[one.trial];
    if (!mine || !mine.score) return;
    lines.push([data.page, rater, index + 1, one.trial, one.item,
      one.sounds.join(' '), one.question, mine.score, mine.seconds.toFixed(3),
      mine.plays.join(' '), one.catch]);
  });
  return lines.map(line => line.map(quoted).join(',')).join('\r\n') + '\r\n';
}

function finish() {
  show('end');
  const open = trials.filter(one => lacks(one)).length;
  at('summary').textContent = open
    ? open + ' of ' + trials.length + ' are not rated yet.'
    : 'All ' + trials.length + ' are rated. Save the ratings and hand the ' +
      'file back.';
  at('csv').value = csv();
  at('saved').textContent = '';
  at('thanks').focus();
}

function save() {
  const name = 'ratings-' + rater.replace(/[^\p{L}\p{N}_-]+/gu, '_') + '-' +
    data.page.slice(0, 8) + '.csv';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([csv()], {type: 'text/csv'}));
  link.download = name;
  link.click();
  at('saved').textContent = 'Saved as ' + name + '.';
}

function start() {
  const name = at('rater').value.trim().replace(/\s+/g, ' ');
  if (!name) {
    at('welcome-told').textContent = 'Please enter your name or a code.';
    at('rater').focus();
    return;
  }
  rater = name;
  trials = drawn(name);
  const kept = load(name);
  answers = kept ? kept.answers : {};
  place = 0;
  go(kept ? kept.place : 0);
}

function shift(step) {
  const now = Number(answer().score) || (step > 0 ? 2 : 4);
  rate(String(Math.max(1, Math.min(5, now + step))));
}

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key, where = event.target.tagName;
  const activates = key === ' ' || key === 'Enter';
  if (where === 'BUTTON' && activates) return;  // it is pressed by that
  if (where === 'TEXTAREA') return;
  if (event.repeat) { if (activates) event.preventDefault(); return; }
  let action = null;
  if (screen === 'welcome') {
    if (key === 'Enter') action = start;
  } else if (screen === 'end') {
    if (key === 'Enter') action = save;
    if (key === 'Backspace') action = () => go(trials.length - 1);
  } else {
    const ab = trials[place].question === 'ab';
    if (key === ' ') action = () => play(Math.max(playing, 0));
    if (key === 'Enter') action = next;
    if (key === 'Backspace' && place) action = () => go(place - 1);
    if (ab) {
      if (key === 'ArrowLeft') action = () => play(0);
      if (key === 'ArrowRight') action = () => play(1);
      const score = {1: 'a', 2: 'same', 3: 'b'}[key];
      if (score) action = () => rate(score);
    } else {
      if (key === 'ArrowLeft') action = () => shift(-1);
      if (key === 'ArrowRight') action = () => shift(1);
      if (/^[1-5]$/.test(key)) action = () => rate(key);
    }
  }
  if (action) { event.preventDefault(); action(); }
});

at('title').textContent = document.title = data.title;
const pairs = data.trials.some(one => one.question === 'ab');
at('count').textContent = data.trials.length +
  (pairs ? ' short sounds and pairs of sounds' : ' short sounds');
at('rater').value = load('') || '';
at('start').onclick = start;
at('test').onclick = () => {
  audio.src = source(data.test);
  audio.play();
};
at('next').onclick = pressed(next);
at('back').onclick = pressed(() => go(place - 1));
at('save').onclick = save;
at('review').onclick = () => go(trials.length - 1);
at('rater').focus();
"""
