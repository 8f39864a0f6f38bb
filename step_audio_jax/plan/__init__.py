"""Plan a run for machines that are not there."""
