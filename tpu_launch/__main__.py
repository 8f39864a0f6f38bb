"""`python -m tpu_launch DOOR`: start, watch and stop jobs."""

import sys

from step_audio_jax.commands import cli

DOORS = {
  'quickstart': (
    'tpu_launch.recipes.quickstart',
    'From nothing to a report on this machine; what `make quickstart` runs.',
  ),
  'adapt': (
    'tpu_launch.recipes.adapt',
    "Tunes the quick start's model to recordings of your own, and reports.",
  ),
  'real': (
    'tpu_launch.recipes.real',
    'Gives an open language model ears, and says what it hears and knows.',
  ),
  'check': (
    'tpu_launch.check',
    'Whether a job could start: gin files, accelerators, tools.',
  ),
  'up': ('tpu_launch.up', 'Ask for the machines of a job.'),
  'run': ('tpu_launch.run', 'Start a command on every machine of a job.'),
  'status': ('tpu_launch.status', 'Whether a job waits, runs or has ended.'),
  'logs': ('tpu_launch.logs', 'The last lines of a worker of a job.'),
  'down': ('tpu_launch.down', 'Stop a job and give its machines back.'),
}

if __name__ == '__main__':
  sys.exit(cli.dispatch('tpu_launch', DOORS, sys.argv))
