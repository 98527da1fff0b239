"""`lockstep serve`: a page that shows the state of all credentials, live, and changes nothing.

    calls.py     counts the calls to the clouds, and bounds what they cost
    looking.py   one look: lock records, stores, logs, runs that are under way
    poller.py    looks again and again, for all browsers together
    fleet.py     what is known of all credentials       ->  figures, alarms, rows, the map of ages
    detail.py    what is known of one credential        ->  its stores, overlap, runs and steps
    pages.py     these                                  ->  HTML, by the templates here and the parts in lockstep/html
    http.py      routes, and what no request gets past

It reads what `lockstep status` and `lockstep history` read, by their functions, and no password.
"""
