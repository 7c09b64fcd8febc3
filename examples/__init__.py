"""Programs that run, each about one way to use pollin_actors."""
