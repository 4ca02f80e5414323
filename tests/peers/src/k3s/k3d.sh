#!/usr/bin/env bash
# Stands for k3d's command line where that cannot be had: does to a Docker Engine what k3d 5.9 does to
# it, as far as we ask for it, and checks less. Its configuration file is read as we write it.
set -euo pipefail

fail() { printf '\033[31mFATA\033[0m[0000] %s\n' "$1" >&2; exit 1; }
nodes() { docker ps -aq --no-trunc --filter label=app=k3d --filter "label=k3d.cluster=$1" --filter label=k3d.role; }
label() { docker inspect --format "{{index .Config.Labels \"$2\"}}" "$1"; }
# The first value of a key in the file.
value() { sed -n "s/^ *\(- \)\?$1: \"\?\([^\"]*\)\"\?$/\2/p" "$config" | head -n 1; }
values() { sed -n "s/^ *\(- \)\?$1: \"\?\([^\"]*\)\"\?$/\2/p" "$config"; }

free_port() {
    local port
    for port in $(shuf -i 20000-29999 -n 20); do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# Waits until a node has said these words since it was started.
said() {
    local since end=$((SECONDS + 200))
    since=$(docker inspect --format '{{.State.StartedAt}}' "$1")
    until docker logs --since "$since" "$1" 2>&1 | grep -q "$2"; do
        ((SECONDS < end)) || fail "$1 has not said: $2"
        [[ $(docker inspect --format '{{.State.Status}}' "$1") == running ]] || fail "$1 has ended"
        sleep 0.2
    done
}

words_of() { [[ $1 == server ]] && echo "k3s is up and running" || echo "Successfully registered node"; }

start() {
    local role one
    for role in server agent; do
        for one in $(docker ps -aq --filter "label=k3d.cluster=$1" --filter "label=k3d.role=$role"); do
            [[ $(docker inspect --format '{{.State.Running}}' "$one") == true ]] || docker start "$one" >/dev/null
            said "$one" "$(words_of "$role")"
        done
    done
}

node() {
    local role=$1 number=$2
    shift 2
    docker create --name "k3d-$name-$role-$number" --hostname "k3d-$name-$role-$number" --privileged \
        --restart unless-stopped --tmpfs /run --tmpfs /var/run --network "$network" \
        --label app=k3d --label "k3d.cluster=$name" --label "k3d.role=$role" --label "$owner" \
        --label "k3d.server.api.port=$port" --env "K3S_TOKEN=$token" \
        --env K3S_KUBECONFIG_OUTPUT=/output/kubeconfig.yaml \
        --volume "k3d-$name-images:/k3d/images" "$@" >/dev/null
}

create() {
    config=$1
    name=$(value name) image=$(value image) network=$(value network) owner=$(value label)
    local token=$RANDOM$RANDOM port options=() number args
    port=$(free_port)
    for one in $(values port); do options+=(--publish "$one"); done
    mapfile -t args < <(values arg)
    docker image inspect "${K3D_IMAGE_TOOLS:-ghcr.io/k3d-io/k3d-tools:5.9.0}" >/dev/null || fail "failed to ensure tools node"
    docker volume create --label app=k3d --label "k3d.cluster=$name" "k3d-$name-images" >/dev/null
    node server 0 "${options[@]}" --publish "127.0.0.1:$port:6443" "$image" server "${args[@]}" --tls-san 127.0.0.1
    for ((number = 0; number < $(value agents); number++)); do
        node agent "$number" --env "K3S_URL=https://k3d-$name-server-0:6443" "$image" agent
    done
    (start "$name") || { delete "$name"; fail "Cluster creation FAILED, all changes have been rolled back!"; }
}

delete() {
    nodes "$1" | xargs -r docker rm --force --volumes >/dev/null
    docker volume rm "k3d-$1-images" >/dev/null
}

list() {
    local cluster one between= comma
    printf '['
    for cluster in $(for one in $(docker ps -aq --filter label=k3d.role); do label "$one" k3d.cluster; done | sort -u); do
        printf '%s{"name":"%s","nodes":[' "$between" "$cluster"
        between=, comma=
        for one in $(nodes "$cluster"); do
            printf '%s{"name":"%s","role":"%s","State":%s}' "$comma" "$(docker inspect --format '{{slice .Name 1}}' "$one")" \
                "$(label "$one" k3d.role)" "$(docker inspect --format '{"Running":{{.State.Running}},"Status":"{{.State.Status}}","Started":""}' "$one")"
            comma=,
        done
        printf ']}'
    done
    printf ']\n'
}

kubeconfig() {
    local server="k3d-$1-server-0"
    docker cp "$server:/output/kubeconfig.yaml" - | tar -xO |
        sed -e "s#127.0.0.1:6443#127.0.0.1:$(label "$server" k3d.server.api.port)#" \
            -e "s/\(name\|context\|cluster\|user\): default/\1: k3d-$1/g"
}

import() {
    local one
    for one in $(nodes "$2"); do
        docker exec -i "$one" ctr image import --all-platforms - <"$1" >/dev/null
    done
}

case "$1 ${2:-}" in
"version --output") echo '{"k3d":"v5.9.0","k3s":"v1.34.2-k3s1"}' ;;
"cluster list") list ;;
"cluster create") create "$4" ;;
"cluster start") start "$3" ;;
"cluster stop") nodes "$3" | xargs docker stop >/dev/null ;;
"cluster delete") delete "$3" ;;
"kubeconfig get") kubeconfig "$3" ;;
"image import") import "$3" "$5" ;;
*) fail "unknown command $*" ;;
esac
