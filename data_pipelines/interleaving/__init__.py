"""Documents that go back and forth between text and speech."""
