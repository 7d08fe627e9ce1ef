//! A host → whether it is on this machine or on a private network, where text may go without encryption.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

/// Whether all addresses of a host (`name`, `name:port`, `[v6]:port`) are loopback or private ones. A name
/// without an address is not.
pub(super) fn stays_near(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or(host),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return is_near(address);
    }
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let addresses: Vec<IpAddr> =
        (name, 0).to_socket_addrs().map_or_else(|_| Vec::new(), |all| all.map(|one| one.ip()).collect());
    !addresses.is_empty() && addresses.into_iter().all(is_near)
}

fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_near_v4(v4),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| is_near_v6(v6), is_near_v4),
    }
}

/// Also 100.64/10, which carriers and VPNs use (RFC 6598).
fn is_near_v4(address: Ipv4Addr) -> bool {
    let shared = address.octets()[0] == 100 && (64..128).contains(&address.octets()[1]);
    address.is_loopback() || address.is_private() || address.is_link_local() || shared
}

fn is_near_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_near() {
        let near = [
            "localhost:80",
            "127.0.0.1",
            "127.9.9.9:1",
            "10.0.0.1",
            "192.168.1.5:8080",
            "172.20.0.1",
            "100.100.1.1",
            "169.254.1.1",
            "[::1]:8080",
            "[fd00::1]",
            "[fe80::1]:1",
            "[::ffff:10.0.0.1]:1",
        ];
        for host in near {
            assert!(stays_near(host), "{host}");
        }
        for host in
            ["8.8.8.8", "172.32.0.1:80", "100.128.0.1", "[2001:db8::1]", "[::ffff:8.8.8.8]", "0.0.0.0", ""]
        {
            assert!(!stays_near(host), "{host}");
        }
    }
}
