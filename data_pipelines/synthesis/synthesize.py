"""`synthesize`: a corpus that the machine makes itself.

Speech from espeak-ng (English and Mandarin, many voices, word times) or from
voices that a user has (`--voice`), drawn images with captions, and plain
text, each a corpus with a manifest like any user's:

    OUTPUT/speech/  manifest.jsonl, wav/*.wav (16 kHz, 16 bit); with
                    `--questions` also questions with their answers, as chats
    OUTPUT/images/  manifest.jsonl, img/*.png
    OUTPUT/text/    manifest.jsonl

No sentence of dev or test occurs in train, in speech or in text, and one
voice speaks only in the split `test_unseen_voice`. Everything follows from
the seed. A finished corpus is recognised by `corpus.json` and left alone; a
job that was killed continues behind its last finished part.
"""

import collections
import dataclasses
import json
import os
import pathlib
import sys
from typing import Any, Callable, Iterable, Mapping, Sequence

from absl import flags

from data_pipelines import tally
from data_pipelines.synthesis import images
from data_pipelines.synthesis import plan
from data_pipelines.synthesis import speech
from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

_TURNS = ('chat', 'preference')  # kinds without words of their own
_FOLDERS = ('wav', 'img')  # of a corpus, with the files that it names


def synthesize(
  output: str | os.PathLike,
  config: plan.Config,
  *,
  processes: int = 2,
  voices: Sequence[voice_lib.Voice] = (),
  notes: Sequence[str] = (),
) -> dict[str, Any]:
  """Makes the three corpora that are not there yet.

  Args:
    output: Folder of the corpora.
    config: What to make.
    processes: How many speak at once.
    voices: Those that speak in place of espeak-ng, in the languages they can.
    notes: What `corpus.json` is to tell, of voices that are not there.

  Returns:
    Counts and figures by corpus.

  Raises:
    UserError: `output` holds a corpus made with other settings, or the
      grammar has too few sentences.
  """
  output = files.check_writable(output, '--output', folder=True)
  if voices:
    config = dataclasses.replace(config, speakers=speakers.cast(voices))
  makers = {
    'speech': lambda root: speech.make_speech(
      root, _parts(root, config), config, processes, voices
    ),
    'images': lambda root: images.make_images(root, config),
    'text': lambda root: plan.plan_text(config),
  }
  result = {}
  for name in makers:
    _check_stamp(output / name, config)
  if not all(files.exists(output / name / manifest.STAMP) for name in makers):
    # What cannot be had is said before anything is written.
    plan.plan_text(config)
    plan.plan_questions(config, 0)
    plan.plan_requests(config, 0)
  for name, make in makers.items():
    root = output / name
    stamp = root / manifest.STAMP
    if not files.exists(stamp):
      utterances = _made(make, root, _parts(root, config))
      manifest.write(root, utterances)
      told = collections.Counter(u.kind for u in utterances)
      value = {
        'fingerprint': config.fingerprint,
        'settings': config.settings,
        **statistics(u for u in utterances if u.kind not in _TURNS),
        **{f'{kind}s': told[kind] for kind in _TURNS if told[kind]},
      }
      if name == 'speech':
        value['voices'] = _spoken_with(utterances, config, voices)
        value |= {'notes': list(notes)} if notes else {}
      files.write_json(stamp, value)
    for parts in list(files.glob(root, '.parts-*')):
      files.remove_tree(parts)
    result[name] = {
      key: value
      for key, value in files.read_json(stamp).items()
      if key != 'settings'
    }
  return result


def _spoken_with(
  utterances: Sequence[manifest.Utterance],
  config: plan.Config,
  voices: Sequence[voice_lib.Voice],
) -> dict[str, Any]:
  """Licence, origin and digest of the voices that spoke, by name."""
  ours = {speaker.name: speaker.voice for speaker in config.speakers}
  default = espeak.Espeak()
  known = {voice.name: voice for voice in (default, *voices)}
  spoken = (u.speaker for u in utterances if u.kind == 'speech')
  heard = {ours.get(speaker, default.name) for speaker in spoken}
  return {name: voice_lib.record(known[name]) for name in sorted(heard)}


def _parts(root: pathlib.Path, config: plan.Config) -> pathlib.Path:
  """Folder of what is unfinished; while it stands, `root` is ours."""
  return root / f'.parts-{config.fingerprint}'


def claim(parts: pathlib.Path) -> None:
  """Makes a folder of parts, which is there before the first of them is."""
  files.make_folder(parts)
  files.write_bytes(parts / '.begun', b'')


