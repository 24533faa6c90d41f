# Shared by the scripts in this folder: messages, packages, and the Docker Engine.
# To be sourced by bash with `set -euo pipefail`. Messages go to standard error, answers to variables.
# shellcheck shell=bash disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The image that the demo and the tests use; made by dev/sample-image.
sample_image=berth.local/demo:1

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# free_port FROM: prints the first port from FROM on that nothing listens on here.
free_port() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
    echo "$port"
}

# --- packages -----------------------------------------------------------------------------------------

on_debian() { have apt-get && have dpkg-query; }

package_is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_packages WHY PACKAGE...: installs what is missing, after saying so.
install_packages() {
    local why=$1 package missing=()
    shift
    on_debian || die "$why needs $*: please install them (this script can do so on Debian and Ubuntu only)"
    for package in "$@"; do
        package_is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || die "$why needs ${missing[*]}: run 'sudo apt-get install ${missing[*]}', or this script as root"
    say "installing ${missing[*]} with apt-get ($why)"
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install ${missing[*]}; its last lines are above"
    fi
    rm -f "$log"
}

# --- the Docker Engine --------------------------------------------------------------------------------

engine_state=/run/berth-dev          # what engine_start leaves behind for engine_stop
engine_log=$engine_state/dockerd.log # of an engine started by hand
default_engine=unix:///var/run/docker.sock
engine_patience=60 # seconds; a first start on a small machine takes about ten

# Set by engine_find and engine_start.
engine=         # its endpoint
engine_started= # non-empty when this very script started it and so has to stop it

# engine_answers ENDPOINT: whether an engine answers there. Leaves the reason in engine_problem.
engine_answers() {
    if [[ $1 == unix://* ]] && ! [ -S "${1#unix://}" ]; then
        engine_problem="there is no such socket"
    elif have docker; then
        engine_problem=$(timeout 10 docker --host "$1" version --format '{{.Server.Version}}' 2>&1 >/dev/null) && return 0
    elif have curl && [[ $1 == unix://* ]]; then
        engine_problem=$(curl --silent --show-error --fail --max-time 10 --unix-socket "${1#unix://}" \
            http://localhost/_ping 2>&1 >/dev/null) && return 0
    else
        engine_problem="neither the docker command nor curl is here to ask $1"
    fi
    return 1
}

# The endpoint that the docker command would use.
engine_endpoint() {
    if [ -n "${DOCKER_HOST:-}" ]; then
        echo "$DOCKER_HOST"
    elif have docker && docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null; then
        :
    else
        echo "$default_engine"
    fi
}

# Finds an engine that answers; sets `engine`.
engine_find() {
    engine=$(engine_endpoint)
    engine_answers "$engine"
}

# Finds an engine, or installs and starts one. Sets `engine` and `engine_started`.
engine_start() {
    if engine_find; then
        # An engine does not imply its command, which the scripts need for loading images.
        have docker || install_docker
        say "using the Docker Engine at $engine"
        return
    fi
    say "no Docker Engine answers at $engine: $engine_problem"
    if [ "$engine" != "$default_engine" ]; then
        die "start that engine, or unset DOCKER_HOST (or the docker context) to have one started at $default_engine"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if [[ $engine_problem == *"permission denied"* ]]; then
            die "join the group that owns ${engine#unix://} ('sudo usermod -aG docker $(id -un)', then log in again), or run this script as root"
        fi
        die "start Docker ('sudo systemctl start docker'), or run this script as root on Debian or Ubuntu: it then installs and starts docker.io"
    fi
    say "going to start one: package docker.io if dockerd is not there, engine on ${engine#unix://}, stopped again at the end"
    have dockerd || install_docker
    have docker || install_docker
    mkdir -p "$engine_state"

    # The package's own script may have started it by now.
    if [ -d /run/systemd/system ]; then
        engine_started=systemd
        echo systemd >"$engine_state/started"
        systemctl start docker.service || die "systemd could not start docker: see 'journalctl -u docker'"
    elif engine_answers "$engine"; then
        engine_started=package
        cp /var/run/docker.pid "$engine_state/started"
    else
        engine_started=hand
        dockerd_by_hand
    fi
    local deadline=$((SECONDS + engine_patience))
    until engine_answers "$engine"; do
        [ $SECONDS -lt $deadline ] || die "the engine was started but does not answer at $engine: $engine_problem"
        sleep 0.2
    done
    say "Docker Engine $(docker --host "$engine" version --format '{{.Server.Version}}') runs at $engine"
}

install_docker() {
    local packages=(docker.io iptables iproute2)
    # Newer releases keep the command in a package of its own.
    ! apt-cache show docker-cli >/dev/null 2>&1 || packages+=(docker-cli)
    install_packages "a Docker Engine" "${packages[@]}"
}

# Starts dockerd without an init system. Restricted hosts (containers, minimal kernels) may lack what it
# wants by default, so a failure that has a known way round is tried again with that, and said.
dockerd_by_hand() {
    local flags=() why way
    while :; do
        say "starting dockerd${flags[*]:+ ${flags[*]}} (log: $engine_log)"
        # A session of its own: Ctrl-C is for this script, which then stops the engine in its own order.
        setsid dockerd --host "$engine" "${flags[@]}" >"$engine_log" 2>&1 </dev/null &
        local pid=$! deadline=$((SECONDS + engine_patience))
        echo "$pid" >"$engine_state/started"
        while kill -0 "$pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
            ! engine_answers "$engine" || return 0
            sleep 0.2
        done
        if kill -0 "$pid" 2>/dev/null; then
            kill "$pid"
            engine_end "$pid"
            say "dockerd did not answer within $engine_patience seconds; its last lines:"
        else
            say "dockerd ended; its last lines:"
        fi
        why=$(sed -n '/^failed to start daemon/,$p' "$engine_log")
        [ -n "$why" ] || why=$(tail -n 8 "$engine_log")
        printf '%s\n' "$why" | sed 's/^/    /' >&2
        way=$(way_round "$why")
        if [ -z "$way" ] || [[ " ${flags[*]} " == *" $way "* ]]; then
            rm -f "$engine_state/started"
            die "dockerd does not start on this host; its log is $engine_log"
        fi
        flags+=("$way")
    done
}

# way_round LOG: the dockerd flag that gets past what the log complains of, or nothing.
way_round() {
    case $1 in
    *graphdriver* | *"storage driver"* | *"storage-driver"*) echo --storage-driver=vfs ;;
    *iptables* | *ip6tables* | *NAT*) echo --iptables=false ;;
    *"Error creating default \"bridge\" network"* | *"default bridge"*) echo --bridge=none ;;
    esac
}

# Stops the engine that engine_start has started, in this script or in an earlier one.
engine_stop() {
    local started
    started=$(cat "$engine_state/started" 2>/dev/null) || {
        say "no engine was started from here"
        return 0
    }
    if [ "$started" = systemd ]; then
        systemctl stop docker.socket docker.service
    elif [ "$(cat "/proc/$started/comm" 2>/dev/null)" = dockerd ]; then
        kill "$started"
        engine_end "$started" || die "dockerd (process $started) does not end; its log is $engine_log"
    fi
    rm -f "$engine_state/started"
    say "stopped the Docker Engine"
}

# engine_end PID: waits until the process is gone.
engine_end() {
    local deadline=$((SECONDS + engine_patience))
    while [ -d "/proc/$1" ] && [ "$(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null)" != Z ]; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}
