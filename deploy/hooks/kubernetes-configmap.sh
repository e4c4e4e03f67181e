#!/bin/sh
# Leads an application in Kubernetes to the database that is serving now, and waits until its pods use it.
#
#   --hook "switch=deploy/hooks/kubernetes-configmap.sh NAMESPACE CONFIGMAP DEPLOYMENT"
#
# The ConfigMap holds the address only: PGHOST, PGPORT and PGDATABASE. The role and the password stay in a Secret.
# It can be repeated, and the same hook of `rollback` leads the application back.
set -eu

namespace=$1 configmap=$2 deployment=$3

kubectl --namespace "$namespace" create configmap "$configmap" \
    --from-literal="PGHOST=$CONFITURE_TARGET_HOST" \
    --from-literal="PGPORT=$CONFITURE_TARGET_PORT" \
    --from-literal="PGDATABASE=$CONFITURE_TARGET_DATABASE" \
    --dry-run=client --output=yaml |
    kubectl --namespace "$namespace" apply --filename=-

# Pods read a ConfigMap in their environment only when they start.
kubectl --namespace "$namespace" rollout restart "deployment/$deployment"
kubectl --namespace "$namespace" rollout status "deployment/$deployment" --timeout=5m
