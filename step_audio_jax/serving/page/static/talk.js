/* A conversation over the realtime protocol: events in, events out.

States, as the server's controller has them: `listening`, `you` (somebody
speaks), `pause` (a turn may have ended, nothing is heard yet), `reply`. */

import { RATE } from './speaker.js';
import { run } from './tools.js';

// ms of a turn by the button, with the moment before it went down.
const SHORTEST = 400;

export class Talk {
  /* `lines` of what is said; `send(event, quiet)`, `speaker`, `timeline`;
  `offers(name)`, whether a function is the page's own; `told` has functions
  `state(name)`, `turn(ms)`, `fault(text)`, `wrote(text)`, of a reply that is
  not spoken. */
  constructor({ lines, send, speaker, timeline, offers, told }) {
    Object.assign(this, { lines, send, speaker, timeline, offers, told });
    this.reset();
  }

  /* A new session has nothing under way. */
  reset() {
    this.talking = this.waiting = this.held = false;
    this.response = null; // that is being made
    this.silenced = new Set(); // responses that were interrupted
    this.cuts = new Map(); // item → { played, given }, of those cut off
    this.parts = new Map(); // item → content_index of its sound
    this.began = 0; // of the speech, ms of what was sent
    this.ended = null; // end of the person's turn, performance.now()
    this.calls = []; // functions of ours that this response called
    this.interrupts = true; // whether speech ends a reply
    this.name = '';
  }

  handle(event) {
    EVENTS[event.type]?.call(this, event);
    this.show();
  }

  show() {
    const name = this.talking || this.held ? 'you'
      : this.speaker.playing ? 'reply'
      : this.waiting || this.speaker.busy ? 'pause' : 'listening';
    if (name !== this.name) this.told.state(this.name = name);
  }

  /* Somebody else's turn: what plays is silent at once, and the server learns
  what was heard of it. `cancel`: it does not know yet that it shall stop. */
  async interrupt(cancel) {
    const stopped = this.speaker.stop();
    if (this.response) {
      this.silenced.add(this.response);
      if (cancel) this.send({ type: 'response.cancel' }, true);
    }
    this.show();
    for (const { item, played, given, ended } of await stopped) {
      if (!ended || played < given) this.truncate(item, { played, given });
    }
  }

  truncate(item, cut) {
    this.cuts.set(item, cut);
    const ms = Math.floor(1000 * cut.played / RATE);
    this.send({
      type: 'conversation.item.truncate', item_id: item,
      content_index: this.parts.get(item) ?? 0, audio_end_ms: ms,
    }, true);
    const line = this.lines.get(item);
    if (line) this.lines.cut(line, cut);
  }

  /* The button of push-to-talk goes down. */
  press() {
    if (this.held) return;
    this.held = true;
    this.interrupt(true);
    this.send({ type: 'input_audio_buffer.clear' }, true);
    this.began = this.timeline.ms;
    this.show();
  }

  /* It goes up; whether there was enough to be a turn. */
  release() {
    if (!this.held) return true;
    this.held = false;
    const length = this.timeline.ms - this.began;
    const enough = length >= SHORTEST;
    if (enough) {
      this.ended = this.timeline.endOfSpeech(this.began, this.timeline.ms);
      this.waiting = true;
      this.send({ type: 'input_audio_buffer.commit' });
      this.send({ type: 'response.create' });
    } else this.send({ type: 'input_audio_buffer.clear' }, true);
    this.show();
    return enough;
  }

  /* A turn in writing. */
  write(text) {
    this.interrupt(true);
    const id = `typed_${crypto.getRandomValues(new Uint32Array(2)).join('_')}`;
    this.lines.set(this.lines.at(id, 'user'), { text, pending: false });
    const content = [{ type: 'input_text', text }];
    this.send({
      type: 'conversation.item.create',
      item: { id, type: 'message', role: 'user', content },
    });
    this.send({ type: 'response.create' });
    this.ended = performance.now();
    this.waiting = true;
    this.show();
  }

  /* Gives a new session what was said in the one before. */
  restore() {
    for (const item of this.lines.asItems()) {
      this.send({ type: 'conversation.item.create', item }, true);
    }
  }

  /* The first sound of a reply, or its first word where it is not spoken. */
  first(item, time) {
    if (this.ended === null) return;
    const ms = Math.max(0, time - this.ended);
    this.ended = null;
    const line = this.lines.at(item, 'assistant');
    this.lines.set(line, { latency: ms });
    this.told.turn(ms);
  }

  started(item, time) {
    this.first(item, time);
    this.show();
  }

  /* Calls of functions that are the page's own. */
  answerCalls() {
    const calls = this.calls.splice(0);
    for (const { name, call_id, arguments: text } of calls) {
      const output = run(name, text);
      this.lines.result(call_id, output);
      this.send({ type: 'conversation.item.create', item: {
        type: 'function_call_output', call_id, output,
      } });
    }
    if (!calls.length) return;
    this.waiting = true;
    this.send({ type: 'response.create' });
  }

