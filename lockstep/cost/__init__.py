"""What a plan costs in a month: counted calls (`calls.json`) times list prices (`prices`), and what is assumed.

AWS leads: it rotates every credential, and the standby, if there is one, is called and finds nothing to do. Nothing
free of charge is taken off, and traffic to the databases is not counted: it is theirs.
"""

from lockstep.cost.bill import Bill, Deployed, Line, total
from lockstep.cost.calls import Counted, read_counted
from lockstep.cost.levers import Lever, levers
from lockstep.cost.prices import PRICES, Price
from lockstep.cost.summing import bill

__all__ = [
    "PRICES",
    "Bill",
    "Counted",
    "Deployed",
    "Lever",
    "Line",
    "Price",
    "bill",
    "levers",
    "read_counted",
    "total",
]
