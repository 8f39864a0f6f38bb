"""Utterances and images of a report: sound, transcript, hypothesis, as HTML."""

import base64
import html
import io
import pathlib
from typing import Any, Mapping, Sequence
import wave

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.storage import files

_OWN = ('sound', 'stranger_tts')  # speech of ours, with wavs


def mark_errors(reference: str, hypothesis: str, language: str) -> str:
  """The hypothesis as HTML, wrong characters marked, missing ones as ‸."""
  out = []
  for kind, _, token in scoring.align(
    scoring.tokens(reference, language),
    scoring.tokens(hypothesis, language, like=reference),
  ):
    if kind == '=':
      out.append(html.escape(token))
    elif kind == 'D':
      out.append('<span class="gap">‸</span>')
    else:
      out.append(f'<span class="wrong">{html.escape(token)}</span>')
  return ''.join(out)


def utterance_cards(
  result: Mapping[str, Any],
  task: str,
  split: str,
  title: str,
  corpus: str | None,
  count: int,
) -> str:
  """The first `count` utterances of a set, with players where there is sound.

  Args:
    result: Scores of `evaluate.evaluate`.
    task: 'asr', 'tts', 'sound' or 'stranger_tts'.
    split: Name of the set; a result without it gives an empty string.
    title: Headline.
    corpus: Folder with the sound: of generated speech the one its wavs lie in,
      else a corpus; or None.
    count: How many.
  """
  scores = result.get(task, {}).get(split)
  if not scores or not count:
    return ''
  by_id, own = {}, task in _OWN and corpus is not None
  if corpus is not None and not own:
    by_id = {u.id: u for u in manifest_lib.read(corpus)}
    root = manifest_lib.path_of(corpus).parent
  parts = []
  for item in scores['hypotheses'][:count]:
    sound = ''
    if item['id'] in by_id:
      sound = player(by_id[item['id']], root)
    elif own and 'wav' in item:
      sound = recording_player(files.path(corpus) / item['wav'])
    reading = 'heard' if task in ('asr', 'stranger_tts') else 'read back'
    note = f'{100 * item["cer"]:.0f} %'
    if 'seconds' in item:
      note += f', {item["seconds"]:.1f} s of tokens'
    # A stranger's text is compared as it was declared.
    compared = item.get('compared', item['reference'])
    text = mark_errors(compared, item['hypothesis'], item['language'])
    parts.append(
      f'<div class="utterance">{sound}<dl><dt>text</dt>'
      f'<dd>{html.escape(item["reference"])}</dd><dt>{reading}</dt>'
      f'<dd>{text or "<i>nothing</i>"} <small>{note}</small></dd></dl></div>'
    )
  counted = result.get('counts', {}).get(f'{task}_cer/{split}')
  over = f'{scores["utterances"]} utterances'
  if counted:
    over = counts.describe(counted)
  return (
    f'<h2>{html.escape(title)} <small>{100 * scores["cer"]:.1f} % over '
    f'{html.escape(over)}</small></h2>'
    f'<div class="utterances">{"".join(parts)}</div>'
  )


def question_cards(
  answers: Sequence[Mapping[str, Any]],
  split: str,
  corpus: str | None,
  count: int,
  folder: str,
) -> str:
  """The first `count` spoken questions of a split, with what was answered.

  Args:
    answers: Of the `answer` door.
    split: Name of the set.
    corpus: That was asked; None for no players of questions.
    count: How many.
    folder: Where spoken answers lie.
  """
  asked = [one for one in answers if one['speech']]
  if not asked or not count:
    return ''
  by_id = {}
  if corpus is not None:
    by_id = {u.id: u for u in manifest_lib.read(corpus, kind='speech')}
    root = manifest_lib.path_of(corpus).parent
  parts = []
  for one in asked[:count]:
    said = by_id.get(one['speech'])
    answer = html.escape(one['answer']) or '<i>nothing</i>'
    if not one['exact']:
      answer = f'<span class="wrong">{answer}</span>'
    if 'wav' in one:
      answer += recording_player(files.path(folder) / one['wav'])
    parts.append(
      f'<div class="utterance">{player(said, root) if said else ""}<dl>'
      f'<dt>asked</dt><dd>{html.escape(one["question"])}</dd><dt>answered</dt>'
      f'<dd>{answer} <small>expected {html.escape(one["expected"])}</small>'
      '</dd></dl></div>'
    )
  exact = sum(one['exact'] for one in asked)
  return (
    f'<h2>Asked aloud, {html.escape(split)} <small>{exact} of {len(asked)} '
    'answered exactly</small></h2>'
    f'<div class="utterances">{"".join(parts)}</div>'
  )


def player(utterance: manifest_lib.Utterance, root: str | pathlib.Path) -> str:
  """An audio element that holds its sound; a note if it cannot be read."""
  return recording_player(utterance.audio_path(root), **utterance.part())


def recording_player(path: str | pathlib.Path, **part: Any) -> str:
  """As `player`, of a file or a part of it (`audio.io.read_audio`)."""
  try:
    rate = audio_io.probe(path).sample_rate
    samples, _ = audio_io.read_audio(path, sample_rate=rate, **part)
  except errors.UserError as error:
    return f'<p class="quiet">{html.escape(str(error))}</p>'
  return (
    '<audio controls preload="none" src="data:audio/wav;base64,'
    f'{wav_base64(samples, rate)}"></audio>'
  )


def wav_base64(samples: np.ndarray, rate: int) -> str:
  """Samples in [-1, 1] → base64 of a 16-bit mono WAV file."""
  buffer = io.BytesIO()
  with wave.open(buffer, 'wb') as handle:
    handle.setnchannels(1)
    handle.setsampwidth(2)
    handle.setframerate(rate)
    pcm = np.clip(np.round(samples * 32767), -32768, 32767).astype('<i2')
    handle.writeframes(pcm.tobytes())
  return base64.b64encode(buffer.getvalue()).decode()


def captions(results: Sequence[Mapping[str, Any]]) -> str:
  """Images with captions, of the last result that has them."""
  found = next((r for r in reversed(results) if r.get('captions')), None)
  if found is None or not found['captions']['examples']:
    return ''
  scores = found['captions']
  cards = ''.join(
    '<div class="utterance">'
    f'<img alt="" src="data:image/png;base64,{item["png"]}"><dl><dt>text</dt>'
    f'<dd>{html.escape(item["reference"])}</dd><dt>seen</dt>'
    f'<dd>{mark_errors(item["reference"], item["hypothesis"], "en")}</dd>'
    '</dl></div>'
    for item in scores['examples']
  )
  name = html.escape(files.path(found['run']).name)
  over = f'{scores["images"]} captions'
  if counted := found.get('counts', {}).get('caption_cer'):
    over = counts.describe(counted)
  return (
    f'<h2>Images <small>{100 * scores["exact"]:.0f} % exact, over '
    f'{html.escape(over)}, after {name}</small></h2>'
    f'<div class="utterances">{cards}</div>'
  )
