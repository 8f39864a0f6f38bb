/* Plays the reply, and knows to the sample what was played of it. */

export const RATE = 24000;

function samplesOf(base64) {
  const bytes = Uint8Array.from(atob(base64), one => one.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const out = new Float32Array(bytes.length >> 1);
  for (let i = 0; i < out.length; i++) {
    out[i] = view.getInt16(2 * i, true) / 32768;
  }
  return out;
}

export class Speaker {
  /* `told`: functions `started(item, time)`, `finished(item)`, `level(peak)`,
  `gap()`; times are ms of `performance.now()`. */
  constructor(told) {
    this.told = told;
    this.items = new Set(); // that are not played to their end
    this.begun = new Set();
    this.asked = new Map();
    this.count = 0;
    this.context = this.node = null;
  }

  /* Within a click or a key, as browsers want it. */
  async start() {
    if (this.node) return;
    if (!window.AudioWorkletNode) return; // what is written still works
    const context = new AudioContext({
      sampleRate: RATE, latencyHint: 'interactive',
    });
    this.context = context;
    context.resume();
    await context.audioWorklet.addModule(
      new URL('playback.js', import.meta.url));
    if (this.context !== context) return;
    this.node = new AudioWorkletNode(context, 'playback', {
      numberOfInputs: 0, outputChannelCount: [1],
    });
    this.node.port.onmessage = ({ data }) => this.hear(data);
    this.node.connect(context.destination);
  }

  get playing() { return this.begun.size > 0; }

  get busy() { return this.items.size > 0; }

  push(item, base64) {
    if (!this.node) return;
    const samples = samplesOf(base64);
    this.items.add(item);
    this.node.port.postMessage({ act: 'push', item, samples },
      [samples.buffer]);
  }

  /* No more will come of an item. */
  end(item) {
    if (this.items.has(item)) this.node.port.postMessage({ act: 'end', item });
  }

  /* Silence, within one turn of the audio graph (5 ms). A promise of what was
  not played to its end: [{ item, played, given, ended }], in samples. */
  stop() {
    if (!this.items.size) return Promise.resolve([]);
    this.items.clear();
    this.begun.clear();
    const asked = ++this.count;
    this.node.port.postMessage({ act: 'stop', asked });
    return new Promise(resolve => this.asked.set(asked, resolve));
  }

  close() {
    this.context?.close();
    this.context = this.node = null;
    this.items.clear();
    this.begun.clear();
    for (const resolve of this.asked.values()) resolve([]);
    this.asked.clear();
  }

  hear(data) {
    if (data.told === 'level') this.told.level(data.level);
    else if (data.told === 'gap') this.told.gap();
    else if (data.told === 'stopped') {
      this.asked.get(data.asked)?.(data.items);
      this.asked.delete(data.asked);
    } else if (!this.items.has(data.item)) return; // stopped meanwhile
    else if (data.told === 'started') {
      this.begun.add(data.item);
      this.told.started(data.item, this.heard(data.time));
    } else if (data.told === 'finished') {
      this.items.delete(data.item);
      this.begun.delete(data.item);
      this.told.finished(data.item);
    }
  }

  /* When what is rendered at a time of the context is heard. */
  heard(time) {
    const { contextTime, performanceTime } = this.context.getOutputTimestamp();
    // Before the device runs there is no pair of times.
    if (!performanceTime) {
      const ahead = time - this.context.currentTime;
      const late = this.context.outputLatency || this.context.baseLatency;
      return performance.now() + 1000 * (ahead + (late || 0));
    }
    return performanceTime + 1000 * (time - contextTime);
  }
}
