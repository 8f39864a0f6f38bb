"""Speech synthesis: texts that are spoken, and recordings made once more."""

import dataclasses
from typing import Iterator, Mapping

from data_pipelines import readers
from data_pipelines.benchmarks import entries
from data_pipelines.benchmarks import gathering
from data_pipelines.readers.common import base
from data_pipelines.readers.speech import seed_tts
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import synthesis
from step_audio_jax.storage import files

_NO_RECORDING = 'without a recording, expected one that is made again'


def _lines(
  asked: benchmark.Benchmark, part: str
) -> Iterator[tuple[base.Item, manifest.Utterance] | gathering.Left]:
  """The lines of a list of seed-tts-eval, its prompts among them."""
  source = asked.path(part)
  found = readers.choose('seed_tts', source).read(source, base.Options())
  return gathering.admitted(found, 'en')


@dataclasses.dataclass(frozen=True)
class SeedTts(synthesis.Synthesis):
  """seed-tts-eval: a text in the voice of a prompt.

  Attributes:
    part: The list, as `zh/meta.lst`; its folder names the language.
    expected: How many lines the public list has; 0 where it is not known.
  """

  part: str = 'zh/meta.lst'
  expected: int = 0

  def read(self) -> benchmark.Reading:
    """All lines; raises UserError where there is no list."""
    return gathering.reading(self, self._items(), expected=self.expected)

  def _items(self) -> Iterator[benchmark.Item | gathering.Left]:
    prompts: dict[str, chats_lib.Speech] = {}
    refused: dict[str, str] = {}  # prompt → why it cannot be heard
    for one in _lines(self, self.part):
      if isinstance(one[0], str):
        name, why = one
        prompt = name.removeprefix(f'{seed_tts.PROMPT}-')
        if prompt == name:
          yield name, why
        else:
          refused[prompt] = why
        continue
      item, said = one
      if said.split == seed_tts.PROMPT:
        prompts[said.speaker] = gathering.speech(item, said)
      elif said.speaker in refused:
        yield said.id, f'prompt_wav: {refused[said.speaker]}'
      else:
        yield _in_voice(said, prompts[said.speaker])


def _in_voice(
  said: manifest.Utterance, prompt: chats_lib.Speech
) -> benchmark.Item:
  """What is to be said is the last turn; whose voice, the one before."""
  turns = (
    chats_lib.Turn(chats_lib.USER, (prompt,)),
    chats_lib.Turn(chats_lib.USER, (said.text,)),
  )
  about = {'speaker': said.speaker, 'prompt': prompt.text}
  chat = chats_lib.Conversation(turns)
  return benchmark.Item(said.id, chat, (said.text,), said.language, about)


@dataclasses.dataclass(frozen=True)
class SeedResynthesis(synthesis.Resynthesis):
  """The recordings of seed-tts-eval, through codes and back to sound.

  Attributes:
    part: As in `SeedTts`; lines need a recording of their text.
    expected: As in `SeedTts`.
  """

  part: str = 'zh/meta.lst'
  expected: int = 0

  def read(self) -> benchmark.Reading:
    """All lines; raises UserError where none has a recording."""
    return gathering.reading(self, self._items(), expected=self.expected)

  def _items(self) -> Iterator[benchmark.Item | gathering.Left]:
    for one in _lines(self, self.part):
      if isinstance(one[0], str):
        if not one[0].startswith(f'{seed_tts.PROMPT}-'):
          yield one
        continue
      item, said = one
      if said.split == seed_tts.PROMPT:
        continue
      if item.audio is None:
        yield said.id, _NO_RECORDING
        continue
      heard = gathering.speech(item, said)
      about = {'speaker': said.speaker}
      yield benchmark.heard(
        said.id, heard, said.text, language=said.language, **about
      )


@dataclasses.dataclass(frozen=True)
class EmergentTts(synthesis.Synthesis):
  """EmergentTTS-Eval: texts that are hard to say, by category.

  Its win rates come from a judge that hears, which this does not ask; words
  and quality are scored as of any text.

  Attributes:
    expected: How many the public set has; 0 where it is not known.
  """

  decoding: benchmark.Decoding = benchmark.Decoding(groups=500)
  expected: int = 0

  LAYOUT = (
    'emergent_tts_eval_data.jsonl',
    'data/emergent_tts_eval_data.jsonl',
    'data/*.parquet',
    '*.parquet',
  )
  COLUMNS = ('text_to_synthesize', 'category', 'language', 'evolution_depth')

  def read(self) -> benchmark.Reading:
    """All texts; raises UserError where the folder has none."""
    return gathering.reading(self, self._items(), expected=self.expected)

  def _items(self) -> Iterator[benchmark.Item | gathering.Left]:
    paths = gathering.one_of(self.folder, self.LAYOUT)
    # A row is known by its place alone.
    for number, row in enumerate(gathering.rows(paths, self.COLUMNS)):
      if len(row) == 2:
        yield row
        continue
      name = f'emergent-{number:04d}'
      yield gathering.made(name, _emergent, name, row[2])


