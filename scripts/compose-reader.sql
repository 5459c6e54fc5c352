-- Create the role `tangent_reader`, which can only read the tables that Optuna's dashboard shows. Can be run repeatedly. For psql.
\if :{?password}
\else
    \set password `cat /run/secrets/reader_password`
\endif
DO $$
BEGIN
    IF to_regclass('trial_values') IS NULL THEN
        RAISE EXCEPTION 'Optuna''s tables do not exist yet: the first finished trial creates them; finish a trial, then run this again';
    END IF;
END
$$;
SELECT 'CREATE ROLE tangent_reader LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tangent_reader') \gexec
ALTER ROLE tangent_reader WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 20 PASSWORD :'password';
ALTER ROLE tangent_reader SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA public TO tangent_reader;
-- Only Optuna's tables: Tangent's own tables contain digests of API tokens.
GRANT SELECT ON
    alembic_version, version_info, studies, study_directions, study_system_attributes, study_user_attributes, trials, trial_heartbeats,
    trial_intermediate_values, trial_params, trial_system_attributes, trial_user_attributes, trial_values
TO tangent_reader;
