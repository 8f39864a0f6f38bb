"""The `speak` door: text or codes in, a wav out."""

import dataclasses
import sys
import time
from typing import Any

from absl import flags

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.audio import stretch
from step_audio_jax.commands import cli
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.styles import instructions
from step_audio_jax.styles import markup
from step_audio_jax.styles import ssml
from step_audio_jax.styles import tags
from step_audio_jax.tokenizers import door as tokenize_door
from step_audio_jax.tokenizers.speech import seal

MODEL = ('STEP_AUDIO_MODEL', 'runs/quickstart/sft')
DECODER = ('STEP_AUDIO_DECODER', 'runs/quickstart/decoder')
TOKENIZER = (tokenize_door.VARIABLE, tokenize_door.DEFAULT)


def _define(fv: flags.FlagValues) -> None:
  def text(name, default, help_text):
    flags.DEFINE_string(name, default, help_text, flag_values=fv)

  def number(name, default, help_text):
    flags.DEFINE_float(name, default, help_text, flag_values=fv)

  def whole(name, default, help_text):
    flags.DEFINE_integer(name, default, help_text, flag_values=fv)

  flags.DEFINE_multi_string(
    'arguments', [], 'The text; also as plain words.', flag_values=fv
  )
  text('out', None, 'The wav to write.')
  text('voice', None, "A recording of the voice; by default the decoder's own.")
  text('voice_text', '', 'What is said in --voice; a model in turns needs it.')
  text('model', None, f'Run of a speech-text model; ${MODEL[0]}, {MODEL[1]}.')
  text('decoder', None, f'Speech decoder; ${DECODER[0]}, {DECODER[1]}.')
  text('tokenizer', None, f'Tokenizer; ${TOKENIZER[0]}, {TOKENIZER[1]}.')
  text(
    'codes',
    None,
    'Speak these instead of a text: a file of `tokenize --json`, an '
    '<audio_k>… string, or a recording, which is tokenised first.',
  )
  text(
    'edit',
    None,
    'A recording (or codes, as of --codes) of the text, which is spoken again '
    'with the changes that tags of --style or the text ask for.',
  )
  flags.DEFINE_integer(
    'times',
    1,
    'How often --edit is done: each time to what came out of it.',
    lower_bound=1,
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'channel',
    None,
    'Which channel of a recording (--voice, --codes, --edit) is heard, from 0; '
    'by default the mean of all.',
    lower_bound=0,
    flag_values=fv,
  )
  number('speed', 1.0, 'From 0.5 to 2; the pitch stays.')
  whole('seed', 0, 'Of everything random.')
  number('temperature', 0.7, '0 is greedy.')
  whole('top_k', 0, 'Draw from this many best ids; 0 from all.')
  number('top_p', 1.0, 'Draw from the best ids with this probability.')
  whole(
    'repetition_window',
    10,
    'An id that was drawn and makes up more than --repetition_share of the '
    'last ids of its codebook, this many, is drawn again; 0 for no such rule.',
  )
  # VALL-E 2 has 0.1; 13 % of the linguistic codes of real speech under a small
  # tokenizer repeat as much, 1 % go beyond 0.3.
  number('repetition_share', 0.3, 'See --repetition_window.')
  flags.DEFINE_enum(
    'layout',
    'auto',
    ['auto', 'document', 'turns'],
    'How the model is asked: as the rows of this project, in the turns of '
    'Step-Audio-TTS-3B, or as its run says (converted weights: turns).',
    flag_values=fv,
  )
  text('system', '', 'Instruction of the turns.')
  flags.DEFINE_bool(
    'starts',
    None,
    'Put <s> behind every <|BOT|> of the turns, as released code does; by '
    'default as the run has learnt it, or not.',
    flag_values=fv,
  )
  text(
    'style',
    None,
    'How all of it is spoken, if the model has learnt that: tags, as '
    '"(fast 2)(四川话)", or words, as "a bit faster". Tags may stand in the '
    'text, too.',
  )
  number('longest', 20.0, 'Seconds of speech of one sentence at most.')
  whole('steps', 10, "Of the flow's solver.")
  flags.DEFINE_bool(
    'stream',
    False,
    'Decode in overlapping windows, 0.6 s of codes at a time, as live speech '
    'would be, and tell when each piece was ready.',
    flag_values=fv,
  )
  text(
    'export',
    None,
    'Folder to write a speech decoder to, from training runs; --voice becomes '
    'its own voice.',
  )
  text('flow', None, 'For --export: run of the flow.')
  text('speaker', None, 'For --export: run of the speaker encoder.')
  text('vocoder', None, 'For --export: run of the vocoder; none: Griffin-Lim.')


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  if fv.export is not None:
    return _export(fv)
  words = ' '.join(fv.arguments or ())
  if ssml.is_ssml(words):
    words = markup.write(ssml.parse(words).spans)
  _check(fv, words)
  from step_audio_jax.decoder import code_sources
  from step_audio_jax.decoder import editing
  from step_audio_jax.decoder import rendering
  from step_audio_jax.decoder import text_to_codes

  source = fv.codes or fv.edit
  given = code_sources.is_recording(source, fv.channel) if source else None
  plan = {'out': fv.out}
  if fv.edit:
    model = cli.default_folder('model', fv.model, *MODEL, 'speak')
    held = instructions.read(fv.style) if fv.style else tags.Style()
    spans = editing.asked(words, held, model)
    plan |= {
      'model': str(model),
      'sentences': [markup.write(spans, escape=False)],
      'times': fv.times,
    }
  elif not fv.codes:
    model = cli.default_folder('model', fv.model, *MODEL, 'speak')
    layout = (
      text_to_codes.layout_of(model) if fv.layout == 'auto' else fv.layout
    )
    starts = text_to_codes.starts_of(model, fv.starts)
    pieces = _pieces(words, fv.style, model, fv.stream)
    plan |= {
      'model': str(model),
      'layout': layout,
      'sentences': [prompt for prompt, _ in pieces],
      'done_to_sound': [part.style.english for _, part in pieces],
    }
  voice_wave = (
    rendering.read_recording(fv.voice, fv.channel) if fv.voice else None
  )
  decoder = _decoder(fv)
  plan['vocoder'] = decoder.vocoder.name
  plan[bindings.TOKENIZER] = decoder.tokenizer
  tokenizer = _Lazy(fv, decoder)
  if not fv.codes:
    decoder.check_codes(str(model), text_to_codes.tokenizer_of(model))
  if not (fv.voice or given):
    decoder.chosen(None)  # says so now if there is no voice
  if fv.dry_run:
    what = f'{len(plan.get("sentences", ()))} sentences'
    what = 'codes' if fv.codes else f'{fv.edit} again' if fv.edit else what
    print(
      f'would speak {what} with the vocoder '
      f'{decoder.vocoder.name} into {fv.out}'
    )
    return plan
  began = time.monotonic()
  voice = None
  if voice_wave is not None:
    voice = decoder.voice_from(
      *voice_wave, tokenizer.get(), fv.voice_text, fv.voice
    )
  if source:
    ids = code_sources.read(
      source, tokenizer.get, fv.channel, decoder.check_codes
    )
    spoken = [text_to_codes.SpokenSentence('', ids, True)]
    # What is edited stays its speaker's.
    if voice is None and given and (fv.edit or decoder.voice is None):
      voice = rendering.load_speaker(decoder, source, fv.channel)
    if fv.edit:
      starts = text_to_codes.starts_of(model, fv.starts)
      writer = _writer(fv, tokenizer, model, 'turns', starts)
      edits = editing.apply(writer, spans, ids, fv.times)
      plan['groups'] = [
        len(one) // vocabulary.GROUP for one in (ids, *(e.ids for e in edits))
      ]
      spoken = edits[-1:]
      _tell_unfinished(edits, fv.longest)
  else:
    spoken = _written(fv, tokenizer, model, layout, starts, pieces, voice)
  writing = time.monotonic() - began
  wave_S, first = rendering.waveform(
    decoder,
    spoken,
    voice,
    seed=fv.seed,
    steps=fv.steps,
    stream=fv.stream,
    quiet=fv.json,
  )
  from step_audio_jax.audio import io

  wave_S = stretch.stretch(wave_S, fv.speed, decoder.sample_rate)
  io.write_audio(fv.out, wave_S, decoder.sample_rate)
  for sentence in decoder.unchecked:
    bindings.warn_once(sentence)
  wall = time.monotonic() - began
  seconds = len(wave_S) / decoder.sample_rate
  result = {
    **plan,
    'seconds': round(seconds, 3),
    'sample_rate': decoder.sample_rate,
    'ids': [piece.ids.tolist() for piece in spoken],
    'stopped': [piece.stopped for piece in spoken],
    'seed': fv.seed,
    'wall_seconds': round(wall, 3),
    'writing_seconds': round(writing, 3),
    'rtf': round(wall / seconds, 3),
  }
  if first is not None:
    result['first_audio_seconds'] = round(first, 3)
  print(
    f'{fv.out}: {seconds:.2f} s at {decoder.sample_rate} Hz, spoken by '
    f'{decoder.vocoder.name} in {wall:.2f} s'
  )
  return result


