"""What the audit report and the live page share: the style sheet, the parts of a page, and how templates are filled.

    base.css       colours in light and dark, text, tables, print
    parts.html.j2  banner, chip, table, legend
    filling.py     the templates of a package, with these
    formatting.py  times, durations, numbers and names of errors as people read them

Nothing here knows a report or a cloud.
"""
