"""The sources of bands in a backtest: the baseline, reference methods and a running service."""
