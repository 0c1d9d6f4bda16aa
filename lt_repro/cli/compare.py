"""`compare`: what all papers print of one method on one data set, beside ours."""

from typing import Annotated

import typer

from lt_repro.cli.app import Json, Runs, app, out, put, put_json, say
from lt_repro.cli.output import text_grid
from lt_repro.cli.request import Published, stored_in
from lt_repro.errors import RequestError, unknown


@app.command()
def compare(
    row: Annotated[str, typer.Option(help="A method, as ldam-drw, ce or mislas.", show_default=False)],
    column: Annotated[str, typer.Option(help="DATASET:RATIO, as cifar100:100; of a step cifar100:100:step.")],
    published: Published = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table in Markdown.")] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Put every published number of a method beside ours.

    One method on one data set: what each paper prints, under which protocol,
    and what stored runs give.

    [bold]ltrepro compare --row ldam-drw --column cifar100:100[/bold]

    [bold]ltrepro compare --row ce --column cifar100:100 --published mine.csv[/bold]

    Every published number has its protocol and its source: papers differ in
    their images, epochs and augmentation, and in whether the last or the best
    epoch is shown. Ours are last epochs, by reading and length.
    """
    from lt_repro.papers import papers
    from lt_repro.papers.comparison import entries, read_file
    from lt_repro.papers.rows import plain
    from lt_repro.render import compare as shown
    from lt_repro.render.text import grid

    if markdown and as_json:
        raise RequestError("--markdown and --json together", "allowed: one of them")
    by_name = papers().values()
    every = entries(by_name) + (read_file(published) if published else [])
    method, images = plain(row), column.strip().lower()
    of_method = [entry for entry in every if entry.method == method]
    if not of_method:
        raise unknown("published method", row, {entry.method for entry in every})
    chosen = [entry for entry in of_method if entry.column == images]
    if not chosen:
        columns = {entry.column for entry in of_method}
        raise unknown(f"column of {method}", column, columns, "type --column DATASET:RATIO")
    result = stored_in(runs, may_be_new=False)
    for note in result.notes:
        say(f"note: {note}")
    results = list(shown.ours(by_name, method, images, result.runs))
    if as_json:
        put_json(shown.to_json(method, images, chosen, results))
        raise typer.Exit(result.code)
    lines = [f"{method} on {images}", *([] if results else ["ours: no stored run"]), *shown.summary(chosen)]
    table = shown.rows(chosen, results)
    if markdown:
        for line in [f"**{lines[0]}**", "", *grid(shown.HEADER, table, [0]), ""]:
            put(line)
        for line in lines[1:]:
            put(f"- {line}")
    else:
        put(lines[0])
        out.print(text_grid(shown.HEADER, table))
        for line in lines[1:]:
            put(line)
    raise typer.Exit(result.code)
