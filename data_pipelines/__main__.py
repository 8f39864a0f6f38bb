"""The doors of the data side: `python -m data_pipelines DOOR`."""

import os
import sys

from step_audio_jax.commands import cli

DOORS = {
  'synthesize': (
    'data_pipelines.synthesis.synthesize',
    'make a speech, image and text corpus with espeak-ng',
  ),
  'quiz': (
    'data_pipelines.synthesis.quiz.door',
    'make a corpus of spoken questions with written answers',
  ),
  'make': (
    'data_pipelines.factory.making.job',
    'say the texts of a corpus: changed, judged, with provenance',
  ),
  'ingest': (
    'data_pipelines.ingestion.ingest',
    'any corpus format -> one manifest',
  ),
  'deafness': (
    'data_pipelines.factory.deafness.door',
    'add pairs that reject "I did not hear you" on clear audio',
  ),
  'rank': (
    'data_pipelines.factory.ranking.door',
    'make preferences of answers that `sample` drew',
  ),
  'songs': (
    'data_pipelines.factory.tracks.hearing',
    'songs of ingest -> those whose lyrics are heard in their place',
  ),
  'vocabulary': (
    'data_pipelines.tasks.vocabulary',
    'train a SentencePiece text vocabulary',
  ),
  'align': ('data_pipelines.codes.align', 'word times by CTC forced alignment'),
  'tokenize': ('data_pipelines.codes.tokenize', 'audio -> dual speech codes'),
  'build': ('data_pipelines.rows.build', 'SeqIO tasks -> packed rows'),
  'probe': (
    'data_pipelines.inspection.probe',
    'train a classifier of emotions and styles, and ask it',
  ),
  'inspect': (
    'data_pipelines.inspection.inspect',
    'show and verify rows and corpora',
  ),
}

if __name__ == '__main__':
  # TensorFlow only moves rows here: no error about GPUs that it does not find.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  sys.exit(cli.dispatch('data_pipelines', DOORS, sys.argv))
