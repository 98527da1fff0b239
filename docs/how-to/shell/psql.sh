#!/bin/sh
# psql with the login that the agent keeps: sh psql.sh -c 'SELECT 1'
#
# agent.yaml:
#   files:
#     - {path: /run/lockstep/pgpass, format: pgpass, database: ledger}
set -eu

# These would go before what the file says.
unset PGPASSWORD PGSERVICE PGHOSTADDR

kept=${LOCKSTEP_PGPASS:-/run/lockstep/pgpass}
export PGSSLMODE=verify-full PGSSLROOTCERT="${LOCKSTEP_CA:-/etc/ssl/certs/ca-certificates.crt}"

# A copy, since the agent may replace the file between our look at the user and psql's at the password. It is in memory,
# and goes however the script ends.
PGPASSFILE=$(mktemp -p "${XDG_RUNTIME_DIR:-/dev/shm}")
export PGPASSFILE
trap 'rm -f "$PGPASSFILE"' EXIT
trap 'exit 1' HUP INT TERM
cat "$kept" > "$PGPASSFILE"

# With alternating users the user changes too: it is the fourth field. `read` without -r takes the escapes away.
# shellcheck disable=SC2162
IFS=: read PGHOST PGPORT _ PGUSER _ < "$PGPASSFILE"
export PGHOST PGPORT PGUSER PGDATABASE="${PGDATABASE:-ledger}"

psql --no-psqlrc --no-password "$@"
