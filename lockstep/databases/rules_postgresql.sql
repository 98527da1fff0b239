-- What PostgreSQL must have for a credential. A rule gives the role (none: the server), what is wrong with it, and what
-- fixes it. `plan sql` stops by these, those of rights only after it has granted them; `lockstep doctor` asks all.

-- failed server
SELECT '', 'the server is a standby, so no password can be changed there',
  'name its primary as `host` in the plan, and this one under `verify_hosts`'
WHERE pg_is_in_recovery()

-- refused accounts
SELECT r.rolname::text, 'it is NOLOGIN', format('ALTER ROLE %I LOGIN', r.rolname)
FROM pg_roles AS r WHERE NOT r.rolcanlogin AND r.rolname = ANY ({logins} || {rotation_users})

-- refused accounts
SELECT r.rolname::text, format('it was VALID UNTIL %s, and is refused since then', r.rolvaliduntil),
  format('ALTER ROLE %I VALID UNTIL ''infinity''', r.rolname)
FROM pg_roles AS r WHERE r.rolvaliduntil <= now() AND r.rolname = ANY ({logins} || {rotation_users})

-- failed accounts
SELECT r.rolname::text, format('it is VALID UNTIL %s, and refused as by a wrong password from then on', r.rolvaliduntil),
  format('ALTER ROLE %I VALID UNTIL ''infinity''', r.rolname)
FROM pg_roles AS r WHERE r.rolvaliduntil > now() AND r.rolvaliduntil < 'infinity'
AND r.rolname = ANY ({logins} || {rotation_users})

-- failed accounts
SELECT r.rolname::text, format('its CONNECTION LIMIT of %s is too low for applications and Lockstep', r.rolconnlimit),
  format('ALTER ROLE %I CONNECTION LIMIT -1', r.rolname)
FROM pg_roles AS r WHERE r.rolconnlimit BETWEEN 0 AND 1 AND r.rolname = ANY ({logins} || {rotation_users})

-- failed accounts
SELECT r.rolname::text, 'it is a superuser or has REPLICATION, so the rotation user may not change it',
  format('ALTER ROLE %I NOSUPERUSER NOREPLICATION', r.rolname)
FROM pg_roles AS r WHERE (r.rolsuper OR r.rolreplication) AND r.rolname = ANY ({logins})

-- failed owner
SELECT r.rolname::text, format('it exists, and does not act as %s, so what it makes belongs to it alone', {owner}),
  format('docs/how-to/postgresql-live-login.md; if it owns nothing: ALTER ROLE %I SET role TO %I', r.rolname, {owner})
FROM pg_roles AS r WHERE r.rolname = ANY ({logins}) AND NOT EXISTS (SELECT FROM pg_db_role_setting AS s
  WHERE s.setrole = r.oid AND s.setdatabase = 0 AND 'role=' || {owner} = ANY (s.setconfig))

-- failed owner
SELECT r.rolname::text, 'it is an owner role that logs in itself, and its password is never rotated',
  format('ALTER ROLE %I NOLOGIN', r.rolname)
FROM pg_roles AS r WHERE r.rolcanlogin AND r.rolname = {owner}

-- refused rights
SELECT l.login::text, 'there is no such role', 'lockstep plan sql'
FROM unnest({logins} || {owner}) AS l (login) WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = l.login)

-- refused membership
SELECT r.rolname::text, format('it is no member of %s', {owner}), format('GRANT %I TO %I', {owner}, r.rolname)
FROM pg_roles AS r JOIN pg_roles AS o ON o.rolname = {owner}
WHERE r.rolname = ANY ({logins}) AND NOT pg_has_role(r.oid, o.oid, 'MEMBER')

-- failed rights
SELECT r.rolname::text, 'it cannot change roles', format('ALTER ROLE %I CREATEROLE', r.rolname)
FROM pg_roles AS r WHERE NOT (r.rolcreaterole OR r.rolsuper) AND r.rolname = ANY ({rotation_users})

-- failed rights
SELECT me.rolname::text, format('it lacks ADMIN OPTION for %s, so it cannot change that password', r.rolname),
  format('GRANT %I TO %I WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', r.rolname, me.rolname)
FROM pg_roles AS r, pg_roles AS me WHERE r.rolname = ANY ({logins}) AND me.rolname = ANY ({rotation_users})
AND NOT me.rolsuper AND current_setting('server_version_num')::int >= 160000 AND NOT EXISTS (
  SELECT FROM pg_auth_members AS m WHERE m.roleid = r.oid AND m.member = me.oid AND m.admin_option)
