"""The `answer` door: questions of a corpus, asked aloud and in writing.

A chat of the corpus ends with what the assistant should say. It is asked as far
as there in the ways that the tasks of SFT show it (`chats.views`): the last
turn of the user heard, and once more read, where there are words. What was said
before is read or heard, as the run has learnt it. Tools, their calls and
results stand where they stand in the chat.

An answer is right where every word of the expected one that the question has
not is among its own ("The capital of Peru is Lima." behind "What is the capital
of Peru?": `lima`), and exact where it is the expected one; case and punctuation
do not count. Where tools are to be called it is neither without these calls,
argument by argument. All is decoded greedily.

With `--tokenizer` it is asked with silence as long as each recording in its
place: what is answered then was not heard. With `--along` it is read and heard
at once. An untouched model (`--base`) is asked the same in writing, through its
own chat template, but for chats with tools.
"""

from typing import Any, Mapping

from absl import flags
import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.chats import habits
from step_audio_jax.chats import rendering
from step_audio_jax.commands import cli
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation.metrics import quiz
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import alignment

_BATCH = 64
# How the same questions are asked.
KINDS = ('spoken', 'written', 'along', 'silenced', 'untouched')


def silence(tokenizer: str, seconds: Mapping[str, float]) -> dict[str, Any]:
  """Id of a recording → codes of silence that is as long.

  Args:
    tokenizer: Folder of the speech tokenizer.
    seconds: Id → length, as `quiz.seconds` tells it.
  """
  from step_audio_jax.tokenizers.speech import dual

  samples = {
    name: round(length * alignment.SAMPLE_RATE)
    for name, length in seconds.items()
  }
  lengths = sorted(set(samples.values()))
  codes = dual.DualTokenizer.load(tokenizer).encode_batch(
    [np.zeros(length, np.float32) for length in lengths]
  )
  by_length = dict(zip(lengths, codes))
  return {name: by_length[length] for name, length in samples.items()}


class Asker:
  """A run that is asked."""

  def __init__(
    self,
    run: str,
    step: int | None = None,
    most: int = 24,
    *,
    starts: bool | None = None,
    streams: str | None = None,
  ):
    """Loads a run.

    Args:
      run: Its directory.
      step: Which checkpoint; None means the newest.
      most: Ids of an answer.
      starts: As `habits.of_run`.
      streams: The same.

    Raises:
      UserError: The run has learnt to be asked otherwise.
    """
    from step_audio_jax.generation import complete
    from step_audio_jax.generation import restore

    self._run, self._most, self._starts = run, most, starts
    self._description = complete.describe(run, step)
    self._habits = _habits_of(run, self._description, starts, streams)
    model, self._variables, self.vocabulary = restore.load_model(run, step)
    self._model = restore.unroll_layers(model)

  def write(self, asked: quiz.Asked, system: str = '') -> list[quiz.Answer]:
    """Answers to questions in writing.

    Args:
      asked: Of `in_writing`.
      system: What chats without a system are opened with; nothing if empty.
    """
    from step_audio_jax.generation import complete

    prompts = [
      complete.ask_chat(
        self._run,
        self._description,
        self.vocabulary,
        _opened(rendering.turns_of(one.shown('tqta'), _no_ids), system),
        starts=self._starts,
      )
      for some in asked.values()
      for one in some
    ]
    if not prompts:
      return []
    return self._answers(
      asked,
      [one.prompt for one in prompts],
      complete.grammar_of(self.vocabulary, prompts[0]),
      prompts[0].stops,
    )

  def say(
    self, asked: quiz.Asked, codes, along: bool = False
  ) -> list[quiz.Answer]:
    """Answers to questions as they are said.

    Args:
      asked: Of `questions`.
      codes: Id of an utterance → (linguistic, semantic).
      along: Whether they are read, too, in front of what is heard.

    Raises:
      UserError: A question has no codes, or what was said before has no
        transcript and is to be read.
    """
    from step_audio_jax.generation import grammar as grammar_lib

    def ids_of(speech):
      if speech.id not in codes:
        raise errors.UserError(
          f'--codes: none of {speech.id!r}; tokenize the corpus.'
        )
      return documents_lib.speech_ids(
        self.vocabulary, *codes[speech.id], self._habits.streams
      )

    prompts = []
    for some in asked.values():
      for one in some:
        view = ''
        if along or self._habits.history == habits.READ:
          heard = 'taqta' if along else 'aqta'
          view = heard if one.speech else 'tqta'
        turns = rendering.turns_of(one.shown(view), ids_of)
        prompt, _ = rendering.prompt(
          self.vocabulary, turns, style=self._habits.layout()
        )
        prompts.append(prompt)
    return self._answers(asked, prompts, grammar_lib.build(self.vocabulary))

  def writer(self, options):
    """The same model as one that speaks; see `text_to_codes.Writer`."""
    from step_audio_jax.decoder import text_to_codes

    return text_to_codes.Writer(
      self._model, self._variables, self.vocabulary, options
    )

  def _answers(self, asked, prompts, grammar, stops=None) -> list[quiz.Answer]:
    from step_audio_jax.generation import decode
    from step_audio_jax.generation import grammar as grammar_lib

    if any(one.chat.tools for some in asked.values() for one in some):
      grammar = grammar_lib.with_calls(grammar)
    more = {} if stops is None else {'stop_ids': stops}
    outputs = decode.generate_outputs(
      self._model,
      self._variables,
      prompts,
      max_new_tokens=self._most,
      grammar=grammar,
      start=grammar_lib.State.TEXT,
      shapes=decode.Shapes(batch_size=_BATCH),
      label='answering',
      **more,
    )
    return [
      quiz.Answer(*rendering.answer_of(self.vocabulary, one.tokens))
      for one in outputs
    ]


