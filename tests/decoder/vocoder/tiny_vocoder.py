"""A HiFT vocoder, judges and a corpus that compile and train in moments."""

import numpy as np

from step_audio_jax.audio import io
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.vocoder import objective as vocoder_objective
from step_audio_jax.models.vocoder import discriminators
from step_audio_jax.models.vocoder import hift

RATE, HOP = 8000, 16
CONFIG = hift.HiftConfig(
  bands=12,
  channels=8,
  sample_rate=RATE,
  harmonics=3,
  upsample_rates=(4,),
  upsample_kernels=(8,),
  resblock_kernels=(3,),
  resblock_dilations=((1,),),
  source_resblock_kernels=(3,),
  source_resblock_dilations=((1,),),
  f0_channels=8,
)
MEL = vocoder_mel.VocoderMel(
  sample_rate=RATE, bands=12, fft=128, window=128, hop=HOP, high_hz=None
)
JUDGES = discriminators.DiscriminatorConfig(
  periods=(3,),
  period_channels=(4, 6),
  resolutions=((64, 16, 64),),
  spectrum_channels=3,
)


def objective(**settings):
  return vocoder_objective.VocoderGAN(
    **{'config': CONFIG, 'mel': MEL, 'discriminators': JUDGES, **settings}
  )


def buzz(hz, seconds, rate=RATE):
  """A harmonic sound of a constant fundamental."""
  time = np.arange(round(seconds * rate)) / rate
  return sum(
    0.3 / h * np.sin(2 * np.pi * h * hz * time + h) for h in range(1, 6)
  ).astype(np.float32)


def make_corpus(folder, lines):
  """`lines`: (id, Hz, seconds, file rate); silence and audio-less too."""
  utterances = []
  for name, hz, seconds, rate in lines:
    if hz is not None:
      io.write_audio(
        folder / 'wav' / f'{name}.wav', buzz(hz, seconds, rate), rate
      )
    utterances.append(
      manifest.Utterance(
        id=name,
        audio=None if hz is None else f'wav/{name}.wav',
        duration=float(seconds) if hz is not None else 0.0,
        sample_rate=rate if hz is not None else 0,
      )
    )
  manifest.write(folder, utterances)
  return folder
