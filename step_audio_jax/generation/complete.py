"""The `complete` door: text in, text out.

A run that was trained here begins a text with `<s>` and ends it with `<|EOT|>`.
One that was only converted is asked as its author asks it, unless it was made
here before: behind what its own tokenizer puts in front, until one of the ids
that its `generation_config.json` or `config.json` names. Its control rows are
copies, which are not drawn.
"""

import dataclasses
import pathlib
import sys
import time
from typing import Any, Mapping, Sequence

from absl import flags

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import habits
from step_audio_jax.chats import rendering
from step_audio_jax.commands import cli
from step_audio_jax.generation import chat_template as template_lib
from step_audio_jax.storage import files

MODEL = ('STEP_AUDIO_MODEL', 'runs/quickstart/sft')
# By which a folder says that its model was trained here.
_NOTE = 'step_audio_jax'
_ENDS = ('generation_config.json', 'config.json')
# How a folder names the positions that its model was made for.
_LENGTHS = ('max_position_embeddings', 'max_seq_len')
_USUAL_TOKENS, _MOST_TOKENS, _LAST_SEED = 128, 2**31 - 1, 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Asked:
  """How a run is asked.

  Attributes:
    prompt: Ids, at least one.
    stops: Ids that end an answer.
    converted: Whether the run was converted and never trained here.
  """

  prompt: list[int]
  stops: tuple[int, ...]
  converted: bool


def is_converted(
  run: str | pathlib.Path, description: Mapping[str, Any]
) -> bool:
  """Whether a run was converted and never trained here.

  Args:
    run: The run directory.
    description: Its `config.json`.
  """
  origin = _object(files.path(run) / template_lib.FOLDER / 'config.json')
  return 'converted_from' in description and _NOTE not in origin


def describe(
  run: str | pathlib.Path, step: int | None = None, ema: bool = False
) -> dict[str, Any]:
  """The `config.json` of a language model that can be loaded.

  Args:
    run: The run directory.
    step: Which checkpoint; None means the newest.
    ema: Whether the mean of the parameters is meant.

  Raises:
    UserError: It is the run of something else, or has no such checkpoint.
  """
  from step_audio_jax.generation import restore
  from step_audio_jax.training.checkpoints import checkpoints

  description = restore.language_config(run)
  checkpoints.step_folder(run, step, ema)
  return description


def ask(
  run: str | pathlib.Path,
  description: Mapping[str, Any],
  vocabulary: vocabulary_lib.Vocabulary,
  words: str,
) -> Asked:
  """What a run is given for a text that it is to continue.

  Args:
    run: The run directory.
    description: Its `config.json`.
    vocabulary: Its ids, with a text model.
    words: The text.

  Raises:
    UserError: There is no id to begin with.
  """
  text = _text_of(run, vocabulary)
  if not is_converted(run, description):
    prompt = [vocabulary_lib.BOS, *text.encode(words)]
    return Asked(prompt, (vocabulary_lib.EOT,), converted=False)
  return _converted(run, vocabulary, [*text.opening, *text.encode(words)])


def ask_chat(
  run: str | pathlib.Path,
  description: Mapping[str, Any],
  vocabulary: vocabulary_lib.Vocabulary,
  turns: Sequence[rendering.Turn],
  *,
  starts: bool | None = None,
) -> Asked:
  """What a run is given for a chat that the assistant is to go on with.

  Args:
    run: The run directory.
    description: Its `config.json`.
    vocabulary: Its ids, with a text model.
    turns: Of `rendering.turns_of`; with a converted run texts alone.
    starts: As `habits.of_run`.

  Raises:
    UserError: There is no chat template, or it cannot lay these turns out; or
      the run has learnt another layout than `starts`.
  """
  text = _text_of(run, vocabulary)
  if not is_converted(run, description):
    path = files.path(run) / 'config.json'
    style = habits.of_run(description, path, starts=starts).layout()
    prompt, _ = rendering.prompt(vocabulary, turns, style=style)
    return Asked(prompt, (vocabulary_lib.EOT,), converted=False)
  if starts is not None:
    raise errors.UserError(
      f'--starts: {run} is asked in its own chat template, expected no such '
      'flag.'
    )
  template = template_lib.ChatTemplate.of_run(run)
  if template is None:
    raise errors.UserError(
      f'--chat: {run} has no chat template, expected one in '
      f'{template_lib.FOLDER}/tokenizer_config.json or chat_template.jinja.'
    )
  if not is_plain(turns):
    raise errors.UserError(
      f'--chat: {run} is asked in its own chat template, which is given texts '
      'alone, expected a chat without tools and recordings.'
    )
  said = [{'role': role, 'content': content} for role, content in turns]
  return _converted(run, vocabulary, template.prompt(text, said))


