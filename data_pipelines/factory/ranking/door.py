"""`rank`: answers that policies drew become preferences of a corpus.

    CORPUS/manifest.jsonl     the pairs of a chat stand behind it
    CORPUS/rank.json          settings and counts
    CORPUS/rank.jsonl         what was left out, and why

Or of a new corpus (`output`), beside the recordings that they need. Whatever
was added before is replaced, so that the same command adds nothing twice.

An answer belongs to a question as long as the corpus asks it so: by the digest
that `sample` writes, by the words of the question, and, where scores judge, by
those of the expected answer, as far as a line has them.
"""

import collections
import dataclasses
import os
from typing import Any, Collection, Iterator, Mapping, Sequence

from absl import flags

from data_pipelines.factory import additions
from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.factory.ranking import pairs as pairs_lib
from data_pipelines.factory.ranking import samples as samples_lib
from data_pipelines.readers.preferences import rankings
from step_audio_jax import errors
from step_audio_jax.chats import own
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

NAME = 'rank'
_REFUSED = ('unknown_prompt', 'other_question')


class _LeftOut:
  """What is left out, by reason."""

  def __init__(self):
    self.lines: list[dict[str, Any]] = []
    self.counts: collections.Counter[str] = collections.Counter()

  def __call__(self, what: str, name: str | None, reason: str) -> None:
    self.counts[what] += 1
    self.lines.append({'id': name, 'what': what, 'reason': reason})


def add(
  corpus: str | os.PathLike,
  samples: Sequence[str | os.PathLike],
  config: pairs_lib.Config = pairs_lib.Config(),
  *,
  judgements: str | os.PathLike | None = None,
  kind: str | None = None,
  output: str | os.PathLike | None = None,
  held_out: held_out_lib.HeldOut | None = None,
  dry_run: bool = False,
) -> dict[str, Any]:
  """Adds pairs to a corpus, in place of those that were there.

  Args:
    corpus: Its folder.
    samples: Files of `sample`.
    config: What becomes a pair.
    judgements: A file that says what answers are worth; scores do if None.
    kind: Of `samples.JUDGEMENTS`, what that file has.
    output: Folder of another corpus that gets the pairs instead.
    held_out: What nothing may be made of.
    dry_run: Only count.

  Returns:
    What `rank.json` says.

  Raises:
    UserError: No answer is to a question of the corpus, nothing becomes a
      pair, or a file is broken.
  """
  lines = manifest.read(corpus)
  left = _LeftOut()
  drawn = samples_lib.read([files.path(one) for one in samples], left)
  known = _known(drawn, lines, corpus, config, left, kind is None)
  if judgements is None:
    judged = samples_lib.by_scores(known, config.weights, left)
  else:
    assert kind is not None
    judged = samples_lib.by_judgements(
      known, files.path(judgements), kind, left
    )
  by_prompt = collections.defaultdict(list)
  for one in judged:
    by_prompt[one.prompt].append(one)
  made: dict[str, pairs_lib.Made] = {}
  for chat in lines:
    if chat.id in by_prompt:
      made[chat.id] = pairs_lib.make(chat, by_prompt[chat.id], config)
  for name in _leaking(made, lines, held_out, left):
    del made[name]
  pairs = [line for one in made.values() for line in one.lines]
  if not pairs:
    raise errors.UserError(
      f'{samples[0]}: no pair among {len(judged)} answers to {len(by_prompt)} '
      f'questions ({_told(left.counts, made.values())}), expected some.'
      + (f' The first: {left.lines[0]["reason"]}' if left.lines else '')
    )
  result = {
    **dataclasses.asdict(config),
    'splits': list(config.splits),
    'samples': [str(one) for one in samples],
    'by': kind or 'scores',
    'judgements': None if judgements is None else str(judgements),
    'answers': len(drawn),
    'questions': len(by_prompt),
    'preferences': len(pairs),
    'categories': dict(
      sorted(collections.Counter(one.category for one in pairs).items())
    ),
    'ties': sum(one.ties for one in made.values()),
    'near': sum(one.near for one in made.values()),
    'same': sum(one.same for one in made.values()),
    'left_out': dict(sorted(left.counts.items())),
  }
  if dry_run:
    return result
  if output is None:
    root = manifest.path_of(corpus).parent
    told = _behind_chats(lines, made)
  else:
    root = files.path(output)
    told = _apart(root, manifest.path_of(corpus).parent, lines, made)
  additions.write(root, told)
  additions.write_account(root, NAME, result, left.lines)
  return result


