"""Recorded dialogues: full duplex, turns, interruptions (`dialogues`).

`folder` is the benchmark; what the system did lies beside it or in the field
`outputs` of the benchmark.
"""

from data_pipelines.benchmarks import entries
from step_audio_jax.evaluation.benchmarks import dialogues


class Dialogues(dialogues.Dialogues):
  """See the base."""


def _entry(scorer: str, summary: str, layout: str, source: str):
  return entries.Entry(
    'dialogues:Dialogues',
    summary,
    layout,
    'timelines of both channels; words and ratings where they are recorded',
    source,
    {'scorer': scorer},
  )


_FULL_DUPLEX = 'github.com/DanielLin94144/Full-Duplex-Bench'

ENTRIES = {
  'full_duplex_bench_1': _entry(
    'full_duplex_bench_1',
    'pauses, back-channels, turn taking, interruptions',
    'SUBSET/ID/input.wav and its JSON; output.wav, output.json of the system',
    _FULL_DUPLEX,
  ),
  'full_duplex_bench_1_5': _entry(
    'full_duplex_bench_1_5',
    'speech that overlaps',
    'SUBSET/ID/input.wav, metadata.json; output.wav, output.json of the system',
    _FULL_DUPLEX,
  ),
  'full_duplex_bench_2': _entry(
    'full_duplex_bench_2',
    'dialogues with an automated examiner',
    'prompts_staged_200.json; SPLIT/ID/A.wav, B.wav; SPLIT/ID.json',
    _FULL_DUPLEX,
  ),
  'full_duplex_bench_3': _entry(
    'full_duplex_bench_3',
    'tools in disfluent real speech',
    'EXAMPLE_SPEAKER/input.wav, metadata.json; result_PROVIDER.json',
    _FULL_DUPLEX,
  ),
  'turnbench': _entry(
    'turnbench',
    'ends of turns and interruptions in labelled conversations',
    '*.parquet or ID/*.srt; predictions.json of the system, or its recordings',
    'Sesame, TurnBench',
  ),
}
