# Logs in again and again with the shell recipes, whose folder is the first argument.
attempt() {
  way=$1; shift
  if answer=$("$@" 2>&1); then echo "$way ok ${answer%%@*}"
  else echo "$way failed $answer" | tr '\n' ' '; echo
  fi
}

while true; do
  attempt psql sh "$1/psql.sh" -Atc 'SELECT session_user'
  attempt mariadb sh "$1/mariadb.sh" -N -e 'SELECT USER()'
  sleep 0.05
done
