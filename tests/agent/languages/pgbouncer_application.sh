# Asks through pgbouncer again and again: with a connection for each query, and with one connection for all of them.
export PGHOST="$1" PGPORT=6432 PGDATABASE=ledger PGUSER=anybody

while sleep 0.05; do
  # The statements of a transaction have one server connection, also while pgbouncer is told to change it.
  echo "BEGIN; SELECT pg_sleep(0.02); SELECT 'one-connection ok ' || session_user; COMMIT;"
done | psql --no-psqlrc --no-password -qAt | grep --line-buffered . &

while sleep 0.05; do
  if answer=$(psql --no-psqlrc --no-password -Atc 'SELECT session_user' 2>&1); then echo "new-connections ok $answer"
  else echo "new-connections failed" $answer
  fi
done
