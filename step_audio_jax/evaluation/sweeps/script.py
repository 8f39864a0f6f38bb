"""The script and the style of a sweep's page, ours alone.

The script makes the table of figures sortable, and draws two lists of rows:
utterances of a part and a step, and those that differ between two steps. A
list is drawn piece by piece as it is looked at; arrows go through it, Enter
plays the sound of a row. The difference of two steps is paired: of the rows
that both have, signs of the differences are flipped at random (two-sided).
"""

STYLE = """
:focus-visible { outline: 3px solid var(--c1); outline-offset: 2px; }
label { margin-right: .9rem; }
input, select, button { font: inherit; color: inherit;
  background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  padding: .2rem .5rem; max-width: 100%; }
th button { border: 0; padding: 0; background: none; font-weight: 600; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
.rows { list-style: none; margin: .8rem 0; padding: .2rem; max-height: 36rem;
  overflow-y: auto; border: 1px solid var(--rule); border-radius: 10px; }
.rows li { padding: .45rem .7rem; border-bottom: 1px solid var(--grid);
  display: grid; grid-template-columns: 5.5rem 1fr; gap: .1rem .8rem;
  overflow-wrap: anywhere; }
.rows b { font-variant-numeric: tabular-nums; }
.rows audio { grid-column: 2; width: 100%; height: 34px; }
.better { color: var(--good); } .worse { color: var(--bad); }
"""

PLACES = """
<h2 id="utterances">Utterances</h2>
<noscript><p>The rows below need the script of this page.</p></noscript>
<p><label>Part <select id="part"></select></label>
<label>Step <select id="step"></select></label>
<label>Order <select id="order"><option value="worst">worst first</option>
<option value="best">best first</option>
<option value="file">as in the file</option></select></label>
<label>Search <input type="search" id="find-row" aria-controls="rows"></label>
</p>
<p class="quiet" id="rows-count" role="status"></p>
<ol class="rows" id="rows" aria-label="utterances"></ol>
<h2 id="differences">Differences between two checkpoints</h2>
<p><label>Part <select id="diff-part"></select></label>
<label>from step <select id="from"></select></label>
<label>to step <select id="to"></select></label>
<label>Rows <select id="which"><option value="changed">changed</option>
<option value="worse">worse</option><option value="better">better</option>
</select></label>
<label>Search <input type="search" id="find-diff" aria-controls="diffs">
</label></p>
<p id="diff-told" role="status"></p>
<ol class="rows" id="diffs" aria-label="differences"></ol>
"""

_TABLE = r"""
'use strict';
const at = id => document.getElementById(id);
const element = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

/* A table whose heads sort it, and a field that searches it. */
{
  const table = at('figure-table'), body = table.tBodies[0];
  const number = text => parseFloat(text.replaceAll(',', ''));
  [...table.tHead.rows[0].cells].forEach((cell, place) => {
    const button = element('button', cell.textContent);
    button.type = 'button';
    cell.replaceChildren(button);
    button.addEventListener('click', () => {
      const up = cell.getAttribute('aria-sort') !== 'ascending';
      for (const other of table.tHead.rows[0].cells) {
        other.removeAttribute('aria-sort');
      }
      cell.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const key = row => row.cells[place].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [number(key(a)), number(key(b))];
        if (isNaN(x) || isNaN(y)) {
          return isNaN(x) - isNaN(y) || key(a).localeCompare(key(b));
        }
        return x - y;
      });
      body.append(...(up ? rows : rows.reverse()));
    });
  });
  at('find-figure').addEventListener('input', event => {
    const sought = event.target.value.toLowerCase();
    for (const row of body.rows) {
      row.hidden = !row.textContent.toLowerCase().includes(sought);
    }
  });
}

"""