def _pieces(words: str, style: str | None, model, stream: bool):
  """(what the model is asked, `styled_text.Part`) for each part of a text."""
  from step_audio_jax.decoder import styled_text
  from step_audio_jax.decoder import text_to_codes

  text_to_codes.check_text(words)
  known = styled_text.of_run(model, text_to_codes.is_released(model))
  held = instructions.read(style) if style else tags.Style()
  asked = styled_text.parse(words, known, held, str(model))
  made = next((span.style for span in asked.made if span.style), None)
  if stream and made:
    raise errors.UserError(
      f'--stream: found with {made.english}, which is done to the whole sound '
      'of a sentence, expected one of them.'
    )
  for note in asked.notes:
    print(f'note: {note}', file=sys.stderr)
  pieces = text_to_codes.sentences(markup.plain(asked.made))
  return styled_text.prompted(asked, pieces)


def _check(fv, words) -> None:
  """What can be wrong before anything is loaded."""
  if bool(words.strip()) == bool(fv.codes):
    raise errors.UserError(
      'speak: found '
      f'{"a text and --codes" if fv.codes else "nothing to say"}, expected '
      'either a text or --codes.'
    )
  if not fv.out:
    raise errors.UserError('speak: --out=FILE.wav is missing.')
  if files.path(fv.out).suffix.lower() != '.wav' or files.is_dir(fv.out):
    raise errors.UserError(f'--out: found {fv.out!r}, expected a file .wav.')
  files.check_writable(fv.out, '--out')
  if fv.voice_text and not fv.voice:
    raise errors.UserError(
      'speak: --voice_text without --voice; expected the recording it is of.'
    )
  if fv.edit and fv.codes:
    raise errors.UserError('--edit: found with --codes, expected one of them.')
  if fv.edit and (fv.system or fv.layout != 'auto'):
    name = '--system' if fv.system else '--layout'
    raise errors.UserError(
      f'--edit: found with {name}, expected one of them: edits are asked for '
      'in one way.'
    )
  if fv.times > 1 and not fv.edit:
    raise errors.UserError('--times: found without --edit, which it repeats.')
  if fv.style is not None:
    if fv.codes:
      raise errors.UserError('--style: found with --codes, expected a text.')
    instructions.read(fv.style)
  stretch.check_speed(fv.speed)
  if fv.steps < 1:
    raise errors.UserError(f'--steps: found {fv.steps}, expected at least 1.')
  if not 0 <= fv.seed < 2**32:
    raise errors.UserError(
      f'--seed: found {fv.seed}, expected 0 to {2**32 - 1}.'
    )
  _sampler(fv)


