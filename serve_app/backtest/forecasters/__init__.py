"""What is compared in a backtest: our baseline, reference methods, and a running service."""
