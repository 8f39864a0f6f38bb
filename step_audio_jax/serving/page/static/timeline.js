/* When what was sent was said.

The server counts time in the sound that it was sent; this keeps, for each frame
of it, when it was recorded and how loud it was. */

const FRAME_MS = 20;
const KEPT = 9000; // frames, three minutes
const DEPTH = 0.03; // of the loudest frame of a turn, -30 dB: still speech

export class Timeline {
  constructor() {
    this.frames = []; // {time, level}
    this.dropped = 0;
  }

  push(time, level) {
    this.frames.push({ time, level });
    if (this.frames.length > 2 * KEPT) {
      this.frames.splice(0, KEPT);
      this.dropped += KEPT;
    }
  }

  get ms() { return (this.dropped + this.frames.length) * FRAME_MS; }

  /* When the speech between two places (ms of sent sound) ended, as ms of
  `performance.now()`: its last frame that is not 30 dB below its loudest. The
  server's own end stands later, behind the silence that it waits for. */
  endOfSpeech(from, to) {
    const at = ms => Math.min(this.frames.length,
      Math.max(0, Math.round(ms / FRAME_MS) - this.dropped));
    const said = this.frames.slice(at(from), at(to));
    if (!said.length) return null;
    const least = DEPTH * Math.max(...said.map(one => one.level));
    return said.findLast(one => one.level >= least).time;
  }
}
