"""Sentences of a plan become wav files with word times, part by part."""

import io
import pathlib
from typing import Any, Mapping, Sequence

import numpy as np

from data_pipelines.synthesis import plan
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import styled
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio.prosody import recipes
from step_audio_jax.corpus import manifest
from step_audio_jax.runtimes import processes as processes_lib
from step_audio_jax.storage import files
from step_audio_jax.styles import markup

SAMPLE_RATE = 16000
MARGIN_SECONDS = 0.05
PEAK = 26000  # of 16 bits; below full scale, which resampling overshoots
_QUIETEST = 200  # of the same, what is heard as silence
# A voice and the speaker of it that a line is said by.
Performer = tuple[voice_lib.Voice, speakers.Speaker]


def trim(
  samples: np.ndarray, sample_rate: int, quiet: float = _QUIETEST
) -> tuple[np.ndarray, float]:
  """Leaves exactly 50 ms around the sound; cuts silence or adds it.

  Args:
    samples: (S,), of 16 bits or float.
    sample_rate: Hz.
    quiet: The largest sample that is none of the sound.

  Returns:
    The trimmed samples and the seconds to add to every time in them.
  """
  loud = np.flatnonzero(np.abs(samples.astype(np.float32)) > quiet)
  if not len(loud):
    return samples, 0.0
  margin = round(MARGIN_SECONDS * sample_rate)
  padded = np.pad(samples, margin)
  start, stop = loud[0], loud[-1] + 1 + 2 * margin
  return padded[start:stop], (margin - start) / sample_rate


def word_starts(
  words: Sequence[str], events: Sequence[tuple[int, float]], total: float
) -> np.ndarray:
  """Start of each word, seconds, float64 (words,).

  espeak-ng says some neighbours in one breath (`有 水`) and reports only the
  first; the others get their place by counting characters between the
  reports around them. A voice may report none.

  Args:
    words: The words, spoken with one space between them.
    events: (character position, seconds), rising.
    total: Where the speech ends, seconds.
  """
  text = ' '.join(words)
  places = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
  known = dict(events) or {0: 0.0}
  return np.interp(
    places, [*known, len(text)], [*known.values(), max(total, *known.values())]
  )


_QUIET_SECONDS = (0.5, 2.5)
_QUIET_LEVELS = (-75.0, -50.0)  # dBFS, of rooms; digital silence beside them
_EXACT = 0.25  # how many of them have digital silence


def quiet(seed: int) -> np.ndarray:
  """A recording in which nobody speaks: int16 samples at 16 kHz.

  Half of the rooms hiss and half of them hum: noise of equal power at all
  frequencies, and noise that falls by 6 dB an octave.
  """
  rng = np.random.default_rng([seed, 7])
  size = int(rng.uniform(*_QUIET_SECONDS) * SAMPLE_RATE)
  kind, level = rng.random(), rng.uniform(*_QUIET_LEVELS)
  noise = rng.standard_normal(size)
  if kind < _EXACT:
    return np.zeros(size, np.int16)
  if kind < (1 + _EXACT) / 2:
    spectrum = np.fft.rfft(noise)
    spectrum[0] = 0
    spectrum[1:] /= np.arange(1, len(spectrum))
    noise = np.fft.irfft(spectrum, size)
  noise *= 10 ** (level / 20) / np.sqrt(np.mean(noise**2))
  return np.round(noise * 32767).astype(np.int16)


def speak_line(
  line: plan.Line, performer: Performer | None = None
) -> tuple[np.ndarray, list[list[Any]] | None]:
  """Says one line: int16 samples at 16 kHz, and its words with times.

  A voice that tells no times has no words.

  Args:
    line: What to say.
    performer: Who says it; espeak-ng by default.
  """
  if line.voice == plan.NOBODY:
    return quiet(line.seed), []
  import soxr

  spoken = ' '.join(line.words)
  rate = line.rate / espeak.USUAL_RATES[line.language]
  if performer is None:
    speech = espeak.Espeak().speak(
      spoken,
      language=line.language,
      speaker=line.voice,
      rate=rate,
      pitch=line.pitch,
      seed=line.seed,
    )
    # In 16 bits, as it was made.
    samples = (speech.samples * 32768).astype(np.int16)
  else:
    voice, speaker = performer
    speech = speakers.speak(
      voice,
      spoken,
      speaker=speaker,
      language=line.language,
      rate=rate,
      seed=line.seed,
    )
    if not np.isfinite(speech.samples).all():
      raise errors.UserError(
        f'--voice: {voice.name} says {spoken!r} as NaN or an infinity, '
        'expected finite samples; its model or its settings are broken.'
      )
    # Networks know no level of their own: the loudest sample gets it.
    loudest = max(0.01, float(np.abs(speech.samples).max(initial=0)))
    samples = np.round(speech.samples * (PEAK / loudest)).astype(np.int16)
  samples, shift = trim(samples, speech.sample_rate)
  total = len(samples) / speech.sample_rate
  samples = soxr.resample(
    samples.astype(np.float32), speech.sample_rate, SAMPLE_RATE
  )
  samples = np.clip(np.round(samples), -32768, 32767).astype(np.int16)
  words = _timed(line, speech.words, total, shift)
  return samples, words if _tells_words(performer) else None


