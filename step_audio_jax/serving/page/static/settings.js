/* Voice, style, instructions and tools: what a person sets of a session.

What is empty is left to the server. All of it is forgotten with the tab. */

import { element } from './log.js';
import { TOOLS } from './tools.js';

const at = id => document.getElementById(id);
const FIELDS = ['voice', 'style', 'instructions', 'tools'];

export function stored(name, value) {
  try {
    if (value === undefined) return sessionStorage.getItem(name) ?? '';
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch { /* a browser that keeps nothing */ }
  return value ?? '';
}

export class Settings {
  /* `changed(field)`: a person changed one. */
  constructor(changed) {
    this.theirs = null; // the session as the server began it
    for (const name of FIELDS) {
      const one = at(name), isBox = one.type === 'checkbox';
      if (isBox) one.checked = Boolean(stored(name));
      else if (name !== 'voice') one.value = stored(name);
      one.addEventListener('change', () => {
        stored(name, isBox ? (one.checked ? 'yes' : '') : one.value);
        changed(name);
      });
    }
  }

  voices(names) {
    const options = ['', ...names].map(name =>
      element('option', name || 'the server\'s own', { value: name }));
    at('voice').replaceChildren(...options);
    at('voice').value = names.includes(stored('voice')) ? stored('voice') : '';
    at('voice-part').hidden = names.length < 2;
  }

  /* A session begins: what it has decides what there is to choose. */
  begin(session) {
    this.theirs = session;
    at('style-part').hidden = !('style' in (session.audio?.output ?? {}));
  }

  /* What is asked of the session; `push`: whether a button tells the turns. */
  session(model, push) {
    const { theirs } = this;
    const output = { format: { type: 'audio/pcm', rate: 24000 } };
    const voice = at('voice').value || theirs.audio?.output?.voice;
    if (voice) output.voice = voice;
    if ('style' in (theirs.audio?.output ?? {})) {
      output.style = at('style').value.trim() || theirs.audio.output.style;
    }
    return {
      type: 'realtime',
      instructions: at('instructions').value.trim() ||
        (theirs.instructions ?? ''),
      tools: [...theirs.tools ?? [], ...this.own()],
      audio: {
        input: {
          format: { type: 'audio/pcm', rate: 24000 },
          transcription: theirs.audio?.input?.transcription ??
            (model ? { model } : {}),
          // It knows from the words when a turn is over.
          turn_detection: push ? null : { type: 'semantic_vad' },
        },
        output,
      },
    };
  }

  /* Functions that the page runs; one of the server's by that name stays. */
  own() {
    const names = (this.theirs.tools ?? []).map(one => one.name);
    return at('tools').checked
      ? TOOLS.filter(one => !names.includes(one.name)) : [];
  }

  tell(text) { at('set-told').textContent = text; }
}
