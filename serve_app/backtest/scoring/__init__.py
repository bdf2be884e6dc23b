"""How bands are scored: pinball loss, coverage, calibration on held-out windows."""
