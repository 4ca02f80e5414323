#!/usr/bin/env bash
# Plays k3s in a node of a cluster by k3d: takes the arguments and the environment that k3d gives,
# says the lines that k3d waits for, and keeps its files where k3d looks for them. What it runs is
# Kubernetes itself: its own programs, a runtime and pods. It knows what k3d asks of k3s and no more;
# an option that k3s would refuse is refused.
set -euo pipefail

DATA=/var/lib/rancher/k3s
PKI=$DATA/tls
RUN=/run/k3s
PODS=10.42.0.0/16
SERVICES=10.43.0.0/16
API_SERVICE=10.43.0.1
DNS_SERVICE=10.43.0.10
BASE=docker.io/rancher/mirrored-pause:played
export CONTAINERD_ADDRESS=$RUN/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io
# What k3d runs in the node by itself, like ctr, has it from the image.
export KUBECONFIG=/etc/rancher/k3s/k3s.yaml OPENSSL_CONF=/opt/k3s/openssl.cnf

say() { echo "time=\"$(date -Iseconds)\" level=$1 msg=\"$2\"" >&2; }
fatal() { say fatal "$1"; exit 1; }

role=${1:-}
shift || true
# What k3d says to its own helper, whose image has only to stay.
[[ $role != noop ]] || exec sleep infinity
names=() labels=() off=()
while (($#)); do
    option=${1%%=*}
    case $option in
    --tls-san | --disable | --node-label)
        if [[ $1 == *=* ]]; then value=${1#*=}; else value=${2:?} && shift; fi ;;
    --cluster-init) ;;
    *) fatal "flag provided but not defined: $1" ;;
    esac
    case $option in
    --tls-san) names+=("$value") ;;
    --node-label) labels+=("$value") ;;
    --disable) off+=("$value") ;;
    esac
    shift
done

mkdir -p $DATA/server/manifests $PKI $RUN /etc/rancher/k3s /etc/cni/net.d /output
node=$HOSTNAME
address=$(ip -4 route get 10.254.254.254 | sed -n 's/.* src \([0-9.]*\).*/\1/p;q')
[[ -n $address ]] || fatal "this node has no address"

# Runs a program for as long as the node lives; its words go to a file.
start() {
    local name=$1
    shift
    "$@" >>"/var/log/k3s-$name.log" 2>&1 &
}

# Asks until it is answered. A node that comes to nothing is ended, and its last words are shown.
until_is() {
    local what=$1 end=$((SECONDS + 120))
    shift
    until "$@" >/dev/null 2>$RUN/why; do
        ((SECONDS < end)) || { tail -n 3 /var/log/k3s-*.log $RUN/why >&2; fatal "$what is not there"; }
        sleep 0.2
    done
}

authority() {
    [[ -e $PKI/ca.crt ]] && return
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
        -subj "/CN=k3s-server-ca" -keyout $PKI/ca.key -out $PKI/ca.crt
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $PKI/accounts.key
    openssl pkey -in $PKI/accounts.key -pubout -out $PKI/accounts.pub
}

# A certificate: file, subject, names.
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" \
        -keyout "$PKI/$1.key" -out $RUN/request
    printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=%s\n' "$3" >$RUN/names
    openssl x509 -req -in $RUN/request -CA $PKI/ca.crt -CAkey $PKI/ca.key -CAcreateserial \
        -days 365 -extfile $RUN/names -out "$PKI/$1.crt"
}

certificates() {
    authority
    local all="IP:127.0.0.1,IP:$address,IP:$API_SERVICE,DNS:localhost,DNS:$node,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local" name
    for name in "${names[@]}"; do
        if [[ $name =~ ^[0-9.]+$ ]]; then all+=",IP:$name"; else all+=",DNS:$name"; fi
    done
    certificate apiserver /CN=k3s "$all"
    certificate admin /O=system:masters/CN=system:admin DNS:admin
    certificate front-proxy /CN=front-proxy-client DNS:front-proxy
}

