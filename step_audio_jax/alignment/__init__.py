"""From a model that answers to one that answers as people prefer."""
