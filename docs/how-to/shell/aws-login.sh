#!/bin/sh
# The current login out of AWS, without the agent: (umask 077; sh aws-login.sh my-cnf > NEW && mv NEW FILE), and
# then LOCKSTEP_MY_CNF=FILE sh mariadb.sh -e 'SELECT 1'; or pgpass with LOCKSTEP_PGPASS and psql.sh.
#
# Read it within each overlap, and once more after a refused login. Needs aws and jq, and the right to
# secretsmanager:GetSecretValue.
set -eu

text=$(aws secretsmanager get-secret-value --secret-id "$LOCKSTEP_SECRET" --version-stage AWSCURRENT \
  --query SecretString --output text)
printf %s "$text" | jq -r --arg form "$1" -f "$(dirname "$0")/login.jq"
