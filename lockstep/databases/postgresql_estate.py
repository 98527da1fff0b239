"""Templates of the script for live PostgreSQL accounts: what is there, what is copied, what is verified.

`{logins}`, `{owner}` and `{rotators}` are SQL expressions. All of it runs on PostgreSQL since 10: what is newer is in
text that a condition guards. https://www.postgresql.org/docs/current/catalog-pg-shdepend.html: deptype `o` is an
owner, `a` a role in an access control list, `r` one in a policy.
"""

# An object's name costs a look into its catalog, so only those of this database are described.
LOOK = """SELECT r.rolname AS login,
  CASE d.deptype WHEN 'o' THEN 'owns' WHEN 'a' THEN 'may use' ELSE 'policy' END AS how,
  pg_describe_object(d.classid, d.objid, d.objsubid) AS what,
  CASE d.deptype WHEN 'o' THEN 'will belong to ' ELSE 'will be granted to ' END || {owner} AS becomes
FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid AND d.refclassid = 'pg_authid'::regclass
WHERE r.rolname = ANY ({logins}) AND d.deptype IN ('o', 'a', 'r')
  AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
UNION ALL
SELECT a.usename, 'is connected',
  COALESCE(a.client_addr::text, 'local') || CASE WHEN s.ssl THEN '' ELSE ' without TLS' END,
  'acts as ' || {owner} || ' after it has reconnected'
FROM pg_stat_activity AS a LEFT JOIN pg_stat_ssl AS s USING (pid)
WHERE a.usename = ANY ({logins}) AND a.datname = current_database()
UNION ALL
SELECT {owner}, 'will be current_user in', format('%s %s', kind, name), 'compares it with a login?'
FROM (SELECT 'function' AS kind, p.oid::regprocedure::text AS name, p.prosrc AS body FROM pg_proc AS p
    WHERE p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  UNION ALL SELECT 'default of', d.adrelid::regclass::text, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d
  UNION ALL SELECT 'policy of', p.polrelid::regclass::text,
    concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_policy AS p
) AS code WHERE body ~* '\\mcurrent_user\\M|\\muser\\M'
ORDER BY 1, 2, 3"""

CHECKS = """DO $lockstep$
DECLARE
  logins CONSTANT name[] := {logins};
  stops text;
  note text;
BEGIN
  SELECT string_agg(f.stop, '; ') INTO stops FROM (
    SELECT format('none of %s exists here: leave out --existing', array_to_string(logins, ', '))
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ANY (logins))
    UNION ALL SELECT format('%s is a superuser, which %s may not change: NOSUPERUSER', rolname,
      array_to_string({rotators}, ', '))
    FROM pg_roles WHERE rolsuper AND rolname = ANY (logins)
    UNION ALL SELECT format('%s has REPLICATION, so %s may not change it, and it does not pass to another role',
      rolname, array_to_string({rotators}, ', '))
    FROM pg_roles WHERE rolreplication AND rolname = ANY (logins)
    UNION ALL SELECT format('%s is NOLOGIN: LOGIN', rolname)
    FROM pg_roles WHERE NOT rolcanlogin AND rolname = ANY (logins || {rotators})
    UNION ALL SELECT format('%s is VALID UNTIL %s, and refused as by a wrong password from then on: ''infinity''',
      rolname, rolvaliduntil)
    FROM pg_roles WHERE rolvaliduntil < 'infinity' AND rolname = ANY (logins || {rotators})
    UNION ALL SELECT format('%s has CONNECTION LIMIT %s, too few for applications and Lockstep: -1',
      rolname, rolconnlimit)
    FROM pg_roles WHERE rolconnlimit BETWEEN 0 AND 1 AND rolname = ANY (logins || {rotators})
    UNION ALL SELECT format('%s is NOINHERIT, so its open sessions would lose its own objects: INHERIT', rolname)
    FROM pg_roles WHERE NOT rolinherit AND rolname = ANY (logins)
    UNION ALL SELECT format('%s acts as another role already, by %s', r.rolname, c.setting)
    FROM pg_roles AS r JOIN pg_db_role_setting AS s ON s.setrole = r.oid, unnest(s.setconfig) AS c (setting)
    WHERE r.rolname = ANY (logins) AND c.setting LIKE 'role=%' AND c.setting <> 'role=' || {owner}
    UNION ALL SELECT format('%s logs in itself, so it cannot be an owner role: NOLOGIN', rolname)
    FROM pg_roles WHERE rolcanlogin AND rolname = {owner}
    UNION ALL SELECT format('%s cannot change roles: CREATEROLE', rolname)
    FROM pg_roles WHERE NOT rolcreaterole AND rolname = ANY ({rotators})
    UNION ALL SELECT 'this server is a standby: run the script on its primary' WHERE pg_is_in_recovery()
  ) AS f (stop);
  IF stops IS NOT NULL THEN
    RAISE EXCEPTION 'Lockstep stops: %', stops;
  END IF;
  FOR note IN
    SELECT DISTINCT format('%s has objects or rights in database %s too: run the script there, before any rotation',
      r.rolname, b.datname)
    FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid AND d.refclassid = 'pg_authid'::regclass
      JOIN pg_database AS b ON b.oid = d.dbid
    WHERE r.rolname = ANY (logins) AND b.datname <> current_database()
  LOOP
    RAISE WARNING '%', note;
  END LOOP;
END $lockstep$"""

