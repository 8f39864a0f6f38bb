"""From a gin file to a running job: on this machine or on TPU slices."""