def _sampler(fv):
  from step_audio_jax.generation import repetition
  from step_audio_jax.generation import sampling

  return sampling.Sampler(
    fv.temperature,
    fv.top_k,
    fv.top_p,
    repetition.Repetition(fv.repetition_window, fv.repetition_share),
  )


def _decoder(fv):
  from step_audio_jax.decoder import speech

  folder = cli.default_folder('decoder', fv.decoder, *DECODER, 'speak')
  return speech.SpeechDecoder.load(folder)


class _Lazy:
  """The tokenizer, loaded when it is first needed."""

  def __init__(self, fv, decoder):
    self._fv, self._decoder, self._found = fv, decoder, None

  def folder(self) -> str:
    """The one that is named, else the decoder's own, else the default."""
    own = self._decoder.tokenizer
    if not self._fv.tokenizer and own and _is_there(own):
      return own['folder']
    return cli.default_folder(
      'tokenizer', self._fv.tokenizer, *TOKENIZER, 'speak'
    )

  def get(self):
    """Loads it.

    Raises:
      UserError: As `folder`; or it is not the one whose codes the decoder
        speaks.
    """
    from step_audio_jax.tokenizers.speech import dual

    if self._found is None:
      found = dual.DualTokenizer.load(self.folder())
      if hasattr(found, 'identity'):
        self._decoder.check_codes(self._named(), found.identity)
      self._found = found
    return self._found

  def code_counts(self) -> tuple[int, int]:
    """As `dual.code_counts`; raises as `get`."""
    folder = self.folder()
    self._decoder.check_codes(self._named(), seal.identity(folder))
    return seal.code_counts(folder)

  def _named(self) -> str:
    return f'the tokenizer {self.folder()}'


