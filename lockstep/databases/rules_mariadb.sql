-- What MariaDB must have for a credential. A rule gives the account (none: the server), what is wrong with it, and what
-- fixes it. `plan sql` asks these of all accounts, and stops by what has
-- failed, but for what is missing. `lockstep doctor` asks the same: those of {accounts} of what an account shows of
-- itself, the others as the rotation user.

-- failed server
SELECT '', 'the server is read-only, such as a replica, so no password can be changed there',
  'name the server that it replicates as `host` in the plan, and this one under `verify_hosts`'
FROM (SELECT 1) AS one WHERE CAST(@@GLOBAL.read_only AS CHAR) NOT IN ('0', 'OFF')

-- failed settings
SELECT '', 'max_password_errors is 1: one wrong password locks an account, and Lockstep shows that a password is revoked by trying it',
  'SET GLOBAL max_password_errors = 2'
FROM (SELECT 1) AS one WHERE @@GLOBAL.max_password_errors = 1

-- failed settings
SELECT '', 'with strict_password_validation the server takes no verifiers, so no password can be changed',
  'SET GLOBAL strict_password_validation = OFF'
FROM (SELECT 1) AS one WHERE @@GLOBAL.strict_password_validation AND EXISTS (SELECT 1
FROM information_schema.PLUGINS AS p WHERE p.PLUGIN_TYPE = 'PASSWORD VALIDATION' AND p.PLUGIN_STATUS = 'ACTIVE')

-- refused accounts
SELECT u.User, CONCAT('it also takes clients from ', QUOTE(u.Host), ', and Lockstep changes another entry: ',
  QUOTE({host_of})), CONCAT('keep one, and name its host as account_host in the plan; else: DROP USER ', QUOTE(u.User),
  '@', QUOTE(u.Host))
FROM {hosts} WHERE u.User IN ({users}) AND NOT {ours}

-- refused missing
SELECT n.User, 'there is no such account', 'lockstep plan sql'
FROM ({each_user}) AS n WHERE NOT EXISTS (SELECT 1 FROM {hosts} WHERE u.User = n.User)
AND EXISTS (SELECT 1 FROM {hosts} WHERE u.User <> SUBSTRING_INDEX(CURRENT_USER(), '@', 1))

-- refused accounts
SELECT '', CONCAT('an anonymous account takes clients from ', QUOTE(u.Host)), CONCAT('DROP USER ''''@', QUOTE(u.Host))
FROM {hosts} WHERE u.User = '' AND u.Host <> '%'

-- failed accounts
SELECT u.User, 'it has an expired password', 'let the application set a new one'
FROM {accounts} WHERE u.password_expired = 'Y' AND {ours}

-- failed accounts
SELECT u.User, 'it requires a certificate of the client, and Lockstep has none', 'REQUIRE SSL is enough'
FROM {accounts} WHERE u.ssl_type IN ('X509', 'SPECIFIED') AND {ours}

-- failed accounts
SELECT u.User, 'it is locked', CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' ACCOUNT UNLOCK')
FROM {accounts} WHERE JSON_VALUE(g.Priv, '$.account_locked') IN ('1', 'true') AND {ours}

-- failed accounts
SELECT u.User, CONCAT('it has the plugin ', {foreign}, ', which keeps no password in the server'),
  CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' IDENTIFIED VIA mysql_native_password USING PASSWORD(''...'')')
FROM {accounts} WHERE {foreign} <> '' AND {with_password}

-- warning accounts
SELECT u.User, CONCAT('its password expires ', {lifetime}, ' days after a rotation, so a longer pause locks it out'),
  CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' PASSWORD EXPIRE NEVER')
FROM {accounts} WHERE {lifetime} > 0 AND {named}

-- warning accounts
SELECT u.User, CONCAT('it has the plugins ', {each}, ', and gets mysql_native_password at the next rotation'),
  'let its clients know that plugin'
FROM {accounts} WHERE REGEXP_REPLACE({each}, 'mysql_native_password| ', '') <> '' AND {named}
