/* What was said, in order: lines that events of the server fill in.

A line: { id, role, text, pending, heard, note, latency, call }.
`role` is user, assistant or tool; `heard` is the number of characters that were
heard of a reply that was cut off, null where it was not; `call` is
{ id, name, arguments, output }. */

const KEPT = 60; // lines that a new connection is given

export class Lines {
  constructor(changed, removed) {
    this.all = [];
    this.changed = changed;
    this.removed = removed;
    this.later = new Map(); // call → output that came before its call
  }

  get(id) { return this.all.find(line => line.id === id); }

  /* The line of an item, made where it is missing, behind `previous`. */
  at(id, role, previous) {
    const known = this.get(id);
    if (known) return known;
    const line = {
      id, role, text: '', pending: true, heard: null, note: '', latency: null,
      call: null,
    };
    const before = this.all.findIndex(one => one.id === previous);
    if (before < 0) this.all.push(line);
    else this.all.splice(before + 1, 0, line);
    return line;
  }

  set(line, values) {
    Object.assign(line, values);
    this.changed(line, this.all);
  }

  remove(id) {
    this.all = this.all.filter(line => line.id !== id);
    this.removed(id);
  }

  clear() {
    for (const { id } of this.all) this.removed(id);
    this.all = [];
    this.later.clear();
  }

  /* An item of the server, as far as it is known. */
  item(item, previous) {
    if (item.type === 'function_call') {
      const line = this.at(item.id, 'tool', previous);
      const output = this.later.get(item.call_id) ?? line.call?.output ?? null;
      this.set(line, {
        call: {
          id: item.call_id, name: item.name,
          arguments: item.arguments || line.call?.arguments || '', output,
        },
      });
    } else if (item.type === 'function_call_output') {
      this.result(item.call_id, item.output);
    } else if (item.type === 'message' && item.role !== 'system') {
      const line = this.at(item.id, item.role, previous);
      const text = textOf(item);
      // Of a reply that was cut, the server has what was heard of it alone.
      this.set(line, text && line.heard === null ? {
        text, pending: item.status === 'in_progress' && line.pending,
      } : {});
    }
  }

  result(call, output) {
    const line = this.all.find(one => one.call?.id === call);
    if (!line) this.later.set(call, output);
    else this.set(line, {
      pending: false, call: { ...line.call, output },
    });
  }

  /* How much of a reply was heard: what the server holds of it, or, where it
  holds no words, the share of its samples that was played. */
  cut(line, { played, given }, held) {
    const share = given ? Math.round(line.text.length * played / given) : 0;
    const known = held !== undefined && (held || !played);
    const heard = known ? common(line.text, held)
      : wholeWords(line.text, share);
    this.set(line, { heard, pending: false });
  }

  /* The items that give this conversation to another session. */
  asItems() {
    return this.all.filter(line => line.role !== 'tool')
      .map(line => [line, line.heard === null ? line.text
        : line.text.slice(0, line.heard)])
      .filter(([, text]) => text.trim())
      .slice(-KEPT)
      .map(([{ id, role }, text]) => ({
        id, type: 'message', role,
        content: [{
          type: role === 'user' ? 'input_text' : 'output_text', text,
        }],
      }));
  }
}

/* The words of a message, whatever its parts are. */
export function textOf(item) {
  return (item.content ?? []).map(part => part.transcript ?? part.text ?? '')
    .filter(Boolean).join(' ');
}

/* How many characters of a text another begins with, whatever its spaces. */
function common(text, start) {
  let n = 0, k = 0, last = 0;
  while (n < text.length && k < start.length) {
    if (/\s/.test(text[n])) n++;
    else if (/\s/.test(start[k])) k++;
    else if (text[n] === start[k]) { last = ++n; k++; } else break;
  }
  return last;
}

/* A word that was begun was not heard whole; scripts without spaces have
their letters. */
function wholeWords(text, count) {
  if (count >= text.length || count <= 0) return Math.max(0, count);
  const space = text.lastIndexOf(' ', count);
  return space > count - 24 && space > 0 ? space : count;
}
