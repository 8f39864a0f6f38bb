"""A run of ours writes: a trained or converted language model, by itself.

Each answer is drawn with a seed of its own, so that it does not depend on which
questions are answered beside it.
"""

import collections
import dataclasses
import functools
import itertools
from typing import Any, Iterable, Iterator

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat
from step_audio_jax.evaluation.memory import identity as identity_lib
from step_audio_jax.generation import complete
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.storage import digests
from step_audio_jax.training.checkpoints import checkpoints

_SEEDS = 2**31


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that answers, as `complete` does.

  Attributes:
    run: Directory of a language model.
    step: Which checkpoint; None is the newest.
    turns: Whether it is asked in the turns of a chat, or continues the prompt.
    temperature: 0 is greedy.
    top_k: Draw from this many best ids; 0 from all.
    top_p: Draw from the best ids with this probability.
    max_tokens: Of an answer.
    seed: Each question's own follows from it.
    together: Questions that are answered at once.
  """

  run: str
  step: int | None = None
  turns: bool = True
  temperature: float = 0.7
  top_k: int = 0
  top_p: float = 1.0
  max_tokens: int = 128
  seed: int = 0
  together: int = 8

  def __post_init__(self):
    errors.at_least_one('own', self, ('max_tokens', 'together'))
    self._sampler()

  @property
  def name(self) -> str:
    """For messages."""
    return self.run

  @property
  def identity(self) -> dict[str, Any]:
    """All that decides what it answers; the weights by digest."""
    told = dataclasses.asdict(self)
    for name in ('run', 'together', 'step'):
      del told[name]
    step, digest = _weights(self.run, self.step)
    return {'step': step, 'model': digest, **told}

  def answers(
    self,
    questions: Iterable[chat.Question],
    kept: answers_lib.Answers,
    counts: collections.Counter | None = None,
  ) -> Iterator[chat.Reply]:
    """As of `endpoints.client.Endpoint`.

    Raises:
      UserError: There is no such run, or it writes no text.
    """
    counts = collections.Counter() if counts is None else counts
    identity, questions = self.identity, iter(questions)
    while some := list(itertools.islice(questions, self.together)):
      asked = [self._asked(identity, question) for question in some]
      found = [kept.get(one) for one in asked]
      is_kept = [chat.is_answer(one) for one in found]
      left = [n for n, known in enumerate(is_kept) if not known]
      for place, answer in zip(left, self._written([asked[n] for n in left])):
        found[place] = answer
        kept.put(asked[place], answer)
      for one, answer, known in zip(asked, found, is_kept):
        kind, fault = answer.get('kind', ''), answer.get('fault', '')
        if not kind:
          kind, fault = chat.unusable(answer)
        counts[f'replies/{kind or ("kept" if known else "new")}'] += 1
        fault = f'{self.run}: {fault}' if kind else ''
        text = answer.get('text')
        yield chat.Reply(kept.key_of(one), text, kind, fault, None, known)

  def _asked(self, identity, question) -> dict[str, Any]:
    told = {
      'own': identity,
      'messages': [list(one) for one in question.messages],
      'sample': question.sample,
    }
    seed = digests.number(digests.of_value(told)) % _SEEDS
    return {**told, 'seed': seed}

  def _sampler(self) -> sampling.Sampler:
    return sampling.Sampler(self.temperature, self.top_k, self.top_p)

  def _written(self, asked) -> Iterator[dict[str, Any]]:
    """Answers to what was asked, in order; or a fault of one."""
    if not asked:
      return
    model, variables, vocabulary = _loaded(self.run, self.step)
    prompts, faults = [], {}
    for number, one in enumerate(asked):
      try:
        prompts.append(self._prompt(vocabulary, one['messages']))
      except errors.UserError as error:
        faults[number] = {'kind': 'prompt', 'fault': str(error)}
    seeds = [one['seed'] for n, one in enumerate(asked) if n not in faults]
    outputs = iter(
      decode.generate_outputs(
        model,
        variables,
        [one.prompt for one in prompts],
        max_new_tokens=self.max_tokens,
        sampler=self._sampler(),
        grammar=complete.grammar_of(vocabulary, prompts[0]),
        start=grammar_lib.State.TEXT,
        stop_ids=prompts[0].stops,
        rng=seeds,
        shapes=decode.Shapes(batch_size=self.together),
      )
      if prompts
      else ()
    )
    for number in range(len(asked)):
      yield faults.get(number) or _answer(vocabulary, next(outputs))

  def _prompt(self, vocabulary, messages) -> complete.Asked:
    for _, text in messages:
      if vocabulary_lib.PAD in vocabulary.encode_text(text):
        raise errors.UserError(
          f'text: {text[:40]!r} has a character that is not in the text '
          'vocabulary of this run.'
        )
    description = checkpoints.run_config(self.run)
    if self.turns:
      turns = [tuple(one) for one in messages]
      return complete.ask_chat(self.run, description, vocabulary, turns)
    words = '\n'.join(text for _, text in messages)
    return complete.ask(self.run, description, vocabulary, words)


def _answer(vocabulary, output) -> dict[str, Any]:
  return {
    'text': vocabulary.decode(output.tokens),
    'finish': chat.STOPPED if output.stopped else chat.CUT,
    'model': None,
    'tokens': len(output.tokens),
  }


@functools.lru_cache(maxsize=2)
def _loaded(run: str, step: int | None):
  model, variables, vocabulary = restore.load_model(run, step)
  if vocabulary.text is None:
    raise errors.UserError(
      f'{run}: has no text tokenizer, expected a run that knows its texts.'
    )
  return restore.unroll_layers(model), variables, vocabulary


@functools.lru_cache(maxsize=4)
def _weights(run: str, step: int | None) -> tuple[int, Any]:
  _, step = checkpoints.step_folder(run, step)
  return step, identity_lib.DigestCache(run).model(run, step)
