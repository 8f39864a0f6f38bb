"""docs/benchmarks.md, followed literally."""

import pathlib
import re
import sys
import types

import pytest

from data_pipelines.benchmarks import catalogue
from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.benchmarks import family
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import tone
from tests.evaluation import parrot
from tests.evaluation.benchmarks import made

GUIDE = pathlib.Path(__file__).parents[3] / 'docs' / 'benchmarks.md'


def guide():
  return GUIDE.read_text(encoding='utf-8')


def block(kind, has):
  """The fenced block of a kind that has some text in it."""
  found = re.findall(r'^```(\w*)\n(.*?)^```', guide(), re.M | re.S)
  (one,) = [text for its, text in found if its == kind and has in text]
  return one


def parsed(path):
  gin_files.parse((str(path),), ())
  return gin_files.arguments((str(path),), evaluate.evaluate)


def test_its_table_is_that_of_the_catalogue():
  why = 'python -m data_pipelines.benchmarks.catalogue prints the table'
  assert catalogue.table() in guide(), why


def test_benchmarks_by_name(tmp_path):
  put(tmp_path / 'three.gin', block('gin', "'hellaswag'"))
  found = parsed(tmp_path / 'three.gin')
  assert [one.folder for one in found['benchmarks']] == [
    f'/data/benchmarks/{name}'
    for name in ('librispeech_clean', 'aishell1', 'hellaswag')
  ]
  assert found['means'].conventions == ('qwen2audio', 'wenet')


def test_a_corpus_of_yours(tmp_path):
  head = (
    'from __gin__ import dynamic_registration\n'
    'from data_pipelines.benchmarks import catalogue\n'
    'from step_audio_jax.evaluation import evaluate\n'
    'evaluate.evaluate.benchmarks = @catalogue.benchmarks()\n'
  )
  put(tmp_path / 'mine.gin', head + block('gin', "'kaldi'"))
  (one,) = parsed(tmp_path / 'mine.gin')['benchmarks']
  assert (one.format, one.language, one.split) == ('kaldi', 'zh', 'test')


class Heard(made.Recordings):
  """Stands for the tokenizer: what a file says is in its name."""

  def digest(self, speech):
    return digests.of_bytes(speech.path.encode())

  def codes(self, wanted, *, silenced=False):
    # The last one is heard wrongly.
    said = {
      self.digest(one): 'sever' if '7-ben' in one.path else one.text
      for one in wanted
    }
    return {
      name: made.recordings.Heard(*parrot.codes(text), len(text))
      for name, text in said.items()
    }


@pytest.fixture
def user(tmp_path, monkeypatch):
  """A working directory as the guide assumes it, with a run."""
  run = made.run(tmp_path, monkeypatch)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(family.Benchmarks, '_recordings', Heard())
  for name in ('7-anna', '0-anna', '7-ben', 'noise'):
    put(tmp_path / 'spoken' / f'{name}.wav', tone(0.25, 16000))
  return run


def test_a_benchmark_of_your_own(user, tmp_path, monkeypatch, capsys):
  source, gin = block('python', 'class Digits'), block('gin', '@digits')
  assert len(source.splitlines()) + len(gin.splitlines()) <= 40
  module = types.ModuleType('digits')
  monkeypatch.setitem(sys.modules, 'digits', module)
  exec(compile(source, 'digits.py', 'exec'), module.__dict__)
  put(tmp_path / 'digits.gin', gin)
  command = block('', '--gin_file=digits.gin').replace('RUN', 'run')
  *_, words = command.partition('-m step_audio_jax ')
  status = cli.dispatch('step_audio_jax', doors.DOORS, ['', *words.split()])
  told = capsys.readouterr()
  assert status == 0, told.err
  assert '3 of 4 items: 1 named after no digit' in told.out
  kept = files.read_json(tmp_path / 'run' / 'evaluation' / '20.json')
  figure = kept['benchmarks']['digits']['figures']['cer/plain']
  # One character of `zero`, `seven` and `seven`.
  assert figure['value'] == pytest.approx(1 / 14)
