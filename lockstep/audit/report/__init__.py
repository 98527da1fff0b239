"""The report on the audit log, for people and auditors: a page, JSON, CSV.

    evidence.py   what verification found  ->  evidence of a credential
    reading.py    an entry's event         ->  run, order or other entry; bounded and cleaned
    build.py      evidence                 ->  report: figures, gaps, failures, emergencies, lives of generations
    charts.py     report                   ->  geometry of the charts
    page.py       report                   ->  one HTML page, by page.html.j2 and the parts in lockstep/html
    tables.py     report                   ->  JSON and CSV

Everything but the last two is pure data. Nothing here reads a clock or a cloud.
"""
