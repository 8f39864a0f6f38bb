"""Where a job runs."""

from tpu_launch.backends import jobs
from tpu_launch.backends import local
from tpu_launch.backends import queued_resource

_BACKENDS = {
  'local': local.Local,
  'queued-resource': queued_resource.QueuedResource,
}


def backend_of(job: jobs.Job) -> jobs.Backend:
  """The backend of a job."""
  return _BACKENDS[job.backend]()