def _known(
  drawn: Sequence[samples_lib.Sample],
  lines: Sequence[manifest.Utterance],
  corpus: str | os.PathLike,
  config: pairs_lib.Config,
  left: _LeftOut,
  by_scores: bool,
) -> list[samples_lib.Sample]:
  """Answers to questions of the corpus as it asks them."""
  asked, _ = quiz.questions(str(corpus), config.splits)
  questions = {one.id: one for some in asked.values() for one in some}
  splits = {one.id: one.split for one in lines if one.kind == 'chat'}
  found, strange = [], ''
  for one in drawn:
    if one.prompt in questions:
      fault = _fault(one, questions[one.prompt], config, by_scores)
    else:
      split = splits.get(one.prompt)
      kind = 'other_split' if split else 'unknown_prompt'
      kind = 'no_question' if split in config.splits else kind
      expected = f'{" or ".join(config.splits)} that ends with an answer'
      fault = (
        kind, f'prompt: found {one.prompt!r}, expected a chat of {expected}.'
      )  # fmt: skip
    if fault is None:
      found.append(one)
      continue
    what, reason = fault[0], f'{one.where}: {fault[1]}'
    left(what, one.prompt, reason)
    if what in _REFUSED:
      strange = strange or reason
  refused = sum(left.counts[what] for what in _REFUSED)
  if drawn and refused == len(drawn):
    raise errors.UserError(
      f'{corpus}: none of the {refused} answers is to a question that it asks, '
      f'expected those that `sample` drew of this corpus; {strange}'
    )
  return found


def _fault(
  one: samples_lib.Sample,
  question: quiz.Question,
  config: pairs_lib.Config,
  by_scores: bool,
) -> tuple[str, str] | None:
  """What an answer is left out as, and why; None where it is taken."""
  about, digest = one.about, one.about.get('digest')
  if digest is not None and digest != question.digest:
    return 'other_question', (
      f'digest: found {str(digest)[:12]!r}, but {question.digest[:12]!r} in '
      'the corpus, expected one: it asks otherwise now.'
    )
  same = {'question': question.question}
  if by_scores:  # rules compared answers with it
    same['expected'] = question.expected
  for name, mine in same.items():
    if about.get(name) not in (None, mine):
      return 'other_question', (
        f'{name}: found {about[name]!r:.60}, but {mine!r:.60} in the corpus, '
        'expected one.'
      )
  asked = about.get('asked')
  if isinstance(asked, Mapping) and asked.get('silenced'):
    return 'silenced', 'asked: silence was heard, expected the question.'
  if not one.text.strip():
    return 'empty', 'text: found nothing, expected an answer.'
  if about.get('stopped') is False and not config.unfinished:
    return 'unfinished', (
      'stopped: found false, the answer came to its limit, expected all of it.'
    )
  return None


def _leaking(
  made: Mapping[str, pairs_lib.Made],
  lines: Sequence[manifest.Utterance],
  held_out: held_out_lib.HeldOut | None,
  left: _LeftOut,
) -> Collection[str]:
  """Chats whose pairs, or what they ask, others hold out."""
  if held_out is None:
    return ()
  speech = {one.id: one for one in lines if one.kind == 'speech'}
  shown: list[held_out_lib.Line] = []
  for name, one in made.items():
    for line in one.lines:
      heard = [speech[n] for n in own.spoken(line.turns) if n in speech]
      for said in held_out_lib.lines_of((line, *heard)):
        shown.append(said._replace(id=name, split=line.split))
  found = set()
  for leak in filter(None, held_out.find(shown)):
    if leak.id not in found:
      left('held_out', leak.id, leak.sentence())
    found.add(leak.id)
  return found


def _behind_chats(
  lines: Sequence[manifest.Utterance], made: Mapping[str, pairs_lib.Made]
) -> list[additions.Told]:
  """A manifest with the pairs of each chat behind it."""
  told = []
  for line in lines:
    if pairs_lib.is_made(line):
      continue
    told.append(additions.Told(line))
    if line.id in made:
      told += [additions.Told(one, line.id) for one in made[line.id].lines]
  return told


def _apart(
  root: files.AnyPath,
  origin: files.AnyPath,
  lines: Sequence[manifest.Utterance],
  made: Mapping[str, pairs_lib.Made],
) -> list[additions.Told]:
  """A manifest of pairs and of the recordings that they ask with.

  Recordings are linked or copied, before a line speaks of them.

  Raises:
    UserError: The folder has another recording of that name.
  """
  there: dict[str, manifest.Utterance] = {}
  asked = {line.id for line in lines if line.kind == 'chat'}
  if files.is_file(manifest.path_of(root)):
    for one in manifest.read(root):
      # Pairs of another corpus stay; those of this one are made again.
      if not (pairs_lib.is_made(one) and pairs_lib.chat_of(one) in asked):
        there[one.id] = one
  pairs = [line for one in made.values() for line in one.lines]
  needed = {name for line in pairs for name in own.spoken(line.turns)}
  told = [additions.Told(one) for one in there.values()]
  for line in lines:
    if line.id not in needed:
      continue
    if there.get(line.id, line) != line:
      raise errors.UserError(
        f'{manifest.path_of(root)}: {line.id}: another line has this id than '
        f'in {manifest.path_of(origin)}, expected one; give another --output.'
      )
    if line.audio:
      mine, its = line.audio_path(origin), root / line.audio
      if not files.exists(its):
        files.put(mine, its)
      elif digests.of_file(its) != digests.of_file(mine):
        raise errors.UserError(
          f'{its}: {line.id}: found another recording than {mine}, expected '
          'the same; give another --output.'
        )
    if line.id not in there:
      told.append(additions.Told(line, line.id))
  return told + [
    additions.Told(line, name)
    for name, one in made.items()
    for line in one.lines
  ]


