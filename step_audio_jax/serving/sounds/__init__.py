"""What clients send and get as sound: containers, rates, limits."""
