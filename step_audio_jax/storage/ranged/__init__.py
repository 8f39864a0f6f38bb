"""Files of records that are read by ranges of their bytes."""
