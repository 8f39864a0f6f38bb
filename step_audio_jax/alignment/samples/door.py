"""The `sample` door: several answers to each prompt, from one or several runs.

    {"prompt": "q-17", "split": "train", "question": "what colour is the cup",
     "expected": "blue", "language": "en", "run": "runs/sft", "step": 2000,
     "number": 0, "seed": 91823, "text": "blue", "stopped": true,
     "logprob": -0.31, "scores": {"right": 1.0, "brief": 1.0}}

One line an answer, for people to judge, for a judge, or for rules; its `digest`
is that of all that was asked. What an
answer is drawn with is a function of (seed, prompt, number) alone, whatever it
is drawn beside. Lines are written as they come; after a kill the same command
goes on behind the last whole one.

With `--silenced` recordings are silence of their length: who still answers does
not listen.
"""

import collections
import hashlib
import json
import pathlib
import sys
from typing import Any, Iterator, Mapping, Sequence

from absl import flags
import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.alignment.rewards import rules as rules_lib
from step_audio_jax.alignment.rewards import sample as sample_lib
from step_audio_jax.commands import cli
from step_audio_jax.storage import files

_BATCH = 64
_FIELDS = ('prompt', 'run', 'step', 'number', 'text')
_BEGINS = b'{"prompt": "'  # as all lines do
_NUMBERED = ('brief', 'unrepeated')  # rules with a number of their own
_DEFAULT_RULES = ('right', 'brief', 'in_language', 'heard')


def seed_of(seed: int, prompt: str, number: int) -> int:
  """Of one answer, 32 bits."""
  raw = hashlib.blake2b(f'{seed}/{prompt}/{number}'.encode(), digest_size=4)
  return int.from_bytes(raw.digest(), 'little')


def read(raw: bytes, path: files.AnyPath) -> tuple[list[dict[str, Any]], int]:
  """The lines of a file of samples, and where the last whole one ends.

  A line that a kill cut, maybe within a character, is left out.

  Raises:
    UserError: Another line is no sample.
  """
  found: list[dict[str, Any]] = []
  *whole, rest = raw.split(b'\n')
  for number, line in enumerate(whole, start=1):
    if not line.strip():
      continue
    try:
      one = json.loads(line)
      lacking = [name for name in _FIELDS if name not in one]
      if not isinstance(one, dict) or lacking:
        raise ValueError(f'no {lacking[0] if lacking else "object"}')
    except (ValueError, TypeError) as error:
      raise errors.UserError(
        f'{path}: line {number} is no sample ({error}).'
      ) from error
    found.append(one)
  size = min(len(rest), len(_BEGINS))
  if rest[:size] != _BEGINS[:size]:  # that is nobody's half line
    raise errors.UserError(
      f'{path}: line {len(whole) + 1} is no sample ({rest[:20]!r}), expected '
      'what `sample` has written, or another --output.'
    )
  return found, len(raw) - len(rest)


def _done(
  lines: Sequence[Mapping[str, Any]],
  asked: Mapping[str, Any],
  path: files.AnyPath,
) -> set[tuple]:
  """(run, step, prompt, number, digest) of what is there."""
  for one in lines:
    was = one.get('asked')
    if was == asked:
      continue
    was = was if isinstance(was, Mapping) else {}
    told = ', '.join(
      f'{name} is {was.get(name)!r}, expected {value!r}'
      for name, value in asked.items()
      if was.get(name) != value
    )
    raise errors.UserError(
      f'{path}: its answers were drawn otherwise ({told or "asked otherwise"});'
      ' give another --output.'
    )
  return {
    (*(one[n] for n in ('run', 'step', 'prompt', 'number')), one.get('digest'))
    for one in lines
  }


def _run_and_step(named: str) -> tuple[str, int | None]:
  """'runs/sft@200' → ('runs/sft', 200)."""
  run, at, step = named.rpartition('@')
  if not at or not step.isdigit():
    return named, None
  return run, int(step)


def draw(
  prompts: Sequence[Any],
  numbers: Sequence[int],
  *,
  sampler: Any,
  most: int,
  seed: int,
  loaded: Any,
) -> Iterator[tuple[Any, int, sample_lib.Sample, float]]:
  """(prompt, number, answer, log-probability) of each prompt and number.

  Args:
    prompts: Of `prompts.collect`, one for each number.
    numbers: Of the answers.
    sampler: Of `generation.sampling`.
    most: Ids of an answer.
    seed: Of all draws.
    loaded: (model, variables, vocabulary).
  """
  from step_audio_jax.chats import rendering
  from step_audio_jax.generation import decode
  from step_audio_jax.generation import grammar as grammar_lib

  model, variables, table = loaded
  outputs = decode.generate_outputs(
    model,
    variables,
    [one.ids for one in prompts],
    max_new_tokens=most,
    sampler=sampler,
    grammar=grammar_lib.build(table),
    start=grammar_lib.State.TEXT,
    rng=[seed_of(seed, p.id, n) for p, n in zip(prompts, numbers)],
    shapes=decode.Shapes(batch_size=_BATCH, output=decode.round_up(most)),
  )
  for prompt, number, output in zip(prompts, numbers, outputs, strict=True):
    text, _ = rendering.answer_of(table, output.tokens)
    it = prompt.answered(text, output.tokens, output.stopped)
    yield prompt, number, it, float(output.logprobs.sum())


