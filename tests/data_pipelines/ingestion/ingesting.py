"""Ingests a corpus and reads back what became of it."""

from hypothesis import strategies as st

from data_pipelines.ingestion import admission
from data_pipelines.ingestion import ingest
from data_pipelines.readers.common import base
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files


def ingested(
  source,
  output,
  format,
  *,
  root=None,
  subset=None,
  rules=None,
  pipes=False,
  **extra,
):
  """(id → utterance, quarantine) of an ingestion, whose counts hold."""
  options = base.Options(root, subset, pipes, extra)
  result = ingest.ingest(
    source, output, format=format, options=options, rules=rules
  )
  kept = {u.id: u for u in manifest.read(output)}
  left = list(files.read_jsonl(output / 'quarantine.jsonl'))
  assert result['read'] == result['kept'] + result['quarantined']
  assert (result['kept'], result['quarantined']) == (len(kept), len(left))
  assert all(line['reason'] for line in left)
  return kept, left


def ingest_folder(
  source,
  output,
  *,
  language='en',
  dev=0.05,
  test=0.05,
  copy=False,
):
  """Ingests a folder of recordings with a table."""
  rules = admission.Rules(language=language, dev=dev, test=test)
  return ingest.ingest(source, output, rules=rules, copy=copy)


ANY = st.recursive(
  st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(['', '.', '/', '..', '../x', '\ud800', '\0', 10**500]),
  ),
  lambda inner: st.one_of(
    st.lists(inner, max_size=3),
    st.dictionaries(st.text(max_size=3), inner, max_size=2),
  ),
  max_leaves=4,
)  # fmt: skip


def places(value, path=()):
  """All places in a JSON value."""
  yield path
  inner = value.items() if isinstance(value, dict) else ()
  inner = enumerate(value) if isinstance(value, list) else inner
  for key, one in inner:
    yield from places(one, (*path, key))


def put_at(value, path, new):
  if not path:
    return new
  value[path[0]] = put_at(value[path[0]], path[1:], new)
  return value
