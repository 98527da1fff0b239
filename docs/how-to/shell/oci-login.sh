#!/bin/sh
# The current login out of OCI, without the agent: (umask 077; sh oci-login.sh my-cnf > NEW && mv NEW FILE), and
# then LOCKSTEP_MY_CNF=FILE sh mariadb.sh -e 'SELECT 1'; or pgpass with LOCKSTEP_PGPASS and psql.sh.
#
# Read it within each overlap, and once more after a refused login. Needs oci and jq, SECRET_INSPECT in the compartment,
# and SECRET_BUNDLE_READ on every slot. LOCKSTEP_COMPARTMENT and LOCKSTEP_VAULT are OCIDs.
set -eu

# The slots are the secrets NAME.0, NAME.1 and so on, with dots for the slashes of the name in the plan. One that was
# deleted is passed over; one that cannot be read ends this script, since the newest value may be in it.
name=$(printf %s "$LOCKSTEP_SECRET" | tr / .)
listed=$(oci vault secret list --compartment-id "$LOCKSTEP_COMPARTMENT" --vault-id "$LOCKSTEP_VAULT" --all)
slots=$(printf %s "$listed" | jq -r --arg name "$name." '.data[]
  | select(.["lifecycle-state"] | test("DELET") | not)
  | select(.["secret-name"] | startswith($name) and (ltrimstr($name) | test("^[0-9]+$"))) | .id')
[ -n "$slots" ] || { echo "oci-login: the vault has no slot of $name" >&2; exit 1; }

# Every version of Lockstep's has a name that ends in 12 digits after the last hyphen, its generation. A version without
# such a name is a placeholder, or was written by hand.
found=$(for slot in $slots; do
  oci secrets secret-bundle get --secret-id "$slot" --stage CURRENT || exit
done)
printf %s "$found" | jq -rs '
    map({data, generation: (.data["version-name"] // "" | capture("-(?<n>[0-9]{12})$").n // "0" | tonumber)})
    | max_by(.generation) | select(.generation > 0) // error("no slot has a value of Lockstep")
    | .data["secret-bundle-content"].content | @base64d' |
  jq -r --arg form "$1" -f "$(dirname "$0")/login.jq"