def _emergent(name: str, row: Mapping) -> benchmark.Item:
  text = gathering.text(row, 'text_to_synthesize')
  about = {
    field: row[field]
    for field in ('category', 'evolution_depth')
    if row.get(field) is not None
  }
  language = row.get('language') or 'en'
  return benchmark.written(name, text, text, language=language, **about)


@dataclasses.dataclass(frozen=True)
class Texts(synthesis.Synthesis):
  """Texts of yours, spoken: any text corpus that `ingest` reads.

  Attributes:
    format: Of `data_pipelines.readers.READERS`: text_jsonl, text_txt, …
    language: Of texts whose line names none.
  """

  format: str = 'auto'
  language: str = 'en'

  def read(self) -> benchmark.Reading:
    """All texts; raises UserError where there are none."""
    return gathering.reading(self, self._items())

  def _items(self) -> Iterator[benchmark.Item | gathering.Left]:
    source = files.path(self.folder)
    found = readers.choose(self.format, source).read(source, base.Options())
    for one in gathering.admitted(found, self.language):
      if isinstance(one[0], str):
        yield one
        continue
      said = one[1]
      if said.kind != 'text':
        yield said.id, f'found {said.kind}, expected a text'
        continue
      yield benchmark.written(
        said.id, said.text, said.text, language=said.language
      )


_SEED = '{0}, prompt-wavs/ and wavs/ beside it'
_SOURCE = 'github.com/BytedanceSpeech/seed-tts-eval'
_SCORED = 'rates, similarity, quality'


def _seed(loader, summary, part, expected, scored, published):
  return entries.Entry(
    f'speaking:{loader}',
    summary,
    _SEED.format(part),
    scored,
    _SOURCE,
    {'part': part},
    expected,
    published,
    'similarity by ERes2Net' if published else '',
  )


def _rates(rate, **figures):
  """System → its rate and similarity."""
  names = {'tts': entries.TTS, 'small': entries.TTS_3B, 'dual': entries.DUAL}
  return {
    names[who]: {rate: error, 'similarity': same}
    for who, (error, same) in figures.items()
  }


ENTRIES = {
  'seed_tts_zh': _seed(
    'SeedTts', 'Mandarin in the voice of a prompt', 'zh/meta.lst', 2020,
    _SCORED, _rates('cer', tts=(1.17, 0.73), small=(1.31, 0.733)),
  ),
  'seed_tts_en': _seed(
    'SeedTts', 'English in the voice of a prompt', 'en/meta.lst', 1088,
    _SCORED, _rates('wer', tts=(2.0, 0.66), small=(2.31, 0.66)),
  ),
  'seed_tts_hard': _seed(
    'SeedTts', 'Mandarin that is hard to say', 'zh/hardcase.lst', 400,
    _SCORED, {},
  ),
  'seed_resynthesis_zh': _seed(
    'SeedResynthesis', 'Mandarin recordings, through codes', 'zh/meta.lst',
    2020, _SCORED, _rates('cer', dual=(2.192, 0.784)),
  ),
  'seed_resynthesis_en': _seed(
    'SeedResynthesis', 'English recordings, through codes', 'en/meta.lst',
    1088, _SCORED, _rates('wer', dual=(3.585, 0.742)),
  ),
  'emergent_tts': entries.Entry(
    'speaking:EmergentTts',
    'English that is hard to say: emotions, questions, formulas',
    'data/emergent_tts_eval_data.jsonl, or parquet',
    'rates, quality',
    'huggingface.co/datasets/bosonai/EmergentTTS-Eval',
    expected=1645,
  ),
  'texts': entries.Entry(
    'speaking:Texts',
    'texts of yours, spoken',
    'as `format` has it; `auto` looks at the files',
    'rates, quality',
    'yours',
  ),
}  # fmt: skip
