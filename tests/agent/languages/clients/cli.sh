# Logs in again and again with what a cloud's CLI reads each time. Arguments: the folder of the shell recipes, the cloud.
export LOCKSTEP_MY_CNF="$PWD/by-cli.cnf"

while true; do
  if answer=$({ sh "$1/$2-login.sh" my-cnf > "$LOCKSTEP_MY_CNF" && sh "$1/mariadb.sh" -N -e 'SELECT USER()'; } 2>&1); then
    echo "$2 ok ${answer%%@*}"
  else echo "$2 failed $answer" | tr '\n' ' '; echo
  fi
done
