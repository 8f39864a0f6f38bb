"""The driver of the browser sees what a page does."""

import pathlib

from tests import browser

PAGE = """<!doctype html><title>A page</title>
<label>Name <input id=name></label><button id=go>Go</button><input id=nameless>
<p id=out></p><script>
const out = document.getElementById('out');
const name = document.getElementById('name');
document.getElementById('go').onclick = () => { out.textContent = name.value; };
addEventListener('keydown', event => {
  if (event.target === document.body) out.textContent += event.key;
  if (event.key === 'Escape') fetch('https://example.com/x').catch(() => 0);
  if (event.key === 'F') { event.preventDefault(); throw new Error('broken'); }
});
name.value = localStorage.getItem('name') || '';
name.oninput = () => localStorage.setItem('name', name.value);
</script>"""


@browser.needed
def test_pages_are_driven(tmp_path):
  path = tmp_path / 'page.html'
  path.write_text(PAGE, encoding='utf-8')
  with browser.start() as chromium:
    page = chromium.open(path, width=400, height=300, dark=True)
    assert page.value('[document.title, innerWidth]') == ['A page', 400]
    assert page.value("matchMedia('(prefers-color-scheme: dark)').matches")
    page.press('1', 'ArrowLeft', 'Space')
    assert page.value('out.textContent') == '1ArrowLeft '
    page.press('Tab')
    page.write('Ada 1')
    page.press('Tab', 'Enter')
    assert page.value('out.textContent') == 'Ada 1'
    page.press('Shift+Tab', 'End', 'Backspace')
    page.click('#go')
    assert page.value('out.textContent') == 'Ada '
    assert page.unnamed() == ['textbox']
    assert page.outside() == [] and page.faults == []
    page.reload()
    assert page.wait('name.value') == 'Ada '
    # Another page is another profile.
    assert chromium.open(path).value('name.value') == ''
    page.press('Escape', 'F')
    assert page.outside() == ['https://example.com/x']
    assert any('broken' in fault for fault in page.faults)
    page.screenshot(tmp_path / 'seen.png')
  assert (tmp_path / 'seen.png').read_bytes().startswith(b'\x89PNG')


def test_a_browser_is_named(monkeypatch):
  monkeypatch.setenv('CHROMIUM', '/opt/own/chrome')
  assert browser.find() == '/opt/own/chrome'
  monkeypatch.setenv('CHROMIUM', '')
  monkeypatch.setenv('PATH', str(pathlib.Path('/nowhere')))
  assert browser.find() is None
