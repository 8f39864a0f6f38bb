/* How long each reply took to begin, as a small picture. */

import { seconds } from './log.js';

const SHOWN = 24; // turns
const WIDTH = 240, HEIGHT = 56;
const LEAST = 1000; // ms that the picture reaches to

const median = list => {
  const sorted = [...list].sort((a, b) => a - b), n = sorted.length;
  return (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2;
};

export class Latency {
  constructor({ figure, last, usual, picture }) {
    Object.assign(this, { figure, last, usual, picture });
    this.clear();
  }

  clear() {
    this.turns = [];
    this.gaps = 0;
    this.figure.hidden = true;
  }

  push(ms) {
    this.turns.push(ms);
    this.show();
  }

  gap() {
    this.gaps++;
    if (this.turns.length) this.show();
  }

  show() {
    const { turns } = this;
    this.figure.hidden = false;
    this.last.textContent = seconds(turns.at(-1));
    this.usual.textContent = seconds(median(turns));
    const shown = turns.slice(-SHOWN);
    const most = Math.max(LEAST, ...shown);
    const each = WIDTH / SHOWN;
    const made = (name, set) => {
      const one = document.createElementNS(this.picture.namespaceURI, name);
      for (const [key, value] of Object.entries(set)) {
        one.setAttribute(key, value);
      }
      return one;
    };
    const line = HEIGHT - HEIGHT * 500 / most;
    const bars = shown.map((ms, n) => {
      const long = Math.max(2, HEIGHT * ms / most);
      return made('rect', {
        x: n * each, y: HEIGHT - long, width: each - 3, height: long, rx: 2,
      });
    });
    this.picture.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.picture.setAttribute('aria-label', 'Seconds until each reply began: ' +
      `${shown.map(ms => (ms / 1000).toFixed(2)).join(', ')}.` +
      (this.gaps ? ` The sound came too late ${this.gaps} times.` : ''));
    this.picture.replaceChildren(...bars, made('line', {
      x1: 0, x2: WIDTH, y1: line, y2: line,
    }));
  }
}
