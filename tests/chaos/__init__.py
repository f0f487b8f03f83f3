"""Real server processes, a real store, players through the SDK, and whatever may happen to a machine."""
