"""Updates of a deployed service under load: what callers, caches and breakers notice."""
