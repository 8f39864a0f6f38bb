"""`deafness`: adds pairs about "I did not hear you" to a corpus with questions.

    CORPUS/manifest.jsonl     the pairs of a chat stand behind it
    CORPUS/silence/*.wav      recordings in which nobody speaks
    CORPUS/deafness.json      settings, seed and counts
    CORPUS/deafness.jsonl     what was left out, and why

Whatever was added before is replaced, so that the same command adds nothing
twice. Where the manifest has a provenance, the lines are in it.
"""

import dataclasses
import os
from typing import Any, Iterable, Iterator, Mapping, Sequence

from absl import flags

from data_pipelines.factory import additions
from data_pipelines.factory.deafness import pairs as pairs_lib
from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.synthesis import speech
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio import io as audio_io
from step_audio_jax.chats import deafness
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

DOOR_NAME = 'deafness'
Line = manifest.Utterance


def add(
  corpus: str | os.PathLike,
  config: pairs_lib.Config = pairs_lib.Config(),
  *,
  rollouts: str | os.PathLike | None = None,
  held_out: held_out_lib.HeldOut | None = None,
  dry_run: bool = False,
) -> dict[str, Any]:
  """Adds the pairs to a corpus, in place of those that were there.

  Args:
    corpus: Its folder.
    config: How much.
    rollouts: A file of {"prompt": id of a chat, "text": what a policy replied}.
    held_out: What nothing may be made of.
    dry_run: Only count.

  Returns:
    What `deafness.json` says.

  Raises:
    UserError: There are no questions in those splits, or a file is broken.
  """
  root = manifest.path_of(corpus).parent
  lines = [one for one in manifest.read(corpus) if not pairs_lib.is_made(one)]
  left: list[dict[str, Any]] = []
  questions = _questions(lines, config, root, held_out, left)
  if not questions:
    first = f'; the first: {left[0]["reason"]}' if left else ''
    raise errors.UserError(
      f'{manifest.path_of(corpus)}: no question of {", ".join(config.splits)} '
      f'that is spoken and answered in writing{first or "."}'
    )
  said = None
  if rollouts is not None:
    others: list[dict[str, Any]] = []
    said = _rollouts(files.path(rollouts), questions, others)
    if not said:
      first = f'; the first line: {others[0]["reason"]}' if others else '.'
      raise errors.UserError(
        f'{rollouts}: found no deaf reply to a question of '
        f'{", ".join(config.splits)}, expected some to reject, since silences '
        f'alone would teach to prefer them{first}'
      )
    left += others
  maker = pairs_lib.Maker(config, questions.values(), said)
  told: list[additions.Told] = []
  counts = dict.fromkeys(pairs_lib.CATEGORIES, 0)
  recordings = {}
  for line in lines:
    told.append(additions.Told(line))
    if line.id not in questions:
      continue
    for made in maker.made(questions[line.id]):
      if isinstance(made, errors.UserError):
        left.append({'id': line.id, 'reason': str(made)})
        continue
      if isinstance(made, pairs_lib.Silence):
        recordings[made.line.audio] = made.samples
        made = made.line
      else:
        counts[made.category] += 1
      told.append(additions.Told(made, line.id))
  result = {
    **dataclasses.asdict(config),
    'splits': list(config.splits),
    'rollouts': None if rollouts is None else str(rollouts),
    'questions': len(questions),
    **counts,
    'recordings': len(recordings),
    'left_out': len(left),
  }
  if dry_run:
    return result
  for name, samples in recordings.items():
    if not files.exists(root / name):
      audio_io.write_audio(root / name, samples / 32768, speech.SAMPLE_RATE)
  additions.write(root, told, config.seed)
  additions.write_account(root, DOOR_NAME, result, left)
  return result