MAKE_LOGINS = """DO $lockstep$
DECLARE
  model record;
  login name;
  setting record;
BEGIN
  SELECT * INTO model FROM pg_roles WHERE rolname = ANY ({logins}) ORDER BY array_position({logins}, rolname) LIMIT 1;
  FOREACH login IN ARRAY {logins} LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = login);
    EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT %s', login, model.rolconnlimit);
    FOR setting IN
      SELECT split_part(c.entry, '=', 1) AS name, substr(c.entry, strpos(c.entry, '=') + 1) AS value,
        CASE WHEN b.datname IS NULL THEN '' ELSE format(' IN DATABASE %I', b.datname) END AS place
      FROM pg_db_role_setting AS s LEFT JOIN pg_database AS b ON b.oid = s.setdatabase, unnest(s.setconfig) AS c (entry)
      WHERE s.setrole = model.oid AND c.entry NOT LIKE 'role=%'
    LOOP
      -- These are lists of identifiers, kept as they are written.
      EXECUTE format('ALTER ROLE %I%s SET %I TO %s', login, setting.place, setting.name,
        CASE WHEN setting.name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries',
          'session_preload_libraries') AND setting.value <> '""' THEN setting.value
        ELSE quote_literal(replace(setting.value, '""', '')) END);
    END LOOP;
  END LOOP;
END $lockstep$"""

# Who is no superuser must be a member of a role to give away what it owns. The transaction takes this back.
BORROW = """DO $lockstep$
DECLARE
  borrowed name;
BEGIN
  PERFORM set_config('lockstep.borrowed', '', true);
  FOR borrowed IN SELECT rolname FROM pg_roles
    WHERE (rolname = ANY ({logins}) OR rolname = {owner}) AND NOT pg_has_role(current_user, oid, 'USAGE')
  LOOP
    EXECUTE format('GRANT %I TO %I', borrowed, current_user)
      || CASE WHEN current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
    PERFORM set_config('lockstep.borrowed', concat_ws(' ', current_setting('lockstep.borrowed'), borrowed), true);
  END LOOP;
END $lockstep$"""

GIVE_BACK = """DO $lockstep$
DECLARE
  borrowed name;
BEGIN
  FOREACH borrowed IN ARRAY string_to_array(trim(current_setting('lockstep.borrowed')), ' ') LOOP
    EXECUTE format('REVOKE %I FROM %I', borrowed, current_user);
  END LOOP;
END $lockstep$"""

