"""`synthesize`: a corpus that the machine makes itself.

Speech from espeak-ng (English and Mandarin, many voices, word times), drawn
images with captions, and plain text, each a corpus with a manifest like any
user's:

    OUTPUT/speech/  manifest.jsonl, wav/*.wav (16 kHz, 16 bit)
    OUTPUT/images/  manifest.jsonl, img/*.png
    OUTPUT/text/    manifest.jsonl

No sentence of dev or test occurs in train, in speech or in text, and one
voice speaks only in the split `test_unseen_voice`. Everything follows from
the seed. A finished corpus is recognised by `corpus.json` and left alone; a
job that was killed continues behind its last finished part.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import shutil
from typing import Any, Callable, Mapping, Sequence

from absl import flags
import numpy as np

from data_pipelines import tally
from data_pipelines.synthesis import drawing
from data_pipelines.synthesis import espeak
from data_pipelines.synthesis import grammar
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

VERSION = 1  # part of the fingerprint; raise it when the output changes
SAMPLE_RATE = 16000
MARGIN_SECONDS = 0.05
ESPEAK_LANGUAGES = {'en': 'en-us', 'zh': 'cmn'}


@dataclasses.dataclass(frozen=True)
class Config:
  """How much of what.

  Attributes:
    seed: Everything follows from it.
    train: Training utterances; `dev`, `test`, `unseen` likewise.
    images: Images in train; a tenth of that again in dev and in test.
    text_lines: Training lines of plain text.
    english_share: Of the utterances; the rest is Mandarin.
    text_english_share: Of the plain text.
    voices: espeak-ng variants of train, dev and test.
    unseen_voice: The variant that is held out.
    english_rates, mandarin_rates: Lowest and highest words per minute.
    pitches: Lowest and highest pitch, 0..100.
    part: Utterances per resumable part.
  """

  seed: int = 0
  train: int = 1600
  dev: int = 60
  test: int = 60
  unseen: int = 30
  images: int = 320
  text_lines: int = 6000
  english_share: float = 0.6
  text_english_share: float = 0.75
  voices: tuple[str, ...] = (
    'm1', 'm3', 'm5', 'm7', 'm2', 'f1', 'f2', 'f4'
  )  # fmt: skip
  unseen_voice: str = 'f3'
  english_rates: tuple[int, int] = (140, 180)
  mandarin_rates: tuple[int, int] = (160, 210)
  pitches: tuple[int, int] = (40, 60)
  part: int = 100

  def __post_init__(self):
    for name in (
      *('seed', 'train', 'dev', 'test', 'unseen', 'images', 'text_lines'),
    ):
      if getattr(self, name) < 0:
        raise errors.UserError(
          f'--{name}: found {getattr(self, name)}, expected 0 or more.'
        )
    if not 0 <= self.english_share <= 1:
      raise errors.UserError(
        f'--english_share: found {self.english_share}, expected 0..1.'
      )
    if self.unseen_voice in self.voices:
      raise errors.UserError(
        f'unseen_voice: {self.unseen_voice!r} is also one of the voices.'
      )

  @property
  def fingerprint(self) -> str:
    """Two configs with one fingerprint make the same corpus."""
    rules = {k: dataclasses.asdict(v) for k, v in grammar.GRAMMARS.items()}
    value = {'version': VERSION, 'rules': rules, **dataclasses.asdict(self)}
    raw = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(raw).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Line:
  """One utterance to be spoken."""

  id: str
  split: str
  language: str
  words: tuple[str, ...]
  voice: str
  rate: int
  pitch: int
  seed: int

  @property
  def text(self) -> str:
    return grammar.GRAMMARS[self.language].joint.join(self.words)


def plan_sentences(
  config: Config,
) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
  """Split → [(language, words)]; held-out splits are disjoint from train."""
  rng = np.random.default_rng([config.seed, 1])
  counts = {
    'dev': config.dev,
    'test': config.test,
    manifest.UNSEEN_VOICE: config.unseen,
    'train': config.train,
  }
  plan = {split: [] for split in counts}
  for language, rules in grammar.GRAMMARS.items():
    seen = set()
    for split, count in counts.items():
      english = round(count * config.english_share)
      count = english if language == 'en' else count - english
      found = rules.draw_unique(rng, count, seen)
      seen.update(rules.joint.join(words) for words in found)
      plan[split] += [(language, words) for words in found]
  for sentences in plan.values():
    rng.shuffle(sentences)
  return plan


def plan_speech(config: Config) -> list[Line]:
  """Every utterance of the speech corpus, in the manifest's order."""
  rng = np.random.default_rng([config.seed, 2])
  rates = {'en': config.english_rates, 'zh': config.mandarin_rates}
  lines = []
  for split, sentences in sorted(plan_sentences(config).items()):
    for place, (language, words) in enumerate(sentences):
      voices = (
        (config.unseen_voice,)
        if split == manifest.UNSEEN_VOICE
        else config.voices
      )
      lines.append(
        Line(
          id=f'{split}-{place:05d}',
          split=split,
          language=language,
          words=tuple(str(word) for word in words),
          voice=voices[rng.integers(len(voices))],
          rate=int(rng.integers(*rates[language], endpoint=True)),
          pitch=int(rng.integers(*config.pitches, endpoint=True)),
          seed=len(lines),
        )
      )
  return lines


