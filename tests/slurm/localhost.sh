#!/bin/bash
# Starts SLURM with munge on this machine, everything in one folder, and stops what it started.
#
#   localhost.sh start FOLDER    then use it with SLURM_CONF=FOLDER/slurm.conf and FOLDER/bin in PATH
#   localhost.sh stop FOLDER
#
# Needs root and Debian's packages slurm-wlm and munge. One node, two CPUs, no accounting.
set -euo pipefail

folder=$2
mkdir -p "$folder"
folder=$(realpath "$folder")

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
    mkdir -p "$folder"/{state,spool}
    dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
    chmod 400 "$folder/munge.key"
    # Forced, for the folder is one of a test and no system's.
    munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" \
        --pid-file "$folder/munged.pid" --log-file "$folder/munged.log" --seed-file "$folder/munge.seed"
    cat >"$folder/slurm.conf" <<END
ClusterName=localhost
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge=3600
KillWait=5
SchedulerParameters=sched_interval=1,batch_sched_delay=0
JobRequeue=1
NodeName=localhost NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
END
    # Snakemake's job steps lose SLURM_CONF.
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$folder/slurm.conf" "$(command -v srun)" >"$folder/bin/srun"
    # Snakemake asks after 1, 11, 21 ... seconds as long as no job of its name has ended. So an answer
    # waits until one more has, for half a minute at most.
    cat >"$folder/bin/squeue" <<END
#!/bin/bash
for _ in {1..100}; do
    told=\$($(command -v squeue) "\$@") || exit
    [[ " \$* " = *" --name "* ]] || break
    ended=\$(grep -cE 'COMPLETED|CANCELLED|FAILED' <<<"\$told")
    [ "\$ended" = "\$(cat "$folder/ended" 2>/dev/null || echo 0)" ] || break
    sleep 0.3
done
[ -z "\$ended" ] || echo "\$ended" >"$folder/ended"
echo "\$told"
END
    chmod +x "$folder"/bin/*
    export SLURM_CONF=$folder/slurm.conf
    slurmctld
    slurmd -N localhost
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format %T 2>&1)" = idle ] && return
        sleep 0.2
    done
    echo "the node does not come up: $(sinfo --noheader --format %T 2>&1); see $folder/slurm*.log" >&2
    return 1
}

# Jobs are ended first: what is left of them would outlive the daemons.
stop() {
    export SLURM_CONF=$folder/slurm.conf
    scancel --user "$(id -un)" 2>/dev/null || true
    for _ in $(seq 100); do
        [ -n "$(squeue --noheader 2>/dev/null)" ] || break
        sleep 0.1
    done
    for daemon in slurmd slurmctld munged; do
        [ -f "$folder/$daemon.pid" ] || continue
        pid=$(cat "$folder/$daemon.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

"$1"
