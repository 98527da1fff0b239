"""The four steps of a rotation, each a pure step over ports and a Lambda face; and the watch."""

import gc

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""By default 700, with which a cold start spends a fifth of its time in searching modules for garbage."""

gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
