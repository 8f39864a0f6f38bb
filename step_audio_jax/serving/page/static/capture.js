/* On the audio thread: the microphone as frames of 20 ms, pcm16 at 24 kHz. */

import { Resampler } from './resample.js';

const RATE = 24000;
const FRAME = 480; // samples, 20 ms

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
    this.squares = 0;
  }

  process([[channel]]) {
    // Without a channel there is no source (yet); nothing is made up for it.
    if (!channel) return true;
    for (const sample of this.resampler.push(channel)) {
      const value = Math.max(-1, Math.min(1, sample));
      this.frame[this.filled++] = Math.round(value * 32767);
      this.squares += value * value;
      if (this.filled === FRAME) this.give();
    }
    return true;
  }

  give() {
    const level = Math.sqrt(this.squares / FRAME);
    const frame = this.frame;
    this.port.postMessage({ frame, level }, [frame.buffer]);
    this.frame = new Int16Array(FRAME);
    this.filled = this.squares = 0;
  }
}

registerProcessor('capture', Capture);