def _is_there(identity) -> bool:
  """Whether a tokenizer is still where it was."""
  folder = files.path(identity['folder'])
  if not files.is_file(folder / seal.NAME):
    return False
  return seal.identity(folder)['sha256'] == identity['sha256']


def _writer(fv, tokenizer, model, layout, starts):
  """The model, and how it is asked."""
  from step_audio_jax.decoder import text_to_codes

  linguistic, semantic = tokenizer.code_counts()
  manner = text_to_codes.SpeakOptions(
    layout=layout,
    system=fv.system,
    starts=starts,
    longest=fv.longest,
    linguistic_codes=linguistic,
    semantic_codes=semantic,
    sampler=_sampler(fv),
    seed=fv.seed,
  )
  return text_to_codes.Writer.load(model, manner)


def _written(fv, tokenizer, model, layout, starts, pieces, voice):
  """The model's ids for every sentence."""
  written = _writer(fv, tokenizer, model, layout, starts).write(
    [prompt for prompt, _ in pieces],
    voice,
    'writing codes' if len(pieces) > 1 else None,
  )
  spoken = [
    dataclasses.replace(one, style=part.style, gap=part.gap)
    for one, (_, part) in zip(written, pieces, strict=True)
  ]
  _tell_unfinished(spoken, fv.longest)
  return spoken


def _tell_unfinished(spoken, longest: float) -> None:
  for piece in spoken:
    if not piece.stopped:
      print(
        f'{piece.text[:40]!r}: not finished after {longest:g} s, see '
        '--longest.',
        file=sys.stderr,
      )


def _export(fv) -> dict[str, Any]:
  for name in ('flow', 'speaker'):
    if not fv[name].value:
      raise errors.UserError(
        f'speak --export: --{name}=RUN is missing, the directory of a '
        'finished training run.'
      )
  files.check_writable(fv.export, '--export', folder=True)
  from step_audio_jax.decoder import rendering
  from step_audio_jax.decoder.exports import folder as export

  decoder = export.decoder(fv.flow, fv.speaker, fv.vocoder)
  if fv.voice:
    decoder.voice = decoder.voice_from(
      *rendering.read_recording(fv.voice, fv.channel),
      _Lazy(fv, decoder).get(),
      fv.voice_text,
      fv.voice,
    )
  result = {
    'decoder': fv.export,
    'vocoder': decoder.vocoder.name,
    'voice': fv.voice,
    bindings.TOKENIZER: decoder.tokenizer,
  }
  if fv.dry_run:
    print(f'would export {fv.flow} and {fv.speaker} to {fv.export}')
    return result
  decoder.save(fv.export)
  for sentence in decoder.unchecked:
    bindings.warn_once(sentence)
  print(f'{fv.export}: a decoder whose vocoder is {decoder.vocoder.name}')
  return result


DOOR = cli.Door(
  summary="""Speaks a text, or codes, into a wav; or exports a speech decoder.

    python -m step_audio_jax speak "the red cat sees a dog" --out x.wav
    python -m step_audio_jax speak "…" --out x.wav --voice ref.wav \\
      --voice_text "what ref.wav says" --speed 1.2
    python -m step_audio_jax speak "Come on, (slow 1)no hurry." --out x.wav \\
      --style "(fast 2)"
    python -m step_audio_jax speak "the red cat" --edit a.wav --out b.wav \\
      --style "(fast 1)" --times 2
    python -m step_audio_jax speak --codes a.wav --out again.wav
    python -m step_audio_jax speak --export=runs/quickstart/decoder \\
      --flow=runs/quickstart/flow --speaker=runs/quickstart/speaker

The model writes codes under the 2:3 pattern, the decoder (flow, then vocoder)
makes them sound. A text of several sentences is spoken sentence by sentence. A
sentence is short for a model that has only seen short ones.
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('arguments', 'voice_text', 'system', 'style'),
)
