"""The `answer` door: questions of a corpus, asked aloud and in writing.

A chat of the corpus ends with what the assistant should say. It is asked as far
as there, with the codes of what is spoken, and once more with its text, where
it has any. An
answer is right where every word of the expected one that the question has not
is among its own ("The capital of Peru is Lima." behind "What is the capital of
Peru?": `lima`), and exact where it is the expected one; case and punctuation do
not count. All is decoded greedily.

With `--tokenizer` it is asked a third time, with silence as long as each
recording in its place: what is answered then was not heard. An untouched model
(`--base`) is asked the same in writing, through its own chat template.
"""

import re
from typing import Any, Mapping, Sequence

from absl import flags
import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax.chats import rendering
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import origins
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import alignment

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_BATCH = 64
# Fields of turns that are asked: those with tools, or with text beside speech,
# cannot be asked in both ways.
_PLAIN = {'role', 'text', 'speech'}
# How the same questions are asked.
KINDS = ('spoken', 'written', 'silenced', 'untouched')


def words(text: str) -> list[str]:
  """Words of a text, folded, without punctuation."""
  return _WORD.findall(text.casefold())


def is_right(question: str, expected: str, said: str) -> bool:
  """Whether an answer has all of the expected one that the question has not."""
  wanted = set(words(expected)) - set(words(question))
  return (wanted or set(words(expected))) <= set(words(said))


