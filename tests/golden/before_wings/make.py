"""Made `folders.tar.xz` and `expected.json`, by public doors alone.

They were made with the version at commit 9583fd1, before modules moved into
sub-folders. To see how, check out that commit, put this file into it at the
same place, and from its root:

    python tests/golden/before_wings/make.py /tmp/before_wings

What a later version makes is no witness of the old one: do not put its folders
here. An archive, because a working tree ignores folders named `data`, which
checkpoints have, and because the files are many and small.
"""

import contextlib
import io
import json
import os
import pathlib
import shutil
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT))

# As tests/conftest.py has them; one device, since shards of tiny arrays would
# be most of the archive.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
os.environ['PROGRESS'] = '0'
os.environ['XLA_FLAGS'] = '--xla_backend_optimization_level=0'

from data_pipelines import __main__ as data_doors  # noqa: E402
from step_audio_jax import __main__ as doors  # noqa: E402
from step_audio_jax import cli  # noqa: E402
from step_audio_jax import manifest  # noqa: E402
from step_audio_jax.audio import io as audio  # noqa: E402

SPEECH = 'corpus/speech'
# Gin names as they were; they are in the config.gin of the runs.
CORPUS = {'MANIFEST': SPEECH}
SMALL = {
  'linguistic': {
    'STEPS': 2,
    'BATCH_SIZE': 8,
    'paraformer.ParaformerConfig.width': 8,
    'paraformer.ParaformerConfig.heads': 2,
    'paraformer.ParaformerConfig.mlp_width': 8,
    'paraformer.ParaformerConfig.layers': 2,
    'loop.LoopConfig.log_every': 1,
    'loop.LoopConfig.checkpoint_every': 10,
  },
  'semantic': {
    'STEPS': 4,
    'START': 1,
    'BATCH_SIZE': 8,
    'CODES': 64,
    'RESERVOIR': 128,
    'codebook.CodebookConfig.fill_steps': 1,
    's3.S3Config.width': 8,
    's3.S3Config.heads': 2,
    's3.S3Config.layers': 1,
    's3.S3Config.positions': 100,
    'loop.LoopConfig.log_every': 1,
    'loop.LoopConfig.checkpoint_every': 2,
    'MAX_SECONDS': 4.0,
  },
  'speaker': {
    'STEPS': 1,
    'BATCH_SIZE': 8,
    'SECONDS': 0.5,
    'campplus.CampplusConfig.embedding': 8,
    'campplus.CampplusConfig.growth': 4,
    'campplus.CampplusConfig.initial': 8,
    'campplus.CampplusConfig.head_width': 4,
    'campplus.CampplusConfig.layers': [2, 1, 1],
    'loop.LoopConfig.log_every': 1,
    'loop.LoopConfig.checkpoint_every': 10,
  },
  'flow': {
    'STEPS': 1,
    'BATCH_SIZE': 8,
    'BUCKETS': 1,
    'flow.FlowConfig.input_width': 2,
    'flow.FlowConfig.regulator_layers': 1,
    'flow.EstimatorConfig.bands': 16,
    'flow.FlowConfig.speaker_size': 8,
    'flow.EncoderConfig.width': 8,
    'flow.EncoderConfig.heads': 2,
    'flow.EncoderConfig.mlp_width': 8,
    'flow.EncoderConfig.layers': 1,
    'flow.EstimatorConfig.channels': 8,
    'flow.EstimatorConfig.heads': 1,
    'flow.EstimatorConfig.head_width': 8,
    'flow.EstimatorConfig.middle': 1,
    'loop.LoopConfig.log_every': 1,
    'loop.LoopConfig.checkpoint_every': 10,
    'loop.LoopConfig.ema_decay': 0.0,
  },
  'vocoder': {
    'STEPS': 1,
    'BATCH_SIZE': 8,
    'FRAMES': 16,
    'vocoder_mel.VocoderMel.bands': 16,
    'hift.HiftConfig.bands': 16,
    'hift.HiftConfig.channels': 8,
    'hift.HiftConfig.f0_channels': 8,
    'hift.HiftConfig.resblock_kernels': [3],
    'hift.HiftConfig.resblock_dilations': [[1]],
    'hift.HiftConfig.source_resblock_kernels': [3, 3],
    'hift.HiftConfig.source_resblock_dilations': [[1], [1]],
    'loop.LoopConfig.log_every': 1,
    'loop.LoopConfig.checkpoint_every': 10,
  },
  'stage3': {
    'STEPS': 4,
    'BATCH_SIZE': 8,
    'transformer.TransformerConfig.width': 4,
    'transformer.TransformerConfig.layers': 1,
    'transformer.TransformerConfig.heads': 2,
    'transformer.TransformerConfig.kv_heads': 1,
    'transformer.TransformerConfig.mlp_width': 8,
    'transformer.TransformerConfig.tied_head': True,
    'transformer.TransformerConfig.scan_unroll': 1,
    'vision.VisionConfig.width': 8,
    'vision.VisionConfig.layers': 1,
    'vision.VisionConfig.heads': 2,
    'vision.VisionConfig.mlp_width': 8,
    'loop.LoopConfig.log_every': 1,
    'loop.LoopConfig.checkpoint_every': 2,
  },
}
SMALL['text'] = {
  **{k: v for k, v in SMALL['stage3'].items() if 'vision' not in k},
  'STEPS': 2,
  'transformer.TransformerConfig.tied_head': False,
}
SMALL['centroids'] = {
  'STEPS': 2,
  'START': 1,
  'BATCH_SIZE': 8,
  'CENTROIDS': 16,
  'RESERVOIR': 128,
  **{k: v for k, v in SMALL['linguistic'].items() if '.' in k},
}


