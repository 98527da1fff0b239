#!/bin/sh
# mariadb (or mysql) with the login that the agent keeps: sh mariadb.sh -e 'SELECT 1'
#
# agent.yaml:
#   files:
#     - {path: /run/lockstep/my.cnf, format: my-cnf, database: orders}
set -eu

# User and password are in one file, which is read once: they belong together. No other file counts: what ~/.my.cnf says
# would go before an extra file.
exec mariadb --defaults-file="${LOCKSTEP_MY_CNF:-/run/lockstep/my.cnf}" \
  --ssl-ca="${LOCKSTEP_CA:-/etc/ssl/certs/ca-certificates.crt}" --ssl-verify-server-cert "$@"
