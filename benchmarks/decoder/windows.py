r"""What it costs to stream the offline flow in overlapping windows.

    python benchmarks/decoder/windows.py --decoder=runs/quickstart/decoder

Recordings of one voice are put together to `--seconds` of codes. They are
decoded at once and in windows of several sizes (`groups-context-overlap`, of
120 ms), and for each size there are

* `extra`   frames that the flow computed over the frames of the speech; at once
            it is 1, the prompt's frames included in both
* `first`   seconds of codes before the first samples can be made
* `rtf`     of the whole way; `once` has that of decoding at once
* `apart`   mean difference of the flow's log-mel from that made at once
* `wave`    the same for the log-mel of the sound
* `true`    mean difference of the flow's log-mel from the recordings'

Prints one JSON line last.
"""

import argparse
import json
import time

import numpy as np

from step_audio_jax import vocabulary
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder import windows
from step_audio_jax.evaluation.metrics import distances
from step_audio_jax.tokenizers.speech import dual

SIZES = ((10, 2, 2), (15, 3, 2), (25, 3, 2), (25, 10, 2), (50, 5, 2))
_SECONDS = vocabulary.GROUP_SECONDS


def material(args, decoder, tokenizer):
  """Codes and mel of recordings in a row, and another one as the voice."""
  utterances = manifest.read(args.corpus, splits=[args.split], kind='speech')
  speaker = utterances[0].speaker
  root = manifest.path_of(args.corpus).parent
  mel, ids, frames, voice = decoder.mel, [], [], None
  for u in utterances:
    if u.speaker != speaker or _SECONDS * sum(map(len, ids)) / 5 > args.seconds:
      continue
    path = u.audio_path(root)
    wave, _ = io.read_audio(path, **u.part())
    if voice is None:
      voice = decoder.voice_from(wave, io.SAMPLE_RATE, tokenizer)
      continue
    ids.append(voice_lib.IDS.interleave(*tokenizer.encode(wave)))
    count = int(len(ids[-1]) / 5 * _SECONDS * mel.sample_rate / mel.hop)
    wave = voice_lib.resample(wave, io.SAMPLE_RATE, mel.sample_rate)
    frames.append(voice_lib.log_mel(wave, mel)[:count])
  if not args.prompt:
    voice = speech.Voice.of_speaker(voice.speaker_D, mel.bands)
  return np.concatenate(ids), np.concatenate(frames), voice


def streamed(stream, ids, groups=5):
  """Everything a stream answers when codes come `groups` at a time."""
  size = groups * vocabulary.GROUP
  parts = [
    stream.push(ids[begin : begin + size], begin + size >= len(ids))
    for begin in range(0, len(ids), size)
  ]
  return np.concatenate(parts)


def timed(function):
  """(result, seconds) of the second call: the first compiles."""
  function()
  begin = time.perf_counter()
  return function(), time.perf_counter() - begin


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--decoder', default='runs/quickstart/decoder')
  parser.add_argument('--tokenizer', default='runs/quickstart/tokenizer')
  parser.add_argument('--corpus', default='runs/quickstart/data/speech')
  parser.add_argument('--split', default='train')
  parser.add_argument('--seconds', type=float, default=15.0)
  parser.add_argument('--prompt', action='store_true', help='clone a voice')
  args = parser.parse_args()
  decoder = speech.SpeechDecoder.load(args.decoder)
  tokenizer = dual.DualTokenizer.load(args.tokenizer)
  ids, true_TM, voice = material(args, decoder, tokenizer)
  seconds = len(ids) / 5 * _SECONDS
  (whole_S, rate), took = timed(lambda: decoder.decode(ids, voice))
  whole_TM = decoder.mel_of(ids, voice)
  heard_TM = voice_lib.log_mel(whole_S, decoder.mel)
  prompt = len(voice.mel_TM)
  result = {
    'benchmark': 'windows',
    'vocoder': decoder.vocoder.name,
    'seconds': round(seconds, 2),
    'prompt_seconds': round(prompt * decoder.mel.hop / rate, 2),
    'once': {
      'rtf': round(took / seconds, 4),
      'true': round(distances.mel_distance(whole_TM, true_TM), 4),
    },
  }
  for size in SIZES:
    config = windows.WindowConfig(*size)

    def made(kind, config=config):
      return kind(decoder, voice, windows=config)

    wave_S, took = timed(lambda: streamed(made(windows.WindowStream), ids))
    stream = made(windows.MelWindows)
    mel_TM = streamed(stream, ids)
    found_TM = voice_lib.log_mel(wave_S, decoder.mel)
    result['-'.join(map(str, size))] = {
      'extra': round(stream.frames_computed / (prompt + len(whole_TM)), 3),
      'first': round(min(config.groups, len(ids) // 5) * _SECONDS, 2),
      'rtf': round(took / seconds, 4),
      'apart': round(distances.mel_distance(mel_TM, whole_TM), 4),
      'wave': round(distances.mel_distance(found_TM, heard_TM), 4),
      'true': round(distances.mel_distance(mel_TM, true_TM), 4),
    }
  print(json.dumps(result))


if __name__ == '__main__':
  main()
