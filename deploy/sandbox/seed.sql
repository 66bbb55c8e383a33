-- What every sandbox database server holds. Run once, into the template that the servers are copied from.
CREATE ROLE rds_iam NOLOGIN;
CREATE ROLE app LOGIN IN ROLE rds_iam;
CREATE ROLE readonly LOGIN IN ROLE rds_iam;
CREATE ROLE admin LOGIN CREATEDB IN ROLE rds_iam;

-- Password roles, one per authentication method. The words are no secrets: these servers hold nothing and listen on
-- loopback only.
SET password_encryption = 'md5';
CREATE ROLE md5user LOGIN PASSWORD 'sandbox-md5user-password';
SET password_encryption = 'scram-sha-256';
CREATE ROLE scramuser LOGIN PASSWORD 'sandbox-scramuser-password';
CREATE ROLE cleartextuser LOGIN PASSWORD 'sandbox-cleartextuser-password';

CREATE DATABASE app OWNER app;
\connect app
GRANT ALL ON SCHEMA public TO app, admin;
CREATE TABLE orders (id integer PRIMARY KEY, customer text NOT NULL, total numeric(10, 2) NOT NULL);
INSERT INTO orders VALUES (1, 'Ada', 19.90), (2, 'Grace', 120.00), (3, 'Edsger', 7.25);
CREATE TABLE readings AS
    SELECT n AS id, md5(n::text) AS payload, n % 97 AS sensor FROM generate_series(1, 10000) AS n;
ALTER TABLE orders OWNER TO app;
ALTER TABLE readings OWNER TO app;
GRANT SELECT ON orders, readings TO readonly, md5user, scramuser, cleartextuser;
GRANT ALL ON orders, readings TO admin;
VACUUM ANALYZE;