def _rules(names: Sequence[str]) -> dict[str, sample_lib.Scorer]:
  """Name → rule, of `right` or, with a number of its own, `brief:3`."""
  found = {}
  for told in names:
    name, has_number, number = told.partition(':')
    if name in found:
      raise errors.UserError(
        f'--rules: found {name!r} twice, expected it once.'
      )
    rule = rules_lib.RULES.get(name)
    if rule is None or name == 'of_form':
      known = ', '.join(n for n in rules_lib.RULES if n != 'of_form')
      raise errors.UserError(
        f'--rules: no rule {name!r}, expected some of {known}.'
      )
    if not has_number:
      found[name] = rule()
    elif name in _NUMBERED and number.isdecimal():
      found[name] = rule(int(number))
    else:
      raise errors.UserError(
        f'--rules: found {told!r}, expected a whole number behind one of '
        f'{", ".join(_NUMBERED)}.'
      )
  return found


def _check(fv: flags.FlagValues) -> None:
  if not any(fv.splits):
    raise errors.UserError('--splits: found none, expected some.')
  if fv.silenced and not fv.tokenizer:
    raise errors.UserError(
      '--tokenizer: missing, --silenced needs the one of the codes.'
    )


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  output = files.check_writable(fv.output, '--output')
  _check(fv)
  rules = _rules(fv.rules)
  from step_audio_jax.generation import complete
  from step_audio_jax.generation import sampling

  sampler = sampling.Sampler(fv.temperature, fv.top_k, fv.top_p)
  sampler.check_replayable()
  runs = {}
  for named in fv.run:
    run, step = _run_and_step(named)
    runs[named] = run, step, complete.describe(run, step)
  asked = {
    'view': fv.view,
    'temperature': fv.temperature,
    'top_k': fv.top_k,
    'top_p': fv.top_p,
    'max_tokens': fv.max_tokens,
    'seed': fv.seed,
    'silenced': fv.silenced,
    'rules': list(fv.rules),
  }
  if fv.dry_run:
    done = set()
    if files.is_file(output):
      with files.opened(output) as handle:
        done = _done(read(handle.read(), output)[0], asked, output)
    print(f'would draw {fv.count} answers of {len(runs)} runs to each prompt')
    return {'dry_run': True, 'runs': len(runs), 'done': len(done)}
  if files.is_file(output) and files.is_claimed(output):
    print(
      f'note: {output}: another process is writing; waiting for its end.',
      file=sys.stderr,
      flush=True,
    )
  told = {}
  with files.claim_file(output) as handle:
    lines, end = read(handle.read(), output)
    done = _done(lines, asked, output)
    handle.truncate(end)
    handle.seek(end)
    try:
      for name, one in runs.items():
        told[name] = _sample_run(
          fv, output, handle, *one, asked, sampler, rules, done
        )
    finally:
      if files.is_file(output) and not files.size(output):
        files.remove(output)
  for run, figures in told.items():
    means = ', '.join(
      f'{name} {value:.3f}' for name, value in figures['means'].items()
    )
    print(f'{run}: {figures["answers"]} answers drawn; {means}')
  return {'output': str(output), 'runs': told}


