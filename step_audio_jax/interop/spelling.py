"""The `spell` door: speech rows of an open model from the letters they sound.

The rows of speech codes that `convert --speech` appends are drawn like those of
text, and say nothing. Here the row of a code becomes the mean of the rows of
the letters that are said while it sounds:

    row(c) = sum over letters l of P(l | c) E(l)

so that a model which has never heard anything sees speech as roughly spelt
text. P is counted over a corpus with word times: first with the letters of a
word spread evenly over it, then a few times with every word cut anew so that
its codes and letters, both in order, agree best (hard EM). E(l) is the row of
the letter as a text of its own. A code that no word of the corpus sounds keeps
its row. All of this is this project's own.

Axes: C codes, A letters, T codes of a word, N letters of a word, E width.
"""

import collections
from typing import Any, Iterable, Iterator, Mapping, Sequence
import unicodedata

from absl import flags
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.generation import restore
from step_audio_jax.interop.formats import outputs
from step_audio_jax.interop.language import rows as rows_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import stored
from step_audio_jax.training.transfer import own_vocabulary

ROUNDS = 4
_FLOOR = 1e-3  # probability of what was never counted
# (codes of a word, its letters), both in order.
Word = tuple[np.ndarray, str]


def letters_of(word: str) -> str:
  """What of a word is spelt: case-folded letters and digits."""
  folded = unicodedata.normalize('NFKC', word).casefold()
  return ''.join(c for c in folded if unicodedata.category(c)[0] in 'LN')


def words_of(
  utterances: Iterable[manifest.Utterance],
  codes: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[int, Word]]:
  """(stream, word) of all words that sound; stream 1 is the semantic one.

  Args:
    utterances: With word times.
    codes: Id → (linguistic, semantic).
  """
  rates = vocabulary_lib.LINGUISTIC_HZ, vocabulary_lib.SEMANTIC_HZ
  for utterance in utterances:
    if utterance.id not in codes or not utterance.words:
      continue
    for stream, rate in enumerate(rates):
      found = codes[utterance.id][stream]
      times = (np.arange(len(found)) + 0.5) / rate
      for word, start, end in utterance.words:
        said = found[(times >= start) & (times < end)]
        letters = letters_of(word)
        if len(said) and letters:
          yield stream, (said.astype(np.int64), letters)


def count(words: Sequence[Word], size: int, letters: str) -> np.ndarray:
  """How often each code sounds each letter, float64 CA.

  Args:
    words: Of one stream.
    size: C.
    letters: The alphabet.
  """
  place = {letter: i for i, letter in enumerate(letters)}
  told = [np.array([place[c] for c in spelt]) for _, spelt in words]
  counts_CA = np.zeros((size, len(letters)))
  for (said_T, _), ids_N in zip(words, told):
    even_T = np.arange(len(said_T)) * len(ids_N) // len(said_T)
    np.add.at(counts_CA, (said_T, ids_N[even_T]), 1)
  for _ in range(ROUNDS):
    chance_CA = counts_CA + _FLOOR
    chance_CA /= chance_CA.sum(1, keepdims=True)
    # Against how common the letter is, or every code would be an e.
    score_CA = np.log(chance_CA) - np.log(chance_CA.mean(0))
    counts_CA = np.zeros_like(counts_CA)
    for (said_T, _), ids_N in zip(words, told):
      cut_T = _best_cut(score_CA[said_T][:, ids_N])
      np.add.at(counts_CA, (said_T, ids_N[cut_T]), 1)
  return counts_CA


def _best_cut(score_TN: np.ndarray) -> np.ndarray:
  """The letter of each code that sums up highest; letters never go back."""
  back, best_N = [], score_TN[0] - 1e9 * (np.arange(score_TN.shape[1]) > 1)
  for score_N in score_TN[1:]:
    # From any letter up to two before: a code may sound more than one.
    steps_3N = np.full((3, len(best_N)), -np.inf)
    for step in range(min(3, len(best_N))):
      steps_3N[step, step:] = best_N[: len(best_N) - step]
    chosen_N = steps_3N.argmax(0)
    back.append(chosen_N)
    best_N = steps_3N.max(0) + score_N
  cut = [len(best_N) - 1 if np.isfinite(best_N[-1]) else int(best_N.argmax())]
  for chosen_N in reversed(back):
    cut.append(cut[-1] - int(chosen_N[cut[-1]]))
  return np.array(cut[::-1])


