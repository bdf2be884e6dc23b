"""``python -m serve_app.cli`` where the package is not installed."""

from serve_app.cli import app

app(prog_name="tsfm")
