"""Tables of a backtest on the terminal."""

from rich.table import Table

from serve_app.backtest.report.tables import TableText
from serve_app.cli.terminal import screen


def print_table(text: TableText) -> None:
    """A table on stdout; in a pipe no row is broken."""
    console = screen()
    table = Table(title=text.title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(text.head):
        table.add_column(name, justify="right" if i else "left", no_wrap=not i)
    for row in text.rows:
        table.add_row(*row)
    console.print(table)
    console.print(text.note, style="dim")
