"""What an operator asks and orders, as data: state, doctor, secrets, report, page."""
