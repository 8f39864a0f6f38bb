/* Two functions that the page itself offers, so that tools can be tried. */

export const TOOLS = [
  {
    type: 'function',
    name: 'clock',
    description: 'The date and the time of day where the person is.',
    parameters: { type: 'object', properties: {}, additionalProperties: false },
  },
  {
    type: 'function',
    name: 'calculator',
    description: 'The value of an arithmetic expression.',
    parameters: {
      type: 'object',
      properties: {
        expression: {
          type: 'string', description: 'Numbers, + - * / ^ and brackets.',
        },
      },
      required: ['expression'],
      additionalProperties: false,
    },
  },
];

// A number, or whatever else stands there.
const NUMBER = /(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|\S/gi;

/* The value of an expression; nothing of it is ever run as a program. */
export function calculate(expression) {
  const signs = String(expression).replaceAll('×', '*').replaceAll('÷', '/')
    .replaceAll('−', '-').replaceAll('**', '^');
  const parts = signs.match(NUMBER) ?? [];
  let at = 0;
  const takes = (...options) => options.includes(parts[at]) && parts[at++];
  const sum = () => {
    let value = product(), sign;
    while ((sign = takes('+', '-'))) {
      value += sign === '+' ? product() : -product();
    }
    return value;
  };
  const product = () => {
    let value = signed(), sign;
    while ((sign = takes('*', '/'))) {
      const other = signed();
      value = sign === '*' ? value * other : value / other;
    }
    return value;
  };
  const signed = () => takes('-') ? -signed() : takes('+') ? signed() : power();
  const power = () => {
    const base = single();
    return takes('^') ? base ** signed() : base;
  };
  const single = () => {
    if (takes('(')) {
      const value = sum();
      if (!takes(')')) throw new Error('a bracket is not closed');
      return value;
    }
    const value = parts[at] === undefined ? NaN : Number(parts[at]);
    if (Number.isNaN(value)) {
      throw new Error(`found ${parts[at] ?? 'the end'}, expected a number`);
    }
    at++;
    return value;
  };
  const value = sum();
  if (at < parts.length) throw new Error(`found ${parts[at]}, expected a sign`);
  if (!Number.isFinite(value)) throw new Error('the value is not finite');
  return value;
}

const RUN = {
  clock: () => ({
    time: new Date().toString(),
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  }),
  calculator: ({ expression }) => ({ value: calculate(expression) }),
};

/* What a call gives, as JSON; an error is told to who called. */
export function run(name, text) {
  try {
    return JSON.stringify(RUN[name](JSON.parse(text || '{}')));
  } catch (error) {
    return JSON.stringify({ error: error.message });
  }
}
