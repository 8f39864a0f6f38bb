"""The three screens of a listening page: welcome, a trial, the end."""

BODY = """
<main id="main" tabindex="-1">
<section id="welcome">
  <h1 id="title"></h1>
  <p>You will hear <b id="count"></b>. Please use headphones in a quiet place
  and set a comfortable volume with the test sound; leave it as it is from then
  on. Every sound has to be heard to its end once, and may be heard again.
  Nothing leaves this page: your answers are kept in this browser, and at the
  end you save them as a file and hand it back.</p>
  <label for="rater">Your name or code</label>
  <input type="text" id="rater" autocomplete="off" spellcheck="false"
    maxlength="80">
  <p class="told" id="welcome-told" role="alert"></p>
  <div class="row">
    <button id="test">Play the test sound</button>
    <button id="start">Start <kbd>Enter</kbd></button>
  </div>
</section>
<section id="trial" hidden>
  <p class="quiet" id="place"></p>
  <div class="bar" aria-hidden="true"><i id="done"></i></div>
  <h1 id="question" tabindex="-1"></h1>
  <div class="row" id="players"></div>
  <div class="scale" id="scale" role="radiogroup" aria-labelledby="question">
  </div>
  <p class="told" id="told" role="status"></p>
  <div class="row">
    <button id="back">Back <kbd>Backspace</kbd></button>
    <button id="next">Go on <kbd>Enter</kbd></button>
  </div>
  <p class="keys" id="keys"></p>
</section>
<section id="end" hidden>
  <h1 id="thanks" tabindex="-1">Thank you, that was all</h1>
  <p id="summary"></p>
  <div class="row">
    <button id="save">Save the ratings <kbd>Enter</kbd></button>
    <button id="review">Back to the last one <kbd>Backspace</kbd></button>
  </div>
  <p id="saved" role="status"></p>
  <label for="csv">Where saving is not possible, copy this:</label>
  <textarea id="csv" readonly></textarea>
</section>
<p class="quiet" id="kept" role="status"></p>
</main>
<noscript><p>This page needs JavaScript; it loads nothing from elsewhere.</p>
</noscript>
"""
