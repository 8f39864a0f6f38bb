/* The microphone, with the browser's own echo cancellation. */

const WHY = {
  NotAllowedError: 'the browser was not allowed to use it',
  NotFoundError: 'this device has none',
  NotReadableError: 'another program holds it',
};

export class Microphone {
  /* `onframe({ frame, level, time })`: Int16Array of 20 ms, its RMS, and the
  time of its end in ms of `performance.now()`. */
  constructor(onframe, onlost) {
    this.onframe = onframe;
    this.onlost = onlost;
    this.context = this.stream = null;
    this.muted = false;
  }

  get open() { return Boolean(this.stream); }

  /* Asks for it. Throws an Error that says in words why there is none. */
  async start() {
    if (this.open) return;
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
      throw new Error('browsers give it to pages by https or of this machine ' +
        'only');
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: {
        channelCount: 1, echoCancellation: true, noiseSuppression: true,
        autoGainControl: true,
      } });
    } catch (error) {
      throw new Error(WHY[error.name] ?? error.message);
    }
    this.stream = stream;
    const [track] = stream.getAudioTracks();
    track.addEventListener('ended', () => {
      if (this.stream === stream) { this.stop(); this.onlost(); }
    });
    // At the device's own rate: not every browser joins two rates.
    this.context = new AudioContext({ latencyHint: 'interactive' });
    await this.context.audioWorklet.addModule(
      new URL('capture.js', import.meta.url));
    if (this.stream !== stream) return; // stopped meanwhile
    const node = new AudioWorkletNode(this.context, 'capture', {
      numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit',
    });
    node.port.onmessage = ({ data }) => {
      if (this.stream !== stream) return;
      this.onframe({ ...data, time: performance.now() });
    };
    this.context.createMediaStreamSource(stream).connect(node);
    this.mute(this.muted);
    await this.context.resume();
  }

  /* A muted one goes on, as silence: whoever listens hears that a turn ends. */
  mute(muted) {
    this.muted = muted;
    for (const track of this.stream?.getAudioTracks() ?? []) {
      track.enabled = !muted;
    }
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.context?.close();
    this.context = this.stream = null;
  }
}
