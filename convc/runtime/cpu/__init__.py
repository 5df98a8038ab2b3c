"""Running compiled models on CPUs."""