def _questions(
  lines: Sequence[Line],
  config: pairs_lib.Config,
  root: files.AnyPath,
  held_out: held_out_lib.HeldOut | None,
  left: list[dict[str, Any]],
) -> dict[str, pairs_lib.Question]:
  """Id of a chat → its question, of those that do not leak."""
  recordings = {one.id: one for one in lines if one.kind == 'speech'}
  asked = [one for one in lines if one.split in config.splits]
  found = {}
  for chat in progress.bar(asked, label='deafness', unit='line'):
    try:
      question = pairs_lib.question_of(chat, recordings, root)
    except errors.UserError as error:
      files.raise_outage(error)
      left.append({'id': chat.id, 'reason': str(error)})
      continue
    if question is not None:
      found[chat.id] = question
  for leak in _leaks(found.values(), held_out):
    if found.pop(leak.id, None) is not None:
      left.append({'id': leak.id, 'reason': leak.sentence()})
  return found


def _leaks(
  questions: Iterable[pairs_lib.Question],
  held_out: held_out_lib.HeldOut | None,
) -> Iterator[held_out_lib.Leak]:
  if held_out is None:
    return
  lines: list[held_out_lib.Line] = []
  for chat, said, *_, silent in questions:
    texts = [] if silent else held_out_lib.texts_of(chat)
    for text in (*texts, said.text):
      lines.append(held_out_lib.Line(chat.id, text, said.speaker, chat.split))
  yield from filter(None, held_out.find(lines))


def _rollouts(
  path: files.AnyPath,
  questions: Mapping[str, pairs_lib.Question],
  left: list[dict[str, Any]],
) -> dict[str, list[str]]:
  """Id of a chat → what a policy said to it that is deaf."""
  found: dict[str, list[str]] = {}
  for number, value in files.read_numbered_jsonl(path):
    value = value if isinstance(value, Mapping) else {}
    # As `sample` calls it, or as the manifest does.
    name, text = value.get('prompt', value.get('id')), value.get('text')
    reason = None
    if not isinstance(name, str) or not isinstance(text, str):
      reason = 'found no id with a text, expected both.'
    elif name not in questions or questions[name].silent:
      reason = f'id: found {name!r}, expected a question that can be heard.'
    elif not deafness.claims(text):
      reason = f'text: found {text!r:.60}, which does not say it was not heard.'
    if reason:
      left.append({'id': name, 'reason': f'{path}:{number}: {reason}'})
    elif text not in found.setdefault(name, []):
      found[name].append(text)
  return found


def _define(fv: flags.FlagValues) -> None:
  default = pairs_lib.Config()
  additions.define_flags(fv, default.splits)
  flags.DEFINE_integer(
    'seed', default.seed, 'Everything follows from it.', flag_values=fv
  )
  flags.DEFINE_integer(
    'replies',
    default.replies,
    'Replies that are drawn for each question.',
    flag_values=fv,
  )
  flags.DEFINE_float(
    'silences',
    default.silences,
    'Share of the questions whose place a silence takes, too.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'rollouts',
    None,
    'JSON lines of {"prompt", "text"}, as `sample` writes them: what a policy '
    'replied to the chat of that '
    'id; those that are deaf are rejected in place of drawn ones.',
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  config = pairs_lib.Config(
    seed=fv.seed,
    splits=tuple(fv.splits),
    replies=fv.replies,
    silences=fv.silences,
  )
  result = add(
    fv.corpus,
    config,
    rollouts=fv.rollouts,
    held_out=additions.held_out(fv),
    dry_run=fv.dry_run,
  )
  print(
    f'{fv.corpus}: {"would add" if fv.dry_run else "added"} {result["deaf"]} '
    f'pairs that reject a deaf reply and {result["silence"]} that choose one '
    f'({result["recordings"]} new recordings: tokenize again), of '
    f'{result["questions"]} questions, with seed {config.seed}; '
    f'{result["left_out"]} left out'
  )
  return {'dry_run': True, **result} if fv.dry_run else result


DOOR = cli.Door(
  summary="""Adds pairs that reject "I did not hear you" on clear audio.

    python -m data_pipelines deafness --corpus=data/talk --splits=train,dev
    python -m data_pipelines deafness --corpus=data/talk \\
      --rollouts=runs/ppo/replies.jsonl --held_out=data/benchmark
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
