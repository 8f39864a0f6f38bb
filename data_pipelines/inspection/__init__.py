"""Rows, schedules and corpora shown to people."""