def _no_ids(speech):
  raise AssertionError(f'{speech.id} is read')


def _opened(turns: list[rendering.Turn], system: str) -> list[rendering.Turn]:
  """Turns behind a system, if they have none."""
  if not system or turns[0][0] == chats_lib.SYSTEM:
    return turns
  return [(chats_lib.SYSTEM, system), *turns]


def _habits_of(run, description, starts, streams) -> habits.Habits:
  path = files.path(run) / 'config.json'
  return habits.of_run(description, path, starts=starts, streams=streams)


def _check(fv: flags.FlagValues) -> None:
  """What can be wrong with runs and codes, before anything is loaded."""
  from step_audio_jax.generation import complete

  if not any(fv.splits):
    raise errors.UserError('--splits: found none, expected some.')
  description = complete.describe(fv.run, fv.step)
  _habits_of(fv.run, description, fv.starts, fv.streams)
  if fv.base:
    complete.describe(fv.base)
  if not files.is_dir(fv.codes):
    raise errors.UserError(
      f'--codes={fv.codes}: no such folder, expected what `tokenize` made.'
    )


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  output = files.check_writable(fv.output, '--output')
  if fv.decoder and not fv.tokenizer:
    raise errors.UserError(
      '--tokenizer: missing, --decoder needs the one of its codes.'
    )
  _check(fv)
  asked, passed = quiz.questions(fv.corpus, fv.splits)
  counted = {split: len(some) for split, some in asked.items()}
  origins.check(fv.run, codes=fv.codes, tokenizer=fv.tokenizer)
  for split, why in passed.items():
    print(f'{split}: {len(why)} chats are no questions, the first is {why[0]}')
  if fv.dry_run:
    print(f'would ask {counted}')
    return {'dry_run': True, 'questions': counted, 'passed_over': passed}
  codes = speech_codes.read_codes(fv.codes)
  asker = Asker(
    fv.run, fv.step, fv.max_tokens, starts=fv.starts, streams=fv.streams
  )
  written = quiz.in_writing(asked)
  found = {
    'run': fv.run,
    'passed_over': passed,
    'spoken': quiz.score(asked, asker.say(asked, codes)),
    'written': quiz.score(written, asker.write(written)),
  }
  if fv.along:
    found['along'] = quiz.score(written, asker.say(written, codes, along=True))
  if fv.tokenizer:
    none = silence(fv.tokenizer, quiz.seconds(asked))
    found['silenced'] = quiz.score(asked, asker.say(asked, none))
  if fv.decoder:
    from step_audio_jax.evaluation import aloud

    aloud.speak(
      {split: scored['answers'] for split, scored in found['spoken'].items()},
      run=fv.run,
      writer=asker.writer,
      decoder=fv.decoder,
      tokenizer=fv.tokenizer,
      folder=output.with_suffix('.wav'),
      count=fv.aloud,
    )
  if fv.base:
    base = Asker(fv.base, most=fv.max_tokens)
    plain = quiz.without_tools(written)
    found['base'] = fv.base
    found['untouched'] = quiz.score(plain, base.write(plain, fv.system))
  files.write_json(output, found)
  told = {}
  for kind in KINDS:
    for split, figures in found.get(kind, {}).items():
      told[f'{kind}/{split}'] = round(figures['right'], 4)
      print(
        f'{split}, {kind}: {100 * figures["right"]:.1f} % right, '
        f'{100 * figures["exact"]:.1f} % exact, of {figures["questions"]}'
      )
  return {'output': str(output), **told}


def _define(fv: flags.FlagValues) -> None:
  for name, help_text in (
    ('run', 'Run that is asked.'),
    ('corpus', 'Corpus with chats that end with an answer.'),
    ('codes', 'What `tokenize` made of it.'),
    ('output', 'JSON file with the figures and every answer.'),
  ):
    flags.DEFINE_string(name, None, help_text, flag_values=fv, required=True)
  flags.DEFINE_string(
    'tokenizer',
    None,
    'Folder of the tokenizer that made the codes; with it silence is asked.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'decoder',
    None,
    'Folder of the speech decoder; with it the run also speaks its first '
    'answers, beside --output.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'aloud', 6, 'How many of each split.', lower_bound=0, flag_values=fv
  )
  flags.DEFINE_list('splits', ['test'], 'Of the chats.', flag_values=fv)
  flags.DEFINE_enum(
    'streams',
    None,
    documents_lib.STREAMS,
    'Which codes the run hears; by default those that it has learnt, or both.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'starts',
    None,
    '<s> behind every <|BOT|>; by default as the run has learnt it, or not.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'along',
    False,
    'Ask once more what is read and heard at once (the task taqta).',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'base', None, 'An untouched run, asked in writing.', flag_values=fv
  )
  flags.DEFINE_string(
    'system', '', 'What the chat of --base is opened with.', flag_values=fv
  )
  flags.DEFINE_integer(
    'max_tokens', 24, 'Ids of an answer.', lower_bound=1, flag_values=fv
  )
  flags.DEFINE_integer(
    'step', None, 'Which checkpoint, not the newest.', flag_values=fv
  )


DOOR = cli.Door(
  summary="""Asks a model the questions of a corpus, aloud and in writing.

    python -m step_audio_jax answer --run=runs/mine --corpus=data/quiz \\
      --codes=data/quiz/codes --splits=test_asked --output=answers.json
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