def spelt_rows(
  table_VE: np.ndarray,
  vocabulary: vocabulary_lib.Vocabulary,
  words: Iterable[tuple[int, Word]],
) -> dict[int, np.ndarray]:
  """Row of the table → what it becomes, float32 (E,).

  Args:
    table_VE: The embedding.
    vocabulary: Its ids.
    words: Of `words_of`.

  Raises:
    UserError: No word sounds.
  """
  streams: dict[int, list[Word]] = collections.defaultdict(list)
  for stream, word in words:
    streams[stream].append(word)
  if not streams:
    raise errors.UserError(
      '--corpus: no word of it has both times and codes, expected some; '
      '`python -m data_pipelines align` gives word times.'
    )
  found = {}
  blocks = {
    0: (vocabulary.linguistic_offset, vocabulary.linguistic_size),
    1: (vocabulary.semantic_offset, vocabulary.semantic_size),
  }
  for stream, some in streams.items():
    letters = ''.join(sorted({c for _, spelt in some for c in spelt}))
    rows_AE = np.stack(
      [table_VE[vocabulary.encode_text(c)].mean(0) for c in letters]
    )
    first, size = blocks[stream]
    counts_CA = count(some, size, letters)
    for code in np.flatnonzero(counts_CA.sum(1)):
      share_A = counts_CA[code] / counts_CA[code].sum()
      found[first + int(code)] = (share_A @ rows_AE).astype(np.float32)
  return found


def _alike(
  pairs: Sequence[str], vocabulary: vocabulary_lib.Vocabulary
) -> dict[int, int]:
  """Our control row → the row of a piece that it becomes."""
  names = {
    piece: place for place, (piece, _) in enumerate(vocabulary.text.pieces)
  }
  found = {}
  for pair in pairs:
    ours, _, theirs = pair.partition('=')
    if ours not in vocabulary_lib.CONTROL or theirs not in names:
      raise errors.UserError(
        f'--alike={pair}: expected CONTROL=PIECE, a control piece such as '
        '<|BOT|> and a piece of the text model.'
      )
    found[vocabulary_lib.CONTROL[ours]] = names[theirs]
  return found


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  source = files.path(fv['from'].value, '--from')
  target = files.check_writable(fv.to, '--to', folder=True)
  if files.exists(target) and not fv.overwrite:
    raise errors.UserError(
      f'--to={target}: exists; expected a new folder, or --overwrite.'
    )
  description = restore.language_config(source)
  if 'lora' in description:
    raise errors.UserError(
      f'--from={source}: expected the run of a language model without '
      'adapters, such as `convert --speech` makes.'
    )
  vocabulary = own_vocabulary.vocabulary_of_run(
    source, description['vocabulary']
  )
  if not vocabulary.linguistic_size or vocabulary.text is None:
    raise errors.UserError(
      f'--from={source}: has no speech rows or no text model; expected what '
      '`convert --speech` makes.'
    )
  alike = _alike(fv.alike, vocabulary)
  utterances = manifest.read(fv.corpus, splits=('train',), kind='speech')
  codes = speech_codes.read_codes(fv.codes)
  tree, step = stored.open_variables(source)
  tables = {
    name: np.array(table[()], np.float32)
    for name, table in rows_lib.vocabulary_tables(tree).items()
  }
  rows = spelt_rows(
    tables['embedding'], vocabulary, words_of(utterances, codes)
  )
  for table in tables.values():
    for place, row in rows.items():
      table[place] = row
    for place, other in alike.items():
      table[place] = table[other]
  facts = {'rows': len(rows), 'alike': len(alike)}
  if fv.dry_run:
    print(f'would set {len(rows)} speech rows of {source}')
    return facts
  tree = rows_lib.replace_tables(tree, tables)
  description[bindings.TOKENIZER] = bindings.of_codes(fv.codes)
  total = outputs.tree_bytes(tree)
  if files.exists(target):
    files.remove_tree(target)
  with (
    files.atomic_folder(target) as folder,
    outputs.progress_callback('spell', total) as told,
  ):
    stored.write_variables(folder, step, tree, told)
    text_model = own_vocabulary.path_in(
      source, description['vocabulary']['text_model']
    )
    outputs.copy(text_model, folder / text_model.name)
    outputs.copy_companions(source / outputs.KEPT, folder / outputs.KEPT)
    files.write_json(folder / 'config.json', description)
  print(f'wrote {target}: {len(rows)} speech rows are spelt')
  return facts


def _define(fv: flags.FlagValues) -> None:
  for name, help_text in (
    ('from', 'Run of a language model with speech rows.'),
    ('to', 'The run that is made.'),
    ('corpus', 'A corpus with word times.'),
    ('codes', 'What `tokenize` made of it.'),
  ):
    flags.DEFINE_string(name, None, help_text, flag_values=fv, required=True)
  flags.DEFINE_bool(
    'overwrite', False, 'Make a run anew that is there.', flag_values=fv
  )
  flags.DEFINE_multi_string(
    'alike',
    [],
    'CONTROL=PIECE: a control row that becomes the row of a piece, such as '
    '<|BOT|>=<|im_start|>.',
    flag_values=fv,
  )


DOOR = cli.Door(
  summary="""Gives speech rows the sound of letters, so that speech looks spelt.

    python -m step_audio_jax spell --from=runs/llm --to=runs/start \\
      --corpus=data/mine --codes=data/mine/codes

The run comes from `convert --speech`; train from it with INIT_FROM.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
