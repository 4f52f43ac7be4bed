//! The options that say where the servers are, and how to talk to them.

use std::path::Path;

#[cfg(feature = "sentinel")]
use redis::RedisConnectionInfo;

use super::RedisBuilder;
use crate::settings::{Address, Servers};
use crate::url;

impl RedisBuilder {
    /// Where the server is, and as whom to log in: `redis://user:password@host:port/database`, or
    /// `unix:///path?db=2&user=u&pass=p`. The default is `redis://127.0.0.1:6379/0`.
    ///
    /// With features there are `redis+cluster://` and `redis+sentinel://`, and `rediss` in place of `redis`
    /// for TLS: see [the forms](crate#where-the-server-is).
    pub fn url(mut self, url: &str) -> Self {
        match url::parse(url) {
            Ok(parsed) => {
                self.settings.servers = parsed.servers;
                self.settings.login = parsed.login;
                self.encrypted = parsed.encrypted;
            }
            Err(invalid) => {
                self.invalid.get_or_insert(invalid);
            }
        }
        self
    }

    /// Where the server is.
    pub fn address(mut self, host: &str, port: u16) -> Self {
        self.settings.servers = Servers::One(Address::Tcp(host.into(), port));
        self
    }

    /// The server's socket on this machine.
    pub fn unix_socket(mut self, path: impl AsRef<Path>) -> Self {
        self.settings.servers = Servers::One(Address::Unix(path.as_ref().to_owned()));
        self
    }

    /// Nodes of a Redis Cluster, of which the others are learnt: some that are always there are enough.
    ///
    /// ```no_run
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_redis::RedisStore;
    ///
    /// let nodes = [("10.0.0.1", 6379), ("10.0.0.2", 6379), ("10.0.0.3", 6379)];
    /// let store = RedisStore::builder("shop").cluster(nodes).connect().await?;
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    #[cfg(feature = "cluster")]
    pub fn cluster<H: AsRef<str>>(mut self, nodes: impl IntoIterator<Item = (H, u16)>) -> Self {
        self.settings.servers = Servers::Cluster(addresses(nodes));
        self
    }

    /// The server that these Sentinels know by this name, wherever it is. They are asked whenever a connection is
    /// made.
    ///
    /// ```no_run
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_redis::RedisStore;
    ///
    /// let sentinels = [("10.0.0.1", 26379), ("10.0.0.2", 26379), ("10.0.0.3", 26379)];
    /// let store = RedisStore::builder("shop").sentinels(sentinels, "mymaster").connect().await?;
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    #[cfg(feature = "sentinel")]
    pub fn sentinels<H: AsRef<str>>(
        mut self,
        sentinels: impl IntoIterator<Item = (H, u16)>,
        name: &str,
    ) -> Self {
        self.settings.servers = Servers::Sentinels(addresses(sentinels), name.to_owned());
        self
    }

    /// User and password of the Sentinels, which are not those of the server. Without a user it is the
    /// Sentinels' `default`.
    #[cfg(feature = "sentinel")]
    pub fn sentinel_login(mut self, user: Option<&str>, password: &str) -> Self {
        let login = RedisConnectionInfo::default().set_password(password);
        self.settings.sentinel_login = match user {
            Some(user) => login.set_username(user),
            None => login,
        };
        self
    }

    /// Encrypts all connections, and checks the servers' certificates: those of the hosts that are
    /// connected to, issued by one of the [root certificates](Self::root_certificates). A URL that begins
    /// with `rediss` does so as well.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.encrypted = true;
        self
    }

    /// Whom to trust in certificates of servers, as PEM, in place of the system's root certificates. Implies
    /// [`tls`](Self::tls).
    #[cfg(feature = "tls")]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.roots = Some(pem.into());
        self.tls()
    }

    /// A certificate of the client's own, with what it is issued by, and its private key, as PEM. Implies
    /// [`tls`](Self::tls).
    #[cfg(feature = "tls")]
    pub fn client_certificate(
        mut self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.certificates.client = Some((chain.into(), key.into()));
        self.tls()
    }

    /// The user, as ACLs name it. Without one it is the server's `default`.
    pub fn user(self, user: &str) -> Self {
        self.login(|login| login.set_username(user))
    }

    /// The password.
    pub fn password(self, password: &str) -> Self {
        self.login(|login| login.set_password(password))
    }

    /// The index of the database, 0 by default. A cluster has no other.
    pub fn database(self, index: u32) -> Self {
        self.login(|login| login.set_db(index.into()))
    }
}

#[cfg(any(feature = "cluster", feature = "sentinel"))]
fn addresses<H: AsRef<str>>(hosts: impl IntoIterator<Item = (H, u16)>) -> Vec<Address> {
    let address = |(host, port): (H, u16)| Address::Tcp(host.as_ref().into(), port);
    hosts.into_iter().map(address).collect()
}
