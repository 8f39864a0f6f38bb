"""`quickstart`: from nothing to a report, by public commands.

Nothing is done here that a user could not do: every step is one public
command, printed before it runs. Two commands that need nothing of each other
run side by side, one on each half of the cores. A finished command is noted in
`timing.json`, so the same command after a kill continues where it stopped; the
command that was killed continues by itself.
"""

import ctypes
import dataclasses
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Mapping, Sequence

import psutil

from step_audio_jax import cli
from step_audio_jax import errors
from step_audio_jax import files

DEFAULT_FOLDER = 'runs/quickstart'
ROW_LENGTH = 272
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
VOICE = 'dev-00000'  # whose voice the decoder speaks with
STAGES = ('stage1', 'stage2', 'stage3', 'sft')


@dataclasses.dataclass(frozen=True)
class Command:
  """One public command.

  Attributes:
    name: What `timing.json` and the log file call it.
    words: Behind `python`.
  """

  name: str
  words: tuple[str, ...]

  def __str__(self) -> str:
    return shlex.join(('python', *self.words))


def _macros(**macros) -> list[str]:
  return [f'--gin.{k}={json.dumps(v)}' for k, v in macros.items()]


def recipe(root: str) -> list[list[Command]]:
  """The commands of the quick start, in order; those in one list run together.

  Args:
    root: Folder of everything that is made.
  """

  def door(name, program, *words):
    return Command(name, ('-m', program, *words))

  def train(name, gin_file, **macros):
    return door(
      name,
      'step_audio_jax',
      'train',
      f'--gin_file={gin_file}',
      *_macros(**macros),
    )

  data, tokenizer = f'{root}/data', f'{root}/tokenizer'
  speech = f'{data}/speech'
  text_model, rows = f'{data}/text.model', f'{root}/rows'
  codes = f'{root}/codes/speech'
  steps = [
    [door('synthesize', 'data_pipelines', 'synthesize', f'--output={data}')],
    [
      door(
        'vocabulary',
        'data_pipelines',
        'vocabulary',
        *(f'--corpus={data}/{name}' for name in ('text', 'speech', 'images')),
        f'--output={text_model}',
      )
    ],
    [
      train(
        f'train {stream}',
        f'gin/quickstart/{stream}.gin',
        RUN_DIR=f'{root}/{stream}',
        MANIFEST=speech,
      )
      for stream in ('linguistic', 'semantic')
    ],
  ]
  return steps + _after_tokenizers(
    root, data, codes, rows, tokenizer, text_model, door, train
  )


def _after_tokenizers(
  root, data, codes, rows, tokenizer, text_model, door, train
):
  """The second half of the recipe: codes, rows, stages, report."""
  speech = f'{data}/speech'
  speakers = f'{root}/speakers.npz'
  steps = [
    [
      train(
        'train centroids',
        'gin/quickstart/centroids.gin',
        RUN_DIR=f'{root}/centroids',
        MANIFEST=speech,
        INIT_FROM=[f'{root}/linguistic'],
      ),
      train(
        'train speaker',
        'gin/quickstart/speaker.gin',
        RUN_DIR=f'{root}/speaker',
        MANIFEST=speech,
      ),
    ],
    [
      door(
        'export tokenizer',
        'step_audio_jax',
        'tokenize',
        f'--export={tokenizer}',
        f'--linguistic={root}/centroids',
        f'--semantic={root}/semantic',
      ),
      door(
        'embed',
        'step_audio_jax',
        'embed',
        f'--corpus={speech}',
        f'--speaker={root}/speaker',
        f'--output={speakers}',
      ),
    ],
    [
      door(
        'tokenize',
        'data_pipelines',
        'tokenize',
        f'--corpus={speech}',
        f'--tokenizer={tokenizer}',
        f'--output={codes}',
      )
    ],
    [
      door(
        'build',
        'data_pipelines',
        'build',
        f'--speech={speech}',
        f'--codes={codes}',
        f'--text={data}/text',
        f'--images={data}/images',
        f'--text_model={text_model}',
        '--name=quickstart',
        '--splits=train,dev',
        f'--length={ROW_LENGTH}',
        f'--output={rows}',
      )
    ],
  ]

  def language_model(stage, **macros):
    return train(
      f'train {stage}',
      f'gin/quickstart/{stage}.gin',
      RUN_DIR=f'{root}/{stage}',
      ROWS=rows,
      TEXT_MODEL=text_model,
      **macros,
    )

  steps += _decoder(root, speech, codes, speakers, tokenizer, door, train)
  # The backbone and the image encoder, which is frozen from then on.
  steps.append([language_model('text'), language_model('vision')])
  before = [f'{root}/text', f'{root}/vision']
  for stage in STAGES:
    steps.append([language_model(stage, INIT_FROM=before)])
    last, splits = stage == STAGES[-1], {}
    if last:
      # Settings were chosen on dev; only the finished model meets test.
      splits = {
        'ASR_SPLITS': ['dev', 'test', 'test_unseen_voice'],
        'TTS_SPLITS': ['dev', 'test'],
        'DECODER': f'{root}/decoder',
        'TOKENIZER': tokenizer,
      }
    steps.append(
      [
        door(
          f'evaluate {stage}',
          'step_audio_jax',
          'evaluate',
          f'--gin_file=gin/quickstart/evaluate{"_sound" if last else ""}.gin',
          *_macros(MANIFEST=speech, CODES=codes, ROWS=rows, **splits),
          f'--checkpoints={root}/{stage}',
          '--steps=last',
        )
      ]
    )
    before = [f'{root}/{stage}']
  steps.append(
    [
      door(
        'report',
        'step_audio_jax',
        'report',
        '--gin_file=gin/quickstart/report.gin',
        *_macros(
          RUNS=[f'{root}/{name}' for name in ('text', *STAGES)],
          OUTPUT=root,
          MANIFEST=speech,
          ROWS=rows,
          TIMING=f'{root}/timing.json',
        ),
      )
    ]
  )
  return steps


