"""Preferences as trees of files; see `readers.trees`."""

from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import said
from tests.data_pipelines.readers.material import tone

_ASKED = [{'role': 'user', 'content': 'why'}]


def _answer(text, **more):
  return {'role': 'assistant', 'content': text, **more}


def preference_jsonl(root):
  put(root / 'ask.wav', tone(0.25))
  spoken = {'role': 'user', 'content': [{'type': 'audio', 'audio': 'ask.wav'}]}
  put(
    root / 'prefs.jsonl',
    [
      {
        'id': 'p1',
        'prompt': [spoken],
        'chosen': [_answer('yes')],
        'rejected': [_answer('no')],
        'margin': 0.5,
      },
      {
        'id': 'p2',
        'messages': _ASKED,
        'answers': [{'text': t, 'rank': n} for t, n in zip('abc', (1, 2, 2))],
      },
    ],
  )
  return root, {
    'p1-turn-0': said(None, 0.25, kind='speech'),
    'p1': said(
      None,
      kind='preference',
      turns=({'role': 'user', 'speech': 'p1-turn-0'},),
      chosen={'role': 'assistant', 'text': 'yes'},
      margin=0.5,
    ),
    'p2-0over1': said(None, kind='preference', margin=0.0),
    'p2-0over2': said(
      None, kind='preference', rejected={'role': 'assistant', 'text': 'c'}
    ),
  }


def preference_parquet(root):
  import pyarrow as pa
  from pyarrow import parquet as pq

  rows = [
    {
      'prompt': 'why',
      'chosen': [*_ASKED, _answer('so')],
      'rejected': [*_ASKED, _answer(text)],
      'score_chosen': 5.0,
      'score_rejected': 3.5,
    }
    for text in ('no', 'not so')
  ]
  pq.write_table(pa.Table.from_pylist(rows), root / 'prefs.parquet')
  return root, {
    f'prefs-{n}': said(
      None,
      kind='preference',
      turns=({'role': 'user', 'text': 'why'},),
      rejected={'role': 'assistant', 'text': text},
    )
    for n, text in enumerate(('no', 'not so'), 1)
  }
