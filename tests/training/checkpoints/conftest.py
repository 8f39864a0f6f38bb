"""Tests that ask for `root` meet both stores."""

import pytest

from tests import stores


@pytest.fixture(params=['gs', 's3'])
def root(request, bucket_servers, monkeypatch):
  """A folder of a bucket that no other test uses."""
  name = request.node.name.partition('[')[0]
  with stores.folder(request.param, bucket_servers, name, monkeypatch) as one:
    yield one