_ROWS = r"""
const PIECE = 40, FLIPS = 2000;
const parsed = {};
const data = id => parsed[id] ??= JSON.parse(at(id)?.textContent ?? '[]');
const fill = (select, values, chosen) => {
  select.replaceChildren(...values.map(([value, text]) => {
    const option = element('option', text);
    option.value = value;
    return option;
  }));
  select.value = chosen;
};
const told = (part, x) => x === null ? '–' :
  parts[part].percent ? `${(100 * x).toFixed(1)} %` : x.toFixed(2);

/* A list that is drawn as it is looked at; arrows go through it. */
function list(place, draw) {
  let rows = [], drawn = 0;
  const more = () => {
    const piece = rows.slice(drawn, drawn + PIECE);
    drawn += piece.length;
    place.append(...piece.map(row => {
      const made = draw(row);
      made.tabIndex = -1;
      return made;
    }));
  };
  const go = next => {
    if (!next) return;
    for (const other of place.children) other.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };
  place.addEventListener('scroll', () => {
    const left = place.scrollHeight - place.scrollTop - place.clientHeight;
    if (left < 400 && drawn < rows.length) more();
  });
  place.addEventListener('keydown', event => {
    const here = document.activeElement.closest('li');
    if (!here || event.target !== here) return;
    const sound = here.querySelector('audio');
    if (event.key === 'ArrowDown') {
      if (!here.nextElementSibling && drawn < rows.length) more();
      go(here.nextElementSibling);
    } else if (event.key === 'ArrowUp') {
      go(here.previousElementSibling);
    } else if (event.key === 'Home') {
      go(place.firstElementChild);
    } else if (event.key === 'End') {
      go(place.lastElementChild);
    } else if (event.key === 'Enter' && sound) {
      if (sound.paused) sound.play(); else sound.pause();
    } else return;
    event.preventDefault();
  });
  return found => {
    rows = found;
    drawn = 0;
    place.replaceChildren();
    place.scrollTop = 0;
    more();
    if (place.firstElementChild) place.firstElementChild.tabIndex = 0;
  };
}

const parts = data('parts');
/* Of nothing there is no rate; what nobody could score has no errors. */
const rate = row =>
  row[1] === null ? null : row[2] ? row[1] / row[2] : row[1] ? 1 : 0;
const matches = (item, texts, sought) =>
  !sought || [...item, ...texts].some(x => x.toLowerCase().includes(sought));
function player(source) {
  const sound = element('audio');
  sound.controls = true;
  sound.preload = 'none';
  sound.tabIndex = -1;  // Enter on its row plays it
  sound.src = source;
  return sound;
}
function card(head, item, texts, sound, kind) {
  const made = element('li');
  made.append(element('b', head, kind), element('span', item[2] || '(none)'));
  for (const [name, text] of texts) {
    made.append(element('small', name), element('span', text || '(nothing)'));
  }
  made.append(element('small', item[1]), element('small', item[0]));
  if (sound) made.append(player(sound));
  return made;
}

/* Utterances of one part and step. */
const utterances = list(at('rows'), ([row, item]) =>
  card(told(at('part').value, rate(row)), item, [['answer', row[3]]], row[4]));
function showRows() {
  const part = at('part').value, items = data(`items-${part}`);
  const sought = at('find-row').value.toLowerCase();
  const all = data(`rows-${part}-${at('step').value}`);
  let found = all.map(row => [row, items[row[0]]])
    .filter(([row, item]) => matches(item, [row[3]], sought));
  const order = at('order').value, sign = parts[part].lower ? 1 : -1;
  if (order !== 'file') {
    const way = order === 'worst' ? sign : -sign;
    const key = one => rate(one[0]) ?? -way * Infinity;
    found = found.sort((a, b) => way * (key(b) - key(a)) || 0);
  }
  at('rows-count').textContent =
    `${found.length.toLocaleString('en')} of ` +
    `${all.length.toLocaleString('en')} rows`;
  utterances(found);
}

/* Two steps on the rows that both have. */
function flips(pairs, total) {
  /* Mulberry32: the same draws each time. */
  let state = 1;
  const draw = () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return (x ^ (x >>> 14)) >>> 0;
  };
  const apart = pairs.filter(x => x !== 0);
  let beyond = 0;
  for (let n = 0; n < FLIPS; n++) {
    let sum = 0, bits = 0, left = 0;
    for (const x of apart) {
      if (!left) [bits, left] = [draw(), 32];
      sum += bits & 1 ? x : -x;
      bits >>>= 1;
      left--;
    }
    if (Math.abs(sum) >= Math.abs(total) - 1e-9) beyond++;
  }
  return (beyond + 1) / (FLIPS + 1);
}
const change = (a, b) =>
  [a, b].map(x => told(at('diff-part').value, x)).join(' → ');
const differences = list(at('diffs'), one => card(
  change(rate(one.before), rate(one.after)), one.item,
  [['before', one.before[3]], ['after', one.after[3]]], one.after[4],
  one.gain > 0 ? 'better' : 'worse'));
let compared = { key: null };
function compare(part, from, to) {
  const key = `${part} ${from} ${to}`;
  if (compared.key === key) return compared;
  const items = data(`items-${part}`), sign = parts[part].lower ? -1 : 1;
  const later = new Map(data(`rows-${part}-${to}`).map(row => [row[0], row]));
  const pairs = data(`rows-${part}-${from}`)
    .filter(row => row[1] !== null && later.get(row[0])?.[1] != null)
    .map(before => {
      const after = later.get(before[0]);
      const gain = sign * (after[1] - before[1]);
      return { before, after, gain, item: items[before[0]] };
    });
  const sum = pick => pairs.reduce((total, pair) => total + pick(pair), 0);
  const rates = ['before', 'after'].map(
    name => sum(x => x[name][1]) / (sum(x => x[name][2]) || 1));
  const gains = pairs.map(pair => pair.gain);
  const p = flips(gains, sum(pair => pair.gain));
  return compared = { key, pairs, rates, p };
}
function showDifferences() {
  const part = at('diff-part').value;
  const [from, to] = [at('from').value, at('to').value];
  const { pairs, rates, p } = compare(part, from, to);
  const sought = at('find-diff').value.toLowerCase();
  const better = pairs.filter(x => x.gain > 0);
  const worse = pairs.filter(x => x.gain < 0);
  at('diff-told').textContent =
    `${pairs.length.toLocaleString('en')} rows in both: ` +
    `${change(...rates)}, ${better.length} better, ` +
    `${worse.length} worse; paired permutation test p = ${p.toFixed(4)}`;
  const chosen = { better, worse, changed: [...worse, ...better] };
  differences(chosen[at('which').value]
    .filter(x => matches(x.item, [x.before[3], x.after[3]], sought))
    .sort((a, b) => Math.abs(b.gain) - Math.abs(a.gain)));
}

/* A hundred parts may each have steps of their own. */
const named = parts.map((part, place) => [String(place), part.label]);
function stepsOf(selects, place, chosen) {
  const values = parts[place].steps.map(step => [String(step), String(step)]);
  selects.forEach((select, n) => {
    const old = select.value;
    const there = values.some(([value]) => value === old);
    fill(select, values, there ? old : String(chosen(parts[place].steps, n)));
  });
}
fill(at('part'), named, '0');
fill(at('diff-part'), named, '0');
const last = steps => steps.at(-1);
const both = (steps, n) => n ? last(steps) : steps.at(-2) ?? steps[0];
const renew = {
  part: () => { stepsOf([at('step')], at('part').value, last); showRows(); },
  'diff-part': () => {
    stepsOf([at('from'), at('to')], at('diff-part').value, both);
    showDifferences();
  },
};
for (const [id, act] of Object.entries(renew)) {
  at(id).addEventListener('change', act);
}
for (const id of ['step', 'order']) at(id).addEventListener('change', showRows);
for (const id of ['from', 'to', 'which']) {
  at(id).addEventListener('change', showDifferences);
}
at('find-row').addEventListener('input', showRows);
at('find-diff').addEventListener('input', showDifferences);
document.addEventListener('keydown', event => {
  /* A slash goes to the search of the utterances, as on many pages. */
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === '/' && !typing) {
    event.preventDefault();
    at('find-row').focus();
  }
});
renew.part();
/* The test is worth its time when somebody comes near. */
new IntersectionObserver((seen, watcher) => {
  if (!seen.some(one => one.isIntersecting)) return;
  watcher.disconnect();
  renew['diff-part']();
}, { rootMargin: '600px' }).observe(at('differences'));
"""


def tag(has_rows: bool) -> str:
  """The script, with what draws rows where there are any."""
  return f'<script>{_TABLE}{_ROWS if has_rows else ""}</script>'