def _decoder(root, speech, codes, speakers, tokenizer, door, train):
  """From codes back to sound; no vocoder, so that Griffin-Lim speaks.

  In minutes the flow needs every core, and from its mels Griffin-Lim is good
  enough to be understood.
  """
  return [
    [
      train(
        'train flow',
        'gin/quickstart/flow.gin',
        RUN_DIR=f'{root}/flow',
        MANIFEST=speech,
        CODES=codes,
        EMBEDDINGS=speakers,
      )
    ],
    [
      door(
        'export decoder',
        'step_audio_jax',
        'speak',
        f'--export={root}/decoder',
        f'--flow={root}/flow',
        f'--speaker={root}/speaker',
        f'--tokenizer={tokenizer}',
        f'--voice={speech}/wav/{VOICE}.wav',
      )
    ],
  ]


class Memory:
  """Highest resident memory of this process and all below it, bytes."""

  def __init__(self, seconds: float = 0.5):
    self.peak = 0
    self._seconds = seconds
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *_):
    self._stop.set()
    self._thread.join()

  def _watch(self):
    me = psutil.Process()
    while not self._stop.wait(self._seconds):
      total = 0
      for process in [me, *me.children(recursive=True)]:
        try:
          total += process.memory_info().rss
        except psutil.Error:
          continue  # it ended between the listing and the reading
      self.peak = max(self.peak, total)


def environment(root: str) -> dict[str, str]:
  """Variables of every command: CPU, and one compile cache for all.

  Huge pages for malloc: XLA asks for its temporaries anew in every step, and
  touching them 4 kB at a time costs a third of a small step.
  """
  return {
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
    'JAX_PLATFORMS': 'cpu',
    'TF_CPP_MIN_LOG_LEVEL': '3',  # jaxlib's too
    'JAX_COMPILATION_CACHE_DIR': f'{os.path.abspath(root)}/compiled',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
    **os.environ,
  }


