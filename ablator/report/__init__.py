"""From records to statistics, tables, figures and pages, on any machine that has the ledger.

`building.build_table` makes the `table.Table` that every output reads: `terminal.print_table`,
`markdown.render_markdown`, `latex.render_latex`, `csv.render_csv`, `page.render_page`, and
`writing.write_report`, which writes them all. `figures.draw` draws what `analysis` found in trained models.
"""
