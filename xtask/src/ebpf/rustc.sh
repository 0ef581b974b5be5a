#!/bin/sh
# Stands between cargo and rustc (RUSTC_WRAPPER) while the eBPF object is built.
#
# cargo gives every crate an identity (`-C metadata`). For failover-common, which lies outside of the
# folder of failover-ebpf, that identity depends on where the checkout is; rustc puts it into the
# names of functions, and these stand in the object. A fixed one makes the object the same wherever
# it is built. It is unique enough: rustc mixes the crate's name in.
case " $* " in
*" --crate-name failover_"*)
    for argument do
        shift
        case $argument in
        metadata=*) argument=metadata=failover ;;
        esac
        set -- "$@" "$argument"
    done
    ;;
esac
exec "$@"
