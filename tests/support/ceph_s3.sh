#!/usr/bin/env bash
# A small Ceph (monitor, one OSD in memory, RADOS Gateway) on the loopback, for tests and benchmarks.
# Usage: ceph_s3.sh FOLDER GATEWAY_PORT MONITOR_PORT
# Prints "ready" and runs until its standard input ends, so it never outlives whoever started it.
set -euo pipefail
D=$1 GATEWAY=$2 MONITOR=$3
mkdir -p "$D"/{mon,osd,rgw,log,sock}
cat >"$D/ceph.conf" <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon initial members = a
mon host = [v2:127.0.0.1:$MONITOR/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = $D/keyring
mon data = $D/mon
osd data = $D/osd
rgw data = $D/rgw
log file = $D/log/\$name.log
admin socket = $D/sock/\$name.asok
run dir = $D
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
auth allow insecure global id reclaim = true
osd max object name len = 256
osd max object namespace len = 64
debug ms = 0
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$GATEWAY tcp_nodelay=1
rgw enable usage log = false
rgw enable ops log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw run sync thread = false
rgw thread pool size = 64
rgw relaxed region enforcement = true
CONF
export CEPH_CONF=$D/ceph.conf

stop() {
  trap - EXIT INT TERM
  local children
  children=$(jobs -p)
  [ -z "$children" ] || kill -KILL $children 2>/dev/null || true
  wait 2>/dev/null || true
  [ -z "${READY-}" ] || rm -rf "$D" # else its logs tell why
}
trap stop EXIT INT TERM

# Ends the script as soon as the starter's end of the pipe closes, even while it still starts up.
exec 3<&0
{ cat <&3 >/dev/null; kill -TERM $$; } 2>/dev/null &
exec 3<&- </dev/null

ceph-authtool --create-keyring "$D/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
for name in client.admin client.rgw osd.0; do
  ceph-authtool "$D/keyring" --gen-key -n $name \
    --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
done
monmaptool --create --addv a "[v2:127.0.0.1:$MONITOR]" \
  --fsid "$(sed -n 's/^fsid = //p' "$D/ceph.conf")" "$D/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$D/monmap" --keyring "$D/keyring"
ceph-mon -f -i a >"$D/log/mon.out" 2>&1 &
OSD=$(cat /proc/sys/kernel/random/uuid)
timeout 300 ceph osd new "$OSD" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$OSD" >"$D/log/mkfs.out" 2>&1
ceph-osd -f -i 0 >"$D/log/osd.out" 2>&1 &
radosgw -f -n client.rgw >"$D/log/rgw.out" 2>&1 &
RADOSGW=$!
until (: </dev/tcp/127.0.0.1/"$GATEWAY") 2>/dev/null; do
  kill -0 $RADOSGW # which ends the script if it has ended; it gives up by itself after 300 s
  sleep 0.1
done
for user in dev other; do
  radosgw-admin -n client.rgw user create --uid=$user --display-name=$user \
    --access-key=${user}key --secret-key=${user}secret >/dev/null
done
READY=1
echo ready
wait
