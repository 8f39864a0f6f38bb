/* The connection: OpenAI's realtime protocol over a WebSocket.

A browser's WebSocket sets no headers, so the token travels as a subprotocol, as
OpenAI's own clients do it. Whatever goes wrong is one sentence. */

const SECONDS = 15;
const CLOSED = {
  1000: 'The server ended the conversation.',
  1001: 'The server is going away.',
  1008: 'The server refuses this connection.',
  1009: 'A message was too long for the server.',
  1011: 'The server met an error.',
  1012: 'The server starts again.',
  1013: 'The server has no room for another conversation now.',
};
// What the name of a subprotocol may hold (RFC 9110, token).
const CARRIED = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

export class Refused extends Error {
  /* `token`: whether another token would help. */
  constructor(message, token = false) {
    super(message);
    this.token = token;
  }
}

const secondsFrom = count => AbortSignal.timeout(1000 * count);

/* A JSON document of the server, or null where it has none of that name. */
async function ask(path, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(new URL(path, document.baseURI), {
      headers, cache: 'no-store', signal: secondsFrom(SECONDS),
    });
  } catch (error) {
    throw new Refused('The server does not answer.');
  }
  if (answer.status === 404) return null;
  const told = await answer.json().catch(() => null);
  if (answer.ok) return told;
  const token_ = answer.status === 401;
  if (token_ && !token) throw new Refused('The server asks for a token.', true);
  if (token_) throw new Refused('The server does not know this token.', true);
  throw new Refused(told?.error?.message ??
    `The server answered with status ${answer.status}.`);
}

export class Link {
  constructor(onevent, onlost) {
    this.onevent = onevent;
    this.onlost = onlost;
    this.socket = null;
    this.count = 0;
  }

  get open() { return this.socket?.readyState === WebSocket.OPEN; }

  /* Connects; what the server says of its model: { id, voices, hears }, of
  which others than ours have the first alone. Throws Refused. */
  async connect(token) {
    if (token && !CARRIED.test(token)) {
      throw new Refused('This token holds a character that a browser cannot ' +
        'send; a server\'s token for browsers has letters, digits, - . _ ~ ' +
        'only.', true);
    }
    const models = await ask('v1/models', token);
    const model = models?.data?.[0] ?? {};
    await this.dial(model.id, token);
    return { id: '', voices: [], hears: true, ...model };
  }

  dial(model, token) {
    const address = new URL('v1/realtime', document.baseURI);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    if (model) address.searchParams.set('model', model);
    const names = ['realtime'];
    if (token) names.push(`openai-insecure-api-key.${token}`);
    const socket = this.socket = new WebSocket(address, names);
    return new Promise((resolve, reject) => {
      let greeted = false;
      const timer = setTimeout(() => {
        reject(new Refused('The server does not begin the conversation.'));
        this.close();
      }, 1000 * SECONDS);
      socket.onmessage = ({ data }) => {
        if (this.socket !== socket) return;
        const event = JSON.parse(data);
        if (!greeted && event.type === 'session.created') {
          greeted = true;
          clearTimeout(timer);
          resolve();
        }
        this.onevent(event);
      };
      socket.onclose = ({ code, reason }) => {
        clearTimeout(timer);
        const mine = this.socket === socket;
        if (mine) this.socket = null;
        const why = reason || CLOSED[code];
        if (!greeted) {
          reject(new Refused(why ?? 'The server refuses the conversation.'));
        } else if (mine) this.onlost(why ?? 'The connection was lost.');
      };
    });
  }

  /* Sends an event; its id. One whose id begins with `quiet` may fail. */
  send(event, quiet = false) {
    const id = `${quiet ? 'quiet' : 'event'}_${++this.count}`;
    if (this.open) this.socket.send(JSON.stringify({ event_id: id, ...event }));
    return id;
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }
}
