//! URLs: `redis://user:password@host:port/database`, and what is made of it for several servers.

use cache_core::{Error, ErrorKind, Result};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::settings::{Address, Servers};

/// What a URL says.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) servers: Servers,
    pub(crate) login: RedisConnectionInfo,
    pub(crate) encrypted: bool,
}

/// Reads a URL. The errors don't hold it, since it may hold a password.
pub(crate) fn parse(url: &str) -> Result<Parsed> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
    if rest.contains('#') {
        return Err(invalid("it has a fragment (`#..`); certificates are always checked"));
    }
    let (scheme, encrypted) = match scheme {
        "rediss" | "valkeys" => ("redis", true),
        "redis" | "valkey" => ("redis", false),
        "rediss+cluster" | "valkeys+cluster" => ("cluster", true),
        "redis+cluster" | "valkey+cluster" => ("cluster", false),
        "rediss+sentinel" | "valkeys+sentinel" => ("sentinel", true),
        "redis+sentinel" | "valkey+sentinel" => ("sentinel", false),
        "unix" | "redis+unix" | "valkey+unix" => ("unix", false),
        _ => return Err(invalid("its scheme is unknown")),
    };
    if encrypted && !cfg!(feature = "tls") {
        return Err(invalid("connections with TLS need the feature `tls` of cache-redis"));
    }
    match scheme {
        "cluster" => cluster(rest, encrypted),
        "sentinel" => sentinel(rest, encrypted),
        _ => {
            let info = info(&format!("{scheme}://{rest}"))?;
            let servers = Servers::One(address(&info)?);
            Ok(Parsed { servers, login: info.redis_settings().clone(), encrypted })
        }
    }
}

#[cfg(feature = "cluster")]
fn cluster(rest: &str, encrypted: bool) -> Result<Parsed> {
    let (servers, login) = many(rest)?;
    Ok(Parsed { servers: Servers::Cluster(servers), login, encrypted })
}

#[cfg(not(feature = "cluster"))]
fn cluster(_: &str, _: bool) -> Result<Parsed> {
    Err(invalid("a Redis Cluster needs the feature `cluster` of cache-redis"))
}

/// The name of the server comes before the database: `sentinel1,sentinel2:26379/name/0`.
#[cfg(feature = "sentinel")]
fn sentinel(rest: &str, encrypted: bool) -> Result<Parsed> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    if name.is_empty() {
        return Err(invalid(
            "it has no name of a server that the Sentinels know, as in `/mymaster`",
        ));
    }
    let (mut servers, login) = many(&format!("{authority}/{database}"))?;
    for (address, given) in servers.iter_mut().zip(hosts(authority)) {
        if let (Address::Tcp(_, port), false) = (address, has_port(given)) {
            *port = 26379;
        }
    }
    Ok(Parsed { servers: Servers::Sentinels(servers, name.to_owned()), login, encrypted })
}

#[cfg(not(feature = "sentinel"))]
fn sentinel(_: &str, _: bool) -> Result<Parsed> {
    Err(invalid("Sentinels need the feature `sentinel` of cache-redis"))
}

/// `user:password@host:port,host:port/database`
#[cfg(any(feature = "cluster", feature = "sentinel"))]
fn many(rest: &str) -> Result<(Vec<Address>, RedisConnectionInfo)> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let login = authority.rsplit_once('@').map_or("", |(login, _)| login);
    let mut addresses = Vec::new();
    for host in hosts(authority) {
        addresses.push(address(&info(&format!("redis://{host}"))?)?);
    }
    let info = info(&format!("redis://{login}@host/{path}"))?;
    Ok((addresses, info.redis_settings().clone()))
}

#[cfg(any(feature = "cluster", feature = "sentinel"))]
fn hosts(authority: &str) -> impl Iterator<Item = &str> {
    authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts).split(',')
}

#[cfg(feature = "sentinel")]
fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'))
}

fn info(url: &str) -> Result<ConnectionInfo> {
    url.into_connection_info().map_err(|error| invalid(&error.to_string()))
}

fn address(info: &ConnectionInfo) -> Result<Address> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => Ok(Address::Tcp(host.into(), *port)),
        ConnectionAddr::Unix(path) => Ok(Address::Unix(path.clone())),
        _ => Err(invalid("it is of a kind that is not known")),
    }
}

fn invalid(why: &str) -> Error {
    Error::with_cause(ErrorKind::InvalidOption, format!("url: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.into(), port)
    }

    #[test]
    fn a_url_of_one_server() {
        let parsed = parse("redis://user:p%40ss@[::1]:7000/3").expect("valid");
        assert_eq!(parsed.servers, Servers::One(tcp("::1", 7000)));
        assert_eq!(
            (parsed.login.username(), parsed.login.password()),
            (Some("user"), Some("p@ss"))
        );
        assert_eq!((parsed.login.db(), parsed.encrypted), (3, false));
        let parsed = parse("unix:///run/redis.sock?db=2&user=u").expect("valid");
        assert_eq!(parsed.servers, Servers::One(Address::Unix("/run/redis.sock".into())));
        assert_eq!((parsed.login.db(), parsed.login.username()), (2, Some("u")));
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_url_of_a_cluster() {
        let parsed = parse("redis+cluster://u:p@a:7000,b,[::1]:7002").expect("valid");
        let nodes = vec![tcp("a", 7000), tcp("b", 6379), tcp("::1", 7002)];
        assert_eq!(parsed.servers, Servers::Cluster(nodes));
        assert_eq!((parsed.login.username(), parsed.login.password()), (Some("u"), Some("p")));
    }

    #[cfg(feature = "sentinel")]
    #[test]
    fn a_url_of_sentinels() {
        let parsed = parse("redis+sentinel://:p@a,b:26380/mymaster/4").expect("valid");
        let sentinels = vec![tcp("a", 26379), tcp("b", 26380)];
        assert_eq!(parsed.servers, Servers::Sentinels(sentinels, "mymaster".to_owned()));
        assert_eq!((parsed.login.password(), parsed.login.db()), (Some("p"), 4));
        parse("redis+sentinel://a,b").expect_err("no name");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_url_with_tls() {
        assert!(parse("rediss://a").expect("valid").encrypted);
        let error = parse("rediss://a/#insecure").expect_err("refused");
        assert!(error.to_string().contains("always checked"), "{error}");
    }

    #[test]
    fn a_url_that_needs_a_feature_says_which() {
        for (url, feature, there) in [
            ("rediss://a", "`tls`", cfg!(feature = "tls")),
            ("redis+cluster://a,b", "`cluster`", cfg!(feature = "cluster")),
            ("redis+sentinel://a,b/name", "`sentinel`", cfg!(feature = "sentinel")),
        ] {
            match parse(url) {
                Ok(_) => assert!(there, "{url}"),
                Err(error) => assert!(!there && error.to_string().contains(feature), "{error}"),
            }
        }
    }

    #[test]
    fn an_error_does_not_tell_the_password() {
        for url in ["redis:secret", "redis://:secret@[", "http://:secret@a", "redis://:secret@a/x"]
        {
            let error = parse(url).expect_err("invalid").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