COPY_RIGHTS = """DO $lockstep$
DECLARE
  version CONSTANT int := current_setting('server_version_num')::int;
  routine CONSTANT text := CASE WHEN version >= 110000 THEN 'ROUTINE ' ELSE 'FUNCTION ' END;
  held record;
  granted record;
BEGIN
  FOR held IN SELECT * FROM pg_roles WHERE rolname = ANY ({logins}) LOOP
    -- Attributes are not inherited
    IF held.rolcreatedb THEN EXECUTE format('ALTER ROLE %I CREATEDB', {owner}); END IF;
    IF held.rolcreaterole THEN EXECUTE format('ALTER ROLE %I CREATEROLE', {owner}); END IF;
    IF held.rolbypassrls THEN EXECUTE format('ALTER ROLE %I BYPASSRLS', {owner}); END IF;
    -- Memberships; the options of one are new in PostgreSQL 16
    FOR granted IN
      SELECT g.rolname, bool_or(m.admin_option) AS admin,
        bool_or(COALESCE((to_jsonb(m) ->> 'inherit_option')::bool, true)) AS inherit,
        bool_or(COALESCE((to_jsonb(m) ->> 'set_option')::bool, true)) AS settable
      FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
      WHERE m.member = held.oid AND g.rolname <> {owner} AND g.rolname <> ALL ({logins})
      GROUP BY g.rolname
    LOOP
      EXECUTE format('GRANT %I TO %I', granted.rolname, {owner})
        || CASE WHEN version >= 160000 THEN format(' WITH ADMIN %s, INHERIT %s, SET %s', granted.admin::text,
          granted.inherit::text, granted.settable::text) WHEN granted.admin THEN ' WITH ADMIN OPTION' ELSE '' END;
    END LOOP;
    -- Grants
    FOR granted IN
      SELECT a.privilege_type || COALESCE(' (' || quote_ident(o.attribute) || ')', '') AS privilege,
        o.object, a.is_grantable
      FROM (
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass, NULL::name, relacl
          FROM pg_class
        UNION ALL SELECT 'TABLE ' || attrelid::regclass, attname, attacl FROM pg_attribute WHERE NOT attisdropped
        UNION ALL SELECT format('SCHEMA %I', nspname), NULL, nspacl FROM pg_namespace
        UNION ALL SELECT routine || oid::regprocedure, NULL, proacl FROM pg_proc
        UNION ALL SELECT 'TYPE ' || oid::regtype, NULL, typacl FROM pg_type
        UNION ALL SELECT format('LANGUAGE %I', lanname), NULL, lanacl FROM pg_language
        UNION ALL SELECT format('DATABASE %I', datname), NULL, datacl FROM pg_database
        UNION ALL SELECT format('TABLESPACE %I', spcname), NULL, spcacl FROM pg_tablespace
        UNION ALL SELECT format('FOREIGN DATA WRAPPER %I', fdwname), NULL, fdwacl FROM pg_foreign_data_wrapper
        UNION ALL SELECT format('FOREIGN SERVER %I', srvname), NULL, srvacl FROM pg_foreign_server
        UNION ALL SELECT format('LARGE OBJECT %s', oid), NULL, lomacl FROM pg_largeobject_metadata
      ) AS o (object, attribute, acl), aclexplode(o.acl) AS a
      WHERE a.grantee = held.oid
    LOOP
      EXECUTE format('GRANT %s ON %s TO %I', granted.privilege, granted.object, {owner})
        || CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END;
    END LOOP;
    -- Default privileges: what others grant to the login, and what the login grants to others
    FOR granted IN
      SELECT CASE WHEN d.defaclrole = held.oid THEN {owner} ELSE m.rolname END AS maker,
        CASE WHEN n.nspname IS NULL THEN '' ELSE format(' IN SCHEMA %I', n.nspname) END AS place,
        a.privilege_type AS privilege, a.is_grantable,
        CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
          WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS objects,
        CASE WHEN a.grantee = held.oid THEN quote_ident({owner}) WHEN a.grantee = 0 THEN 'PUBLIC'
          ELSE quote_ident(g.rolname) END AS grantee
      FROM pg_default_acl AS d JOIN pg_roles AS m ON m.oid = d.defaclrole
        LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
        CROSS JOIN aclexplode(d.defaclacl) AS a LEFT JOIN pg_roles AS g ON g.oid = a.grantee
      WHERE held.oid IN (d.defaclrole, a.grantee)
    LOOP
      EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s GRANT %s ON %s TO %s', granted.maker, granted.place,
        granted.privilege, granted.objects, granted.grantee)
        || CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END;
    END LOOP;
    -- What the login does not grant to everyone
    FOR granted IN
      SELECT CASE d.defaclobjtype WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END AS objects
      FROM pg_default_acl AS d WHERE d.defaclrole = held.oid AND d.defaclnamespace = 0 AND d.defaclobjtype IN ('f', 'T')
        AND NOT EXISTS (SELECT FROM aclexplode(d.defaclacl) AS a WHERE a.grantee = 0)
    LOOP
      EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE ALL ON %s FROM PUBLIC', {owner}, granted.objects);
    END LOOP;
    -- Policies
    FOR granted IN
      SELECT p.polname, p.polrelid::regclass AS object, (SELECT string_agg(quote_ident(r.rolname), ', ')
        FROM pg_roles AS r WHERE r.oid = ANY (p.polroles)) AS roles
      FROM pg_policy AS p WHERE held.oid = ANY (p.polroles)
        AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = {owner} AND r.oid = ANY (p.polroles))
    LOOP
      EXECUTE format('ALTER POLICY %I ON %s TO %s, %I', granted.polname, granted.object, granted.roles, {owner});
    END LOOP;
    -- User mappings of foreign servers
    FOR granted IN
      SELECT u.srvname, (SELECT string_agg(format('%I %L', o.option_name, o.option_value), ', ')
        FROM pg_options_to_table(u.umoptions) AS o) AS options
      FROM pg_user_mappings AS u WHERE u.umuser = held.oid
    LOOP
      EXECUTE format('CREATE USER MAPPING IF NOT EXISTS FOR %I SERVER %I', {owner}, granted.srvname)
        || COALESCE(format(' OPTIONS (%s)', granted.options), '');
    END LOOP;
    EXECUTE format('GRANT %I TO %I', {owner}, held.rolname)
      || CASE WHEN version >= 160000 THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
    EXECUTE format('REASSIGN OWNED BY %I TO %I', held.rolname, {owner});
  END LOOP;
END $lockstep$"""

