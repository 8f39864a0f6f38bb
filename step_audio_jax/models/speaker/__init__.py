"""The speaker encoder CAM++."""