def plan_text(config: Config) -> list[manifest.Utterance]:
  """The plain-text corpus: train lines, and the held-out sentences."""
  rng = np.random.default_rng([config.seed, 3])
  sentences = plan_sentences(config)
  lines = []
  for language, rules in grammar.GRAMMARS.items():
    held = {
      rules.joint.join(words)
      for split in ('dev', 'test', manifest.UNSEEN_VOICE)
      for spoken, words in sentences[split]
      if spoken == language
    }
    english = round(config.text_lines * config.text_english_share)
    count = english if language == 'en' else config.text_lines - english
    lines += [
      ('train', language, rules.joint.join(words))
      for words in rules.draw_unique(rng, count, held)
    ]
  rng.shuffle(lines)
  for split in ('dev', 'test'):
    lines += [
      (split, language, grammar.GRAMMARS[language].joint.join(words))
      for language, words in sentences[split]
    ]
  return [
    manifest.Utterance(
      id=f'text-{place:06d}',
      kind='text',
      split=str(split),
      language=str(language),
      text=str(text),
    )
    for place, (split, language, text) in enumerate(lines)
  ]


def trim(samples: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
  """Leaves exactly 50 ms around the sound; cuts silence or adds it.

  Args:
    samples: int16 (S,).
    sample_rate: Hz.

  Returns:
    The trimmed samples and the seconds to add to every time in them.
  """
  loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 200)
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
  reports around them.

  Args:
    words: The words, spoken with one space between them.
    events: (character position, seconds), rising.
    total: Where the speech ends, seconds.
  """
  text = ' '.join(words)
  places = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
  known = dict(events)
  return np.interp(
    places, [*known, len(text)], [*known.values(), max(total, *known.values())]
  )


def speak_line(line: Line) -> tuple[np.ndarray, list[list[Any]]]:
  """Says one line: int16 samples at 16 kHz, and its words with times."""
  import soxr

  spoken = ' '.join(line.words)
  speech = espeak.speak(
    spoken,
    voice=f'{ESPEAK_LANGUAGES[line.language]}+{line.voice}',
    rate=line.rate,
    pitch=line.pitch,
    seed=line.seed,
  )
  samples, shift = trim(speech.samples, speech.sample_rate)
  total = len(samples) / speech.sample_rate
  samples = soxr.resample(
    samples.astype(np.float32), speech.sample_rate, SAMPLE_RATE
  )
  samples = np.clip(np.round(samples), -32768, 32767).astype(np.int16)
  starts = word_starts(line.words, speech.words, total - shift) + shift
  starts = [float(start) for start in np.clip(starts, 0.0, total)]
  ends = [*starts[1:], total - MARGIN_SECONDS]
  words = [
    [word, round(start, 3), round(max(start, end), 3)]
    for word, start, end in zip(line.words, starts, ends)
  ]
  return samples, words


def make_speech_part(root: str, path: str, lines: Sequence[Line]) -> int:
  """Speaks some lines into wav files; `path` lists them when all are there."""
  import soundfile

  done = []
  for line in lines:
    samples, words = speak_line(line)
    audio = f'wav/{line.id}.wav'
    with files.atomic(pathlib.Path(root) / audio) as handle:
      soundfile.write(
        handle, samples, SAMPLE_RATE, format='WAV', subtype='PCM_16'
      )
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


def make_images(root: pathlib.Path, config: Config) -> list:
  """Draws the image corpus; returns its manifest's lines."""
  rng = np.random.default_rng([config.seed, 4])
  scenes = drawing.scenes()
  rng.shuffle(scenes)
  held = len(scenes) // 10
  pools = {
    'dev': scenes[:held],
    'test': scenes[held : 2 * held],
    'train': scenes[2 * held :],
  }
  counts = {
    'dev': config.images // 10,
    'test': config.images // 10,
    'train': config.images,
  }
  lines = []
  for split, pool in pools.items():
    for place in range(counts[split]):
      scene = pool[rng.integers(len(pool))]
      language = 'en' if rng.random() < config.english_share else 'zh'
      name = f'{split}-{place:05d}'
      with files.atomic(root / 'img' / f'{name}.png') as handle:
        handle.write(drawing.png(drawing.draw(scene, rng)))
      lines.append(
        manifest.Utterance(
          id=name,
          kind='image_text',
          split=split,
          language=language,
          text=scene.caption(language),
          image=f'img/{name}.png',
        )
      )
  return lines