  words(event, done) {
    const line = this.lines.at(event.item_id, 'assistant');
    const text = event.transcript ?? event.text ?? line.text;
    this.lines.set(line, done ? { text, pending: false }
      : { text: line.text + event.delta });
  }
}

const EVENTS = {
  'session.updated'({ session }) {
    const detection = session.audio?.input?.turn_detection;
    this.interrupts = detection?.interrupt_response !== false;
  },
  'input_audio_buffer.speech_started'({ audio_start_ms, item_id }) {
    this.talking = true;
    this.waiting = false;
    this.began = audio_start_ms;
    if (item_id) this.lines.set(this.lines.at(item_id, 'user'), {});
    if (this.interrupts) this.interrupt(false);
  },
  'input_audio_buffer.speech_stopped'({ audio_end_ms }) {
    this.talking = false;
    this.waiting = true;
    this.ended = this.timeline.endOfSpeech(this.began, audio_end_ms);
  },
  'input_audio_buffer.cleared'() { this.talking = false; },
  'input_audio_buffer.committed'({ item_id, previous_item_id }) {
    this.lines.set(this.lines.at(item_id, 'user', previous_item_id), {});
  },
  'conversation.item.added'({ item, previous_item_id }) {
    this.lines.item(item, previous_item_id);
  },
  'conversation.item.done'({ item, previous_item_id }) {
    this.lines.item(item, previous_item_id);
  },
  'conversation.item.deleted'({ item_id }) { this.lines.remove(item_id); },
  'conversation.item.input_audio_transcription.delta'({ item_id, delta }) {
    const line = this.lines.at(item_id, 'user');
    this.lines.set(line, { text: line.text + (delta ?? '') });
  },
  'conversation.item.input_audio_transcription.completed'(event) {
    const line = this.lines.at(event.item_id, 'user');
    const note = event.transcript.trim() ? '' : 'nothing was understood';
    this.lines.set(line, { text: event.transcript, pending: false, note });
    if (note && !this.response) this.waiting = false; // that was no turn
  },
  'conversation.item.input_audio_transcription.failed'({ item_id }) {
    this.lines.set(this.lines.at(item_id, 'user'), {
      pending: false, note: 'could not be written down',
    });
  },
  'conversation.item.truncated'({ item_id }) {
    this.send({ type: 'conversation.item.retrieve', item_id }, true);
  },
  'conversation.item.retrieved'({ item }) {
    const line = this.lines.get(item.id), cut = this.cuts.get(item.id);
    const part = item.content?.[this.parts.get(item.id) ?? 0];
    if (line && cut) this.lines.cut(line, cut, part?.transcript ?? undefined);
  },
  'response.created'({ response }) {
    this.response = response.id;
    this.calls = [];
    this.waiting = true;
  },
  'response.output_item.added'({ item }) { this.lines.item(item); },
  'response.output_audio.delta'(event) {
    const { item_id, response_id, content_index, delta } = event;
    this.parts.set(item_id, content_index);
    if (!this.silenced.has(response_id)) this.speaker.push(item_id, delta);
    // On its way already when it was interrupted: none of it is heard.
    else if (!this.cuts.has(item_id)) {
      this.truncate(item_id, { played: 0, given: 0 });
    }
  },
  'response.output_audio.done'({ item_id }) { this.speaker.end(item_id); },
  'response.output_audio_transcript.delta'(event) { this.words(event, false); },
  'response.output_audio_transcript.done'(event) {
    // A cut reply keeps its words: those that were not heard are shown so.
    if (!this.cuts.has(event.item_id)) this.words(event, true);
  },
  'response.output_text.delta'(event) {
    this.first(event.item_id, performance.now());
    this.words(event, false);
  },
  'response.output_text.done'(event) {
    this.words(event, true);
    this.told.wrote(event.text);
  },
  'response.function_call_arguments.delta'({ item_id, delta }) {
    const line = this.lines.get(item_id);
    if (!line?.call) return;
    const text = line.call.arguments + delta;
    this.lines.set(line, { call: { ...line.call, arguments: text } });
  },
  'response.output_item.done'({ item }) {
    this.lines.item(item);
    this.speaker.end(item.id);
    if (item.type === 'function_call' && this.offers(item.name)) {
      this.calls.push(item);
    }
  },
  'response.done'({ response }) {
    if (this.response === response.id) this.response = null;
    for (const item of response.output ?? []) {
      this.speaker.end(item.id);
      const line = this.lines.get(item.id);
      if (line && !line.call) this.lines.set(line, { pending: false });
    }
    this.waiting = false;
    const { status, status_details: why } = response;
    if (status === 'failed') {
      this.told.fault(why?.error?.message ?? 'The reply failed.');
    } else if (status === 'incomplete') {
      const item = response.output?.at(-1);
      const line = item && this.lines.get(item.id);
      if (line) this.lines.set(line, { note: 'ended before its end' });
    }
    if (status === 'completed') this.answerCalls();
  },
  error({ error }) {
    if (String(error.event_id ?? '').startsWith('quiet')) return;
    this.waiting = Boolean(this.response);
    this.told.fault(error.message);
  },
};