def _sample_run(
  fv, output, handle, run, step, description, asked, sampler, rules, done
):
  """Draws what is missing of one run; its figures."""
  from step_audio_jax.alignment import prompts as prompts_lib
  from step_audio_jax.chats import habits
  from step_audio_jax.corpus import speech_codes
  from step_audio_jax.evaluation import questions
  from step_audio_jax.evaluation.metrics import quiz
  from step_audio_jax.generation import restore
  from step_audio_jax.training.checkpoints import checkpoints

  step = checkpoints.steps_of(files.path(run))[-1] if step is None else step
  model, variables, table = restore.load_model(run, step)
  config = files.path(run) / 'config.json'
  codes = speech_codes.read_codes(fv.codes) if fv.codes else None
  if fv.silenced:
    asked_of, _ = quiz.questions(fv.corpus, fv.splits)
    codes = questions.silence(fv.tokenizer, quiz.seconds(asked_of))
  prompts, passed = prompts_lib.collect(
    fv.corpus,
    table,
    splits=fv.splits,
    codes=codes,
    view=fv.view,
    layout=habits.of_run(description, config, starts=None, streams=None),
  )
  if fv.limit:
    prompts = prompts[: fv.limit]
  for reason, count in passed.items():
    print(f'{run}: {count} chats give no prompt: {reason}', file=sys.stderr)
  left = [
    (prompt, number)
    for prompt in prompts
    for number in range(fv.count)
    if (run, step, prompt.id, number, prompt.digest) not in done
  ]
  sums: dict[str, list[float]] = collections.defaultdict(list)
  loaded = restore.unroll_layers(model), variables, table
  done |= {(run, step, one.id, number, one.digest) for one, number in left}
  with progress.bar(
    total=len(left), label=pathlib.Path(run).name, unit='answer'
  ) as bar:
    for first in range(0, len(left), _BATCH):
      some = left[first : first + _BATCH]
      drawn = list(
        draw(
          [prompt for prompt, _ in some],
          [number for _, number in some],
          sampler=sampler,
          most=fv.max_tokens,
          seed=fv.seed,
          loaded=loaded,
        )
      )
      samples = [it for _, _, it, _ in drawn]
      scores = {name: rule(samples) for name, rule in rules.items()}
      lines = []
      for place, (prompt, number, it, logprob) in enumerate(drawn):
        said = {
          name: found[place]
          for name, found in scores.items()
          if np.isfinite(found[place])
        }
        for name, value in said.items():
          sums[name].append(value)
        lines.append(
          {
            'prompt': it.id,
            'split': prompt.split,
            'question': it.question,
            'expected': it.expected,
            'digest': prompt.digest,
            'language': it.language,
            'run': run,
            'step': step,
            'number': number,
            'seed': seed_of(fv.seed, it.id, number),
            'text': it.text,
            'stopped': it.stopped,
            'logprob': round(logprob, 4),
            'scores': said,
            'asked': dict(asked),
          }
        )
      with files.writing(output):
        text = ''.join(json.dumps(x, ensure_ascii=False) + '\n' for x in lines)
        handle.write(text.encode())
        files.persist(handle)
      bar.update(len(some))
  return {
    'answers': len(left),
    'prompts': len(prompts),
    'passed_over': sum(passed.values()),
    'means': {name: round(float(np.mean(x)), 4) for name, x in sums.items()},
  }


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'run',
    None,
    'Run that answers, or RUN@STEP; repeat it for more.',
    flag_values=fv,
    required=True,
  )
  for name, help_text in (
    ('corpus', 'Corpus with chats that end with an answer.'),
    ('output', 'JSON lines, one an answer.'),
  ):
    flags.DEFINE_string(name, None, help_text, flag_values=fv, required=True)
  flags.DEFINE_string(
    'codes',
    None,
    'What `tokenize` made of the corpus; spoken turns need it.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'tokenizer', None, 'That made the codes; for --silenced.', flag_values=fv
  )
  flags.DEFINE_list('splits', ['train'], 'Of the chats.', flag_values=fv)
  flags.DEFINE_enum(
    'view',
    'aqta',
    ['aqta', 'tqta', 'taqta', 'chat'],
    'How the last turn of the user is shown: heard, read, both, or as it is.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'silenced', False, 'Recordings are silence of their length.', flag_values=fv
  )
  flags.DEFINE_list(
    'rules',
    list(_DEFAULT_RULES),
    f'Scores beside each answer, of {", ".join(rules_lib.RULES)}; brief:3 has '
    'a number of its own.',
    flag_values=fv,
  )
  for name, value, help_text in (
    ('count', 4, 'Answers to each prompt.'),
    ('max_tokens', 64, 'Ids of an answer at most.'),
  ):
    flags.DEFINE_integer(name, value, help_text, lower_bound=1, flag_values=fv)
  for name, value, help_text in (
    ('limit', 0, 'Only the first prompts; 0 for all.'),
    ('top_k', 0, 'Draw from this many best ids; 0 from all.'),
    ('seed', 0, 'Of all draws.'),
  ):
    flags.DEFINE_integer(name, value, help_text, lower_bound=0, flag_values=fv)
  flags.DEFINE_float('temperature', 1.0, 'Of the draws.', flag_values=fv)
  flags.DEFINE_float(
    'top_p',
    1.0,
    'Draw from the best ids with this probability.',
    flag_values=fv,
  )


DOOR = cli.Door(
  summary="""Draws several answers to each prompt, from one or several runs.

    python -m step_audio_jax sample --run=runs/sft --run=runs/ppo --count=4 \\
      --corpus=data/talk --codes=data/talk/codes --splits=train \\
      --output=samples.jsonl

After a kill the same command goes on behind the last answer.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
