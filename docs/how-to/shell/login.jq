# The `app_user` secret, of either cloud, as a file that a client reads: jq -r --arg form pgpass -f login.jq
def escaped(special): tostring | gsub("(?<c>" + special + ")"; "\\\(.c)");
if $form == "pgpass" then
  [.host, .port, "*", .username, .password] | map(escaped("[\\\\:]")) | join(":")
elif $form == "my-cnf" then
  {user: .username, password, host, port, protocol: "tcp"} | to_entries
  | ["[client]"] + map("\(.key)=\"\(.value | escaped("[\\\\\"]"))\"") | join("\n")
else error("the form is pgpass or my-cnf") end
