"""A language model as a judge: rows of answers → verdicts, votes and all.

    judge = llm_judge.Judge(
      client.Endpoint('http://127.0.0.1:8000/v1', 'qwen2.5-72b'),
      kept='RUN/judged',
      prompt='voicebench_qa@1',
      votes=3,
    )
    found = judge.judge([{'id', 'question', 'reference', 'answer'}, …])
    found.rates()

Whatever a judge said is kept, so that the same rows are judged again without
asking, to the same bits; with `only_kept` nobody is ever asked. A judge that
does not answer is no verdict of another one: figures are then not computed, and
say why.
"""

import collections
import dataclasses
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat
from step_audio_jax.endpoints import client
from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import prompts
from step_audio_jax.evaluation.judges import verdicts
from step_audio_jax.evaluation.statistics import agreement

Verdict = verdicts.Verdict
# How every reason begins for which a judge that is named gave no figures.
FAILED = 'the judge '


class Vote(NamedTuple):
  """What a judge said once.

  Attributes:
    text: As it came; None where nothing did.
    verdict: In it.
    fault: What was wrong with the endpoint, in a sentence; '' if nothing.
  """

  text: str | None
  verdict: Verdict
  fault: str = ''


class Judged(NamedTuple):
  """A row's verdict.

  Attributes:
    id: Of the row.
    verdict: Of all votes.
    votes: One by one; () where nobody was asked.
  """

  id: str
  verdict: Verdict
  votes: tuple[Vote, ...] = ()

  @property
  def line(self) -> dict[str, Any]:
    """JSON-able."""
    return {
      'id': self.id,
      **_told(self.verdict),
      'votes': [
        {'text': one.text, **_told(one.verdict)}
        | ({'fault': one.fault} if one.fault else {})
        for one in self.votes
      ],
    }


@dataclasses.dataclass(frozen=True)
class Verdicts:
  """What a judge says of rows.

  Attributes:
    rows: In their order; () where there are no figures.
    scales: Name → what values it has; '' of an only one.
    identity: Who judged and how, JSON-able: part of every result.
    not_computed: Why there are no figures; '' where there are.
  """

  rows: tuple[Judged, ...]
  scales: Mapping[str, parsing.Scale]
  identity: Mapping[str, Any]
  not_computed: str = ''

  @property
  def verdicts(self) -> list[Verdict]:
    """Of all rows."""
    return [row.verdict for row in self.rows]

  def rates(self) -> dict[str, dict[str, Any]]:
    """Name of a value ('' of an only one) → as `verdicts.rates`.

    Nothing where figures are not computed.
    """
    if self.not_computed:
      return {}
    return {
      name: verdicts.rates(self.verdicts, scale.low, name)
      for name, scale in self.scales.items()
    }

  def agreement(self) -> dict[str, float | None]:
    """Name of a value → Krippendorff's alpha of the votes.

    Nominal where the majority decides, interval where the mean does; None of
    single votes, and of votes that never differ.
    """
    return {
      name: agreement.krippendorffs_alpha(
        [[one.verdict.part(name) for one in row.votes] for row in self.rows],
        _level(scale),
      )
      for name, scale in self.scales.items()
    }

  def against(
    self, ratings: Mapping[str, float], name: str = ''
  ) -> dict[str, Any]:
    """How far the judge and people agree, as `agreement.compared`.

    Args:
      ratings: Id of a row → what people say, on the judge's scale.
      name: Of the value.

    Raises:
      UserError: There is no such value.
    """
    if name not in self.scales:
      raise errors.UserError(
        f'judge: value: found {name!r}, expected one of '
        f'{", ".join(map(repr, self.scales))}.'
      )
    return agreement.compared(
      [row.verdict.part(name) for row in self.rows],
      [ratings.get(row.id) for row in self.rows],
      _level(self.scales[name]),
    )


