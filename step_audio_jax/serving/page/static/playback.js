/* On the audio thread: plays what it is given, and counts every sample of it.

What is counted as played is what has left for the device. It will be heard,
even if the device still holds it, for nothing takes it back. */

const FADE = 128; // samples of the way to silence, one turn of the graph
const ENOUGH = 2400; // samples to wait for after a gap, 100 ms
const REPORT = 4; // turns between two reports of the level

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = []; // of {item, samples, at}
    this.counts = new Map(); // item → {given, played, ended}
    this.tail = null; // of what was stopped
    this.starved = false;
    this.turns = 0;
    this.peak = 0;
    this.port.onmessage = ({ data }) => this[data.act](data);
  }

  push({ item, samples }) {
    this.count(item).given += samples.length;
    if (this.starved && !this.queue.length) {
      this.port.postMessage({ told: 'gap' });
    }
    this.queue.push({ item, samples, at: 0 });
  }

  end({ item }) {
    if (!this.counts.has(item)) return;
    this.count(item).ended = true;
    this.finish(item);
  }

  /* Forgets what waits. Answers at once: the fade that follows is counted. */
  stop({ asked }) {
    this.tail = new Float32Array(FADE);
    const length = this.fill(this.tail);
    for (let i = 0; i < length; i++) this.tail[i] *= 1 - (i + 0.5) / length;
    const items = [...this.counts].map(([item, count]) => ({ item, ...count }));
    this.queue = [];
    this.counts.clear();
    this.starved = false;
    this.port.postMessage({ told: 'stopped', asked, items });
  }

  count(item) {
    if (!this.counts.has(item)) {
      this.counts.set(item, { given: 0, played: 0, ended: false });
    }
    return this.counts.get(item);
  }

  waiting() {
    const more = [...this.counts.values()].some(count => !count.ended);
    const held = this.queue.reduce((n, one) => n + one.samples.length - one.at,
      0);
    return more && held < ENOUGH;
  }

  /* Fills with what is next; returns how many samples there were. */
  fill(out) {
    let done = 0;
    while (done < out.length && this.queue.length) {
      const one = this.queue[0];
      const count = this.count(one.item);
      const piece = one.samples.subarray(one.at, one.at + out.length - done);
      out.set(piece, done);
      if (!count.played && piece.length) {
        const time = currentTime + done / sampleRate;
        this.port.postMessage({ told: 'started', item: one.item, time });
      }
      count.played += piece.length;
      one.at += piece.length;
      done += piece.length;
      if (one.at === one.samples.length) {
        this.queue.shift();
        this.finish(one.item);
      }
    }
    return done;
  }

  finish(item) {
    const count = this.counts.get(item);
    if (!count.ended || count.played < count.given) return;
    this.counts.delete(item);
    this.port.postMessage({ told: 'finished', item, played: count.played });
  }

  process(inputs, [[out]]) {
    if (this.tail) {
      out.set(this.tail);
      this.tail = null;
    } else if (!(this.starved && this.waiting())) {
      const done = this.fill(out);
      const begun = [...this.counts.values()].some(count => count.played);
      this.starved = done < out.length && begun;
    }
    for (const sample of out) {
      this.peak = Math.max(this.peak, Math.abs(sample));
    }
    if (++this.turns === REPORT) {
      this.port.postMessage({ told: 'level', level: this.peak });
      this.turns = this.peak = 0;
    }
    return true;
  }
}

registerProcessor('playback', Playback);
