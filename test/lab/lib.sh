# Shared by up, heal and down: names and addresses of the lab, and what makes or removes one host of it.
# shellcheck shell=bash

set -euo pipefail
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

lab=/run/baton/lab
pins=/sys/fs/bpf/baton
vip4=10.77.0.100
vip6=fd77::100
switch=baton-sw
bridge=br0

fail() {
  echo "lab: $*" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || fail "needs root: it makes network namespaces"
}

# One of up, heal and down at a time; waits for the other, but not for ever. /run is where the lab's names are.
lock() {
  exec 9</run
  flock -w 120 9 || fail "another lab command has been busy for 120 s"
}

# The unified hierarchy, wherever this machine has it.
find_cgroup() {
  cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
  if [ -z "$cgroups" ]; then
    cgroups=/sys/fs/cgroup/unified
    mkdir -p $cgroups 2>/dev/null || fail "no cgroup2 is mounted and $cgroups cannot be made"
    mount -t cgroup2 cgroup2 $cgroups || fail "cgroup2 cannot be mounted on $cgroups"
  fi
  group=$cgroups/baton
}

mount_bpffs() {
  awk '$2 == "/sys/fs/bpf" && $3 == "bpf" { found = 1 } END { exit !found }' /proc/self/mounts ||
    mount -t bpf bpf /sys/fs/bpf || fail "no BPF file system on /sys/fs/bpf and none can be mounted"
}

# number_of HOST: last part of its addresses.
number_of() {
  case $1 in
    client) echo 10 ;;
    lb*) echo "${1#lb}" ;;
    s*) echo $((100 + ${1#s})) ;;
  esac
}

# hosts_of SERVERS: every host with an interface.
hosts_of() {
  echo client lb1
  for i in $(seq 1 "$1"); do echo "s$i"; done
}

# The addresses' last part is decimal in both families: 10.77.0.101 and fd77::101.
address4_of() { echo "10.77.0.$(number_of "$1")"; }
address6_of() { echo "fd77::$(number_of "$1")"; }

in_ns() {
  local ns=$1
  shift
  nsenter --net="/run/netns/baton-$ns" -- "$@"
}

# set_in NS: reads lines `path value` below /proc/sys/net and writes them there; a path that this kernel lacks is left out.
set_in() {
  in_ns "$1" bash -c 'while read -r path value; do
    [ ! -e "/proc/sys/net/$path" ] || echo "$value" >"/proc/sys/net/$path"; done'
}

make_switch() {
  ip netns add $switch
  ip -n $switch link set lo up
  set_in sw <<END
ipv6/conf/default/disable_ipv6 1
ipv6/conf/all/disable_ipv6 1
END
  ip -n $switch link add $bridge type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  ip -n $switch link set $bridge up
  # A bridge that asks netfilter drops redirected frames without a word.
  set_in sw <<END
bridge/bridge-nf-call-iptables 0
bridge/bridge-nf-call-ip6tables 0
bridge/bridge-nf-call-arptables 0
END
}

# make_host HOST: namespace, cable to the switch, addresses; complete when it returns.
make_host() {
  local host=$1 ns=baton-$1 mac
  mac=$(printf '02:ba:70:00:00:%02x' "$(number_of "$host")")
  ip netns add "$ns"
  set_in "$host" <<END
ipv6/conf/default/disable_ipv6 0
ipv6/conf/all/disable_ipv6 0
ipv6/conf/default/accept_dad 0
ipv6/conf/default/accept_ra 0
ipv6/conf/default/router_solicitations 0
ipv6/conf/default/keep_addr_on_down 1
ipv6/conf/all/keep_addr_on_down 1
ipv4/conf/default/rp_filter 0
ipv4/conf/all/rp_filter 0
END
  ip -n $switch link add "$host" type veth peer name eth0 netns "$ns" address "$mac"
  ip -n $switch -batch - <<END
link set $host master $bridge
link set $host up
END
  ip -n "$ns" -batch - <<END
link set lo up
link set eth0 up
addr add $(address4_of "$host")/24 dev eth0
addr add $(address6_of "$host")/64 dev eth0 nodad
END
  # XDP redirects frames into this port; only with NAPI, which gro switches on, do they arrive.
  in_ns sw ethtool -K "$host" gro on 2>/dev/null || true
  case $host in
    client) ip -n "$ns" route add 224.0.0.0/4 dev eth0 ;;
    lb*) make_appliance "$host" ;;
    s*) make_server "$host" ;;
  esac
}

make_appliance() {
  ip -n "baton-$1" -batch - <<END
addr add $vip4/32 dev eth0
addr add $vip6/128 dev eth0 nodad
END
  # XDP frames lose the mark of a partial checksum, so the switch completes them on this one port. The queue pushes
  # back when packets that were held are let go faster than the veth ring takes them.
  in_ns sw ethtool -K "$1" tx off gro on >/dev/null
  in_ns "$1" ethtool -K eth0 gro on >/dev/null
  in_ns "$1" tc qdisc replace dev eth0 root pfifo limit 20000
}