VERIFY_RIGHTS = """DO $lockstep$
DECLARE
  left_over text;
BEGIN
  SELECT string_agg(format('%s of %s', pg_describe_object(d.classid, d.objid, d.objsubid), r.rolname), '; ')
  INTO left_over
  FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid AND d.refclassid = 'pg_authid'::regclass
  WHERE r.rolname = ANY ({logins}) AND d.deptype IN ('o', 'a', 'r')
    AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND NOT (d.deptype = 'o' AND d.classid IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass))
    AND (d.deptype = 'o' OR NOT EXISTS (SELECT FROM pg_shdepend AS e JOIN pg_roles AS n ON n.oid = e.refobjid
      WHERE n.rolname = {owner} AND e.refclassid = d.refclassid AND e.deptype IN ('o', 'a', 'r')
        AND (e.dbid, e.classid, e.objid) = (d.dbid, d.classid, d.objid) AND e.objsubid IN (0, d.objsubid)));
  IF left_over IS NOT NULL THEN
    RAISE EXCEPTION 'Lockstep stops: not given to %: %', {owner}, left_over;
  END IF;
END $lockstep$"""

# A schema named like the login is first in the search path by "$user", which means the owner role from now on.
SWITCH = """DO $lockstep$
DECLARE
  held record;
  path text;
  home name := (SELECT nspname FROM pg_namespace WHERE nspname = ANY ({logins})
    ORDER BY array_position({logins}, nspname) LIMIT 1);
BEGIN
  FOR held IN SELECT * FROM pg_roles WHERE rolname = ANY ({logins}) LOOP
    SELECT substr(c.entry, strpos(c.entry, '=') + 1) INTO path
    FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c (entry)
    WHERE c.entry LIKE 'search_path=%' AND s.setrole IN (held.oid, 0)
      AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1;
    path := COALESCE(path, (SELECT reset_val FROM pg_settings WHERE name = 'search_path'));
    IF home IS NOT NULL AND strpos(path, '"$user"') > 0 THEN
      EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path TO %s', held.rolname, current_database(),
        replace(path, '"$user"', quote_ident(COALESCE(
          (SELECT nspname FROM pg_namespace WHERE nspname = held.rolname), home))));
    END IF;
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET role TO %I', held.rolname, current_database(), {owner});
  END LOOP;
END $lockstep$"""

CHANGE_OWN = "change_own"
"""The function by which the rotator admin's roles change each other, in a schema with the name of the owner role."""

# Roles that change each other by ADMIN OPTION would be members of each other. So a role that nobody logs in as has that
# option, and lends this one use of it (https://www.postgresql.org/docs/current/sql-createfunction.html).
OWN_PASSWORDS = """DO $lockstep$ BEGIN
  IF EXISTS (SELECT FROM pg_namespace WHERE nspname = {owner} AND nspowner <> (
      SELECT oid FROM pg_roles WHERE rolname = {owner})) THEN
    RAISE EXCEPTION 'Lockstep stops: the schema % belongs to another role: drop it', {owner};
  END IF;
  EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', {owner}, {owner});
  EXECUTE format('CREATE OR REPLACE FUNCTION %I.{function}(login name, verifier text) RETURNS void
      LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
      IF login <> ALL (%L::name[]) OR verifier NOT LIKE ''SCRAM-SHA-256$%%'' THEN
        RAISE insufficient_privilege;
      END IF;
      EXECUTE format(''ALTER ROLE %%I PASSWORD %%L'', login, verifier);
    END $body$', {owner}, {logins});
  EXECUTE format('ALTER FUNCTION %I.{function}(name, text) OWNER TO %I', {owner}, {owner});
  EXECUTE format('REVOKE ALL ON FUNCTION %I.{function}(name, text) FROM PUBLIC', {owner});
END $lockstep$"""

VERIFY_ROTATOR = """DO $lockstep$
DECLARE
  rotator name;
  unreachable text;
BEGIN
  FOREACH rotator IN ARRAY {rotators} LOOP
    IF NOT (SELECT rolcreaterole FROM pg_roles WHERE rolname = rotator) THEN
      RAISE EXCEPTION 'Lockstep stops: % cannot change roles: CREATEROLE', rotator;
    END IF;
    SELECT string_agg(l.login, ', ') INTO unreachable FROM unnest({logins}) AS l (login)
    WHERE current_setting('server_version_num')::int >= 160000 AND NOT EXISTS (
      SELECT FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid JOIN pg_roles AS r ON r.oid = m.member
      WHERE g.rolname = l.login AND r.rolname = rotator AND m.admin_option);
    IF unreachable IS NOT NULL THEN
      RAISE EXCEPTION 'Lockstep stops: % lacks ADMIN OPTION for %', rotator, unreachable;
    END IF;
  END LOOP;
END $lockstep$"""