def _made(
  make: Callable[[pathlib.Path], list], root: pathlib.Path, parts: pathlib.Path
) -> list:
  """What `make` makes; where it is refused before a part is finished, nothing.

  A part that is finished stays, for whoever goes on: the disk may be full.
  """
  new = [path for path in (root.parent, root) if not files.exists(path)]
  others = [path for path in files.glob(root, '.parts-*') if path != parts]
  if others:
    # Jobs with other settings wrote files of the same names.
    for name in (parts.name, *_FOLDERS):
      files.remove_tree(root / name)
  claim(parts)
  for path in others:
    files.remove_tree(path)
  begun = set(files.glob(root, '*'))
  try:
    return make(root)
  except errors.UserError:
    if not any(files.glob(parts, '*.jsonl')):
      for path in {parts, *files.glob(root, '*')} - (begun - {parts}):
        files.remove_tree(path)
      for path in reversed(new):
        files.remove_empty(path)
    raise


def _check_stamp(root: pathlib.Path, config: plan.Config) -> None:
  stamp = root / manifest.STAMP
  if not files.exists(stamp):
    begun = any(files.glob(root, '.parts-*'))
    if files.exists(root / manifest.NAME) and not begun:
      raise errors.UserError(
        f'{root}: holds a manifest that synthesize did not finish; name '
        'another --output or remove the folder.'
      )
    return
  found = files.read_json(stamp)
  if found.get('fingerprint') == config.fingerprint:
    return
  old = found.get('settings', {})
  new = json.loads(json.dumps(config.settings))
  if old.get('speakers') != new.get('speakers'):
    raise errors.UserError(
      f'{stamp}: spoken by {_names(old)}, asked for {_names(new)}; name '
      'another --output or remove the folder.'
    )
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


def _names(settings: Mapping[str, Any]) -> str:
  """The voices of a corpus, for messages."""
  found = {s['voice']: s['sha256'] for s in settings.get('speakers', ())}
  return (
    ', '.join(f'{name} ({digests.short(d)}…)' for name, d in found.items())
    or espeak.Espeak.name
  )


def statistics(utterances: Iterable[manifest.Utterance]) -> dict[str, Any]:
  """Figures of a corpus: counts, seconds, characters, words."""
  figures = tally.Tally()
  for utterance in utterances:
    figures.add(utterance)
  return figures.result()


def _define(fv: flags.FlagValues) -> None:
  default = plan.Config()
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
    ('questions', 'Spoken questions of train, with their answers.'),
    ('written', 'The same in writing.'),
    ('requests', 'Spoken requests of train, answered in several manners.'),
  ):
    flags.DEFINE_integer(
      name, getattr(default, name), help_text, flag_values=fv
    )
  flags.DEFINE_bool(
    'preferences',
    default.preferences,
    'Pairs of answers to questions and requests, of which people like one.',
    flag_values=fv,
  )
  flags.DEFINE_float(
    'english_share',
    default.english_share,
    'Share of English among the utterances; the rest is Mandarin.',
    flag_values=fv,
  )
  flags.DEFINE_integer('processes', 2, 'Processes.', flag_values=fv)
  flags.DEFINE_multi_string(
    'voice',
    [],
    'A voice that speaks in place of espeak-ng, in the language that it can: '
    "the .onnx of a voice of Piper's or Kokoro's with its other files beside "
    'it, their folder, or package:NAME, an installed package that holds them; '
    '@sha256:DIGITS behind it is the digest that the model must have.',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'optional_voice',
    [],
    'The same where it is installed; where it is not, espeak-ng speaks.',
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  names = (
    *('seed', 'train', 'dev', 'test', 'unseen', 'images', 'text_lines'),
    *('questions', 'written', 'requests', 'preferences'),
  )
  config = plan.Config(
    english_share=fv.english_share,
    **{name: getattr(fv, name) for name in names},
  )
  files.check_writable(fv.output, '--output', folder=True)
  voices, notes = catalogue.load_all(
    fv.voice, fv.optional_voice, config.languages
  )
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  config = dataclasses.replace(config, speakers=speakers.cast(voices))
  if fv.dry_run:
    lines = plan.plan_speech(config)
    asked = plan.plan_questions(config, len(lines))
    requests = plan.plan_requests(config, len(lines) + len(asked.lines))
    text = plan.plan_text(config)
    count = len(lines) + len(asked.lines) + len(requests.lines)
    chats = len(asked.chats) + len(requests.chats)
    print(
      f'would make {count} utterances, {chats} questions, '
      f'{config.images} training images and {len(text)} lines of text in '
      f'{fv.output}'
    )
    return {
      'dry_run': True,
      'utterances': count,
      'questions': chats,
      'text': len(text),
    }
  result = synthesize(
    fv.output, config, processes=fv.processes, voices=voices, notes=notes
  )
  for name, value in result.items():
    print(f'{fv.output}/{name}: {value["utterances"]} {value["splits"]}')
  return result


DOOR = cli.Door(
  summary="""Makes a corpus of speech, images and text; needs nothing else.

    python -m data_pipelines synthesize --output=data/quickstart
    python -m data_pipelines synthesize --output=data/joe --voice=en_US-joe.onnx
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('voice', 'optional_voice'),
)