CHANGING = ('throughput', 'seconds', 'rtf', 'real_time', 'mesh')
# What no flag can say, since it needs an import.
LAYERS = {
  'flow': """from __gin__ import dynamic_registration
from step_audio_jax.audio import vocoder_mel
from step_audio_jax.decoder import flow_feed
from step_audio_jax.decoder import flow_objective
flow_objective.FlowMatching.mel = @vocoder_mel.VocoderMel()
flow_feed.FlowFeed.mel = @vocoder_mel.VocoderMel()
vocoder_mel.VocoderMel.bands = 16
""",
}


BUILD = (
  f'--speech={SPEECH}', '--codes=codes', '--text=corpus/text',
  '--images=corpus/images', '--text_model=text.model', '--name=quickstart',
  '--splits=train,dev', '--length=272',
)  # fmt: skip


def gin(**values):
  return [f'--gin.{name}={value!r}' for name, value in values.items()]


EVALUATE = (
  '--gin_file=gin/quickstart/evaluate_sound.gin',
  '--checkpoints=stage3',
  '--steps=2',
  *gin(
    **{
      'MANIFEST': SPEECH,
      'CODES': 'codes',
      'ROWS': 'rows',
      'DECODER': 'decoder',
      'TOKENIZER': 'tokenizer',
      'MAX_ROWS': 2,
      'CAPTIONS': 1,
      'LINGUISTIC_CODES': 16,
      'SEMANTIC_CODES': 64,
      'SOUNDS': 1,
      'sound.SoundConfig.steps': 2,
      'speech.SpeechConfig.max_text_tokens': 8,
      'speech.SpeechConfig.max_speech_groups': 6,
    }
  ),
)


def train(name, **values):
  layers = [f'--gin_file=gin/quickstart/{name}.gin']
  if name in LAYERS:
    pathlib.Path(f'{name}.gin').write_text(LAYERS[name])
    layers.append(f'--gin_file={name}.gin')
  run('train', *layers,
      *gin(RUN_DIR=name, **values, **SMALL[name]))  # fmt: skip


def program_of(door, words):
  """The package that has the door, and its doors."""
  if door == 'tokenize' and not words[0].startswith('--corpus='):
    return 'step_audio_jax', doors.DOORS
  if door in data_doors.DOORS:
    return 'data_pipelines', data_doors.DOORS
  return 'step_audio_jax', doors.DOORS


