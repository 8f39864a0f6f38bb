"""A small corpus of every kind, tokenised by the stand-in."""

import shutil

import pytest

from data_pipelines.codes import tokenize
from data_pipelines.synthesis import plan
from data_pipelines.synthesis import synthesize
from data_pipelines.tasks import vocabulary
from tests.data_pipelines import stand_in


@pytest.fixture(scope='session')
def made(tmp_path_factory):
  """A folder with speech, images, text, codes, text.model."""
  root = tmp_path_factory.mktemp('made')
  config = plan.Config(
    train=24, dev=6, test=5, unseen=2, images=20, text_lines=80
  )
  synthesize.synthesize(root, config, processes=1)
  corpora = [str(root / name) for name in ('text', 'speech', 'images')]
  vocabulary.make(root / 'text.model', corpora)
  tokenizer = stand_in.save(root / 'tokenizer')
  tokenize.tokenize(
    root / 'speech', root / 'codes', tokenizer, load=stand_in.StandIn
  )
  return root


@pytest.fixture
def corpus(made, tmp_path):
  """A copy of `made` that a test may spoil."""
  return shutil.copytree(made, tmp_path / 'corpus')