def is_plain(turns: Sequence[rendering.Turn]) -> bool:
  """Whether any template can lay turns out: texts, and nothing of tools."""
  plain = ('system', 'user', 'assistant')
  return all(role in plain and isinstance(said, str) for role, said in turns)


def _text_of(run, vocabulary: vocabulary_lib.Vocabulary) -> Any:
  if vocabulary.text is None:
    raise errors.UserError(
      f'{run}: has no text tokenizer, expected a run that knows its texts.'
    )
  return vocabulary.text


def _converted(run, vocabulary, prompt: list[int]) -> Asked:
  if not prompt:
    raise errors.UserError('complete: the text has no ids, expected some text.')
  folder = files.path(run) / template_lib.FOLDER
  ends = _ends(folder, vocabulary.text, vocabulary)
  return Asked(prompt, ends, converted=True)


def _ends(folder, text, vocabulary) -> tuple[int, ...]:
  """Ids at which an open model stops."""
  found: list[int] = []
  for name in _ENDS:
    path = folder / name
    value = _object(path).get('eos_token_id')
    for place in value if isinstance(value, list) else [value]:
      if place is None:
        continue
      inside = isinstance(place, int) and not isinstance(place, bool)
      if not inside or not 0 <= place < vocabulary.text_size - text.moved:
        raise errors.UserError(
          f'{path}: eos_token_id is {place!r}, expected an id of 0 to '
          f'{vocabulary.text_size - text.moved - 1}.'
        )
      found.append(place + text.moved)
  # Without any, the row that stands for the end; it may never be drawn.
  return tuple(dict.fromkeys(found)) or (vocabulary_lib.EOT,)


def longest_answer(run: str | pathlib.Path, asked: int | None) -> int:
  """How many ids an answer may have.

  Args:
    run: The run directory.
    asked: What the user wants; None for what is usual.

  Raises:
    UserError: It is more than the positions that the model was made for.
  """
  path = files.path(run) / template_lib.FOLDER / 'config.json'
  origin = _object(path)
  for name in _LENGTHS:
    length = origin.get(name)
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
      continue
    if asked is not None and asked > length:
      raise errors.UserError(
        f'--max_tokens: found {asked}, expected at most {length}, which is '
        f'{name} in {path}.'
      )
    return asked or min(_USUAL_TOKENS, length)
  return asked or _USUAL_TOKENS


def _check_text(flag: str, text: str) -> None:
  """Refuses what stands for bytes of a command line that are no text."""
  if any('\ud800' <= character <= '\udfff' for character in text):
    raise errors.UserError(
      f'{flag}: {text[:40]!a} is not UTF-8, expected only characters.'
    )


