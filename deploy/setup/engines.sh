#!/usr/bin/env bash
# Makes sure the engines that the sandbox starts are installed: PostgreSQL, MariaDB, what builds their token checks,
# Java and Maven for the servers that come from Maven Central, and the clients that tests and demo speak with. With
# BENCH=1 also the peers that `make bench` measures against.
# Quick when everything is there, and never starts or leaves a system service.
set -euo pipefail

missing=()
want() { # want PACKAGE TEST...: PACKAGE is missing when TEST fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
server_binary() { compgen -G "/usr/lib/postgresql/*/bin/postgres"; }
mariadb_server() { PATH=$PATH:/usr/sbin command -v mariadbd && test -e /usr/lib/mysql/plugin/auth_pam_v1.so; }
nutcracker_program() { PATH=$PATH:/usr/sbin command -v nutcracker; }
java_17() { [ "$(java -version 2>&1 | sed -nE '1s/.*version "([0-9]+).*/\1/p')" -ge 17 ]; }
nginx_program() { PATH=$PATH:/usr/sbin command -v nginx; }
haproxy_program() { PATH=$PATH:/usr/sbin command -v haproxy; }

want postgresql server_binary
want postgresql-client command -v psql
want mariadb-server mariadb_server
want mariadb-client command -v mariadb
want sysbench command -v sysbench
want haproxy haproxy_program
want redis-tools command -v redis-cli
want openjdk-17-jre-headless java_17
want maven command -v mvn
want curl command -v curl
want gcc command -v gcc
want libc6-dev test -e /usr/include/stdio.h
want libpam0g-dev test -e /usr/include/security/pam_modules.h
if [ "${NODE:-}" = 1 ]; then
    want npm command -v npm
fi
if [ "${BENCH:-}" = 1 ]; then
    want pgbouncer command -v pgbouncer
    want nutcracker nutcracker_program
    want wrk command -v wrk
    want nginx-light nginx_program
fi
[ ${#missing[@]} -eq 0 ] && exit 0

install="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "==> installing from Debian: ${missing[*]}"
    # A package starts its service when it is installed; the sandbox wants the programs alone. Where systemd runs,
    # only a policy keeps it from that, and a policy that is there already is left alone.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -q >/dev/null
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    $install -q >/dev/null
    # Nor shall it start with the machine.
    if command -v systemctl >/dev/null; then
        services=()
        for package in "${missing[@]}"; do
            case $package in
                postgresql | haproxy | pgbouncer | nutcracker) services+=("$package") ;;
                mariadb-server) services+=(mariadb) ;;
                nginx-light) services+=(nginx) ;;
            esac
        done
        [ ${#services[@]} -eq 0 ] || systemctl --quiet disable "${services[@]}" 2>/dev/null || true
    fi
else
    echo "These packages are missing: ${missing[*]}" >&2
    echo "Install them: sudo $install" >&2
    # Without the engines the tests that need them skip and say so, unless they are required.
    [ "${TOLLBRIDGE_REQUIRE_ENGINES:-}" = 1 ] && exit 1
    exit 0
fi