def run(commands: Sequence[Command], root: str) -> None:
  """Runs commands side by side; each gets an equal part of the cores.

  Raises:
    UserError: One of them failed; its last lines are shown.
  """
  cores = sorted(os.sched_getaffinity(0))
  share = max(1, len(cores) // len(commands))
  logs = pathlib.Path(root) / 'logs'
  logs.mkdir(parents=True, exist_ok=True)
  running = []
  for i, command in enumerate(commands):
    print(f'\n$ {command}', flush=True)
    mine = cores[i * share : (i + 1) * share] or cores
    log = logs / f'{command.name.replace(" ", "-")}.log'
    alone = len(commands) == 1
    handle = None if alone else open(log, 'wb')
    running.append(
      (
        command,
        log,
        subprocess.Popen(
          [sys.executable, *command.words],
          env=environment(root),
          stdin=subprocess.DEVNULL,
          stdout=handle,
          stderr=None if alone else subprocess.STDOUT,
          preexec_fn=lambda mine=mine: _child(mine),
        ),
      )
    )
  if len(commands) > 1:
    print(f'(side by side; their output: {logs}/)', flush=True)
    _wait_showing(running)
  failed = None
  for command, log, process in running:
    if process.wait() and failed is None:
      failed = (command, log, process.returncode)
  if failed:
    command, log, status = failed
    tail = ''
    if len(commands) > 1:
      tail = ''.join(log.read_text(errors='replace').splitlines(True)[-15:])
    raise errors.UserError(
      f'{tail}the command "{command.name}" ended with status {status}; '
      'mend what it says and start the same command again, it continues.'
    )


def _child(cores) -> None:
  """In a child, before its program: its cores, and to die with its parent.

  A command that outlived a killed quick start would be in the way of the one
  that continues it.
  """
  os.sched_setaffinity(0, cores)
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_showing(running) -> None:
  """Shows the last line of every log now and then, until all have ended."""
  shown = time.monotonic()
  while any(process.poll() is None for _, _, process in running):
    if any(process.returncode for _, _, process in running):
      for _, _, process in running:
        process.terminate()
    time.sleep(0.2)
    if time.monotonic() - shown < 10:
      continue
    shown = time.monotonic()
    for command, log, _ in running:
      text = log.read_text(errors='replace').replace('\r', '\n')
      lines = [line for line in text.splitlines() if line.strip()]
      if lines:
        print(f'  {command.name}: {lines[-1][-110:]}', flush=True)


def quickstart(root: str) -> dict[str, Any]:
  """Runs the recipe; returns what `timing.json` holds."""
  path = pathlib.Path(root) / 'timing.json'
  timing: dict[str, Any] = {'commands': [], 'peak_memory_bytes': 0}
  if path.is_file():
    timing = files.read_json(path)
  finished = {command['name'] for command in timing['commands']}
  for commands in recipe(root):
    if all(command.name in finished for command in commands):
      for command in commands:
        print(f'\n$ {command}\n(done before)', flush=True)
      continue
    started = time.monotonic()
    # The report is the last command and counts the time up to itself: no end
    # yet, and a beginning that leaves out the time between a kill and now.
    files.write_json(
      path,
      {
        **timing,
        'wall_seconds': None,
        'started': time.time() - _seconds(timing['commands']),
      },
    )
    with Memory() as memory:
      run(commands, root)
    seconds = time.monotonic() - started
    timing['peak_memory_bytes'] = max(timing['peak_memory_bytes'], memory.peak)
    for command in commands:
      timing['commands'].append(
        {
          'name': command.name,
          'command': str(command),
          'seconds': round(seconds, 2),
          'together': len(commands),
        }
      )
    timing['wall_seconds'] = round(_seconds(timing['commands']), 1)
    files.write_json(path, timing)
  return timing


def _seconds(commands: Sequence[Mapping[str, Any]]) -> float:
  """Wall time of finished commands; those of one step shared theirs."""
  return sum(c['seconds'] / c['together'] for c in commands)


def _define(fv) -> None:
  from absl import flags

  flags.DEFINE_string(
    'output', DEFAULT_FOLDER, 'Folder of everything made.', flag_values=fv
  )


def _main(fv) -> dict[str, Any]:
  if fv.dry_run:
    for commands in recipe(fv.output):
      for command in commands:
        print(command)
    return {'commands': [str(c) for cs in recipe(fv.output) for c in cs]}
  if not pathlib.Path('gin/quickstart').is_dir():
    raise errors.UserError(
      f'{os.getcwd()}: found no gin/quickstart folder; run the quick start '
      'from the root of the checkout.'
    )
  timing = quickstart(fv.output)
  report = pathlib.Path(fv.output) / 'report.json'
  facts = {'report': f'{fv.output}/report.html', **timing}
  if report.is_file():
    facts |= json.loads(report.read_text(encoding='utf-8'))
  print(f'\nopen {fv.output}/report.html')
  return facts


DOOR = cli.Door(
  summary=(
    'Runs the whole recipe, small, on this machine, and writes a report.\n\n'
    'example: python -m tpu_launch quickstart --output=runs/quickstart'
  ),
  main=_main,
  define=_define,
  uses_gin=False,
)