def _object(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object that came along; {} where there is none."""
  found = files.read_json(path) if files.is_file(path) else {}
  return found if isinstance(found, dict) else {}


def grammar_of(vocabulary: vocabulary_lib.Vocabulary, asked: Asked) -> Any:
  """Text alone; of a converted run no control row, which is a copy."""
  from step_audio_jax.generation import grammar as grammar_lib

  grammar = grammar_lib.build(vocabulary)
  if not asked.converted:
    return grammar
  classes = grammar.class_V.copy()
  classes[: vocabulary.text_size] = grammar_lib.Class.TEXT
  moved = vocabulary.text.moved
  classes[:moved] = grammar_lib.Class.UNUSED
  return grammar._replace(class_V=classes)


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  words = ' '.join(fv.arguments or ())
  if (fv.prompt is None) == (not words):
    raise errors.UserError(
      f'complete: found {"a text and --prompt" if words else "no text"}, '
      'expected either a text or --prompt.'
    )
  words = fv.prompt if fv.prompt is not None else words
  if fv.system and not fv.chat:
    raise errors.UserError('complete: --system means nothing without --chat.')
  if fv.starts is not None and not fv.chat:
    raise errors.UserError('complete: --starts means nothing without --chat.')
  _check_text('--prompt' if fv.prompt is not None else 'complete', words)
  _check_text('--system', fv.system)
  from step_audio_jax.generation import decode
  from step_audio_jax.generation import grammar as grammar_lib
  from step_audio_jax.generation import restore
  from step_audio_jax.generation import sampling
  from step_audio_jax.training.transfer import own_vocabulary

  sampler = sampling.Sampler(fv.temperature, fv.top_k, fv.top_p)
  run = cli.default_folder('model', fv.model, *MODEL, 'complete')
  if files.is_file(run):
    raise errors.UserError(
      f'--model={run}: found a file, expected a run directory; `convert` makes '
      'one of a GGUF file.'
    )
  description = describe(run, fv.step, fv.ema)
  max_tokens = longest_answer(run, fv.max_tokens)
  vocabulary = own_vocabulary.vocabulary_of_run(run, description['vocabulary'])
  if fv.chat:
    turns = [('system', fv.system)] if fv.system else []
    turns.append(('user', words))
    asked = ask_chat(run, description, vocabulary, turns, starts=fv.starts)
  else:
    asked = ask(run, description, vocabulary, words)
  told = {'model': str(run), 'prompt_ids': asked.prompt, 'seed': fv.seed}
  if fv.dry_run:
    print(
      f'would continue {len(asked.prompt)} ids by at most {max_tokens} with '
      f'{run}'
    )
    return told
  began = time.monotonic()
  model, variables, vocabulary = restore.load_model(run, fv.step, fv.ema)
  (output,) = decode.generate_outputs(
    restore.unroll_layers(model),
    variables,
    [asked.prompt],
    max_new_tokens=max_tokens,
    sampler=sampler,
    grammar=grammar_of(vocabulary, asked),
    start=grammar_lib.State.TEXT,
    stop_ids=asked.stops,
    rng=fv.seed,
    shapes=decode.Shapes(batch_size=1),
  )
  text = vocabulary.decode(output.tokens)
  print(text)
  if not output.stopped:
    print(
      f'not finished after {max_tokens} ids, see --max_tokens.',
      file=sys.stderr,
    )
  return {
    **told,
    'text': text,
    'ids': output.tokens.tolist(),
    'logprob': round(float(output.logprobs.sum()), 4),
    'stopped': output.stopped,
    'wall_seconds': round(time.monotonic() - began, 3),
  }


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'arguments', [], 'The text; also as plain words.', flag_values=fv
  )
  flags.DEFINE_string(
    'prompt', None, 'The text, as it is, spaces and all.', flag_values=fv
  )
  flags.DEFINE_string(
    'model',
    None,
    f'Run of a language model, trained or converted; ${MODEL[0]}, {MODEL[1]}.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'chat',
    False,
    'The text is what a user says, and is answered: in the chat template of a '
    'converted model, or in the turns of this project.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'system', '', 'With --chat: what the chat is opened with.', flag_values=fv
  )
  flags.DEFINE_bool(
    'starts',
    None,
    'With --chat: <s> behind every <|BOT|>, as released code has it; by '
    'default as the run has learnt it, or not.',
    flag_values=fv,
  )
  flags.DEFINE_float('temperature', 0.0, '0 is greedy.', flag_values=fv)
  flags.DEFINE_integer(
    'top_k', 0, 'Draw from this many best ids; 0 from all.', flag_values=fv
  )
  flags.DEFINE_float(
    'top_p',
    1.0,
    'Draw from the best ids with this probability.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'Of the draws.',
    lower_bound=0,
    upper_bound=_LAST_SEED,
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'max_tokens',
    None,
    f'New ids at most; by default {_USUAL_TOKENS}, or fewer where the model '
    'was made for fewer.',
    lower_bound=1,
    upper_bound=_MOST_TOKENS,
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'step', None, 'Which checkpoint, not the newest.', flag_values=fv
  )
  flags.DEFINE_bool(
    'ema', False, 'The mean of the parameters in their place.', flag_values=fv
  )


DOOR = cli.Door(
  summary="""Continues a text with a language model, or answers it.

    python -m step_audio_jax complete "Once upon a time" --model=runs/llama
    python -m step_audio_jax complete --chat "Who are you?" \\
      --model=runs/llama --temperature=0.7 --top_p=0.9 --seed=1

The model is a run directory: one that was trained, or that `convert` made of a
Hugging Face folder or a GGUF file. Without a temperature the best id is taken
every time.
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('arguments', 'prompt', 'system'),
)