@dataclasses.dataclass(frozen=True)
class Judge:
  """Asks a model what answers are worth.

  Attributes:
    endpoint: The model.
    kept: Folder of all it said; '' until `dataclasses.replace` names one.
    prompt: Of ours, `NAME@VERSION`, or another one; '' until a benchmark says
      which (`using`).
    votes: Of each row.
    temperature: Of the judge; None is the endpoint's.
    top_p: As `temperature`.
    only_kept: Whether nobody is asked: what is not kept has no verdict.
  """

  endpoint: client.Endpoint
  kept: str = ''
  prompt: str | prompts.Prompt = ''
  votes: int = 1
  temperature: float | None = None
  top_p: float | None = None
  only_kept: bool = False

  def __post_init__(self):
    errors.at_least_one('judge', self, ('votes',))
    _ = self.model  # checks what was replaced
    if self.prompt:
      _ = self.asks

  def using(self, prompt: str | prompts.Prompt, votes: int = 0) -> 'Judge':
    """The same judge with the prompt of a benchmark.

    Args:
      prompt: As the attribute.
      votes: As the attribute; 0 leaves it.
    """
    return dataclasses.replace(self, prompt=prompt, votes=votes or self.votes)

  @property
  def model(self) -> client.Endpoint:
    """The endpoint as it is asked."""
    changed = {'temperature': self.temperature, 'top_p': self.top_p}
    changed = {name: one for name, one in changed.items() if one is not None}
    return dataclasses.replace(self.endpoint, **changed)

  @property
  def asks(self) -> prompts.Prompt:
    """The prompt.

    Raises:
      UserError: There is none.
    """
    if isinstance(self.prompt, prompts.Prompt):
      return self.prompt
    return prompts.find(self.prompt)

  @property
  def identity(self) -> dict[str, Any]:
    """All that decides a verdict, without secrets, JSON-able."""
    return {
      'model': self.model.identity,
      'prompt': self.asks.identity,
      'votes': self.votes,
    }

  def judge(
    self,
    rows: Sequence[Mapping[str, Any]],
    counts: collections.Counter | None = None,
  ) -> Verdicts:
    """What rows are worth.

    Args:
      rows: Each with an `id` and the fields of the prompt.
      counts: Of requests and replies, added to.

    Returns:
      Verdicts in the order of the rows; or why there are none.

    Raises:
      UserError: A row lacks a field, two have one id, or nothing says where
        answers are kept.
    """
    asks, scales = self.asks, self.asks.parser.scales
    without = {id_: asks.unasked(row) for id_, row in self._by_id(rows)}
    asked = [row for row in rows if without[row['id']] is None]
    try:
      replies = list(self._replies(asked, counts))
    except errors.UserError as error:
      told = f'{FAILED}{self.model.name} did not answer: {error}'.rstrip('.')
      return Verdicts((), scales, self.identity, told)
    said = iter(replies)
    found = []
    for id_, verdict in without.items():
      votes = ()
      if verdict is None:
        votes = tuple(self._vote(next(said)) for _ in range(self.votes))
        verdict = decided([one.verdict for one in votes], scales)
      found.append(Judged(id_, verdict, votes))
    answered_by = collections.Counter(
      one.model or 'no name' for one in replies if one.text is not None
    )
    told_by = dict(sorted(answered_by.items()))
    identity = {**self.identity, 'answered_by': told_by}
    missing = sum(
      any(one.verdict.kind == client.NOT_KEPT for one in row.votes)
      for row in found
    )
    told = ''
    if missing:
      told = (
        f'{FAILED}{self.model.name} is not asked, and {missing} of '
        f'{len(found)} rows have no verdict in {self.kept}'
      )
    return Verdicts(tuple(found), scales, identity, told)

  def forget_faults(self, rows: Sequence[Mapping[str, Any]]) -> int:
    """Forgets what was no answer of the model, so that it is asked again.

    Returns:
      How many. What a model said stays, however little it is a verdict.
    """
    kept, count = answers_lib.Answers(self.kept), 0
    questions = self._questions(
      [row for row in rows if self.asks.unasked(row) is None]
    )
    for question in questions:
      asked = self.model.asked(question)
      if 'kind' in (kept.get(asked) or {}):
        kept.forget(asked)
        count += 1
    return count

  def _by_id(self, rows) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if not self.kept:
      raise errors.UserError(
        'judge: kept: found nothing, expected a folder for what it says.'
      )
    seen = set()
    for row in rows:
      id_ = verdicts.text(row, 'id')
      if id_ in seen:
        raise errors.UserError(
          f'judge: id: found {id_!r:.60} twice, expected ids that differ.'
        )
      seen.add(id_)
      yield id_, row

  def _questions(self, rows) -> list[chat.Question]:
    return [
      self.asks.question(row, sample)
      for row in rows
      for sample in range(self.votes)
    ]

  def _replies(self, rows, counts) -> Iterable[chat.Reply]:
    questions, kept = self._questions(rows), answers_lib.Answers(self.kept)
    if self.only_kept:
      return self.model.kept_answers(questions, kept)
    replies = self.model.answers(questions, kept, counts)
    return progress.bar(replies, label='judge', total=len(questions))

  def _vote(self, reply: chat.Reply) -> Vote:
    if reply.kind:
      return Vote(reply.text, Verdict(None, reply.kind), reply.fault)
    return Vote(reply.text, self.asks.parser(reply.text))


def decided(
  votes: Sequence[Verdict], scales: Mapping[str, parsing.Scale]
) -> Verdict:
  """One verdict of several votes.

  More than half of the votes have to be verdicts, else the commonest kind of
  the others is that of all. A majority is the one value that most of them have;
  where two have as many, it is a tie, and nobody decides it.
  """
  told = [one for one in votes if one.value is not None]
  if 2 * len(told) <= len(votes):
    of_kind = collections.Counter(one.kind for one in votes if one.kind)
    return Verdict(None, max(sorted(of_kind), key=of_kind.__getitem__))
  found = {}
  for name, scale in scales.items():
    values = [one.part(name) for one in told]
    if scale.by == parsing.MEAN:
      found[name] = verdicts.mean(values)
      continue
    (first, most), *more = collections.Counter(values).most_common(2)
    if more and more[0][1] == most:
      return Verdict(None, verdicts.TIE)
    found[name] = first
  first = next(iter(found.values()))
  return Verdict(first, '', found if len(found) > 1 else {})


def _level(scale: parsing.Scale) -> str:
  if scale.by == parsing.MAJORITY:
    return agreement.NOMINAL
  return agreement.INTERVAL


def _told(verdict: Verdict) -> dict[str, Any]:
  told = {'value': verdict.value, 'kind': verdict.kind}
  return told | ({'parts': dict(verdict.parts)} if verdict.parts else {})
