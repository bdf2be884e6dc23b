"""Tables on the terminal."""

from rich.console import Console
from rich.table import Table

from serve_app.backtest.tables import TableText

_PIPE_WIDTH = 200  # nothing is cut off where there is no terminal


def print_table(text: TableText) -> None:
    """A table on stdout, as wide as the terminal lets it be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    table = Table(title=text.title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(text.head):
        table.add_column(name, justify="right" if i else "left", no_wrap=not i)
    for row in text.rows:
        table.add_row(*row)
    console.print(table)
    console.print(text.note, style="dim")
