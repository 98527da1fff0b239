"""What the audit report and the live page share: the style sheet, the parts of a page, and how templates are filled.

    base.css       colours in light and dark, text, tables, charts, print
    parts.html.j2  banner, chip, table, legend
    plot.svg.j2    one chart
    filling.py     the templates of a package, with these

Nothing here knows a report or a cloud.
"""
