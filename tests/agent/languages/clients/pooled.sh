# Logs in again and again with psql and the agent's pgpass, through the pooler at POOLER_PORT. The argument is the way's name.
export PGPASSFILE="$PWD/pooled.pgpass" PGSSLMODE=verify-full PGSSLROOTCERT="$LOCKSTEP_CA" PGHOST=localhost PGPORT="$POOLER_PORT"
umask 077

while sleep 0.05; do
  sed "s/^[^:]*:[0-9]*:/localhost:$POOLER_PORT:/" "$LOCKSTEP_PGPASS" > "$PGPASSFILE"
  user=$(cut -d: -f4 "$PGPASSFILE")
  if answer=$(psql --no-psqlrc --no-password -U "$user" -Atc 'SELECT session_user' 2>&1); then echo "$1 ok $answer"
  else echo "$1 failed $answer" | tr '\n' ' '; echo
  fi
done