def make_speech(root: pathlib.Path, config: Config, processes: int) -> list:
  """Speaks the speech corpus in parts; returns its manifest's lines."""
  lines = plan_speech(config)
  parts = _parts(root, config)
  jobs = [
    (str(parts / f'{start:06d}.jsonl'), lines[start : start + config.part])
    for start in range(0, len(lines), config.part)
  ]
  left = [job for job in jobs if not os.path.exists(job[0])]
  done = len(lines) - sum(len(job[1]) for job in left)
  with progress.bar(
    label='speech', total=len(lines), initial=done, unit='utt'
  ) as bar:
    for count in _spread(
      make_speech_part, [(str(root), *job) for job in left], processes
    ):
      bar.update(count)
  return [u for path, _ in jobs for u in manifest.read(path)]


def _parts(root: pathlib.Path, config: Config) -> pathlib.Path:
  """Folder of what is unfinished; while it stands, `root` is ours."""
  return root / f'.parts-{config.fingerprint}'


def _spread(function: Callable, jobs: Sequence[tuple], processes: int):
  """Yields `function(*job)` as they finish; one process works in place."""
  if processes <= 1 or len(jobs) <= 1:
    for job in jobs:
      yield function(*job)
    return
  with concurrent.futures.ProcessPoolExecutor(
    min(processes, len(jobs)), multiprocessing.get_context('spawn')
  ) as pool:
    futures = [pool.submit(function, *job) for job in jobs]
    try:
      for future in concurrent.futures.as_completed(futures):
        yield future.result()
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def synthesize(
  output: str | os.PathLike, config: Config, *, processes: int = 2
) -> dict[str, Any]:
  """Makes the three corpora that are not there yet.

  Args:
    output: Folder of the corpora.
    config: What to make.
    processes: How many speak at once.

  Returns:
    Counts and figures by corpus.

  Raises:
    UserError: `output` holds a corpus made with other settings, or the
      grammar has too few sentences.
  """
  output = files.check_writable(output, '--output', folder=True)
  makers = {
    'speech': lambda root: make_speech(root, config, processes),
    'images': lambda root: make_images(root, config),
    'text': lambda root: plan_text(config),
  }
  result = {}
  for name in makers:
    _check_stamp(output / name, config)
  if not all((output / name / 'corpus.json').exists() for name in makers):
    plan_text(config)  # what cannot be had is said before anything is written
  for name, make in makers.items():
    root = output / name
    stamp = root / 'corpus.json'
    if not stamp.exists():
      _parts(root, config).mkdir(parents=True, exist_ok=True)
      utterances = make(root)
      manifest.write(root, utterances)
      settings = dataclasses.asdict(config)
      files.write_json(
        stamp,
        {
          'fingerprint': config.fingerprint,
          'settings': settings,
          **statistics(utterances),
        },
      )
    shutil.rmtree(_parts(root, config), ignore_errors=True)
    result[name] = {
      key: value
      for key, value in files.read_json(stamp).items()
      if key != 'settings'
    }
  return result