kubeconfig() {
    local data=(base64 -w0)
    cat <<END
apiVersion: v1
kind: Config
clusters: [{ name: default, cluster: { server: "https://127.0.0.1:6443", certificate-authority-data: $("${data[@]}" $PKI/ca.crt) } }]
users: [{ name: default, user: { client-certificate-data: $("${data[@]}" $PKI/admin.crt), client-key-data: $("${data[@]}" $PKI/admin.key) } }]
contexts: [{ name: default, context: { cluster: default, user: default } }]
current-context: default
END
}

control_plane() {
    certificates 2>$RUN/why || fatal "$(cat $RUN/why)"
    kubeconfig >$KUBECONFIG
    start etcd etcd --data-dir $DATA/server/db --log-level warn --unsafe-no-fsync
    # Nodes say by this token who they are, as k3s' own do.
    printf '%s,node,node,system:masters\n' "${K3S_TOKEN:?}" >$PKI/tokens
    say info "Running kube-apiserver"
    start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 \
        --advertise-address="$address" --service-cluster-ip-range=$SERVICES --allow-privileged \
        --tls-cert-file=$PKI/apiserver.crt --tls-private-key-file=$PKI/apiserver.key \
        --client-ca-file=$PKI/ca.crt --token-auth-file=$PKI/tokens --authorization-mode=Node,RBAC \
        --kubelet-client-certificate=$PKI/admin.crt --kubelet-client-key=$PKI/admin.key \
        --kubelet-preferred-address-types=InternalIP \
        --requestheader-client-ca-file=$PKI/ca.crt --requestheader-allowed-names=front-proxy-client \
        --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
        --requestheader-username-headers=X-Remote-User --enable-aggregator-routing \
        --proxy-client-cert-file=$PKI/front-proxy.crt --proxy-client-key-file=$PKI/front-proxy.key \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-signing-key-file=$PKI/accounts.key --service-account-key-file=$PKI/accounts.pub
    start controllers kube-controller-manager --kubeconfig=$KUBECONFIG --leader-elect=false \
        --allocate-node-cidrs --cluster-cidr=$PODS --service-cluster-ip-range=$SERVICES \
        --root-ca-file=$PKI/ca.crt --service-account-private-key-file=$PKI/accounts.key \
        --use-service-account-credentials --cluster-signing-cert-file=$PKI/ca.crt --cluster-signing-key-file=$PKI/ca.key
    start scheduler kube-scheduler --kubeconfig=$KUBECONFIG --leader-elect=false
}

# How an agent gets in: by the server's name and the cluster's token.
join() {
    cat >$KUBECONFIG <<END
apiVersion: v1
kind: Config
clusters: [{ name: default, cluster: { server: "${K3S_URL:?}", insecure-skip-tls-verify: true } }]
users: [{ name: default, user: { token: "${K3S_TOKEN:?}" } }]
contexts: [{ name: default, context: { cluster: default, user: default } }]
current-context: default
END
    until_is "the server $K3S_URL" kubectl get --raw /readyz
    kubectl -n kube-system get configmap extension-apiserver-authentication \
        -o 'jsonpath={.data.client-ca-file}' >$PKI/ca.crt
}

# An image of some files of this node: name, what it runs, files.
image() {
    local name=$1 command=$2 work=$RUN/image id
    shift 2
    mkdir -p $work
    tar -cf $work/layer.tar --mtime=@0 -C / "$@"
    id=$(sha256sum <$work/layer.tar | cut -d' ' -f1)
    printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":%s,"Env":["PATH=/bin:/usr/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$command" "$id" >$work/config.json
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$name" >$work/manifest.json
    tar -cf - -C $work manifest.json config.json layer.tar | ctr images import - >/dev/null
    rm -r $work
}

