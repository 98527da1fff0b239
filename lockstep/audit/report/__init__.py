"""The report on the audit log, for people and auditors: a page, JSON, CSV.

    events.py      an entry's event         ->  run, order or other entry; bounded and sanitized
    build.py       what verification found  ->  report: figures, periods, generations, gaps, proofs
    data.py        the report's types, which are JSON's too
    page.py        report                   ->  one HTML page of tables, by page.html.j2 and the parts in lockstep/html
    tables.py      report                   ->  JSON and CSV

Everything but the last two is pure data. Nothing here reads a clock or a cloud.
"""
