//! The lab: network namespaces with a gateway, providers, clients and the internet, and the faults
//! that can befall them.
