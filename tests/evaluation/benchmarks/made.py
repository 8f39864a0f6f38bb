"""A benchmark, what it lets hear, and a run that the parrot answers for."""

import dataclasses
import json

from step_audio_jax.chats import conversation as chats
from step_audio_jax.evaluation.benchmarks import asking
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import recordings
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.storage import digests
from step_audio_jax.vocabulary import CONTROL_SIZE
from tests.evaluation import corpus
from tests.evaluation import parrot

WORDS = {'w0': 'a cat', 'w1': 'red', 'w2': 'big dogs run', 'w3': 'no'}


class Recordings:
  """Stands for `recordings.Recordings`: a text is its own recording.

  Attributes:
    broken: Texts that cannot be heard.
  """

  tokenizer = 'parrot'

  def __init__(self, *broken):
    self.broken = broken

  def digest(self, speech):
    return digests.of_bytes(speech.path.encode())

  def codes(self, wanted, *, silenced=False):
    found = {}
    for one in wanted:
      if one.path in self.broken:
        found[self.digest(one)] = f'{one.path}: not audio'
      else:
        said = ' ' * len(one.path) if silenced else one.path
        pair = parrot.codes(said)
        found[self.digest(one)] = recordings.Heard(*pair, len(said))
    return found


@dataclasses.dataclass(frozen=True)
class Spelling(benchmark.Benchmark):
  """Words that are written down.

  Attributes:
    words: Id → what is said.
    strange: Of the settings; decides about nothing.
  """

  words: tuple[tuple[str, str], ...] = tuple(WORDS.items())
  strange: int = 0
  asks = benchmark.TRANSCRIBE

  def read(self):
    return benchmark.reading(
      [
        benchmark.heard(name, chats.Speech(path=said), said)
        for name, said in self.words
      ],
      'words',
    )

  def score(self, items, answers, means):
    rows, errors = [], scoring.Errors()
    for item, answer in zip(items, answers, strict=True):
      one = scoring.count(item.references[0], answer.text or '')
      errors += one
      rows.append({'id': item.id, 'errors': one.total, 'units': one.reference})
    by = means.conventions[0]
    figure = benchmark.Figure(errors.rate, better='lower', of=len(items), by=by)
    return benchmark.Scored({'cer': figure}, rows)


def run(root, monkeypatch, steps=(10, 20)):
  """A run directory that says what it is; see `corpus.make`."""
  made = corpus.make(root, monkeypatch, steps)
  told = {'model': {}, 'vocabulary': {'text_size': CONTROL_SIZE}}
  (root / 'run' / 'config.json').write_text(json.dumps(told))
  return made


def model(root, heard=None, **settings):
  """The parrot, as benchmarks ask it."""
  return asking.Model(
    root / 'run',
    20,
    (parrot.Parrot(), parrot.VARIABLES, parrot.VOCABULARY),
    asking.Asking(**{'batch_size': 2, 'chunk': 1, **settings}),
    heard or Recordings(),
    root / 'sounds',
  )