def _check_stamp(root: pathlib.Path, config: Config) -> None:
  stamp = root / 'corpus.json'
  if not stamp.exists():
    if (root / manifest.NAME).exists() and not list(root.glob('.parts-*')):
      raise errors.UserError(
        f'{root}: holds a manifest that synthesize did not finish; name '
        'another --output or remove the folder.'
      )
    return
  found = files.read_json(stamp)
  if found.get('fingerprint') == config.fingerprint:
    return
  old = found.get('settings', {})
  new = json.loads(json.dumps(dataclasses.asdict(config)))
  changed = [key for key in new if old.get(key) != new[key]]
  if not changed:
    raise errors.UserError(
      f'{stamp}: made by another version of the grammar; name another '
      '--output or remove the folder.'
    )
  raise errors.UserError(
    f'{stamp}: {changed[0]} is {old.get(changed[0])}, asked for '
    f'{new.get(changed[0])}; name another --output or remove the folder.'
  )


def statistics(utterances: Sequence[manifest.Utterance]) -> dict[str, Any]:
  """Figures of a corpus: counts, seconds, characters, words."""
  figures = tally.Tally()
  for utterance in utterances:
    figures.add(utterance)
  return figures.result()


def _define(fv: flags.FlagValues) -> None:
  default = Config()
  flags.DEFINE_string('output', None, 'Folder to write.', flag_values=fv)
  flags.mark_flag_as_required('output', flag_values=fv)
  for name, help_text in (
    ('seed', 'Everything follows from it.'),
    ('train', 'Training utterances.'),
    ('dev', 'Development utterances.'),
    ('test', 'Test utterances, seen voices.'),
    ('unseen', 'Test utterances of the held-out voice.'),
    ('images', 'Training images.'),
    ('text_lines', 'Training lines of plain text.'),
  ):
    flags.DEFINE_integer(
      name, getattr(default, name), help_text, flag_values=fv
    )
  flags.DEFINE_float(
    'english_share',
    default.english_share,
    'Share of English among the utterances; the rest is Mandarin.',
    flag_values=fv,
  )
  flags.DEFINE_integer('processes', 2, 'Processes.', flag_values=fv)


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  names = ('seed', 'train', 'dev', 'test', 'unseen', 'images', 'text_lines')
  config = Config(
    english_share=fv.english_share,
    **{name: getattr(fv, name) for name in names},
  )
  files.check_writable(fv.output, '--output', folder=True)
  if fv.dry_run:
    lines = plan_speech(config)
    text = plan_text(config)
    print(
      f'would make {len(lines)} utterances, {config.images} training images '
      f'and {len(text)} lines of text in {fv.output}'
    )
    return {'dry_run': True, 'utterances': len(lines), 'text': len(text)}
  result = synthesize(fv.output, config, processes=fv.processes)
  for name, value in result.items():
    print(f'{fv.output}/{name}: {value["utterances"]} {value["splits"]}')
  return result


DOOR = cli.Door(
  summary="""Makes a corpus of speech, images and text; needs nothing else.

    python -m data_pipelines synthesize --output=data/quickstart
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
