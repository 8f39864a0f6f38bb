"""The comparison of an open model's file, at toy sizes and without a peer."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks.end_to_end import open_llm
from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from tests.interop.language import tiny_folders as tiny
from tests.interop.language import tiny_gguf


def test_nats_are_those_of_the_softmax():
  rng = np.random.default_rng(0)
  found = [
    (rng.integers(2, 7, n), rng.normal(size=(n, 9)).astype(np.float32))
    for n in (4, 6)
  ]
  want = 0.0
  for ids, logits in found:
    nats = -jax.nn.log_softmax(logits[:-1, 2:7])
    want += sum(nats[i, ids[i + 1] - 2] for i in range(len(nats)))
  total, count = open_llm.nats(found, 2, 7)
  assert count == 8 and total == pytest.approx(float(want), rel=1e-5)


def test_speech_rows_leave_perplexity_alone(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(tiny, 'V', tiny_gguf.bpe().get_vocab_size())
  tiny_gguf.make(tmp_path / 'm.gguf', tied=True)

  def convert(source, target, *flags):
    argv = '-', 'convert', f'--from={source}', f'--to={target}', *flags
    assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 0

  monkeypatch.setattr(open_llm, 'convert', convert)
  flags = f'--gguf={tmp_path}/m.gguf', '--no_peer', '--paragraphs=2'
  monkeypatch.setattr(sys, 'argv', ['open_llm', *flags])
  open_llm.main()
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert result['perplexity_moves'] < 1e-5
  plain, grown = result['plain'], result['with_speech_rows']
  assert plain['ids'] > 300
  assert grown['table_perplexity'] > plain['table_perplexity']
