/* Another sample rate for sound that comes in pieces of any length.

y[n] = Σ_k x[k] h(k - n·from/to), h a sinc under a Blackman window whose cutoff
lies below the lower of the two Nyquist rates, so that nothing folds over. h is
read from a table with linear interpolation. */

const CROSSINGS = 32; // zeros of the sinc to each side
const POINTS = 256; // of the table, from zero to zero
const CUTOFF = 0.92; // of the lower Nyquist rate

function table(scale, half) {
  const out = new Float64Array(CROSSINGS * POINTS + 2);
  for (let i = 0; i <= CROSSINGS * POINTS; i++) {
    const x = i / POINTS / scale; // input samples
    const phase = Math.PI * x * scale * CUTOFF;
    const turn = Math.PI * x / half;
    const window = 0.42 + 0.5 * Math.cos(turn) + 0.08 * Math.cos(2 * turn);
    const sinc = phase === 0 ? 1 : Math.sin(phase) / phase;
    out[i] = scale * CUTOFF * sinc * window;
  }
  return out;
}

export class Resampler {
  /* Rates in Hz. */
  constructor(from, to) {
    this.same = from === to;
    this.step = from / to;
    this.scale = Math.min(1, to / from);
    this.half = CROSSINGS / this.scale;
    this.table = table(this.scale, this.half);
    // Silence before the first sample, so that the first output is in time.
    this.held = new Float32Array(Math.ceil(this.half));
    this.place = this.held.length; // of the next output, in `held`
  }

  /* Takes samples; gives those that are complete, a Float32Array. */
  push(samples) {
    if (this.same) return samples.slice();
    const all = new Float32Array(this.held.length + samples.length);
    all.set(this.held);
    all.set(samples, this.held.length);
    const out = [];
    while (this.place + this.half < all.length) {
      out.push(this.at(all));
      this.place += this.step;
    }
    const first = Math.max(0, Math.floor(this.place - this.half));
    this.held = all.slice(first);
    this.place -= first;
    return Float32Array.from(out);
  }

  at(all) {
    const last = Math.min(all.length - 1, Math.floor(this.place + this.half));
    let sum = 0;
    for (let k = Math.ceil(this.place - this.half); k <= last; k++) {
      const x = Math.abs(k - this.place) * this.scale * POINTS;
      const i = Math.floor(x);
      const low = this.table[i];
      sum += all[k] * (low + (x - i) * (this.table[i + 1] - low));
    }
    return sum;
  }
}
