/* The lines of a conversation as a list on the page. */

const NAMES = { user: 'You', assistant: 'Reply', tool: 'Tool' };

export function element(kind, text = '', set = {}) {
  const one = document.createElement(kind);
  one.textContent = text;
  return Object.assign(one, set);
}

export const seconds = ms => `${(ms / 1000).toFixed(2)} s`;

/* JSON as a person reads it; what is none stays as it is. */
function readable(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === 'string' ? value : JSON.stringify(value, null, 1)
      .replace(/\n */g, ' ');
  } catch {
    return text;
  }
}

export class Log {
  constructor(list, empty) {
    this.list = list;
    this.empty = empty;
    this.shown = new Map(); // id → element
  }

  remove(id) {
    this.shown.get(id)?.remove();
    this.shown.delete(id);
    this.empty.hidden = this.shown.size > 0;
  }

  /* Shows a line where it stands among all. */
  show(line, all) {
    const { list } = this;
    const left = list.scrollHeight - list.scrollTop - list.clientHeight;
    let made = this.shown.get(line.id);
    if (!made) {
      made = element('li', '', { className: line.role });
      made.dataset.id = line.id;
      this.shown.set(line.id, made);
      const next = all.slice(all.indexOf(line) + 1)
        .map(one => this.shown.get(one.id)).find(Boolean);
      list.insertBefore(made, next ?? null);
      this.empty.hidden = true;
    }
    made.classList.toggle('pending', line.pending);
    made.replaceChildren(...(line.call ? this.call(line) : this.said(line)));
    // Who reads what was said before is left where he is.
    if (left < 80) list.scrollTop = list.scrollHeight;
  }

  head(line) {
    const head = element('p', '', { className: 'who' });
    head.append(element('b', NAMES[line.role]));
    if (line.latency !== null) {
      head.append(element('span', `after ${seconds(line.latency)}`));
    }
    if (line.note) head.append(element('span', line.note));
    return head;
  }

  said(line) {
    const text = element('p', '', { className: 'text', dir: 'auto' });
    const cut = line.heard !== null && line.heard < line.text.length;
    if (!line.text && line.pending) {
      text.append(element('span', '…', { className: 'quiet' }));
    } else text.append(cut ? line.text.slice(0, line.heard) : line.text);
    const head = this.head(line);
    if (cut) {
      const lost = element('s', line.text.slice(line.heard));
      text.append(lost);
    }
    if (line.heard !== null) {
      const all = line.heard === 0 ? 'not heard' : 'cut off';
      head.append(element('span', line.heard < line.text.length ? all
        : 'cut off at its end'));
    }
    return [head, text];
  }

  call(line) {
    const { name, arguments: given, output } = line.call;
    const head = this.head(line);
    head.append(element('code', name));
    const facts = element('dl');
    facts.append(element('dt', 'Arguments'),
      element('dd', readable(given) || '…'), element('dt', 'Result'),
      element('dd', output === null ? '…' : readable(output)));
    return [head, facts];
  }
}
