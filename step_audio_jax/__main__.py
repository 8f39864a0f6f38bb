"""`python -m step_audio_jax DOOR`: what trains, scores and reports."""

import sys

from step_audio_jax.commands import cli

DOORS = {
  'train': (
    'step_audio_jax.training.run',
    'Train from gin files; continues by itself after a stop.',
  ),
  'plan': (
    'step_audio_jax.plan.door',
    'Compile for TPUs that are not there: does it fit, how fast could it be.',
  ),
  'evaluate': (
    'step_audio_jax.evaluation.door',
    "Score a run's checkpoints: perplexities, ASR and TTS error rates.",
  ),
  'report': (
    'step_audio_jax.evaluation.reports.report',
    'Draw runs and their scores as report.html and report.json.',
  ),
  'measure': (
    'step_audio_jax.evaluation.quality.door',
    'Measure how recordings sound: DNSMOS, STOI, pitch, levels, voices.',
  ),
  'listen': (
    'step_audio_jax.evaluation.listening.door',
    'Make a blind listening page for people; score their ratings.',
  ),
  'answer': (
    'step_audio_jax.evaluation.questions',
    'Ask a model the questions of a corpus, aloud and in writing.',
  ),
  'sample': (
    'step_audio_jax.alignment.samples.door',
    'Draw several answers to each prompt of a corpus, to be judged.',
  ),
  'judge': (
    'step_audio_jax.alignment.judging.door',
    'Score preferences with a reward model; say what else moves it.',
  ),
  'complete': (
    'step_audio_jax.generation.complete',
    'Continue a text, or answer it, with a language model.',
  ),
  'convert': (
    'step_audio_jax.interop.convert',
    'Open language models in (Hugging Face, GGUF), ours out, streamed.',
  ),
  'spell': (
    'step_audio_jax.interop.spelling',
    'Give speech rows of a converted model the sound of letters.',
  ),
  'tokenize': (
    'step_audio_jax.tokenizers.door',
    'Turn wav files into linguistic and semantic codes.',
  ),
  'embed': (
    'step_audio_jax.decoder.doors.embed',
    'Tell who speaks: a speaker embedding for each utterance of a corpus.',
  ),
  'transcribe': (
    'step_audio_jax.dialogue.doors.transcribe',
    'Write down what is said in recordings.',
  ),
  'speak': (
    'step_audio_jax.decoder.doors.speak',
    'Speak a text, or codes, into a wav: model, flow, vocoder.',
  ),
  'serve': (
    'step_audio_jax.serving.door',
    'Serve a model to people and programs: HTTP, WebSocket, a page.',
  ),
  'chat': (
    'step_audio_jax.dialogue.doors.chat',
    'Talk to a model in a terminal, in writing and by recording.',
  ),
}

if __name__ == '__main__':
  sys.exit(cli.dispatch('step_audio_jax', DOORS, sys.argv))