images() {
    [[ -e $DATA/images ]] && return
    local one
    mkdir -p $RUN/base/bin
    cp /bin/busybox $RUN/base/bin
    for one in sh sleep mkdir chmod rm; do busybox ln -sf busybox "$RUN/base/bin/$one"; done
    image $BASE '["/bin/sleep","infinity"]' -C $RUN/base bin
    for one in coredns local-path-provisioner metrics-server; do
        image "docker.io/rancher/$one:played" "[\"/$one\"]" -C "$K3S_PLAYED_FROM" "$one"
    done
    touch $DATA/images
}

runtime() {
    cat >$DATA/containerd.toml <<END
version = 2
root = "$DATA/agent/containerd"
state = "$RUN/containerd/state"
[grpc]
address = "$CONTAINERD_ADDRESS"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$BASE"
# Where a sandbox around us forbids to lower a score, no container would start.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
END
    start containerd containerd --config $DATA/containerd.toml
    until_is containerd ctr version
    say info "Containerd is now running"
    images
}

kubelet_config() {
    cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: $PKI/ca.crt } }
containerRuntimeEndpoint: unix://$CONTAINERD_ADDRESS
clusterDomain: cluster.local
clusterDNS: [$DNS_SERVICE]
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: { memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1% }
END
}

# How this node's pods are connected: the server of the API says which addresses they get.
connected() {
    local pods
    pods=$(kubectl get node "$node" -o 'jsonpath={.spec.podCIDR}')
    [[ -n $pods ]] || return 1
    cat >/etc/cni/net.d/10-k3s.conflist <<END
{ "cniVersion": "0.4.0", "name": "cbr0", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "$pods" }]], "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": "$RUN/addresses" } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
END
}

# Pods of other nodes are behind these.
routes() {
    kubectl get nodes --watch -o 'jsonpath={.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}' |
        while read -r name pods by; do
            [[ $name == "$node" || -z $by ]] || ip route replace "$pods" via "$by" || true
        done
}

worker() {
    runtime
    kubelet_config >$DATA/kubelet.yaml
    start kubelet kubelet --config=$DATA/kubelet.yaml --kubeconfig=$KUBECONFIG --hostname-override="$node" \
        --node-ip="$address" --node-labels="$(IFS=,; echo "${labels[*]}")"
    start proxy kube-proxy --kubeconfig=$KUBECONFIG --hostname-override="$node" --proxy-mode=iptables \
        --cluster-cidr=$PODS --conntrack-max-per-core=0 --conntrack-min=0
    until_is "the node" connected
    start routes routes
}

# What every k3s runs for others, unless it is told not to.
brings_its_own() {
    local one file
    for one in coredns local-storage metrics-server; do
        [[ " ${off[*]} " == *" $one "* ]] && continue
        file=$DATA/server/manifests/$one.yaml
        [[ -e $file ]] || cp "/opt/k3s/$one.yaml" "$file"
        until_is "$one" kubectl apply --server-side --force-conflicts -f "$file"
    done
}

# k3d writes into these files, and k3s applies what was changed.
applies() {
    local one
    touch $RUN/applied
    while sleep 1; do
        for one in "$DATA"/server/manifests/*.yaml; do
            [[ $one -nt $RUN/applied ]] || continue
            touch $RUN/applied
            kubectl apply --server-side --force-conflicts -f "$one" || true
        done
    done
}

trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM INT

case $role in
server)
    control_plane
    until_is "the API" kubectl get --raw /readyz
    worker
    say info "Cluster dns configmap has been set successfully"
    brings_its_own
    start manifests applies
    kubeconfig >"${K3S_KUBECONFIG_OUTPUT:-$KUBECONFIG}"
    say info "k3s is up and running"
    ;;
agent)
    join
    worker
    say info "Successfully registered node $node"
    ;;
*) fatal "No help topic for '$role'" ;;
esac

# A node of which a part has ended is no node.
wait -n || true
tail -n 5 /var/log/k3s-*.log >&2
fatal "a part of this node has ended"