def speak_styled(
  line: plan.Line, performer: Performer, spans: Sequence[markup.Span]
) -> tuple[np.ndarray, list[list[Any]] | None, dict[str, Any]]:
  """Says one line in a style: float32 samples at 16 kHz, words, provenance.

  Levels of volume count, so that nothing brings the samples to one peak.

  Args:
    line: What to say.
    performer: Who says it.
    spans: The line's words with styles and pauses.

  Raises:
    UserError: As `voices.styled.speak`.
  """
  import soxr

  voice, speaker = performer
  said = styled.speak_all(
    voice,
    spans,
    speaker=speaker,
    language=line.language,
    rate=line.rate / espeak.USUAL_RATES[line.language],
    seed=line.seed,
  )
  speech = said.speech
  quiet = _QUIETEST / PEAK * float(np.abs(speech.samples).max(initial=0))
  samples, shift = trim(speech.samples, speech.sample_rate, quiet)
  total = len(samples) / speech.sample_rate
  samples = soxr.resample(
    samples.astype(np.float32), speech.sample_rate, SAMPLE_RATE
  )
  words = _timed(line, speech.words, total, shift)
  at = 0
  for span in spans:
    place = markup.plain(spans)[:at].count(' ')
    if span.pause and 0 < place < len(words):  # no word lasts through it
      start, silence = words[place][1], recipes.PAUSES[span.pause - 1]
      before = words[place - 1]
      before[2] = round(max(before[1], start - silence), 3)
    at += len(span.text)
  words = words if _tells_words(performer) else None
  return np.clip(samples, -1.0, 1.0), words, said.provenance


def _tells_words(performer: Performer | None) -> bool:
  return performer is None or getattr(performer[0], 'tells_words', True)


def _timed(line, events, total: float, shift: float) -> list[list[Any]]:
  """The words of a line with their times; `shift` is what trimming moved."""
  starts = word_starts(line.words, events, total - shift) + shift
  starts = [float(start) for start in np.clip(starts, 0.0, total)]
  ends = [*starts[1:], total - MARGIN_SECONDS]
  return [
    [word, round(start, 3), round(max(start, end), 3)]
    for word, start, end in zip(line.words, starts, ends)
  ]


def make_speech_part(
  root: str,
  path: str,
  lines: Sequence[plan.Line],
  performers: Mapping[str, Performer],
) -> int:
  """Speaks some lines into wav files; `path` lists them when all are there.

  Args:
    root: Folder of the corpus.
    path: Of the part's manifest.
    lines: What to say.
    performers: Who says a line, by the line's voice; espeak-ng says the rest.
  """
  import soundfile

  done = []
  with files.background(root) as call:
    for line in lines:
      samples, words = speak_line(line, performers.get(line.voice))
      audio, wav = f'wav/{line.id}.wav', io.BytesIO()
      soundfile.write(wav, samples, SAMPLE_RATE, format='WAV', subtype='PCM_16')
      call(files.write_bytes, files.path(root) / audio, wav.getvalue())
      done.append(
        manifest.Utterance(
          id=line.id,
          kind='speech',
          split=line.split,
          text=line.text,
          language=line.language,
          audio=audio,
          duration=round(len(samples) / SAMPLE_RATE, 6),
          sample_rate=SAMPLE_RATE,
          speaker=line.voice,
          words=words,
        )
      )
  manifest.write(path, done)
  return len(done)


def make_speech(
  root: pathlib.Path,
  parts: pathlib.Path,
  config: plan.Config,
  processes: int,
  voices: Sequence[voice_lib.Voice] = (),
) -> list:
  """Speaks the speech corpus; returns its manifest's lines, chats last.

  Args:
    root: Folder of the corpus.
    parts: Folder of the parts; what lies there is not spoken again.
    config: What to speak.
    processes: How many speak at once.
    voices: Those that `config.speakers` name.
  """
  lines = plan.plan_speech(config)
  asked = plan.plan_questions(config, len(lines))
  requests = plan.plan_requests(config, len(lines) + len(asked.lines))
  spoken = make_lines(
    root,
    parts,
    [*lines, *asked.lines, *requests.lines],
    performers_of(config.speakers, voices),
    processes,
    config.part,
  )
  return [
    *spoken,
    *asked.chats,
    *requests.chats,
    *plan.plan_prompts(asked, requests),
    *plan.plan_preferences(config, asked),
    *plan.plan_preferences(config, requests),
  ]


def performers_of(
  cast: Sequence[speakers.Speaker], voices: Sequence[voice_lib.Voice]
) -> dict[str, Performer]:
  """Who says a line, by the line's voice."""
  known = {voice.sha256: voice for voice in voices}
  return {speaker.name: (known[speaker.sha256], speaker) for speaker in cast}


def make_lines(
  root: pathlib.Path,
  parts: pathlib.Path,
  lines: Sequence[plan.Line],
  performers: Mapping[str, Performer],
  processes: int,
  part: int,
) -> list[manifest.Utterance]:
  """Speaks lines; returns the manifest's.

  Args:
    root: Folder of the corpus.
    parts: Folder of the parts; what lies there is not spoken again.
    lines: What to say.
    performers: Who says a line, by the line's voice; espeak-ng says the rest.
    processes: How many speak at once.
    part: Lines of a part.
  """
  jobs = [
    (str(parts / f'{start:06d}.jsonl'), lines[start : start + part])
    for start in range(0, len(lines), part)
  ]
  left = [job for job in jobs if not files.exists(job[0])]
  done = len(lines) - sum(len(job[1]) for job in left)
  with progress.bar(
    label='speech', total=len(lines), initial=done, unit='utt'
  ) as bar:
    for count in processes_lib.spread(
      make_speech_part,
      [(str(root), *job, performers) for job in left],
      processes,
    ):
      bar.update(count)
  return [u for path, _ in jobs for u in manifest.read(path)]
