-- What every MariaDB of the sandbox holds. Read once, into the template that the servers are copied from.
USE mysql;
DELETE FROM global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');
CREATE DATABASE app;
USE app;
CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR(100) NOT NULL, total DECIMAL(10, 2) NOT NULL);
INSERT INTO orders VALUES (1, 'Ada', 19.90), (2, 'Grace', 120.00), (3, 'Edsger', 7.25);
CREATE TABLE readings (id INT PRIMARY KEY, payload CHAR(32) NOT NULL, sensor INT NOT NULL);
INSERT INTO readings SELECT seq, MD5(seq), seq % 97 FROM seq_1_to_10000;
