"""Step-Audio in JAX: an open training system for speech-text models.

Importing this package is cheap: nothing heavier than the standard library is
loaded until a sub-package is asked for.
"""

from step_audio_jax import platforms

__version__ = '0.1.0'

platforms.leave_absent_tpus_alone()
