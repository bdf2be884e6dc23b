"""What a backtest writes: text, tables, charts and an HTML page."""
