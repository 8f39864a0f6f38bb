/* What is heard and said, as bars: the person's go up, the reply's go down.

Where motion is not wanted there is one bar for each, which does not travel. */

const EACH = 40; // ms of a bar
const WIDTH = 3, GAP = 2; // CSS pixels

export class Waves {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext('2d');
    this.bars = []; // [up, down], the newest last
    this.now = [0, 0];
    this.still = matchMedia('(prefers-reduced-motion: reduce)');
    this.running = false;
    const dark = matchMedia('(prefers-color-scheme: dark)');
    for (const list of [this.still, dark]) {
      list.addEventListener('change', () => this.paint());
    }
    new ResizeObserver(() => this.fit()).observe(canvas);
  }

  /* The loudness of a piece of sound, 0 to 1; `side` 0 is the person. */
  hear(side, level) {
    // Speech has a wide range: its root is easier to see.
    const height = Math.min(1, Math.sqrt(2.5 * level));
    this.now[side] = Math.max(this.now[side], height);
  }

  start() {
    if (this.running) return;
    this.running = true;
    const turn = () => {
      if (!this.running) return;
      this.bars.push(this.now);
      this.now = [0, 0];
      const most = Math.ceil(this.canvas.clientWidth / (WIDTH + GAP)) + 1;
      this.bars.splice(0, this.bars.length - most);
      this.paint();
      setTimeout(turn, this.still.matches ? 5 * EACH : EACH);
    };
    turn();
  }

  stop() {
    this.running = false;
    this.now = [0, 0];
    this.paint();
  }

  fit() {
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = clientWidth * devicePixelRatio;
    this.canvas.height = clientHeight * devicePixelRatio;
    this.paint();
  }

  paint() {
    const { pen } = this;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const style = getComputedStyle(this.canvas);
    const colours = ['--c1', '--c3'].map(one => style.getPropertyValue(one));
    const middle = height / 2, reach = middle - 4;
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = style.getPropertyValue('--rule');
    pen.fillRect(0, middle - 0.5, width, 1);
    const bar = (x, thick, side, level) => {
      const long = level * reach;
      if (long < 1) return;
      pen.fillStyle = colours[side];
      pen.beginPath();
      pen.roundRect(x, side ? middle + 2 : middle - 2 - long, thick, long,
        WIDTH / 2);
      pen.fill();
    };
    if (this.still.matches) {
      const levels = this.bars.at(-1) ?? [0, 0];
      levels.forEach((level, side) => bar(width / 2 - 60, 120, side, level));
      return;
    }
    this.bars.forEach((levels, n) => {
      const x = width - (this.bars.length - n) * (WIDTH + GAP);
      levels.forEach((level, side) => bar(x, WIDTH, side, level));
    });
  }
}