def questions(
  corpus: str, splits: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
  """Split → its chats: id, question, expected, and turns with texts.

  Spoken turns have `seconds`, too.

  Raises:
    UserError: A split has no chat that ends with the assistant's text.
  """
  texts, seconds = {}, {}
  chats: dict[str, list[manifest.Utterance]] = {split: [] for split in splits}
  for utterance in manifest.stream(corpus):
    if utterance.kind == 'speech':
      texts[utterance.id] = utterance.text
      seconds[utterance.id] = utterance.duration
    elif utterance.kind == 'chat' and utterance.split in chats:
      chats[utterance.split].append(utterance)
  found = {}
  for split, some in chats.items():
    found[split] = []
    for chat in some:
      *given, last = chat.turns
      if last['role'] != 'assistant' or 'text' not in last or not given:
        continue
      if any(set(turn) - _PLAIN for turn in chat.turns):
        continue
      given = [
        {
          **turn,
          'text': turn.get('text') or texts.get(turn.get('speech')),
          'seconds': seconds.get(turn.get('speech')),
        }
        for turn in given
      ]
      if all(turn['text'] is not None for turn in given):
        found[split].append(
          {
            'id': chat.id,
            'question': given[-1]['text'],
            'expected': last['text'],
            'turns': given,
          }
        )
    if not found[split]:
      raise errors.UserError(
        f'{manifest.path_of(corpus)}: no chat of the split {split!r} ends with '
        'what the assistant writes, expected some.'
      )
  return found


def in_writing(
  asked: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, list[Mapping[str, Any]]]:
  """Those that have words: nobody writes silence."""
  found = {
    split: [one for one in some if all(turn['text'] for turn in one['turns'])]
    for split, some in asked.items()
  }
  return {split: some for split, some in found.items() if some}


def silence(
  tokenizer: str, asked: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
  """Id of a recording → codes of silence that is as long.

  Args:
    tokenizer: Folder of the speech tokenizer.
    asked: Of `questions`.
  """
  from step_audio_jax.tokenizers.speech import dual

  samples = {
    turn['speech']: round(turn['seconds'] * alignment.SAMPLE_RATE)
    for some in asked.values()
    for one in some
    for turn in one['turns']
    if 'speech' in turn
  }
  lengths = sorted(set(samples.values()))
  codes = dual.DualTokenizer.load(tokenizer).encode_batch(
    [np.zeros(length, np.float32) for length in lengths]
  )
  by_length = dict(zip(lengths, codes))
  return {name: by_length[length] for name, length in samples.items()}


def score(
  asked: Mapping[str, Sequence[Mapping[str, Any]]], said: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Figures of each split, and every answer.

  Args:
    asked: Of `questions`.
    said: Answers to all of them, in order.
  """
  answers, found = iter(said), {}
  for split, some in asked.items():
    rows = []
    for one in some:
      answer = next(answers)
      spoken = [t['speech'] for t in one['turns'] if 'speech' in t]
      rows.append(
        {
          **{key: one[key] for key in ('id', 'question', 'expected')},
          'speech': spoken[-1] if spoken else None,
          'answer': answer,
          'right': is_right(one['question'], one['expected'], answer),
          'exact': words(answer) == words(one['expected']),
        }
      )
    found[split] = {
      'right': sum(row['right'] for row in rows) / len(rows),
      'exact': sum(row['exact'] for row in rows) / len(rows),
      'questions': len(rows),
      'answers': rows,
    }
  return found


class Asker:
  """A run that is asked."""

  def __init__(self, run: str, step: int | None = None, most: int = 24):
    """Loads a run.

    Args:
      run: Its directory.
      step: Which checkpoint; None means the newest.
      most: Ids of an answer.
    """
    from step_audio_jax.generation import restore
    from step_audio_jax.training.checkpoints import checkpoints

    self._run, self._most = run, most
    self._description = checkpoints.run_config(run)
    model, self._variables, self.vocabulary = restore.load_model(run, step)
    self._model = restore.unroll_layers(model)

  def write(self, asked, system: str = '') -> list[str]:
    """Answers to questions in writing, each the last turn of its chat."""
    from step_audio_jax.generation import complete

    prompts = [
      complete.ask(
        self._run,
        self._description,
        self.vocabulary,
        one['question'],
        chat=True,
        system=system,
        before=[(turn['role'], turn['text']) for turn in one['turns'][:-1]],
      )
      for some in asked.values()
      for one in some
    ]
    return self._answers(
      [one.prompt for one in prompts],
      complete.grammar_of(self.vocabulary, prompts[0]),
      prompts[0].stops,
    )

  def say(self, asked, codes, streams: str) -> list[str]:
    """Answers to questions as they are said.

    Args:
      asked: Of `questions`.
      codes: Id of an utterance → (linguistic, semantic).
      streams: Which codes are heard.

    Raises:
      UserError: A question has no codes.
    """
    from step_audio_jax.generation import grammar as grammar_lib

    prompts = []
    for some in asked.values():
      for one in some:
        turns = []
        for turn in one['turns']:
          content = turn['text']
          if 'speech' in turn:
            if turn['speech'] not in codes:
              raise errors.UserError(
                f'--codes: none of {turn["speech"]!r}; tokenize the corpus.'
              )
            content = documents_lib.speech_ids(
              self.vocabulary, *codes[turn['speech']], streams
            )
          turns.append((turn['role'], content))
        prompt, _ = rendering.prompt(self.vocabulary, turns)
        prompts.append(prompt)
    grammar = grammar_lib.build(self.vocabulary)
    return self._answers(prompts, grammar)

  def writer(self, options):
    """The same model as one that speaks; see `text_to_codes.Writer`."""
    from step_audio_jax.decoder import text_to_codes

    return text_to_codes.Writer(
      self._model, self._variables, self.vocabulary, options
    )

  def _answers(self, prompts, grammar, stops=None) -> list[str]:
    from step_audio_jax.generation import decode
    from step_audio_jax.generation import grammar as grammar_lib

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
    return [self.vocabulary.decode(one.tokens) for one in outputs]


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  output = files.check_writable(fv.output, '--output')
  if fv.decoder and not fv.tokenizer:
    raise errors.UserError(
      '--tokenizer: missing, --decoder needs the one of its codes.'
    )
  asked = questions(fv.corpus, fv.splits)
  counted = {split: len(some) for split, some in asked.items()}
  origins.check(fv.run, codes=fv.codes, tokenizer=fv.tokenizer)
  if fv.dry_run:
    print(f'would ask {counted}')
    return {'dry_run': True, 'questions': counted}
  codes = speech_codes.read_codes(fv.codes)
  asker = Asker(fv.run, fv.step, fv.max_tokens)
  written = in_writing(asked)
  found = {
    'run': fv.run,
    'spoken': score(asked, asker.say(asked, codes, fv.streams)),
    'written': score(written, asker.write(written)),
  }
  if fv.tokenizer:
    none = silence(fv.tokenizer, asked)
    found['silenced'] = score(asked, asker.say(asked, none, fv.streams))
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
    found['base'] = fv.base
    found['untouched'] = score(written, base.write(written, fv.system))
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
    documents_lib.BOTH,
    documents_lib.STREAMS,
    'Which codes the run hears.',
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