def _told(counts: Mapping[str, int], made: Collection[pairs_lib.Made]) -> str:
  """What became no pair, in words."""

  def words() -> Iterator[str]:
    for name in ('ties', 'near', 'same'):
      count = sum(getattr(one, name) for one in made)
      if count:
        yield f'{count} {name}'
    for what, count in sorted(counts.items()):
      yield f'{count} {what}'

  return ', '.join(words()) or 'nothing was left out'


def _define(fv: flags.FlagValues) -> None:
  default = pairs_lib.Config()
  additions.define_flags(fv, default.splits)
  flags.DEFINE_multi_string(
    'samples', None, 'Answers that `sample` drew; repeat it.', flag_values=fv
  )
  flags.mark_flag_as_required('samples', flag_values=fv)
  flags.DEFINE_list(
    'weights',
    [],
    'NAME=WEIGHT of scores whose sum says how good an answer is; by default '
    'all of them, as they are.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'verdicts',
    None,
    'JSON lines of {"prompt", "number", "verdict": 0 or 1}, of a judge, in '
    'place of scores; also "run" and "step".',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'ratings',
    None,
    'The same with "rating", 1 to 5, of people: their mean counts.',
    flag_values=fv,
  )
  flags.DEFINE_enum(
    'pairs',
    default.pairs,
    rankings.PAIRS,
    'Of each prompt: all that differ, the best against each, or the best '
    'against the worst.',
    flag_values=fv,
  )
  flags.DEFINE_float(
    'gap', default.gap, 'Pairs that differ by less are none.', flag_values=fv
  )
  flags.DEFINE_float(
    'margin',
    default.margin,
    'What a difference of one is worth as a margin.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'unfinished',
    default.unfinished,
    'Also answers that came to their limit: they would be learnt as if they '
    'ended there.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'output',
    None,
    'Another corpus that gets the pairs, and the recordings they ask with.',
    flag_values=fv,
  )


def _weights(words: Sequence[str]) -> dict[str, float]:
  found = {}
  for word in words:
    name, _, value = (part.strip() for part in word.partition('='))
    if name in found:
      raise errors.UserError(
        f'--weights: found {name!r} twice, expected each score once.'
      )
    try:
      found[name] = float(value)
    except ValueError:
      raise errors.UserError(
        f'--weights: found {word!r}, expected NAME=WEIGHT.'
      ) from None
  return found


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  if fv.verdicts and fv.ratings:
    raise errors.UserError(
      '--verdicts, --ratings: found both, expected one of them.'
    )
  judgements = fv.verdicts or fv.ratings
  if judgements and fv.weights:
    raise errors.UserError(
      '--weights: found some, but a file says what answers are worth, expected '
      'one of both.'
    )
  config = pairs_lib.Config(
    splits=tuple(fv.splits),
    weights=_weights(fv.weights),
    pairs=fv.pairs,
    gap=fv.gap,
    margin=fv.margin,
    unfinished=fv.unfinished,
  )
  if fv.output is not None:
    files.check_writable(fv.output, '--output', folder=True)
  kinds = dict(zip(samples_lib.JUDGEMENTS, (fv.verdicts, fv.ratings)))
  result = add(
    fv.corpus,
    fv.samples,
    config,
    judgements=judgements,
    kind=next((name for name, path in kinds.items() if path), None),
    output=fv.output,
    held_out=additions.held_out(fv),
    dry_run=fv.dry_run,
  )
  print(
    f'{fv.output or fv.corpus}: {"would add" if fv.dry_run else "added"} '
    f'{result["preferences"]} pairs of {result["answers"]} answers to '
    f'{result["questions"]} questions, by {result["by"]}; '
    f'{result["ties"]} ties, {result["near"]} differ by less than the gap, '
    f'{result["same"]} of the same words; left out: '
    f'{sum(result["left_out"].values())}'
  )
  return {'dry_run': True, **result} if fv.dry_run else result


DOOR = cli.Door(
  summary="""Makes preferences of answers that `sample` drew.

    python -m data_pipelines rank --corpus=data/talk --samples=samples.jsonl \\
      --weights=right=1,brief=0.2 --pairs=best_worst
    python -m data_pipelines rank --corpus=data/talk --samples=samples.jsonl \\
      --ratings=ratings.jsonl --gap=1 --output=data/preferred
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
