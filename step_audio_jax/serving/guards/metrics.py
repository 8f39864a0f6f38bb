"""What is counted and timed, as Prometheus reads it."""

from typing import Callable, Mapping

Gauges = Mapping[str, tuple[str, Callable[[], float]]]
_BUCKETS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.5, 3, 10, 30, 100)


class Metrics:
  """The counters of one server."""

  def __init__(self, gauges: Gauges | None = None):
    """All are 0.

    Args:
      gauges: Name → what it says and how it is read, when somebody asks.
    """
    import prometheus_client as prometheus

    self._library = prometheus
    self._registry = prometheus.CollectorRegistry()

    def made(kind, name, told, labels=(), **more):
      name = f'step_audio_{name}'
      return kind(name, told, labels, registry=self._registry, **more)

    counter, timed = prometheus.Counter, prometheus.Histogram
    self._requests = made(
      counter, 'requests', 'Requests that ended.', ('route', 'status')
    )
    self._seconds = made(
      timed,
      'request_seconds',
      'From the first byte in to the last byte out.',
      ('route',),
      buckets=_BUCKETS,
    )
    self._first = made(
      timed,
      'first_seconds',
      'From a request to the first text or audio of its reply.',
      ('route', 'kind'),
      buckets=_BUCKETS,
    )
    self._tokens = made(
      counter, 'tokens', 'Ids that were read, kept, or made.', ('kind',)
    )
    self._heard = made(
      counter, 'audio_seconds', 'Seconds of sound.', ('direction',)
    )
    for name, (told, read) in (gauges or {}).items():
      made(prometheus.Gauge, name, told).set_function(read)

  def ended(self, route: str, status: int, seconds: float) -> None:
    """A request ended."""
    self._requests.labels(route, str(status)).inc()
    self._seconds.labels(route).observe(seconds)

  def first(self, route: str, kind: str, seconds: float) -> None:
    """The first 'text' or 'audio' of a reply went out."""
    self._first.labels(route, kind).observe(seconds)

  def used(self, prompt: int, cached: int, reply: int) -> None:
    """Ids of one reply."""
    for kind, count in (('prompt', prompt), ('cached', cached)):
      self._tokens.labels(kind).inc(count)
    self._tokens.labels('reply').inc(reply)

  def sound(self, direction: str, seconds: float) -> None:
    """Seconds of sound that came 'in' or went 'out'."""
    self._heard.labels(direction).inc(seconds)

  def text(self) -> tuple[bytes, str]:
    """All of it, and its media type."""
    made = self._library.generate_latest(self._registry)
    return made, self._library.CONTENT_TYPE_LATEST
