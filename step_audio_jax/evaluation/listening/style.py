"""The look of a listening page, over the colours of `pages.page`."""

STYLE = """
body { max-width: 46rem; }
main, h1:focus { outline: none; }
[hidden] { display: none !important; }
.bar { height: .4rem; background: var(--grid); border-radius: 9px;
  overflow: hidden; margin: .4rem 0 1.4rem; }
.bar i { display: block; height: 100%; width: 0; background: var(--c1); }
.row { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
button, input[type=text] { font: inherit; color: inherit;
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: .65rem .9rem; min-height: 2.9rem; }
button { cursor: pointer; }
button:hover { border-color: var(--c1); }
button:focus-visible, input:focus-visible, a:focus-visible {
  outline: 3px solid var(--c1); outline-offset: 2px; }
button[aria-checked=true], button.on { border-color: var(--c1);
  background: color-mix(in srgb, var(--c1) 18%, var(--card)); }
button[aria-disabled=true] { opacity: .55; }
.play { flex: 1 1 9rem; font-size: 1.15rem; min-height: 4.2rem; }
.play small { display: block; }
.scale { display: grid; gap: .5rem; margin: 1rem 0; }
.scale button { display: flex; gap: .8rem; align-items: center;
  text-align: left; }
kbd { font: .85em ui-monospace, Menlo, Consolas, monospace; border: 1px solid
  var(--rule); border-bottom-width: 2px; border-radius: 5px; padding: 0 .4em;
  color: var(--quiet); background: var(--paper); }
.keys { color: var(--quiet); font-size: .88rem; line-height: 2;
  border-top: 1px solid var(--grid); margin-top: 1.6rem; padding-top: .6rem; }
.told { min-height: 1.6rem; color: var(--bad); margin: .2rem 0; }
label { display: block; font-weight: 600; margin-bottom: .3rem; }
input[type=text] { width: 100%; }
textarea { width: 100%; min-height: 8rem; font: .8rem ui-monospace, Menlo,
  monospace; background: var(--card); color: inherit;
  border: 1px solid var(--rule); border-radius: 10px; padding: .6rem; }
@media (prefers-reduced-motion: no-preference) {
  .bar i { transition: width .2s; } }
"""
