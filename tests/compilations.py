"""What JAX compiles while somebody looks, whatever is logged."""

from jax import monitoring

# Told once for every program that is lowered, before any cache is asked.
_EVENT = '/jax/core/compile/jaxpr_to_mlir_module_duration'
_watching: list[list[str]] = []


def _heard(event: str, seconds: float, **about) -> None:
  del seconds
  if event == _EVENT:
    for messages in _watching:
      messages.append(str(about.get('fun_name', event)))


monitoring.register_event_duration_secs_listener(_heard)


class Compilations:
  """Names what is compiled while it is entered, in `messages`."""

  def __init__(self):
    self.messages: list[str] = []

  def __enter__(self):
    _watching.append(self.messages)
    return self

  def __exit__(self, *error):
    # By identity: lists that are equal are not the same.
    _watching[:] = [x for x in _watching if x is not self.messages]