make_server() {
  # The VIP lies on lo and is never announced: the appliance alone answers for it.
  set_in "$1" <<END
ipv4/conf/all/arp_ignore 1
ipv4/conf/all/arp_announce 2
ipv4/conf/eth0/arp_ignore 1
ipv4/conf/eth0/arp_announce 2
ipv4/conf/eth0/rp_filter 0
ipv4/tcp_dsack 0
ipv4/tcp_ecn 0
ipv4/tcp_fastopen 0
core/somaxconn 16384
ipv4/tcp_max_syn_backlog 16384
END
  ip -n "baton-$1" -batch - <<END
addr add $vip4/32 dev lo
addr add $vip6/128 dev lo nodad
END
}

# remove_host HOST: its processes, namespace, cable and pins; quiet about what is not there.
remove_host() {
  local host=$1
  kill_group "$host"
  ip -n $switch link del "$host" 2>/dev/null || true
  ip netns del "baton-$host" 2>/dev/null || true
  rm -rf "${pins:?}/$host"
}

# kill_group NAME: everything in this cgroup at once, stopped or not; waits until the kernel lets it and what is below it go, which
# may be a little after the last process is gone from the list.
kill_group() {
  local folder=$group/$1 i
  for i in $(seq 1 500); do
    [ -d "$folder" ] || return 0
    if [ -e "$folder/cgroup.kill" ]; then echo 1 >"$folder/cgroup.kill"; else
      xargs -r kill -KILL <"$folder/cgroup.procs" 2>/dev/null || true
    fi
    find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.01
  done
  echo "lab: $folder does not become empty" >&2
}

# start_daemon HOST PIDFILE LOG COMMAND...: in the host's namespace and cgroup, in a session of its own, holding none of
# the caller's descriptors. The process joins the cgroup before it opens a socket: membership is fixed there.
start_daemon() {
  local host=$1 pidfile=$2 log=$3
  shift 3
  mkdir -p "$group/$host" "$lab/$host"
  setsid -f bash -c '
    procs=$1 pidfile=$2 log=$3 netns=$4
    shift 4
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      [ "$fd" -le 2 ] || eval "exec $fd>&-" 2>/dev/null
    done
    exec </dev/null >>"$log" 2>&1
    echo $$ >"$procs"
    echo $$ >"$pidfile"
    exec nsenter --net="$netns" -- "$@"
  ' start "$group/$host/cgroup.procs" "$lab/$host/$pidfile" "$lab/$host/$log" "/run/netns/baton-$host" "$@"
}

# start_application HOST: what generates responses, behind the host's nginx.
start_application() {
  start_daemon "$1" application.pid application.log "$(command -v node)" "$root/dist/test/lab/application.js" 8082
}

# start_upstream HOST: the nginx that the host's agent stands before, serving the lab's content, one process.
start_upstream() {
  local folder=$lab/$1 content
  content=$(. $lab/env && declare -n own="CONTENT_$1" && echo "${own:-$CONTENT}")
  mkdir -p "$folder/nginx"
  cat >"$folder/nginx/nginx.conf" <<END
user root;
daemon off;
master_process off;
pid $folder/nginx/pid;
events { worker_connections 8192; }
http {
  access_log off;
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path $folder/nginx;
  proxy_temp_path $folder/nginx;
  fastcgi_temp_path $folder/nginx;
  uwsgi_temp_path $folder/nginx;
  scgi_temp_path $folder/nginx;
  server {
    listen 127.0.0.1:8081 backlog=4096;
    root $content;
    location /trailed/ {
      alias $content/;
      add_trailer X-Checksum "of \$uri";
      add_trailer Set-Cookie "behind=1";
    }
    location /app/ {
      proxy_pass http://127.0.0.1:8082;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
      client_max_body_size 0;
    }
  }
}
END
  start_daemon "$1" upstream.pid upstream.log "$(command -v nginx)" -e stderr -c "$folder/nginx/nginx.conf"
}

start_host() {
  local baton=$root/dist/controller/cli/main.js
  case $1 in
    lb*) start_daemon "$1" controller.pid controller.log "$(command -v node)" "$baton" controller --config "$config" --id "$1" ;;
    s*) start_daemon "$1" supervisor.pid agent.log "$(command -v node)" "$baton" agent --config "$config" --id "$1" ;;
  esac
}

# runs HOST PIDFILE: whether the process of that file lives and is this host's.
runs() {
  local pid
  pid=$(cat "$lab/$1/$2" 2>/dev/null) || return 1
  grep -q "/baton/$1\$" "/proc/$pid/cgroup" 2>/dev/null && ! grep -q '^State:	Z' "/proc/$pid/status" 2>/dev/null
}

# Says what the daemons logged last: the reason why something did not come up is usually there.
last_words() {
  local log
  for log in $lab/*/*.log; do
    [ -s "$log" ] || continue
    echo "--- $log" >&2
    tail -n 5 "$log" >&2
  done
}

# wait_until_served: returns when every server is UP and the VIP answers in both families.
wait_until_served() {
  if ! node "$root/dist/test/lab/ready.js" "unix:$lab/lb1/api.sock" "$servers" 60; then
    last_words
    exit 1
  fi
  local url
  for url in "http://$vip4/" "http://[$vip6]/"; do
    in_ns client curl -s -o /dev/null --max-time 10 --retry 5 --retry-delay 1 --retry-all-errors "$url" ||
      { last_words; fail "every server is UP, but $url is not answered"; }
  done
}
