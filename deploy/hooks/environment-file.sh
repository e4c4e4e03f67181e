#!/bin/sh
# Leads a service on this machine to the database that is serving now: writes its environment file, and restarts it.
#
#   --hook "switch=deploy/hooks/environment-file.sh FILE SERVICE"
#
# The file holds the address only: PGHOST, PGPORT and PGDATABASE. It can be repeated, and the same hook of `rollback`
# leads the service back.
set -eu

file=$1 service=$2

# Complete or unchanged, also after a crash: the new file replaces the old one in one step.
umask 022
cat > "$file.new" <<END
PGHOST=$CONFITURE_TARGET_HOST
PGPORT=$CONFITURE_TARGET_PORT
PGDATABASE=$CONFITURE_TARGET_DATABASE
END
mv "$file.new" "$file"

systemctl restart "$service"
