"""The output of a backtest: the result as JSON, tables, charts and an HTML page."""
