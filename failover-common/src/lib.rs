//! What the eBPF programs and the daemon share: the layout of the maps.
#![no_std]
