"""Everything Ray: connect, plan, actors, supervised pool, controller, run directory, telemetry."""
