"""Where jobs run: this machine, queued resources of Cloud TPUs."""
