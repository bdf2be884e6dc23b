"""``tsfm models``: lists the models of the service."""

from dataclasses import asdict

from serve_app.cli.service import HERE, Token, Url, connect
from serve_app.cli.terminal import AsJson, print_json, screen


def models(url: Url = HERE, token: Token = None, as_json: AsJson = False) -> None:
    """List the available models and their licences.

    \b
    Examples:
      tsfm models
      tsfm models --json | jq '.[].name'
    """
    with connect(url, token) as client:
        found = client.models()
    if as_json:
        print_json([asdict(model) for model in found])
        return
    from rich.table import Table

    table = Table("model", "aliases", "licence", "may be used", "context", "note", box=None)
    for model in found:
        context = "any" if model.max_context is None else str(model.max_context)
        allowed = model.license_tag.replace("_", " ")
        names = ", ".join(model.aliases)
        table.add_row(model.name, names, model.license, allowed, context, model.note or "")
    screen().print(table)
