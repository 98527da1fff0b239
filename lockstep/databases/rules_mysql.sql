-- What MySQL must have for a credential. A rule gives the account (none: the server), what is wrong with it, and what
-- fixes it. `plan sql` asks these of all accounts, and stops by what has
-- failed, but for what is missing. `lockstep doctor` asks the same: those of {accounts} of what an account shows of
-- itself, the others as the rotation user.

-- failed server
SELECT '', 'the server is read-only, such as a replica, so no password can be changed there',
  'name the server that it replicates as `host` in the plan, and this one under `verify_hosts`'
FROM (SELECT 1) AS one WHERE @@GLOBAL.read_only <> 0

-- refused accounts
SELECT u.User, CONCAT('it also takes clients from ', QUOTE(u.Host), ', and Lockstep changes another entry: ',
  QUOTE({host_of})), CONCAT('keep one, and name its host as account_host in the plan; else: DROP USER ', QUOTE(u.User),
  '@', QUOTE(u.Host))
FROM {hosts} WHERE u.User IN ({users}) AND NOT {ours}

-- refused missing
SELECT n.User, 'there is no such account, or it has SYSTEM_USER, and the rotation user may not change it',
  'lockstep plan sql'
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
FROM {accounts} WHERE u.account_locked = 'Y' AND {ours}

-- failed accounts
SELECT u.User, 'it has outlived its password lifetime, so the server refuses it', 'let the application set a new password'
FROM {accounts} WHERE {lifetime} > 0 AND u.password_last_changed < NOW() - INTERVAL {lifetime} DAY
AND u.authentication_string <> '{dead}' AND {ours}

-- failed accounts
SELECT u.User, 'it is locked by one wrong password, and Lockstep shows that a password is revoked by trying it',
  CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' FAILED_LOGIN_ATTEMPTS 2')
FROM {accounts} WHERE u.User_attributes->'$.Password_locking.failed_login_attempts' = 1
AND u.User_attributes->'$.Password_locking.password_lock_time_days' <> 0 AND {ours}

-- failed accounts
SELECT u.User, CONCAT('it has the plugin ', u.plugin, ', of which Lockstep makes no passwords'),
  CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' IDENTIFIED WITH caching_sha2_password BY ''...''')
FROM {accounts} WHERE u.plugin NOT IN ('caching_sha2_password', 'mysql_native_password', 'sha256_password') AND {with_password}

-- failed accounts
SELECT u.User, 'it needs a second factor, which applications of Lockstep do not have',
  CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' DROP 2 FACTOR')
FROM {accounts} WHERE u.User_attributes->'$.multi_factor_authentication' IS NOT NULL AND {ours}

-- failed accounts
SELECT u.User, 'it has a second password that is not Lockstep''s, and the first rotation would replace it',
  CONCAT('change its clients, then: ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' DISCARD OLD PASSWORD')
FROM {accounts} WHERE u.User_attributes->'$.additional_password' IS NOT NULL
AND u.User_attributes->'$.metadata.lockstep' IS NULL AND {named}

-- failed accounts
SELECT u.User, 'it has SYSTEM_USER, so the rotation user may not change it',
  CONCAT('REVOKE SYSTEM_USER ON *.* FROM ', QUOTE(u.User), '@', QUOTE(u.Host))
FROM information_schema.USER_PRIVILEGES AS p JOIN {accounts} ON p.GRANTEE = CONCAT(QUOTE(u.User), '@', QUOTE(u.Host))
WHERE p.PRIVILEGE_TYPE = 'SYSTEM_USER' AND {named}

-- warning accounts
SELECT u.User, CONCAT('its password expires ', {lifetime}, ' days after a rotation, so a longer pause locks it out'),
  CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' PASSWORD EXPIRE NEVER')
FROM {accounts} WHERE {lifetime} > 0 AND {named}

-- warning accounts
SELECT u.User, 'it has a password history, not asked about verifiers; the server keeps each of them for that long',
  CONCAT('ALTER USER ', QUOTE(u.User), '@', QUOTE(u.Host), ' PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY')
FROM {accounts} WHERE (COALESCE(u.Password_reuse_history, @@GLOBAL.password_history) > 0
OR COALESCE(u.Password_reuse_time, @@GLOBAL.password_reuse_interval) > 0) AND {named}

-- warning accounts
SELECT u.User, CONCAT('it has the plugin ', u.plugin, ', and gets caching_sha2_password at its next turn'),
  'let its clients know that plugin'
FROM {accounts} WHERE {alternating} AND u.plugin <> 'caching_sha2_password' AND {named}
