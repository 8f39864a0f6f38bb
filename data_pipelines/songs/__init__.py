"""Songs: lyrics with times, clips cut by them, artists in splits."""