def run(door, *words):
  """Opens one door of the two packages, and stops where it fails."""
  program, known = program_of(door, words)
  print(f'$ python -m {program} {door}', *words, flush=True)
  if cli.dispatch(program, known, [program, door, *words]):
    raise SystemExit(f'{door} failed.')


def ask(door, *words):
  """What a door answers, with the question."""
  program, known = program_of(door, words)
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    status = cli.dispatch(program, known, [program, door, '--json', *words])
  if status:
    raise SystemExit(f'{door} {words} failed: {out.getvalue()}')
  answer = steady(json.loads(out.getvalue().splitlines()[-1]))
  return {'program': program, 'words': [door, *words], 'answer': answer}


def steady(answer):
  """What another day and another machine answer too."""
  if isinstance(answer, dict):
    return {
      key: steady(value)
      for key, value in answer.items()
      if not any(word in key for word in CHANGING)
    }
  return answer


def sound(path):
  """How long a recording is, and some of its samples."""
  samples, rate = audio.read_audio(path)
  some = samples[:: max(1, len(samples) // 16)]
  return {'rate': rate, 'samples': len(samples), 'some': some.tolist()}


def kill_behind(name, step):
  """Leaves a run as a kill behind the checkpoint of `step` would have."""
  for folder in pathlib.Path(name, 'checkpoints').iterdir():
    if int(folder.name) > step:
      shutil.rmtree(folder)
  for path in ('done.json', 'sources.json', 'sources.npy'):
    pathlib.Path(name, path).unlink(missing_ok=True)
  metrics = pathlib.Path(name, 'metrics.jsonl')
  lines = metrics.read_text().splitlines(keepends=True)
  metrics.write_text(''.join(lines[:step]))


def losses(name):
  lines = pathlib.Path(name, 'metrics.jsonl').read_text().splitlines()
  return {line['step']: line['loss'] for line in map(json.loads, lines)}


def main(output):
  os.makedirs(output)
  os.chdir(output)
  expected = {'losses': {}}
  make(expected)
  expected['questions'] = questions()
  expected['words'] = {u.id: u.words for u in manifest.read('aligned')}
  expected['sounds'] = {n: sound(f'{n}.wav') for n in ('codes', 'text')}
  (HERE / 'expected.json').write_text(json.dumps(expected, indent=1) + '\n')


def make(expected):
  """Makes the folders, packs them, and notes what a resume has to give."""
  run('synthesize', '--output=corpus', '--train=3', '--dev=1', '--test=0',
      '--unseen=0', '--images=10', '--text_lines=40', '--english_share=1',
      '--processes=1')  # fmt: skip
  corpora = (f'--corpus=corpus/{n}' for n in ('text', 'speech', 'images'))
  run('vocabulary', *corpora, '--output=text.model')
  for name in ('linguistic', 'semantic', 'speaker'):
    train(name, **CORPUS)
  train('centroids', **CORPUS, INIT_FROM=['linguistic'])
  expected['losses']['semantic'] = losses('semantic')
  kill_behind('semantic', 2)
  run('tokenize', '--export=tokenizer', '--linguistic=centroids',
      '--semantic=semantic')  # fmt: skip
  run('embed', f'--corpus={SPEECH}', '--speaker=speaker',
      '--output=speakers.npz')  # fmt: skip
  run('tokenize', f'--corpus={SPEECH}', '--tokenizer=tokenizer',
      '--output=codes')  # fmt: skip
  run('build', *BUILD, '--output=rows')
  train('flow', **CORPUS, CODES='codes', EMBEDDINGS='speakers.npz')
  train('vocoder', **CORPUS)
  run('speak', '--export=decoder', '--flow=flow', '--speaker=speaker',
      '--vocoder=vocoder', '--tokenizer=tokenizer',
      f'--voice={SPEECH}/wav/dev-00000.wav')  # fmt: skip
  for name in ('text', 'stage3'):
    train(name, ROWS='rows', TEXT_MODEL='text.model')
  expected['losses']['stage3'] = losses('stage3')
  kill_behind('stage3', 2)
  run('evaluate', *EVALUATE)
  with tarfile.open(HERE / 'folders.tar.xz', 'w:xz', preset=9) as archive:
    for path in sorted(pathlib.Path().iterdir()):
      if path.name not in ('linguistic', 'flow.gin'):
        archive.add(path, filter=plain)


def plain(member):
  """Who made it and when is nobody's business; the logs' pictures neither."""
  if '/tensorboard' in member.name:
    return None
  member.uid = member.gid = member.mtime = 0
  member.uname = member.gname = ''
  return member


def questions():
  """What the doors answer about the folders."""
  asked = []

  def note(*words):
    asked.append(ask(*words))

  for path in (SPEECH, 'corpus/text', 'corpus/images', 'codes', 'rows'):
    note('inspect', f'--path={path}', '--verify')
    if path != 'rows':
      note('inspect', f'--path={path}')
  for task in ('interleaved', 'sft_asr', 'sft_tts', 'image_text'):
    note('inspect', f'--path=rows/quickstart_{task}/train')
  note('inspect', '--schedule', '--path=stage3')
  note('build', *BUILD, '--output=rows')
  note('build', *BUILD, '--output=rows_again')
  note('tokenize', f'--corpus={SPEECH}', '--tokenizer=tokenizer',
       '--output=codes')  # fmt: skip
  note('tokenize', f'--corpus={SPEECH}', '--tokenizer=tokenizer',
       '--output=codes_again')  # fmt: skip
  note('tokenize', '--export=tokenizer_again', '--linguistic=centroids',
       '--semantic=semantic')  # fmt: skip
  note('embed', f'--corpus={SPEECH}', '--speaker=speaker',
       '--output=speakers_again.npz')  # fmt: skip
  note('embed', f'--corpus={SPEECH}', '--speaker=decoder',
       '--output=speakers_of_decoder.npz')  # fmt: skip
  note('evaluate', *EVALUATE)
  about = {'OUTPUT': 'report', 'MANIFEST': SPEECH, 'ROWS': 'rows'}
  note('report', '--gin_file=gin/quickstart/report.gin',
       *gin(RUNS=['stage3', 'text'], **about))  # fmt: skip
  scored = {'MANIFEST': SPEECH, 'CODES': 'codes', 'ROWS': 'rows'}
  scored |= {'TTS_SPLITS': (), 'CAPTIONS': 0, 'MAX_ROWS': 2}
  scored |= {'LINGUISTIC_CODES': 16, 'SEMANTIC_CODES': 64}
  scored |= {'speech.SpeechConfig.max_text_tokens': 8}
  note('evaluate', '--gin_file=gin/quickstart/evaluate.gin', '--overwrite',
       '--checkpoints=stage3', '--steps=2', *gin(**scored))  # fmt: skip
  note('tokenize', f'{SPEECH}/wav/dev-00000.wav', '--tokenizer=tokenizer')
  heard = asked[-1]['answer']['files'][0]['audio_string']
  some = '>'.join(heard.split('>')[:40]) + '>'  # as many as the text gets
  note('speak', f'--codes={some}', '--decoder=decoder', '--steps=2',
       '--out=codes.wav')  # fmt: skip
  note('speak', 'a red cat', '--model=stage3', '--decoder=decoder',
       '--tokenizer=tokenizer', '--steps=2', '--temperature=0',
       '--longest=1', '--out=text.wav')  # fmt: skip
  note('speak', '--export=decoder_again', '--flow=flow', '--speaker=speaker',
       '--vocoder=vocoder', '--tokenizer=tokenizer',
       f'--voice={SPEECH}/wav/dev-00000.wav')  # fmt: skip
  note('convert', '--from=decoder', '--to=released_decoder')
  note('convert', '--from=text', '--to=released_model')
  note('convert', '--from=released_model', '--to=text_again')
  for name in ('centroids', 'speaker', 'flow', 'vocoder', 'text'):
    note('train', f'--gin_file={name}/config.gin')
  for name in ('semantic', 'stage3'):
    note('train', '--dry_run', f'--gin_file={name}/operative_config.gin')
  shutil.copytree(SPEECH, 'aligned')
  note('align', '--corpus=aligned', '--run=centroids', '--overwrite')
  return asked


if __name__ == '__main__':
  main(*sys.argv[1:])
